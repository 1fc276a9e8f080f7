"""What is looked at before jobs run, in a dry run, too, as far as it can be known without looking at what runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from facesim.billing.catalogue import instance
from facesim.preflight.inputs import Inputs, told_of_data
from facesim.preflight.memory import check_memory
from facesim.spec.faults import check_network, check_room
from facesim.spec.job import Job


def check_jobs(jobs: Sequence[Job], inputs: Sequence[Inputs], output: Path) -> list[str]:
    """What a user should be told before these jobs run on these inputs, and leave what they do in `output`.

    Raises:
        InputError: one of them cannot run as it is.
    """
    for job in jobs:
        check_room(job.faults, output)
        check_network(job.faults, job.backend.name)
    people = [len(own.data.names) for own in inputs]
    notices = [*told_of_data(list(inputs)), *_told_of_accelerators(jobs), *check_memory(jobs, people)]
    return list(dict.fromkeys(notices))


def _told_of_accelerators(jobs: Iterable[Job]) -> Iterator[str]:
    """That instances are named for their GPUs where jobs train with what this machine has."""
    for job in jobs:
        for name, _ in job.groups if job.backend.measurement == "emulated" else ():
            if gpu := instance(name).accelerator:
                yield (
                    f"{name} has a GPU ({gpu}), which --backend {job.backend.name} does not emulate: it trains with "
                    f"what this machine has, and its times say nothing about {name}"
                )
