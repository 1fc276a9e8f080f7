"""What comes home of a job that docker ran, where its hosts did not leave what they should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from facesim.backends.base import Attached
from facesim.preflight.inputs import prepare_inputs
from facesim.runs.directory import Run
from facesim.spec.backends import BACKENDS
from facesim.spec.job import make_job
from facesim.study.runner import attach

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("state", "left"),
    [
        ("the chief left no outcome.json", "print('nothing')"),
        ("the chief left no outcome.json", "open('/opt/ml/output/data/notes.txt', 'w').write('something else')"),
    ],
    ids=["nothing", "something else"],
)
def test_a_job_that_completed_and_left_no_findings_is_a_failed_run(containers, faces, tmp_path, state, left):
    job = make_job(backend="docker", data=str(faces), image_size=32, instance_type="ml.m5.large")
    where = BACKENDS["docker"]().open()
    made = where.render(job, tmp_path / "one", prepare_inputs(job, lambda *_: None))
    hosts: dict[str, Any] = {"ContainerEntrypoint": ["python3", "-c"], "ContainerArguments": [left]}
    algorithm = made.request["AlgorithmSpecification"] | hosts
    run = Run.create(tmp_path / "one", job)
    run.record("submitted")

    made = replace(made, request=made.request | {"AlgorithmSpecification": algorithm})

    result = attach(Attached(run, where.submit(run, made)))

    assert result.state == "Failed"
    assert "completed, but some of its results are missing" in result.failure
    assert state in result.failure
