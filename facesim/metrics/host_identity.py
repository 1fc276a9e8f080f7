"""Which host samples are taken on. A host of a cluster is given its name; any other has the system's name for it."""

from __future__ import annotations

import os
import socket

#: Names the host that a task is on, such as `algo-2`, where it has a network of its own.
HOST = "FACESIM_HOST"
#: The host's position among those of its job, from 0: its name need not say it.
HOST_INDEX = "FACESIM_HOST_INDEX"


def host_name() -> str:
    """The host's name as samples have it."""
    return os.environ.get(HOST) or socket.gethostname()


def host_index() -> int:
    """The host's position among the hosts of its job: the first's is 0."""
    return int(os.environ.get(HOST_INDEX, "0"))


def has_own_network() -> bool:
    """Whether tasks on this host reach those of others through an interface, not through loopback."""
    return HOST in os.environ
