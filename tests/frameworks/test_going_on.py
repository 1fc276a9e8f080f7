"""A training by any framework that was disturbed goes on, by the same framework or by another."""

from __future__ import annotations

import pytest

from facesim.report.load import load
from facesim.runs.directory import find_runs
from facesim.spec.frameworks import TENSORFLOW
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
