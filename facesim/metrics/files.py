"""Samples on disk: JSON Lines appended while a run goes on, a data frame when it is read.

Each line is written with one system call, so a crash can tear the last line only; the reader leaves a torn line out.
Every process that records has a file of its own, so no two write to the same one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from facesim.metrics.schema import METRICS, Sample, sample
from facesim.runs.directory import Run
from facesim.util.errors import InputError
from facesim.util.files import LineTail, in_a_line, open_regular, written

if TYPE_CHECKING:
    import pandas


class SampleWriter:
    """Appends samples of one task to one file."""

    def __init__(self, path: Path, *, run_id: str, host: str, source: str):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if in_a_line(self._file):
            os.write(self._file, b"\n")  # the writer before crashed: its torn line must not swallow our first
        self._place = (run_id, host, source)
        self._unwritten = b""

    def write(self, time_unix_s: float, role: str, task_index: int, values: dict[str, float]) -> None:
        """Append one row for each name in `values`. What a full disk does not take is written with the next rows.

        Raises:
            KeyError: a name is not in the schema.
        """
        run_id, host, source = self._place
        rows = [sample(run_id, time_unix_s, host, role, task_index, source, *item) for item in values.items()]
        self._unwritten += "".join(json.dumps(row._asdict()) + "\n" for row in rows).encode()
        self._unwritten = written(self._file, self._unwritten)

    def close(self) -> None:
        os.close(self._file)


def parse_lines(lines: Iterable[bytes]) -> Iterator[Sample]:
    """The samples in `lines`; a line that is torn, or names no metric of the schema, is left out."""
    for line in lines:
        try:
            row = Sample(**json.loads(line))
            sound = _is_sound(row)
        except (ValueError, TypeError, RecursionError, OverflowError):
            continue
        if sound:
            yield row


def _is_sound(row: Sample) -> bool:
    texts = (row.run_id, row.name, row.host, row.role, row.source, row.unit)
    if not all(isinstance(text, str) for text in texts) or row.name not in METRICS:
        return False
    if not isinstance(row.task_index, int) or not isinstance(row.value, (int, float)):
        return False
    "".join(texts).encode()  # raises UnicodeEncodeError of half a character
    float(row.value)  # raises OverflowError
    return isinstance(row.time_unix_s, (int, float)) and math.isfinite(row.time_unix_s)


def recorded(file: Path, metric: str) -> list[tuple[float, float]]:
    """(value, time_unix_s) of everything that a file of samples has of one metric, in order; none without a file."""
    if not file.exists():
        return []
    with open_regular(file) as lines:
        return [(sample.value, sample.time_unix_s) for sample in parse_lines(lines) if sample.name == metric]


def read_samples(path: Path | str) -> pandas.DataFrame:
    """Every sample of a run as a data frame with `Sample`'s columns, by time.

    path: a run directory, or the folder of its metrics.

    Raises:
        InputError: there are no samples.
    """
    folder = Path(path)
    metrics = Run(folder).metrics
    samples = samples_in(metrics if metrics.is_dir() else folder)
    if samples.empty:
        problem = "holds no samples" if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {problem}; name a run directory, or the {metrics.name} folder in it")
    return samples


def samples_in(directory: Path) -> pandas.DataFrame:
    """The same of the files in `directory`; without any of them a table without rows."""
    from facesim.metrics.table import read_table

    return read_table(directory).frame()


class SampleTail:
    """Follows a directory of sample files that others append to: those of a name like `pattern`, but not `without`."""

    def __init__(self, directory: Path, pattern: str = "*.jsonl", without: str | None = None):
        self._directory, self._pattern, self._without = directory, pattern, without
        self._tails: dict[Path, LineTail] = {}

    def new(self) -> list[Sample]:
        """The samples that have come since the last call; a line that is still being written comes next time.

        Raises:
            InputError: a file cannot be read.
        """
        samples: list[Sample] = []
        for path in sorted(self._directory.glob(self._pattern)):
            if path.name != self._without:
                samples.extend(parse_lines(self._tails.setdefault(path, LineTail(path)).new()))
        return samples
