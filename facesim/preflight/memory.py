"""Whether so many people fit: what the head holds in training, which grows with their number, and the memory there is.

Everything else in training is as large for two people as for a million. Reckoned, without building the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import psutil

from cluster.topology import hosted_topology
from facesim.models import HEADS, MODELS
from facesim.models.sampling import sample_size
from facesim.preflight.own_model import own_model_dimensions
from facesim.spec.experiment import Experiment
from facesim.spec.job import Job
from facesim.util.errors import InputError
from facesim.util.words import count_text

#: From this share of the memory on a user is warned before training of what the head takes.
NOTABLE_SHARE = 0.25

_FLOAT = 4

#: Examples that the chief evaluates at a time.
_EVALUATED = 256


class HeadMemory(NamedTuple):
    """Bytes of one copy of the head: parameters, gradients and the optimiser's moments, and a batch's logits.

    A job has so many `copies` of it, and its tasks of these `roles` share them evenly: servers have one together, a
    process of several replicas has one for each.
    """

    parameters: int
    gradients: int
    moments: int
    logits: int
    copies: int
    roles: tuple[str, ...]

    @property
    def total(self) -> int:
        return self.copies * sum(self[:4])


def head_memory(job: Job, identities: int) -> list[HeadMemory]:
    """What the job's tasks hold of a head for `identities` people, one entry a kind of task."""
    experiment = job.experiment
    head = HEADS[experiment.head]
    weights = _weights(experiment, identities)
    computed = sample_size(identities, experiment.sample_rate, job.update_batch) if head.sampled else identities
    parameters, gradients = head_bytes(job, identities), _FLOAT * computed * weights
    examples = -(-job.update_batch // job.replicas) if job.joint_workers > 1 else job.update_batch
    logits = 3 * _FLOAT * examples * computed  # themselves, their softmax, their gradient
    moments = moments_of(experiment) * parameters
    evaluated = _FLOAT * _EVALUATED * identities  # by all of a head, which may be more than training takes of a sample
    if job.strategy.coordinated:
        # Servers share the parameters; workers read them and send gradients; the chief evaluates with a copy.
        return [
            HeadMemory(parameters, gradients, moments, 0, 1, ("ps",)),
            HeadMemory(gradients, gradients, 0, logits, job.shape.workers, ("worker",)),
            HeadMemory(2 * parameters, 0, 0, evaluated, 1, ("chief",)),
        ]
    roles = tuple(job.strategy.tasks(job.shape))
    most_logits = max(logits, evaluated) if head.sampled else logits
    return [HeadMemory(parameters, gradients, moments, most_logits, job.replicas, roles)]


def head_bytes(job: Job, identities: int) -> int:
    """The parameters of a head for `identities` people: what a model that is kept has of it."""
    return _FLOAT * identities * _weights(job.experiment, identities)


def head_checkpoint_bytes(job: Job, identities: int) -> int:
    """What a checkpoint has of it: also the optimiser's moments of each parameter."""
    return (1 + moments_of(job.experiment)) * head_bytes(job, identities)


def _weights(experiment: Experiment, identities: int) -> int:
    """The parameters of the head for each person."""
    dimensions = (
        MODELS[experiment.model].dimensions(experiment.image_size)
        if experiment.model in MODELS
        else own_model_dimensions(experiment, identities)
    )
    return dimensions + (0 if HEADS[experiment.head].cosine else 1)


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
        for where, have, hosts in _memories(job):
            held = max((_held(job, kinds, tasks) for tasks in hosts), key=lambda one: one.total)
            if held.total < NOTABLE_SHARE * have:
                continue
            text = (
                f"{job.strategy.name}: the {job.experiment.head} head for {count_text(people, 'person')} takes "
                f"{_gib(held.total)} of the {_gib(have)} of {where} (parameters {_gib(held.parameters)}, gradients "
                f"{_gib(held.gradients)}, moments {_gib(held.moments)}"
                + (f", in {held.replicas:g} replicas)" if held.replicas > 1 else ")")
            )
            if held.total > have:
                sampled = "" if HEADS[job.experiment.head].sampled else "--head partial-fc, "
                raise InputError(
                    f"{text}: it cannot fit. Use fewer people (--subset identities=N, --min-images), {sampled}fewer "
                    f"--workers, a --model with a smaller embedding (facesim models), or a larger machine."
                )
            if text not in warned:
                warned.add(text)
                yield text


def _memories(job: Job) -> Iterator[tuple[str, float, list[Counter[str]]]]:
    """The memories that the job's tasks have: what each is of, its bytes, and how many tasks of each role share it, on
    every host of the kind.
    """
    counts = job.strategy.tasks(job.shape)
    if not job.backend.own_hosts:
        yield "this machine", psutil.virtual_memory().total, [Counter(counts)]
        return
    groups = [[f"host-{group}-{number}" for number in range(count)] for group, (_, count) in enumerate(job.groups)]
    topology = hosted_topology(counts, [*chain.from_iterable(groups)], *groups[1:])
    backend = job.backend.open()
    for (kind, _), hosts in zip(job.groups, groups, strict=True):
        tasks = [Counter(role for role, _ in topology.tasks_on(host)) for host in hosts]
        yield *backend.host_memory(job, kind), tasks


class _Held(NamedTuple):
    """Bytes of the head that some tasks hold together, and the replicas that are among them."""

    parameters: float
    gradients: float
    moments: float
    logits: float
    replicas: float

    @property
    def total(self) -> float:
        return sum(self[:4])


def _held(job: Job, kinds: Sequence[HeadMemory], tasks: Counter[str]) -> _Held:
    counts = job.strategy.tasks(job.shape)
    copies = [
        kind.copies * sum(tasks[role] for role in kind.roles) / sum(counts[role] for role in kind.roles)
        for kind in kinds
    ]
    parts = (sum(count * kind[part] for count, kind in zip(copies, kinds)) for part in range(4))
    return _Held(*parts, replicas=sum(count for count, kind in zip(copies, kinds) if kind.copies > 1))


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
