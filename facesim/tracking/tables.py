"""Every sample of runs as one table: CSV, or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facesim.metrics.files import samples_in
from facesim.runs.directory import Run
from facesim.util.errors import InputError

if TYPE_CHECKING:
    import pandas


def samples(runs: Sequence[Run]) -> pandas.DataFrame:
    """The samples of all runs in the order of `runs`, each in the order of time, with the columns of
    `facesim.metrics.schema.Sample`.

    Raises:
        InputError: a run has none, or a file cannot be read.
    """
    import pandas

    tables = [samples_in(run.metrics) for run in runs]
    if empty := [str(run.directory) for run, table in zip(runs, tables, strict=True) if table.empty]:
        raise InputError(f"no samples in {', '.join(empty)}; name the runs that were measured")
    return pandas.concat(tables, ignore_index=True)


def write_csv(runs: Sequence[Run], output: Path) -> None:
    samples(runs).to_csv(output, index=False)


def write_parquet(runs: Sequence[Run], output: Path) -> None:
    import pyarrow  # noqa: F401 - told apart from what else may be missing

    table = samples(runs).astype({"value": float, "time_unix_s": float})
    table.to_parquet(output, index=False, engine="pyarrow")
