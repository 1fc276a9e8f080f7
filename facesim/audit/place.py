"""Which rank of a training a process is, as its launcher says, or as it says itself. It imports nothing that is not
Python's own, for scripts of users import it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Where launchers say which rank a process is, and of how many: torchrun, Open MPI, MPICH, PMIx, Slurm.
_RANK_VARIABLES = {
    "RANK": "WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
    "PMI_RANK": "PMI_SIZE",
    "PMIX_RANK": "PMIX_SIZE",
}
#: The same of Slurm, which sets it for the script that starts others, too: TF_CONFIG says it better.
_SLURM_VARIABLES = {"SLURM_PROCID": "SLURM_NTASKS"}
#: Tasks of TF_CONFIG that train; a parameter server is a process like others, and with one a chief may only coordinate.
_CHIEFS = ("chief", "master")
_TRAINING_ROLES = (*_CHIEFS, "worker")


class Place(NamedTuple):
    """What a process' environment says of it: its rank, `rank 1` or `worker-0`, None if nothing, or if it does not
    train; how many ranks there are; whether it may only coordinate them.
    """

    rank: str | None
    world: int = 1
    coordinates: bool = False


def place_of(environment: Mapping[str, str]) -> Place:
    """What a process' environment says of it."""
    if place := _numbered(environment, _RANK_VARIABLES):
        return place
    task, cluster = (_tf_config(environment, part) for part in ("task", "cluster"))
    role = task.get("type")
    if role is None and (place := _numbered(environment, _SLURM_VARIABLES)):
        return place
    if role not in _TRAINING_ROLES or not str(task.get("index")).isdecimal():
        return Place(None)
    world = sum(len(cluster[each]) for each in _TRAINING_ROLES if isinstance(cluster.get(each), (list, dict)))
    return Place(f"{role}-{task['index']}", max(1, world), role in _CHIEFS and bool(cluster.get("ps")))


def _numbered(environment: Mapping[str, str], variables: Mapping[str, str]) -> Place | None:
    """The rank that one of some variables names, by which is how many there are."""
    for rank, world in variables.items():
        if environment.get(rank, "").isdecimal():
            count = environment.get(world, "")
            return Place(f"rank {int(environment[rank])}", int(count) if count.isdecimal() else 1)
    return None


def _tf_config(environment: Mapping[str, str], part: str) -> dict[str, Any]:
    """A part of TF_CONFIG; empty where that has none."""
    try:
        found = json.loads(environment.get("TF_CONFIG", "{}"))[part]
    except (ValueError, TypeError, KeyError):
        return {}
    return found if isinstance(found, dict) else {}


def own_place() -> Place:
    """Where this process stands: by its environment as it is now, which the script may have changed since its launch,
    or by PyTorch's process group, whose ranks the script may have numbered itself.
    """
    place = place_of(os.environ)
    distributed = sys.modules.get("torch.distributed")
    if place.rank is None and distributed and distributed.is_available() and distributed.is_initialized():
        return Place(f"rank {distributed.get_rank()}", distributed.get_world_size())
    return place
