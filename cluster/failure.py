"""Why a task failed, in words: how its process ended, the error that it reported, and its last lines."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

_LINES = 15
_LONGEST = 300


def in_short(error: BaseException) -> str:
    """An error in one line: its kind and the first line of its message."""
    message = str(error).strip()
    first = message.splitlines()[0][:_LONGEST] if message else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def name_of_signal(number: int) -> str:
    """SIGKILL, or SIG40 for one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def why_failed(end: dict[str, Any], why: str | None, log: Path, how: str | None = None) -> str:
    """From a task's `task_ended` event, what it told by `cluster.task.failing`, and its log; `how` it ended where more
    is known about that. The first line has it all in short.
    """
    ended = f"was killed by {end['signal']}" if end["signal"] else f"ended with exit code {end['exit_code']}"
    head = (how or f"{end['task']} {ended}") + (f": {why}" if why else "")
    lines = last_lines(log)
    return "\n".join([f"{head}; its last lines:", *lines]) if lines else f"{head}; it printed nothing ({log})"


def last_lines(log: Path, count: int = _LINES) -> list[str]:
    """The last lines of a log that say something; none where there is no log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
