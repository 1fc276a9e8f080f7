"""A private network for the tasks of a host that runs a whole cluster: a Linux network namespace with loopback alone.

TensorFlow's gRPC server listens on every address of its host and authenticates nobody, so everyone who reaches the port
can run code. In a namespace of its own nobody else reaches it, no other program can take its ports, and the namespace's
loopback counters are the cluster's traffic. An ordinary user may create one where the system allows user namespaces.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h


def enter_private_network() -> bool:
    """Move this process, which must have one thread, into a network of its own; False where the system does not allow
    it.

    A child process tries first: a namespace that was entered but could not be set up would leave no network at all.
    """
    if sys.platform != "linux":
        return False
    child = os.fork()
    if child == 0:
        try:
            _enter()
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        return False
    _enter()
    return True


def _enter() -> None:
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _unshare(_CLONE_NEWNET)
    else:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as interface:
        request = struct.pack("16sh14x", b"lo", 0)  # struct ifreq: name, flags
        (flags,) = struct.unpack_from("h", fcntl.ioctl(interface, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(interface, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


if __name__ == "__main__":
    print(enter_private_network())
