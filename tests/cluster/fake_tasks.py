"""Tasks for the supervisor's tests: real processes without TensorFlow."""

import os
import signal
import sys
import time
from pathlib import Path


def work(seconds: float) -> None:
    print("working")
    time.sleep(seconds)


def serve() -> None:
    print("serving", os.environ.get("GREETING", ""))
    time.sleep(600)


def serve_stubbornly() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def crash(after_s: float) -> None:
    time.sleep(after_s)
    print("the reason is this")
    sys.exit(3)


def drain(directory: str) -> None:
    """Ends well on SIGTERM, after noting which of its fellows were still alive then."""
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    (Path(directory) / "ready").touch()
    while not stopping:
        time.sleep(0.01)
    fellow = int((Path(directory) / "server.pid").read_text())
    os.kill(fellow, 0)  # raises if it is gone
    (Path(directory) / "drained").touch()


def serve_with_pid(directory: str) -> None:
    (Path(directory) / "server.pid").write_text(str(os.getpid()))
    time.sleep(600)


def watch(directory: str, pids: dict[str, int]) -> None:
    (Path(directory) / "watched").write_text(repr(sorted(pids)))
    time.sleep(600)


def work_in_steps(directory: str, steps: int, step_s: float) -> None:
    """Does so many steps, each once, whatever interrupts it: goes on after the last that it noted."""
    noted = Path(directory) / "steps"
    while (done := len(noted.read_text()) if noted.exists() else 0) < steps:
        time.sleep(step_s)
        temporary = Path(directory) / ".steps"
        temporary.write_text("." * (done + 1))
        os.replace(temporary, noted)


def note_sigterm(directory: str) -> None:
    """Never done; notes that it was asked to end, and ends."""

    def note(*_: object) -> None:
        with (Path(directory) / "asked").open("a") as file:
            file.write("asked\n")
        sys.exit(0)

    signal.signal(signal.SIGTERM, note)
    time.sleep(600)
