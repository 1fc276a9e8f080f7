"""A training job from its creation until it is home, against an AWS-shaped endpoint."""

from __future__ import annotations

from pathlib import Path

from facesim.backends import backend
from facesim.backends.base import Execution
from facesim.job import Job
from facesim.metrics.files import read_samples
from facesim.run import Run


def submit(job: Job, directory: Path, data: Path) -> tuple[Run, Execution]:
    where = backend("sagemaker")
    request = where.render(job, directory, data)
    run = Run.create(directory, job)
    return run, where.submit(run, request)


def follow(execution: Execution, on=lambda event: None) -> list[dict]:
    events = []
    for event in execution.events(0.05):
        if event is not None:
            events.append(event)
            on(event)
    execution.close()
    return events


def test_a_job_is_created_followed_and_brought_home(endpoint, job, data, tmp_path):
    run, execution = submit(job, tmp_path / "runs" / "one", data)

    events = follow(execution)

    assert events[-1]["outcome"] == "completed"
    print([(e["event"], e.get("state")) for e in events])
    assert run.model_file.read_bytes() == b"a model"
    samples = read_samples(run.metrics)
    print(samples.to_string())
    assert 0
