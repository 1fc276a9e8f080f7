"""Whether a run would be tested on images that the network that it starts from was trained on.

Then its accuracy would tell what the network remembers, and not whom it recognises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from facesim.data.duplicates import HASH_BYTES, hashes_of, near_across
from facesim.data.identity import image_digests
from facesim.data.unseen import UnseenData
from facesim.preflight.inputs import Inputs
from facesim.preflight.lineage import lineage
from facesim.spec.job import Job
from facesim.util.errors import InputError


class Seen(NamedTuple):
    """Digests and perceptual hashes (`facesim.data.duplicates`) of the images that a network was trained on, those of
    its own start included; and why that may not be all, None if it is.
    """

    images: frozenset[bytes]
    hashes: np.ndarray
    doubt: str | None


def check_unseen(
    jobs: Sequence[Job], inputs: Sequence[Inputs], seen_by: Callable[[str], Seen] | None = None
) -> list[str]:
    """What a user should know of what the networks that jobs start from were trained on, in words: held-out images that
    look like some of it, and what is not known.

    seen_by: what a network has seen, `trained_images` if left out; several calls may share one that remembers.

    Raises:
        InputError: a job's held-out images are among those that its network was trained on.
    """
    seen_by = seen_by or cache(trained_images)
    doubts: dict[str, None] = {}
    for job, job_inputs in zip(jobs, inputs, strict=True):
        source = job.experiment.pretrained
        if source is None:
            continue
        if isinstance(job_inputs.data, UnseenData):
            doubts[f"{job_inputs.data.name} cannot be looked at{_CONSEQUENCE}"] = None
            continue
        seen = seen_by(source)
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
                f"{alike} of the {len(held_out)} images that are held out here (seed {job.experiment.seed}) "
                f"{'looks' if alike == 1 else 'look'} the same as images that --pretrained {source} was trained on: "
                "the accuracy may flatter"
            ] = None
        if seen.doubt:
            doubts[seen.doubt] = None
    return list(doubts)


def trained_images(source: str) -> Seen:
    """What the network that `source` names, as `--pretrained` does, has seen by now: it may be another one later."""
    images, hashes, doubts = frozenset[bytes](), np.empty((0, HASH_BYTES), np.uint8), list[str]()
    for data, trained, doubt in lineage(source, fetch=True):
        if data is not None and trained is not None:
            images |= frozenset(image_digests(data, trained))
            hashes = np.concatenate([hashes, hashes_of(data.images, trained)])
        if doubt:
            doubts.append(doubt)
    return Seen(images, hashes, f"{'; '.join(doubts)}{_CONSEQUENCE}" if doubts else None)


_CONSEQUENCE = ": images that are held out here may be among it, and the accuracy too high"
