"""Tasks for the supervisor's tests: real processes without TensorFlow."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from cluster.pulse import TRAINING, expects, phase, progressed
from cluster.task import AGAIN, connecting, reached, tell


def work(seconds: float) -> None:
    print("working")
    time.sleep(seconds)


def serve() -> None:
    print("serving", os.environ.get("GREETING", ""))
    time.sleep(600)


def serve_stubbornly() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell("heeds_nothing")
    time.sleep(600)


def work_until(file: str) -> None:
    """Done when the file is there."""
    while not Path(file).exists():
        time.sleep(0.01)


def serve_and_note(directory: str) -> None:
    """Notes each time that it has started."""
    _note_start(directory)
    time.sleep(600)


def work_with_fellows(directory: str, before: int, after: int) -> None:
    """Works until its fellows have noted so many starts, reaches step 1, and works until they have noted so many."""
    _await_starts(directory, before)
    reached(1)
    _await_starts(directory, after)


def _note_start(directory: str) -> None:
    with (Path(directory) / "starts").open("a") as file:
        file.write(".")


def _await_starts(directory: str, count: int) -> None:
    file = Path(directory) / "starts"
    while not file.exists() or file.stat().st_size < count:
        time.sleep(0.01)


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


def work_at_the_third_try(directory: str) -> None:
    """Fails for want of something, twice."""
    tries = Path(directory) / "tries"
    count = int(tries.read_text()) + 1 if tries.exists() else 1
    tries.write_text(str(count))
    if count < 3:
        sys.exit(AGAIN)


def count_steps(steps: int, step_s: float) -> None:
    """Tells how far it is, and what it thinks of it."""
    for step in range(1, steps + 1):
        time.sleep(step_s)
        reached(step)
    tell("counted", steps=steps)


def count_to_file(directory: str, name: str, seconds: float) -> None:
    """Works as fast as it is let."""
    steps, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        steps += 1
        time.sleep(0.001)
    (Path(directory) / name).write_text(str(steps))


def write_until_it_goes_again(directory: str) -> None:
    """Writes one small file after another, until one can be written after some that could not; tells how many those
    were, and for how long."""
    step, failed_s = 0, list[float]()
    while True:
        step += 1
        try:
            (Path(directory) / f"file-{step}").write_bytes(b"x" * 8_000)
        except OSError:
            failed_s.append(time.monotonic())
            if len(failed_s) > 500:
                raise
        else:
            if failed_s:
                break
        reached(step)
        time.sleep(0.02)
    tell("wrote", failures=len(failed_s), after_s=time.monotonic() - failed_s[0])


def serve_on(port: int, directory: str) -> None:
    """Fails for now when the port is taken; notes each time that it listens."""
    import socket

    try:
        listener = socket.create_server(("", port), reuse_port=True)
    except OSError:
        sys.exit(AGAIN)
    tell("listening", port=port)
    _note_start(directory)
    listener.accept()
    time.sleep(600)


def watch_politely(directory: str, pids: dict[str, int]) -> None:
    """Notes each time that it has started. Handles SIGTERM in Python, as a monitor does that samples once more."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    _note_start(directory)
    while not ended:
        time.sleep(0.01)


def work_in_steps(directory: str, steps: int, step_s: float) -> None:
    """Does so many steps, each once, whatever interrupts it: goes on after the last that it noted."""
    noted = Path(directory) / "steps"
    done = len(noted.read_text()) if noted.exists() else 0
    tell("goes_on", steps=done)
    while done < steps:
        time.sleep(step_s)
        done += 1
        temporary = Path(directory) / ".steps"
        temporary.write_text("." * done)
        os.replace(temporary, noted)
        reached(done)


def note_sigterm(directory: str) -> None:
    """Never done; notes that it was asked to end, and ends."""

    def note(*_: object) -> None:
        with (Path(directory) / "asked").open("a") as file:
            file.write("asked\n")
        sys.exit(0)

    signal.signal(signal.SIGTERM, note)
    time.sleep(600)


def connect(address: str, within_s: float, after_s: float) -> None:
    """Waits for others so long."""
    with connecting([address], within_s):
        time.sleep(after_s)


def note_surroundings(directory: str) -> None:
    """Notes what it finds around it."""
    import queue
    import resource
    import tempfile

    assert queue and tempfile
    surroundings = {
        "environment": dict(os.environ),
        "path": sys.path,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    (Path(directory) / "surroundings.json").write_text(json.dumps(surroundings))


def stall_once(directory: str, stall_s: float) -> None:
    """Makes 60 quick steps; at its first try it stops after some of them, and only waits."""
    first = not (Path(directory) / "stalled").exists()
    with phase(TRAINING):
        for step in range(60):
            if first and step == 30:
                (Path(directory) / "stalled").touch()
                time.sleep(stall_s)
            time.sleep(0.01)
            progressed()


def evaluate_long(seconds: float) -> None:
    """Makes steps, and then something else that takes its time."""
    with phase(TRAINING):
        for _ in range(10):
            time.sleep(0.01)
            progressed()
    with phase("evaluation"):
        time.sleep(seconds)


def wait_for_leader(seconds: float) -> None:
    """A peer: in the middle of its steps it waits for what the leader is busy with."""
    with phase(TRAINING):
        for step in range(20):
            time.sleep(seconds if step == 10 else 0.01)
            progressed()


def hand_out(directory: str, silent: str, owing: int) -> None:
    """A leader whose fellows, worker-0 and worker-1, answer it until one is `silent`, or both are; done when all have
    been started again that should be."""
    expects(["worker-0", "worker-1"])
    starts = 2
    with phase(TRAINING):
        for step in range(10_000):
            noted = Path(directory) / "starts"
            if noted.exists() and noted.stat().st_size > starts:
                return
            for worker in ("worker-0", "worker-1"):
                if step < 50 or silent not in (worker, "both"):
                    progressed(worker, owing)
            time.sleep(0.01)


def serve_echo(port: int) -> None:
    """Sends back what it is sent."""
    import socket

    with socket.create_server(("127.0.0.1", port)) as listener:
        tell("listening", port=port)
        connection, _ = listener.accept()
        while received := connection.recv(1024):
            connection.sendall(received)
    time.sleep(600)


def ask(port: int, seconds: float) -> None:
    """Asks an echo, again and again, and tells how many answers came, how long the longest took, and how many packets
    had to be sent again (`tcpi_total_retrans` of Linux' tcp_info, the 24th word after its first 8 bytes).
    """
    import socket
    import struct

    answers: list[float] = []
    until = time.monotonic() + seconds
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port))
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    while time.monotonic() < until:
        begin = time.monotonic()
        connection.sendall(b"?")
        connection.recv(1)
        answers.append(time.monotonic() - begin)
        time.sleep(0.01)
    information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    again = struct.unpack_from("24I", information, 8)[23]
    tell("asked", longest_s=max(answers), answers=len(answers), sent_again=again)
