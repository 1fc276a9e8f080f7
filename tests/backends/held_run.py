"""A run that a process has, made by hand: its events, samples and logs, and an end when it is asked for one."""

from __future__ import annotations

import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from facesim.metrics.files import SampleWriter
from facesim.runs.directory import Run
from facesim.runs.events import NodeEnded, StateEntered, Stopping, Submitted, TaskStarted
from facesim.runs.records import Result
from facesim.runs.states import Outcome, RunState
from facesim.spec.job import make_job

FIGURES = {"epoch": 3.0, "examples": 240.0, "images_per_s": 120.0, "loss": 0.5, "held_out_accuracy": 0.75}


def hold(directory: Path, backend: str, test: Connection, stopped_in_time: bool = True) -> None:
    """Have a run until its end, which the text `end` from the test or SIGTERM brings; any other text is printed by
    worker-0. The test is told once the run has begun, and what was printed. Unless it is `stopped_in_time`, SIGTERM
    comes when its work is done.
    """
    options = {"tags": {"team": "faces"}} if backend == "docker" else {}
    job = make_job(strategy="ps-async", backend=backend, epochs=10, **options)
    run = Run.create(directory, job)
    run.record(Submitted())
    run.record(StateEntered(state=RunState.TRAINING))
    run.record(TaskStarted(task="chief-0"))
    writer = SampleWriter(run.metrics / "chief-0.jsonl", run_id=run.id, host="here", source="training")
    writer.write(time.time(), "chief", 0, FIGURES)
    run.log_file("chief-0").write_text("epoch 3\n")
    run.log_file("worker-0").write_text("first\nand part of a li")
    asked: list[RunState] = []
    over = threading.Event()

    def stop(*_: object) -> None:
        asked.append(RunState.STOPPED if stopped_in_time else RunState.COMPLETED)
        over.set()

    signal.signal(signal.SIGTERM, stop)
    test.send("begun")
    threading.Thread(target=_obey, args=(run, test, over), daemon=True).start()
    over.wait()
    state = asked[0] if asked else RunState.COMPLETED
    if asked:
        run.record(Stopping(grace_s=1.0))
    run.record(NodeEnded(outcome=Outcome(state.value.lower())))
    run.record(StateEntered(state=state))
    Result(
        run_id=run.id,
        job=job.model_dump(),
        strategy="ps-async",
        backend=backend,
        seed=0,
        state=state,
        measurement="emulated",
        held_out_accuracy=0.875,
        total_s=12.0,
    ).write(run.result_file)
    run.claim.release()


def _obey(run: Run, test: Connection, over: threading.Event) -> None:
    while (text := test.recv()) != "end":
        with run.log_file("worker-0").open("a") as log:
            log.write(text)
        test.send("printed")
    over.set()
