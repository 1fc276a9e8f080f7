"""What Linux says of another process: the GPUs that it has open, and the memory that it has in common with others."""

from __future__ import annotations

import os
from collections.abc import Iterator

_WRITABLE_AND_SHARED = ("w", "s")


def has_gpu(pid: int) -> bool:
    """Whether a process has a GPU of NVIDIA's open."""
    try:
        return any(os.readlink(entry.path).startswith("/dev/nvidia") for entry in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def shared_memory(pid: int, least_bytes: int) -> Iterator[tuple[str, str]]:
    """What identifies each piece of memory, of `least_bytes` or more, that a process may write to and others may have,
    too: its device and its inode.
    """
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                addresses, permissions, _, device, inode, *path = line.split(maxsplit=5)
                if (permissions[1], permissions[3]) != _WRITABLE_AND_SHARED or inode == "0":
                    continue
                begin, end = (int(address, 16) for address in addresses.split("-"))
                is_device = (
                    bool(path) and path[0].startswith("/dev/") and not path[0].startswith(("/dev/shm", "/dev/zero"))
                )
                if end - begin >= least_bytes and not is_device:
                    yield device, inode
    except (OSError, ValueError):  # it has ended
        return
