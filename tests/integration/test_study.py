"""`python -m facesim` on small data: the study {single, ps-async} as real processes, and all that it leaves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from facesim.metrics.files import read_samples
from facesim.runs.states import RunState
from tests.conftest import facesim_here, parse, pids_of, still_running

STRATEGIES = ["single", "ps-async"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_completes_and_its_result_holds_what_it_must(study, strategy):
    result = study.result(strategy)

    assert result["state"] == RunState.COMPLETED
    assert (result["strategy"], result["backend"], result["seed"]) == (strategy, "local", 0)
    assert result["measurement"] == "emulated"
    assert result["examples_seen"] == 12 * 64
    assert result["total_s"] > result["training_s"] > 0
    assert result["images_per_s"] > 0
    assert result["cost_usd"] > result["spot_cost_usd"] > 0
    assert 0 <= result["training_accuracy"] <= 1
    assert result["job"]["experiment"]["epochs"] == 12


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_really_learns(study, strategy):
    samples = read_samples(study.runs[strategy].metrics)
    loss = samples[samples["name"] == "loss"]["value"].tolist()

    assert len(loss) == 12
    assert loss[-1] < 0.5 * loss[0]
    assert study.result(strategy)["held_out_accuracy"] >= 3 / 8  # by chance 1/8


def test_both_strategies_saw_the_same_examples_in_as_many_updates(study):
    single, cluster = (study.result(strategy) for strategy in STRATEGIES)

    assert single["examples_seen"] == cluster["examples_seen"]
    assert single["updates"] == cluster["updates"] == 12 * 8


def test_both_have_on_record_that_they_were_tested_on_the_same_images(study, faces):
    from facesim.data import stratified_split
    from facesim.data.identity import identity_of
    from facesim.preflight.inputs import prepare_data

    experiment = study.runs["single"].job().experiment
    data = prepare_data(study.runs["single"].job(), lambda *_: None)
    held_out = stratified_split(data.labels, experiment.held_out, experiment.seed)[1]

    data_facts = [study.result(strategy)["data"] for strategy in STRATEGIES]
    assert [facts["tested_sha256"] for facts in data_facts] == [identity_of(data, held_out)] * 2
    assert [facts["content_sha256"] for facts in data_facts] == [data.sha256] * 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_else_the_machine_did_is_on_record(study, strategy):
    load = study.result(strategy)["load"]

    assert 0 <= load["foreign_cpu_percent"] <= 100
    assert load["steal_percent"] is None or 0 <= load["steal_percent"] <= 100


def test_every_update_of_asynchronous_workers_is_counted_exactly_once(study):
    counted = study.result("ps-async")["counted"]

    assert counted["last_version"] == counted["updates"] == 96
    assert sum(counted["steps_by_worker"].values()) == 96
    assert sum(counted["examples_by_worker"].values()) == counted["examples"] == counted["examples_due"] == 768
    assert sum(counted["staleness"].values()) == 96


def test_the_audit_says_that_the_cluster_trained_together(study):
    assert study.result("single")["sync_audit"]["verdict"] == "single"
    assert study.result("ps-async")["sync_audit"]["verdict"] == (
        "together" if sys.platform == "linux" else "unknown"  # bytes by task need Linux' socket diagnostics
    )


def test_the_cluster_was_separate_processes_joined_by_tf_config(study):
    run = study.runs["ps-async"]
    plan = json.loads(run.plan_file.read_text())
    configs = {
        task["role"] + f"-{task['index']}": json.loads(task["environment"]["TF_CONFIG"]) for task in plan["tasks"]
    }
    started = {event["task"]: event["pid"] for event in run.events() if event["event"] == "task_started"}

    assert set(configs) == {"chief-0", "worker-0", "worker-1", "ps-0"}
    assert len({json.dumps(config["cluster"]) for config in configs.values()}) == 1
    assert {f"{config['task']['type']}-{config['task']['index']}" for config in configs.values()} == set(configs)
    assert len(set(started.values())) == 5  # with the monitor
    assert all(run.log_file(task).exists() for task in started)


def test_every_task_and_phase_is_measured(study):
    run = study.runs["ps-async"]
    samples = read_samples(run.metrics)
    measured = samples[samples["name"] == "cpu_percent"]

    assert {"host", "chief", "worker", "ps"} <= set(measured["role"])
    assert measured["value"].between(0, 105).all()
    assert set(samples["run_id"]) == {run.id}
    assert {"startup_s", "connect_s", "build_s", "first_step_s", "training_s", "evaluation_s"} <= set(
        study.result("ps-async")["phases"]
    )
    assert "collector_errors" not in set(samples["name"])


def test_nothing_runs_any_more_when_the_study_has_ended(study):
    for run in study.runs.values():
        assert not still_running(pids_of(run), within_s=0.5)


def test_the_terminal_shows_the_comparison_and_where_the_report_is(study):
    (report,) = study.directory.glob("report-*.html")

    for text in ("single", "ps-async", "held-out accuracy", "emulated", str(report)):
        assert text in study.shown
    page = report.read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")  # an SVG's name spaces are not requests
    assert "https://" not in page


def test_the_report_is_made_again_from_run_directories_alone(study, tmp_path):
    command = facesim_here("report", study.directory, "--output", tmp_path / "again.html", "--json")

    shown = parse(command)
    assert {result["strategy"] for result in shown["results"]} == set(STRATEGIES)
    assert "<svg" in (tmp_path / "again.html").read_text()


def test_the_saved_model_loads_and_is_the_one_that_was_evaluated(study, faces):
    pytest.importorskip("tensorflow")
    script = f"""
import json, keras, numpy as np
from pathlib import Path
from facesim.data import stratified_split
from facesim.spec.job import make_job
from facesim.preflight.inputs import prepare_data
data = prepare_data(make_job(data={str(faces)!r}, image_size=32), lambda *_: None)
_, held_out = stratified_split(data.labels, 0.2, 0)
model = keras.models.load_model({str(study.runs["ps-async"].model_file)!r})
print("accuracy", np.mean(model.predict(data.images[held_out], verbose=0).argmax(1) == data.labels[held_out]))
"""
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    ).stdout

    assert float(shown.split("accuracy ")[1]) == pytest.approx(study.result("ps-async")["held_out_accuracy"])


def test_a_seed_gives_the_same_training_again(study, trained):
    again = trained("single")["12 epochs"].outcome()

    assert again["held_out_loss"] == pytest.approx(study.result("single")["held_out_loss"], rel=1e-3)
