"""A plan's accuracy of a cluster that nobody has: replayed in one process."""

from __future__ import annotations

import json

import pytest

from facesim.cli import main
from facesim.runs.directory import find_runs
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
