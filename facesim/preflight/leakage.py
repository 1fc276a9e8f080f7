"""Whether a run would be tested on images that the network that it starts from was trained on.

Then its accuracy would tell what the network remembers, and not whom it recognises.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from facesim.data.identity import image_digests
from facesim.data.prepare import PreparedData
from facesim.data.splits import split_of
from facesim.preflight.inputs import Inputs, prepare_data
from facesim.preflight.pretrained import find_pretrained
from facesim.spec.experiment import Experiment
from facesim.spec.job import Job
from facesim.util.errors import InputError


class Seen(NamedTuple):
    """Digests of the images that a network was trained on, those of its own start included; and why that may not be
    all, None if it is.
    """

    images: frozenset[bytes]
    doubt: str | None


def check_unseen(jobs: Sequence[Job], inputs: Sequence[Inputs]) -> list[str]:
    """What cannot be told of the networks that jobs start from, in words.

    Only an image that is the same to the last pixel is found.

    Raises:
        InputError: a job's held-out images are among those that its network was trained on.
    """
    doubts: dict[str, None] = {}
    for job, of_job in zip(jobs, inputs, strict=True):
        source = job.experiment.pretrained
        if source is None:
            continue
        seen = _seen(source)
        _, held_out = _split(of_job.data, job.experiment)
        leaked = sum(digest in seen.images for digest in image_digests(of_job.data, held_out))
        if leaked:
            raise InputError(
                f"--pretrained {source} was trained on {leaked} of the {len(held_out)} images that are held out here "
                f"(seed {job.experiment.seed}), so the accuracy would tell what it remembers: start from a network "
                "that was trained on other images"
            )
        if seen.doubt:
            doubts[seen.doubt] = None
    return list(doubts)


@lru_cache(maxsize=4)
def _seen(source: str) -> Seen:
    images = frozenset[bytes]()
    next_source: str | None = source
    while next_source:
        try:
            run = find_pretrained(next_source).run
            if run is None:
                return Seen(images, f"what {next_source} was trained on is not known{_CONSEQUENCE}")
            job = run.job()
            data = prepare_data(job, lambda *_: None)
        except InputError as error:
            return Seen(images, f"what {next_source} was trained on cannot be looked at{_CONSEQUENCE} ({error})")
        trained, _ = _split(data, job.experiment)
        images |= frozenset(image_digests(data, trained))
        next_source = job.experiment.pretrained
    return Seen(images, None)


_CONSEQUENCE = ": images that are held out here may be among it, and the accuracy too high"


def _split(data: PreparedData, experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    return split_of(data.labels, experiment.data_spec)
