"""A plan's accuracy of a cluster that nobody has: replayed in one process."""

from __future__ import annotations

import json

import pytest

from facesim.cli import main
from facesim.forecast.shapes import ClusterShape
from facesim.planning.accuracy import replay_shape
from facesim.runs.directory import Run, find_runs
from facesim.spec.job import make_job
from facesim.training.order import load_orders

pytestmark = pytest.mark.slow


def test_a_plan_replays_the_cluster_that_it_recommends_and_later_plans_know(profile, faces, tmp_path, capsys):
    file, runs = tmp_path / "profile.json", tmp_path / "runs"
    profile.model_copy(update={"model": "plain-cnn", "batch": 8, "examples": 64, "in_step_share": 0.1}).save(file)
    options = ["plan", "--profile", str(file), "--data", str(faces), "--image-size", "32", "--epochs", "2"]
    options += ["--strategy", "ps-async", "--workers", "3", "--ps", "1", "--instance-type", "ml.m5.large"]
    options += ["--runs", str(runs)]

    assert main([*options, "--replay", "1", "--json"]) == 0

    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert 0 <= row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"] <= 1
    assert row["accuracy"]["origin"] == "from 1 replay of ps-async, 3 workers"
    (run,) = find_runs([runs])
    assert run.result().measurement == "forecast" and run.result().held_out_accuracy == row["accuracy"]["value"]
    # Its workers wait for nobody's cores: an update is as stale as there are others, 2; of those that do, 0.2.
    assert load_orders(run.directory / "orders.npz")[0].staleness.mean() > 1
    assert main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["accuracy"] == row["accuracy"]


def test_seeds_that_have_ended_are_kept_when_a_replay_is_interrupted(profile, faces, tmp_path):
    job = make_job(data=str(faces), model="plain-cnn", image_size=32, batch=8, epochs=1)

    def interrupted_in_the_second() -> None:
        if (tmp_path / "seed-1").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay_shape(job, profile, ClusterShape(), tmp_path, seeds=2, tick=interrupted_in_the_second)

    kept, begun = (Run.open(tmp_path / name).result() for name in ("seed-0", "seed-1"))
    assert kept.held_out_accuracy is not None and kept.seed == 0 and begun is None
