"""The command line: dry run, configuration file, JSON, data and doctor."""

from __future__ import annotations

import json

import pytest

from tests.conftest import facesim_here, parse


def test_a_dry_run_prints_the_exact_processes_and_starts_nothing(faces, tmp_path):
    shown = parse(facesim_here("--data", faces, "--workers", 3, "--ps", 2, "--output", tmp_path / "runs", "--dry-run"))

    single, cluster = shown["runs"]
    assert [task["role"] for task in single["request"]["tasks"]] == ["chief"]
    tasks = cluster["request"]["tasks"]
    assert [f"{task['role']}-{task['index']}" for task in tasks] == [
        "ps-0",
        "ps-1",
        "worker-0",
        "worker-1",
        "worker-2",
        "chief-0",
    ]
    config = json.loads(tasks[0]["environment"]["TF_CONFIG"])
    assert config["task"] == {"type": "ps", "index": 0}
    assert [len(config["cluster"][role]) for role in ("chief", "worker", "ps")] == [1, 3, 2]
    assert {"job.json", "result.json", "model.keras"} <= set(cluster["files"])
    assert not (tmp_path / "runs").exists()


def test_what_is_submitted_is_what_the_dry_run_prints(study):
    run = study.runs["ps-async"]
    job = run.job()
    options = {"data": job.experiment.data, "model": job.experiment.model, "image-size": job.experiment.image_size}
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]

    shown = parse(facesim_here("run", "--strategy", "ps-async", *flags, "--dry-run"))["runs"][0]["request"]

    submitted = json.loads(run.plan_file.read_text())
    for request in (shown, submitted):
        for task in [*request["tasks"], request["monitor"]]:
            del (
                task["arguments"],
                task["log"],
                task["environment"],
                task["port"],
            )  # run directory and ports are each run's own
    assert shown == submitted


def test_a_configuration_file_gives_defaults_and_flags_win(faces, tmp_path):
    config = tmp_path / "study.toml"
    config.write_text(f'data = "{faces}"\nstrategy = ["ps-async"]\nworkers = 4\nlearning-rate = 0.01\nepochs = 7\n')

    (shown,) = parse(facesim_here("--config", config, "--epochs", 3, "--dry-run"))["runs"]

    job = shown["job"]
    assert (job["strategy"]["name"], job["shape"]["workers"]) == ("ps-async", 4)
    assert (job["experiment"]["learning_rate"], job["experiment"]["epochs"]) == (0.01, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch = 3", "unknown epoch; did you mean epochs?"),
        ("epochs = ", "cannot be read as TOML"),
        ("epochs = 0", "--epochs 0"),
    ],
)
def test_a_configuration_file_that_is_wrong_is_told(tmp_path, content, message):
    (tmp_path / "study.toml").write_text(content)

    command = facesim_here("--config", tmp_path / "study.toml", "--dry-run")

    assert command.code == 2
    assert message in command.errors


def test_seeds_make_a_run_of_each_strategy_each(faces):
    shown = parse(facesim_here("--data", faces, "--seeds", 3, "--dry-run"))

    assert [(run["job"]["strategy"]["name"], run["job"]["experiment"]["seed"]) for run in shown["runs"]] == [
        (strategy, seed) for seed in range(3) for strategy in ("single", "ps-async")
    ]


def test_rendered_faces_become_an_image_folder(tmp_path):
    command = facesim_here("data", "render", tmp_path / "people", "--identities", 3, "--images", 4, "--size", 32)

    assert command.code == 0, command.errors
    assert len(list((tmp_path / "people").glob("*/*.png"))) == 12
    facts = parse(facesim_here("data", "describe", tmp_path / "people", "--json"))
    assert (facts["identities"], facts["images"]) == (3, 12)


@pytest.mark.slow
def test_doctor_finds_this_machine_able():
    command = facesim_here("doctor", "--json")

    checks = {check["name"]: check["level"] for check in json.loads(command.output)}
    assert command.code == 0
    assert checks["TensorFlow"] == checks["ports"] == "ok"
