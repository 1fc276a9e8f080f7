"""Whether so many people fit: what the head holds in training, which grows with their number, and the memory there is.

Everything else in training is as large for two people as for a million. Reckoned, without building the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import psutil

from facesim.billing.catalogue import instance
from facesim.models import HEADS, MODELS
from facesim.models.sampling import sample_size
from facesim.preflight.own_model import own_model_dimensions
from facesim.spec.experiment import Experiment
from facesim.spec.job import Job
from facesim.util.errors import InputError

#: From this share of the memory on a user is warned before training of what the head takes.
NOTABLE_SHARE = 0.25

_FLOAT = 4

#: Examples that the chief evaluates at a time.
_EVALUATED = 256


class HeadMemory(NamedTuple):
    """Bytes of the head in one place of a job: parameters, gradients and the optimiser's moments, and a batch's logits.

    `copies` says how many such places share the memory: on this machine all tasks do, on a cluster each has a host.
    """

    parameters: int
    gradients: int
    moments: int
    logits: int
    copies: int

    @property
    def total(self) -> int:
        return self.copies * sum(self[:4])


def head_memory(job: Job, identities: int) -> list[HeadMemory]:
    """What the job's tasks hold of a head for `identities` people, one entry a kind of task."""
    experiment = job.experiment
    head = HEADS[experiment.head]
    dimensions = (
        MODELS[experiment.model].dimensions(experiment.image_size)
        if experiment.model in MODELS
        else own_model_dimensions(experiment, identities)
    )
    weights = dimensions + (0 if head.cosine else 1)
    computed = sample_size(identities, experiment.sample_rate, job.update_batch) if head.sampled else identities
    parameters, gradients = _FLOAT * identities * weights, _FLOAT * computed * weights
    examples = -(-job.update_batch // job.replicas) if job.joint_workers > 1 else job.update_batch
    logits = 3 * _FLOAT * examples * computed  # themselves, their softmax, their gradient
    moments = moments_of(experiment) * parameters
    evaluated = _FLOAT * _EVALUATED * identities  # by all of a head, which may be more than training takes of a sample
    if job.strategy.coordinated:
        # Servers share the parameters; workers read them and send gradients; the chief evaluates with a copy.
        return [
            HeadMemory(parameters, gradients, moments, 0, 1),
            HeadMemory(gradients, gradients, 0, logits, job.shape.workers),
            HeadMemory(2 * parameters, 0, 0, evaluated, 1),
        ]
    return [
        HeadMemory(parameters, gradients, moments, max(logits, evaluated) if head.sampled else logits, job.replicas)
    ]


def moments_of(experiment: Experiment) -> int:
    """How many numbers the optimiser keeps beside each parameter."""
    return {"adam": 2, "sgd": 1 if experiment.momentum else 0, "lion": 1}[experiment.optimizer]


def check_memory(jobs: Sequence[Job], identities: Sequence[int]) -> Iterator[str]:
    """What to tell before `jobs` train on so many people each: nothing where their heads are small.

    Raises:
        InputError: a head cannot fit.
    """
    warned = set()
    for job, people in zip(jobs, identities, strict=True):
        kinds = head_memory(job, people)
        if not job.backend.own_hosts:
            need, have, where = sum(kind.total for kind in kinds), psutil.virtual_memory().total, "this machine"
        else:
            need = max(kind.total // kind.copies for kind in kinds)
            have, where = int(instance(job.shape.instance_type).memory_gib * 2**30), job.shape.instance_type
        if need < NOTABLE_SHARE * have:
            continue
        one = kinds[0]
        text = (
            f"{job.strategy.name}: the {job.experiment.head} head for {people:,} people takes {_gib(need)} of the "
            f"{_gib(have)} of {where} (parameters {_gib(one.parameters)}, gradients {_gib(one.gradients)}, moments "
            f"{_gib(one.moments)}" + (f", in {job.replicas} replicas)" if job.replicas > 1 else ")")
        )
        if need > have:
            sampled = "" if HEADS[job.experiment.head].sampled else "--head partial-fc, "
            raise InputError(
                f"{text}: it cannot fit. Use fewer people (--subset identities=N, --min-images), {sampled}fewer "
                f"--workers, a --model with a smaller embedding (facesim models), or a larger machine."
            )
        if text not in warned:
            warned.add(text)
            yield text


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
