"""A process that ends when the one that started it does, however that ends."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(parent: int) -> None:
    """Have this process killed when process `parent`, which started it, ends; end now if it has ended already.

    To be called before anything that takes time. On Linux the kernel does it, which reaches a process that is stopped,
    too. It watches the thread that started this process: see `start_child`. What changes a process's credentials may
    end the watching: call this again after that. Elsewhere a thread of this process waits for the parent's end.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        _watch(parent)
    if os.getppid() != parent:  # it ended before it was watched
        os._exit(1)


def _watch(parent: int) -> None:
    """End this process when the process `parent` has ended, on systems with a kqueue (macOS, BSD)."""
    events = select.kqueue()  # type: ignore[attr-defined]
    ends = select.kevent(  # type: ignore[attr-defined]
        parent,
        filter=select.KQ_FILTER_PROC,  # type: ignore[attr-defined]
        flags=select.KQ_EV_ADD | select.KQ_EV_ONESHOT,  # type: ignore[attr-defined]
        fflags=select.KQ_NOTE_EXIT,  # type: ignore[attr-defined]
    )
    try:
        events.control([ends], 0)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        events.control(None, 1)
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


def start_child(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """`subprocess.Popen` for a program that calls `end_with_parent`.

    It is started by a thread that stays until it has ended: the kernel watches the thread that starts a process,
    and the caller may be a thread that ends earlier.
    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def start_and_stay() -> None:
        try:
            process = subprocess.Popen(command, **options)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=start_and_stay, name="parent-of-child", daemon=True).start()
    return started.result()
