"""Whether what is to train a head of which updates compute a sample of the identities can do so."""

from __future__ import annotations

from facesim.models import HEADS
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.job import Job
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError


def check_head(job: Job) -> None:
    """Look whether a job's framework and strategy can train its head.

    Raises:
        InputError: they cannot.
    """
    head, strategy = job.experiment.head, job.strategy
    if not HEADS[head].sampled:
        return
    if job.framework != TENSORFLOW:
        raise InputError(
            f"--framework {job.framework} cannot train --head {head}, of which each update computes a sample: use "
            f"--framework {TENSORFLOW}, or --head arcface",
            field="framework",
            value=job.framework,
        )
    if not strategy.sampled_heads:
        able = ", ".join(name for name, kind in STRATEGIES.available() if kind.sampled_heads)
        raise InputError(
            f"--strategy {strategy.name} cannot train --head {head}, of which each update computes a sample: use one "
            f"of {able}, or --head arcface",
            field="strategy",
            value=strategy.name,
        )
