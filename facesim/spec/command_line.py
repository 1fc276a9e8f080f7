"""A job, as the command that runs it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from facesim.spec.job import DEFAULTS, Job, flat, make_job, options


def as_command(job: Job, seeds: Sequence[int]) -> str:
    """`facesim run ...` with every option that is not its recipe's or the default, for these `seeds`. Faults are not
    among them: they are a file of their own.
    """
    table, values = options(), flat(job)
    chosen = {name: values[name] for name in ("strategy", "backend", "recipe")}
    # Not every strategy is trained by the default framework.
    usual = flat(make_job(**chosen, framework=job.framework, spot=job.spot is not None))
    usual["framework"] = DEFAULTS["framework"]
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
    return shlex.join([*words, *_seeds(seeds)])


def _seeds(seeds: Sequence[int]) -> list[str]:
    """`--seeds 3` for 0, 1 and 2, `--seeds 0,4,7` for others, `--seeds 4,` for one; nothing for 0 alone."""
    if list(seeds) == list(range(len(seeds))):
        return ["--seeds", str(len(seeds))] if len(seeds) > 1 else []
    return ["--seeds", ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")]


def _each(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(value, float):
        short = f"{value:g}"
        return [short if float(short) == value else repr(value)]
    return [str(value)]
