"""What a network was trained on: by its own run, by the run that this one started from (`--pretrained`), and so on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facesim.data.prepared import PreparedData
from facesim.data.sources import to_be_fetched
from facesim.preflight.inputs import prepare_data
from facesim.preflight.pretrained import find_pretrained, is_of_rendered_people
from facesim.runs.directory import Run
from facesim.util.errors import InputError


class TrainedOn(NamedTuple):
    """The data of one run, and which of its images it was trained on, indices; None where that is not known. `doubt`:
    why there may be more than that, None if there is not.
    """

    data: PreparedData | None
    trained: np.ndarray | None
    doubt: str | None


def is_as_trained(run: Run, data: PreparedData) -> bool:
    """Whether nothing says that the run's data has changed since it was trained on."""
    result = run.result()
    return result is None or result.data.content_sha256 in (None, data.sha256)


def lineage(source: Run | str, *, fetch: bool) -> Iterator[TrainedOn]:
    """What the network of a run was trained on, the newest first; `source` may name it as `--pretrained` does.

    fetch: look at data that has to be fetched over the network, too.
    """
    before: Run | str | None = source
    looked_at = set[Path]()
    while before:
        link, before = before, None
        shown = link.directory if isinstance(link, Run) else link
        try:
            start = None if isinstance(link, Run) else find_pretrained(link)
            if start and start.run is None and is_of_rendered_people(start.file):
                return
            run = link if isinstance(link, Run) else start and start.run
            # A run's start is known by its path, where another may lie by now, even the run itself.
            if run is None or run.directory.resolve() in looked_at:
                yield TrainedOn(None, None, f"what {shown} was trained on is not known")
                return
            looked_at.add(run.directory.resolve())
            experiment = run.job().experiment
            before = experiment.pretrained
            for one in filter(None, (experiment.data, experiment.test)):
                if not fetch and to_be_fetched(one):
                    raise InputError(f"{one} would have to be fetched")
            data = prepare_data(run.job(), lambda *_: None)
            changed = not is_as_trained(run, data)
        except (InputError, ValueError) as error:
            yield TrainedOn(None, None, f"what {shown} was trained on cannot be looked at ({error})")
            continue
        trained: np.ndarray | None = None
        doubt = f"{data.name} has changed since {shown} was trained on it" if changed else None
        try:
            trained, _ = data.split(experiment.data_spec)
        except InputError as error:  # it has not the parts any more that it had
            doubt = f"which images of {data.name} {shown} was trained on is not known ({error})"
        yield TrainedOn(data, trained, doubt)
