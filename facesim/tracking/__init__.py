"""Where runs are sent to be looked at with other tools: trackers, as a run goes on or afterwards, and files.

`TRACKERS` and `FORMATS` name them and import none. Another package adds a tracker by an entry point of
`facesim.trackers`, a file format by one of `facesim.run_formats`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facesim.util.disk import writing_to
from facesim.util.errors import InputError, doing
from facesim.util.files import check_new, made_whole
from facesim.util.registry import Registry, loaded

if TYPE_CHECKING:
    from facesim.runs.directory import Run
    from facesim.tracking.tracker import Tracker

TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker",
    "facesim.trackers",
    {
        "tensorboard": "facesim.tracking.tensorboard:TensorBoard",
        "mlflow": "facesim.tracking.mlflow:MLflow",
        "wandb": "facesim.tracking.wandb:WandB",
        "trackio": "facesim.tracking.trackio:Trackio",
    },
)


@dataclass(frozen=True)
class Format:
    """A file that runs can be written to: how its name ends, and what writes it where there is nothing yet, given
    itself or by where it is (`module:function`).
    """

    suffix: str
    write: str | Callable[[Sequence[Run], Path], None]


FORMATS: Registry[Format] = Registry(
    "format of runs",
    "facesim.run_formats",
    {
        "csv": Format(".csv", "facesim.tracking.tables:write_csv"),
        "parquet": Format(".parquet", "facesim.tracking.tables:write_parquet"),
        "perfetto": Format(".json", "facesim.tracking.perfetto:write_trace"),
    },
)


@contextmanager
def needing_packages(name: str, option: str) -> Iterator[None]:
    """Within it, a package that is not installed is reported as what `name`, which the user gave as `option`, needs.

    Raises:
        InputError: there is such a package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = f"pip install 'facesim-cluster[{name}]'"
        message = f"--{option} {name} needs the package {error.name}, which is not installed: {remedy}"
        raise InputError(message, field=option, value=name, remedy=remedy) from None


def export_runs(runs: Sequence[Run], to: str, output: Path) -> str:
    """Send `runs` to the tracker `to`, which keeps in folder `output` what it keeps on this machine; or write them to
    the file `output` in the format `to`. Returns where they are then, in words.

    Raises:
        InputError: it cannot be written, or a run cannot be read.
    """
    from facesim.tracking.tracker import Feed, open_tracker

    if to in FORMATS:
        check_new(output)
        with (
            doing(f"write {output}", "name another file with --output"),
            writing_to(output.parent),
            needing_packages(to, "to"),
            made_whole(output) as new,
        ):
            loaded(FORMATS[to].write)(runs, new)
        return str(output)
    tracker = open_tracker(to, output, option="to")
    for run in runs:
        feed = Feed(run, tracker, to)
        feed.begin()
        feed.finish()
    return tracker.place
