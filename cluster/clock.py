"""The clock of everything that a run records: time that only goes forward, whatever is done to the system's clock.

Durations are differences of recorded times, so a clock that is set while a run goes on would make them wrong, or
negative. Here the system's clock is read once; from then on time goes on as the monotonic clock does, for this process
and for those that it starts, which find the reading in their environment.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

#: The environment's variable: which clock was read, and its offset from the system's.
_VARIABLE = "CLUSTER_CLOCK"

#: Goes on while the machine sleeps: on macOS CLOCK_MONOTONIC does, on Linux it does not.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def time_unix_s() -> float:
    """Seconds since 1970, as `time.time()` gave them when this was first asked, and what has gone by since then."""
    return _offset_s() + time.clock_gettime(_STEADY)


def environment() -> dict[str, str]:
    """What processes find that this one starts, to have its clock."""
    _offset_s()
    return {_VARIABLE: os.environ[_VARIABLE]}


@functools.cache
def _offset_s() -> float:
    which, _, offset = os.environ.get(_VARIABLE, "").rpartition("=")
    if which and which == _which():
        return float(offset)
    offset_s = time.time() - time.clock_gettime(_STEADY)
    os.environ[_VARIABLE] = f"{_which()}={offset_s!r}"
    return offset_s


def _which() -> str:
    """A name for the monotonic clock: it begins anew with each start of the system, and in some containers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{os.stat('/proc/self/ns/time').st_ino}"
    except OSError:
        return f"{os.uname().nodename}/{_STEADY}"
