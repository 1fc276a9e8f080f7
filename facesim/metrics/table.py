"""A run's samples as columns: what the samples of one series share is held once, so that a sample takes 16 bytes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import msgspec
import numpy as np

from facesim.metrics.files import parse_lines
from facesim.metrics.schema import METRICS, Sample
from facesim.util.errors import InputError, reason
from facesim.util.files import open_regular

if TYPE_CHECKING:
    import pandas


class Series(NamedTuple):
    """What all samples of one metric of one task from one source share: a `Sample` without time and value."""

    run_id: str
    host: str
    role: str
    task_index: int
    source: str
    name: str
    unit: str


class Points(NamedTuple):
    """The samples of a series: two arrays of float64, by time."""

    time_unix_s: np.ndarray
    value: np.ndarray


#: A `Sample` as its line has it.
_Line = msgspec.defstruct("_Line", list(get_type_hints(Sample).items()), forbid_unknown_fields=True, gc=False)


@dataclass(frozen=True)
class SampleTable:
    """All samples of a run by series, in the order in which the series began."""

    series: Mapping[Series, Points]

    def select(self, wanted: Callable[[Series], bool]) -> SampleTable:
        """The series that are `wanted`; nothing is copied."""
        return SampleTable({series: points for series, points in self.series.items() if wanted(series)})

    def span_unix_s(self) -> tuple[float, float] | None:
        """When the first and the last sample were taken; None without samples."""
        ends = [(points.time_unix_s[0], points.time_unix_s[-1]) for points in self.series.values()]
        return (float(min(ends)[0]), float(max(end for _, end in ends))) if ends else None

    def frame(self) -> pandas.DataFrame:
        """One row a sample, by time, with `Sample`'s columns."""
        import pandas

        all_series, lengths = list(self.series), [len(points.value) for points in self.series.values()]
        times, values = (joined(points[column] for points in self.series.values()) for column in (0, 1))
        order = np.argsort(times, kind="stable")
        row_series = np.repeat(np.arange(len(all_series)), lengths)[order]
        columns = {"time_unix_s": times[order], "value": values[order]}
        for field in Series._fields:
            each = [getattr(series, field) for series in all_series]
            columns[field] = np.array(each, dtype=None if field == "task_index" else object)[row_series]
        return pandas.DataFrame(columns, columns=list(Sample._fields))


def read_table(directory: Path) -> SampleTable:
    """The samples in the files of `directory`; a line that is torn, or is no sample of the schema, is left out.

    Raises:
        InputError: a file cannot be read.
    """
    columns_of: dict[Series, tuple[array[float], array[float]]] = {}
    for path in sorted(directory.glob("*.jsonl")):
        try:
            with open_regular(path) as file:
                for line in _parsed(file):
                    series = Series(
                        line.run_id, line.host, line.role, line.task_index, line.source, line.name, line.unit
                    )
                    times, values = columns_of.get(series) or columns_of.setdefault(series, (array("d"), array("d")))
                    times.append(line.time_unix_s)
                    values.append(line.value)
        except OSError as error:
            raise InputError(f"cannot read {path}: {reason(error)}; leave this run out of the report") from None
    return SampleTable({series: _by_time(*map(np.array, columns)) for series, columns in columns_of.items()})


def joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """One after another; an empty array of none."""
    return np.concatenate([np.empty(0), *arrays])


def merged(several: Iterable[Points]) -> Points:
    """The points of several series as one, by time; of one instant in the order of the series."""
    several = list(several)
    return several[0] if len(several) == 1 else _by_time(*(joined(column) for column in zip(*several)))


def _by_time(times: np.ndarray, values: np.ndarray) -> Points:
    order = np.argsort(times, kind="stable")
    return Points(times[order], values[order])


def _parsed(lines: Iterable[bytes]) -> Iterator[Any]:
    """Objects with the fields of a `Sample`.

    As `parse_lines`, which still reads what strict JSON is not, such as the NaN of a loss that diverged.
    """
    decode = msgspec.json.Decoder(_Line).decode
    for text in lines:
        try:
            line = decode(text)
        except (ValueError, RecursionError):  # of msgspec, and of text that is no UTF-8
            yield from parse_lines([text])
            continue
        if line.name in METRICS:
            yield line
