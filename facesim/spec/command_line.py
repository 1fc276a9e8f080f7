"""A job, as the command that runs it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from facesim.spec.job import Job, flat, make_job, options


def as_command(job: Job, seeds: Sequence[int]) -> str:
    """`facesim run ...` with every option that is not its recipe's or the default, for consecutive `seeds`. Faults are
    not among them: they are a file of their own.
    """
    table, values = options(), flat(job)
    chosen = {name: values[name] for name in ("strategy", "backend", "recipe")}
    usual = flat(make_job(**chosen, spot=job.spot is not None))
    words = ["facesim", "run", *(word for name, value in chosen.items() for word in (table[name].flag, str(value)))]
    if job.spot is not None:
        words.append("--spot")
    for name, value in values.items():
        option = table[name]
        if name in chosen or name == "seed" or value is None or value == usual.get(name):
            continue
        if option.kind is bool:
            words.append(option.flag if value else f"--no-{option.flag[2:]}")
            continue
        for each in _each(value):
            words += [option.flag, each]
    words += ["--seed", str(seeds[0])] if seeds[0] else []
    words += ["--seeds", str(len(seeds))] if len(seeds) > 1 else []
    return shlex.join(words)


def _each(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    return [f"{value:g}" if isinstance(value, float) else str(value)]
