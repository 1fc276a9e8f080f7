"""Whether a run would be tested on images that the network that it starts from was trained on.

Then its accuracy would tell what the network remembers, and not whom it recognises.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from facesim.data.duplicates import HASH_BYTES, hashes_of, near_across
from facesim.data.identity import image_digests
from facesim.data.unseen import UnseenData
from facesim.preflight.inputs import Inputs, prepare_data
from facesim.preflight.pretrained import find_pretrained
from facesim.spec.job import Job
from facesim.util.errors import InputError


class Seen(NamedTuple):
    """Digests and perceptual hashes (`facesim.data.duplicates`) of the images that a network was trained on, those of
    its own start included; and why that may not be all, None if it is.
    """

    images: frozenset[bytes]
    hashes: np.ndarray
    doubt: str | None


def check_unseen(jobs: Sequence[Job], inputs: Sequence[Inputs]) -> list[str]:
    """What a user should know of what the networks that jobs start from were trained on, in words: held-out images that
    look like some of it, and what is not known.

    Raises:
        InputError: a job's held-out images are among those that its network was trained on.
    """
    doubts: dict[str, None] = {}
    for job, job_inputs in zip(jobs, inputs, strict=True):
        source = job.experiment.pretrained
        if source is None:
            continue
        if isinstance(job_inputs.data, UnseenData):
            doubts[f"{job_inputs.data.name} cannot be looked at{_CONSEQUENCE}"] = None
            continue
        seen = _seen(source)
        trained, held_out = job_inputs.data.split(job.experiment.data_spec)
        leaked = sum(digest in seen.images for digest in image_digests(job_inputs.data, held_out))
        if leaked:
            raise InputError(
                f"--pretrained {source} was trained on {leaked} of the {len(held_out)} images that are held out here "
                f"(seed {job.experiment.seed}), so the accuracy would tell what it remembers: start from a network "
                "that was trained on other images"
            )
        tested = hashes_of(job_inputs.data.images, held_out)
        # What looks like images that are trained on here as well is the same problem without the network.
        known = near_across(tested, hashes_of(job_inputs.data.images, trained))
        if alike := int((near_across(tested, seen.hashes) & ~known).sum()):
            doubts[
                f"{alike} of the {len(held_out)} images that are held out here (seed {job.experiment.seed}) look the "
                f"same as images that --pretrained {source} was trained on: the accuracy may flatter"
            ] = None
        if seen.doubt:
            doubts[seen.doubt] = None
    return list(doubts)


@lru_cache(maxsize=4)
def _seen(source: str) -> Seen:
    images, hashes = frozenset[bytes](), np.empty((0, HASH_BYTES), np.uint8)
    next_source: str | None = source
    while next_source:
        try:
            run = find_pretrained(next_source).run
            if run is None:
                return Seen(images, hashes, f"what {next_source} was trained on is not known{_CONSEQUENCE}")
            job = run.job()
            data = prepare_data(job, lambda *_: None)
        except InputError as error:
            doubt = f"what {next_source} was trained on cannot be looked at{_CONSEQUENCE} ({error})"
            return Seen(images, hashes, doubt)
        trained, _ = data.split(job.experiment.data_spec)
        images |= frozenset(image_digests(data, trained))
        hashes = np.concatenate([hashes, hashes_of(data.images, trained)])
        next_source = job.experiment.pretrained
    return Seen(images, hashes, None)


_CONSEQUENCE = ": images that are held out here may be among it, and the accuracy too high"
