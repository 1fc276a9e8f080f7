"""A training by any framework that was disturbed goes on, by the same framework or by another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facesim.backends.local import BACKEND
from facesim.preflight.inputs import prepare_inputs
from facesim.report.load import load
from facesim.runs.directory import Run, find_runs
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.spec.job import make_job
from tests.conftest import completed_run, facesim
from tests.frameworks.conftest import OTHERS, PLAIN, QUIETLY, curve, need

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]


@pytest.mark.parametrize("framework", OTHERS)
def test_a_worker_that_dies_comes_back_and_the_training_ends_where_it_would_have(plain, faces, tmp_path, framework):
    need(framework)
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "kill"\ntarget = "worker-0"\nat_step = 14\n')
    options = ("--checkpoint-steps", 4, "--faults", faults, "--strategy", "allreduce", "--data", faces)

    run = completed_run(tmp_path / "runs", "--framework", framework, *options, *PLAIN, *QUIETLY)

    assert [event["step"] for event in run.events() if event["event"] == "restored"][-1] >= 4
    assert curve(run)[-1] == pytest.approx(curve(plain(framework, "allreduce"))[-1], rel=1e-6)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_worker_on_another_host_goes_on_from_the_checkpoint_of_the_first(faces, tmp_path, framework):
    """Where each host has a folder of its own, only that of the first worker's host has checkpoints."""
    need(framework)
    job = make_job(
        framework=framework, strategy="allreduce", data=str(faces), model="plain-cnn", image_size=32, batch=9, epochs=3,
        checkpoint_steps=4, faults=[{"kind": "kill", "target": "worker-0", "at_step": 14}],
    )  # fmt: skip
    inputs, run = prepare_inputs(job, lambda *_: None), Run.create(tmp_path / "run", job)
    run.record("submitted")
    plan = BACKEND.render(job, run.directory, inputs)
    places = {str(run.checkpoint_directory(job)): str(tmp_path / "another host")}
    tasks = [
        replace(task, arguments=tuple(places.get(each, each) for each in task.arguments))
        if task.role == "worker"
        else task
        for task in plan.tasks
    ]
    execution = BACKEND.submit(run, replace(plan, tasks=tuple(tasks), monitor=None))
    try:
        happened = [event for event in execution.events(1.0) if event]
    finally:
        execution.close()

    assert happened[-1]["outcome"] == "completed", run.log_tail("worker-0", 40)
    assert [event["step"] for event in happened if event["event"] == "restored"][-1] >= 4
    (worker,) = run.peer_outcomes()
    assert worker.parameters_sha256 == run.outcome().parameters_sha256
    assert worker.counted.model_dump() == run.outcome().counted.model_dump()


@pytest.mark.parametrize("framework", OTHERS)
def test_who_goes_on_drops_the_units_that_would_have_been_dropped(faces, tmp_path, framework):
    need(framework)
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "kill"\ntarget = "chief-0"\nat_step = 14\n')
    dropping = ("--model", "compact-cnn", "--image-size", 32, "--batch", 9, "--epochs", 3, "--data", faces, *QUIETLY)

    runs = [
        completed_run(tmp_path / name, "--framework", framework, *dropping, "--checkpoint-steps", 4, *disturbed)
        for name, disturbed in (("calm", ()), ("killed", ("--faults", faults)))
    ]

    assert any(event["event"] == "restored" and event["step"] >= 4 for event in runs[1].events())
    assert curve(runs[1]) == pytest.approx(curve(runs[0]), rel=1e-6)


@pytest.mark.parametrize(("begun", "ended"), [("tensorflow", "torch"), ("torch", "jax")])
def test_a_run_goes_on_in_another_framework(plain, faces, tmp_path, begun, ended):
    need(begun, ended)
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "kill"\ntarget = "chief-0"\nat_step = 14\n')
    options = ("--checkpoint-steps", 4, "--faults", faults, "--max-restarts", 0, "--data", faces)
    failed = facesim("run", "--framework", begun, *PLAIN, *QUIETLY, *options, "--output", tmp_path / "runs")
    assert failed.code == 1, failed.errors + failed.output
    (run,) = find_runs([tmp_path / "runs"])

    resumed = facesim("run", "--resume", run.directory, "--framework", ended)

    assert resumed.code == 0, resumed.errors + resumed.output
    assert any(event["event"] == "restored" and event["step"] >= 4 for event in run.events())
    assert run.result().held_out_loss == pytest.approx(plain(TENSORFLOW, "single").result().held_out_loss, rel=1e-5)
    assert load(run).frameworks == [begun, ended]
