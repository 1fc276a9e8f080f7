"""What the hosts of a run's jobs left, put together in its directory."""

from __future__ import annotations

import os
from pathlib import Path

from facesim.backends.collect_results import collect_results
from facesim.backends.log_stream import LogStream
from facesim.metrics.announced import FILE
from facesim.runs.directory import Run
from facesim.spec.job import make_job


def left(folder: Path, text: str) -> Path:
    """What two hosts left of a job, each with a log of the same name."""
    for host in ("algo-1", "algo-2"):
        for file in (f"{host}/logs/monitor-0.log", f"{host}/events.jsonl"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(f"{text} of {host}")
    return folder


def test_what_was_announced_stays_until_what_was_recorded_of_the_same_job_is_home(tmp_path):
    run = Run.create(tmp_path / "one", make_job(strategy="single"))
    home = run.metrics / "chief-0-algo-1.jsonl"
    home.write_text("of an earlier job\n")
    os.utime(home, (1e9, 1e9))
    log = LogStream(run)
    log.add("algo-1", "facesim: epoch=1; updates=10;", 1.5e9)

    log.settle()
    assert (run.metrics / FILE).exists()

    home.write_text("of both\n")
    log.settle()
    assert not (run.metrics / FILE).exists()


def test_each_job_of_a_run_keeps_its_files_and_the_newest_has_their_names(tmp_path):
    run = Run.create(tmp_path / "one", make_job(strategy="single"))

    for text in ("first", "second", "third"):
        for _ in range(2):  # what comes home again is the same
            collect_results(left(tmp_path / text, text), tmp_path / "no model", run)

    assert {file.name: file.read_text() for file in run.logs.iterdir()} == {
        "monitor-0-earlier1.log": "first of algo-1",
        "monitor-0-earlier2.log": "second of algo-1",
        "monitor-0.log": "third of algo-1",
        "monitor-0-algo-2-earlier1.log": "first of algo-2",
        "monitor-0-algo-2-earlier2.log": "second of algo-2",
        "monitor-0-algo-2.log": "third of algo-2",
    }
    assert {file.name: file.read_text() for file in (run.directory / "hosts" / "algo-2").iterdir()} == {
        "events-earlier1.jsonl": "first of algo-2",
        "events-earlier2.jsonl": "second of algo-2",
        "events.jsonl": "third of algo-2",
    }
