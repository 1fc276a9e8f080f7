"""Runs that are disturbed, stopped and continued: nothing is counted twice, nothing is left, nothing is lost."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from facesim.metrics.files import recorded
from facesim.runs.directory import Run, find_runs
from facesim.runs.states import RunState
from facesim.training.checkpoints import Checkpoints
from tests.conftest import QUICK, completed_run, facesim_here, pids_of, still_running, wait_until
from tests.integration.running import Running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded")]

#: 8 updates an epoch.
SHORT = ("--epochs", 6, "--checkpoint-steps", 10, *QUICK)


def script(directory: Path, *faults: dict) -> Path:
    file = directory / "faults.toml"
    lines = [
        f"[[fault]]\n{''.join(f'{name} = {json.dumps(value)}{chr(10)}' for name, value in f.items())}" for f in faults
    ]
    file.write_text("\n".join(lines))
    return file


def disturbed(directory: Path, faces: Path, strategy: str, *faults: dict, options=SHORT) -> Run:
    """A run that went on to its end, whatever was done to it."""
    file = script(directory, *faults)
    run = completed_run(directory / "runs", "--strategy", strategy, "--data", faces, "--faults", file, *options)
    assert run.result()["state"] == RunState.COMPLETED
    return run


def seen_once(run: Run) -> bool:
    counted = run.result()["counted"]
    return counted["examples"] == counted["examples_due"] == sum(counted["examples_by_worker"].values())


def events(run: Run, name: str) -> list[dict]:
    return [event for event in run.events() if event["event"] == name]


def kill(target: str, at_step: int) -> dict:
    return {"kind": "kill", "target": target, "at_step": at_step}


@pytest.fixture(scope="module")
def killed(tmp_path_factory, faces) -> Run:
    """A run of one process that was killed once, and went on."""
    return disturbed(tmp_path_factory.mktemp("killed"), faces, "single", kill("chief-0", 25))


def test_a_process_that_is_killed_ends_with_the_parameters_that_it_would_have_had(killed, trained):
    undisturbed = trained("single")["6 epochs"].outcome()

    assert killed.outcome()["parameters_sha256"] == undisturbed["parameters_sha256"]
    assert killed.result()["held_out_accuracy"] == undisturbed["held_out_accuracy"]
    assert seen_once(killed)
    (restored,) = events(killed, "restored")
    assert restored["step"] == 20
    assert restored["file"] == "checkpoint-000000020.npz"
    assert killed.result()["recovery"]["restarts"] == 1


@pytest.mark.exhaustive
def test_a_cluster_whose_server_is_killed_ends_with_the_parameters_that_it_would_have_had(tmp_path, faces):
    alone = ("--workers", 1, *SHORT)  # with several workers chance decides the order of updates
    undisturbed = completed_run(tmp_path / "calm", "--strategy", "ps-async", "--data", faces, *alone)

    run = disturbed(tmp_path, faces, "ps-async", kill("ps-0", 25), options=alone)

    assert run.outcome()["parameters_sha256"] == undisturbed.outcome()["parameters_sha256"]
    assert len(events(run, "restored")) == 1


def test_a_parameter_server_cluster_survives_the_loss_of_each_role(tmp_path, faces):
    run = disturbed(
        tmp_path, faces, "ps-async", kill("worker-1", 5), kill("ps-0", 22), kill("chief-0", 33),
        {"kind": "freeze", "target": "worker-0", "at_step": 36, "for_s": 0.5},
    )  # fmt: skip

    assert seen_once(run)
    assert run.result()["sync_audit"]["verdict"] == "together"
    first, second, third = events(run, "recovering")
    assert list(first["starting"]) == ["worker-1"]
    assert sorted(second["starting"]) == sorted(third["starting"]) == ["chief-0", "ps-0", "worker-0", "worker-1"]
    assert all(event["step"] >= 20 for event in events(run, "restored"))


@pytest.mark.parametrize("strategy", ["allreduce", pytest.param("local-sgd", marks=pytest.mark.exhaustive)])
def test_peers_go_on_together_from_the_checkpoint_when_one_is_lost(tmp_path, faces, strategy):
    run = disturbed(tmp_path, faces, strategy, kill("worker-0", 20))

    assert seen_once(run)
    assert run.result()["sync_audit"]["verdict"] == "together"
    assert sorted(events(run, "recovering")[0]["starting"]) == ["chief-0", "worker-0"]


@pytest.mark.exhaustive
def test_an_interrupted_host_and_a_taken_port_are_survived(tmp_path, faces):
    run = disturbed(
        tmp_path, faces, "ps-sync",
        {"kind": "interrupt", "target": "algo-2", "at_step": 5, "for_s": 0.5, "notice_s": 0.2},
        {"kind": "refuse", "target": "worker-0", "at_step": 25, "for_s": 1.0},
        {"kind": "slow", "target": "worker-1", "at_step": 30, "for_s": 1.0, "share": 0.5},
        options=(*SHORT, "--max-restarts", 10),
    )  # fmt: skip

    assert seen_once(run)
    assert {event["kind"] for event in events(run, "fault")} == {"interrupt", "refuse", "slow"}
    assert not events(run, "fault_failed")


@pytest.mark.exhaustive
def test_past_the_restarts_that_are_allowed_a_run_fails_with_its_cause(tmp_path, faces):
    faults = script(tmp_path, kill("ps-0", 4), kill("ps-0", 30))
    options = ("--faults", faults, "--max-restarts", 1, *SHORT, "--output", tmp_path / "runs")

    command = facesim_here("run", "--strategy", "ps-async", "--data", faces, *options)

    assert command.code == 1
    assert "ps-0 failed after 1 restarts, as many as --max-restarts allows" in command.output
    (run,) = find_runs([tmp_path / "runs"])
    assert run.result()["failure"].startswith("ps-0 was killed by SIGKILL")


@pytest.mark.exhaustive
def test_a_full_disk_costs_checkpoints_and_not_the_run(tmp_path, faces, small_disk):
    # Frozen with the first checkpoint that is due then behind it, the chief goes on when there is room again.
    fill = {"kind": "fill", "at_step": 12, "for_s": 4.0}
    file = script(tmp_path, fill, {"kind": "freeze", "target": "chief-0", "at_step": 25, "for_s": 4.5})
    options = (*SHORT, "--checkpoint-keep", 1)

    command = facesim_here("run", "--data", faces, "--faults", file, *options, "--output", small_disk / "runs")

    assert command.code == 0, command.output + command.errors
    (run,) = find_runs([small_disk / "runs"])
    assert not events(run, "fault_failed")
    assert run.result()["recovery"]["checkpoints_failed"] >= 1
    assert [event["step"] for event in events(run, "checkpoint")][:2] == [10, 30]
    assert run.result()["recovery"]["checkpoints"] >= 2
    assert seen_once(run)
    assert "a checkpoint could not be written" in command.output


def stopped(directory: Path, faces: Path, how: signal.Signals, *options) -> Run:
    """A run that was stopped in the middle."""
    running = Running(
        directory, "run", "--data", faces, "--epochs", 100_000, "--checkpoint-steps", 10, *QUICK, *options
    )
    run = running.run_that_trains()
    wait_until(lambda: len(Checkpoints(run.checkpoints, 9).files()) == 2)
    running.process.send_signal(how)
    running.end()
    assert not still_running(pids_of(run))
    return run


@contextmanager
def going_on(run: Run, *options: object) -> Iterator[Running]:
    """The run, continued until it is ended."""
    running = Running(run.directory, "run", "--resume", run.directory, *options, output=False)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


def examples(run: Run) -> list[float]:
    return [value for value, _ in recorded(run.metrics / "chief-0.jsonl", "examples")]


def wait_until_it_trains_again(run: Run, records: int) -> None:
    """Wait until there are 3 more records of its progress than there were."""
    wait_until(lambda: len(examples(run)) >= records + 3)


def test_a_stopped_run_goes_on_with_another_number_of_workers(tmp_path, faces):
    run = stopped(tmp_path, faces, signal.SIGINT, "--strategy", "ps-async")
    before, records = run.result(), len(examples(run))
    assert before["state"] == RunState.STOPPED
    assert events(run, "checkpoint")[-1]["examples"] == before["examples_seen"]

    with going_on(run, "--workers", 3) as running:
        wait_until_it_trains_again(run, records)
        meanwhile = facesim_here("run", "--resume", run.directory)
        running.process.send_signal(signal.SIGTERM)
        _, shown = running.end()

    after = run.result()
    assert meanwhile.code == 2
    assert f"still being run by process {running.process.pid} (since " in meanwhile.errors
    assert after["state"] == RunState.STOPPED
    assert run.job().shape.workers == 3
    assert set(after["counted"]["steps_since_resized"]) == {0, 1, 2}
    assert after["examples_seen"] > before["examples_seen"]
    assert after["sync_audit"]["verdict"] == "together", after["sync_audit"]["evidence"]
    assert after["total_s"] > before["total_s"]
    assert "continuing from checkpoint-" in shown


def test_a_run_whose_study_was_killed_goes_on_past_a_damaged_checkpoint(tmp_path, faces):
    run = stopped(tmp_path, faces, signal.SIGKILL)
    newest, before, *_ = Checkpoints(run.checkpoints, 9).files()
    newest.write_bytes(newest.read_bytes()[:1000])
    records = len(examples(run))

    with going_on(run) as running:
        wait_until_it_trains_again(run, records)
        running.process.send_signal(signal.SIGINT)
        code, shown = running.end()

    assert code == 130
    assert "is gone and did not end the run; its place is taken" in shown
    assert f"{newest.name} is damaged" in shown
    assert f"continuing from {before.name}" in shown


def test_what_cannot_be_gone_on_with_is_told(tmp_path, faces, study):
    completed = study.runs["single"].directory

    for options, message in (
        (("--resume", completed), "has completed"),
        (("--resume", completed, "--epochs", 3), "it has --epochs 12, not 3"),
        (("--resume", completed, "--strategy", "allreduce"), "it has --strategy single, not allreduce"),
        (("--resume", completed, "--output", tmp_path), "--output has no meaning with --resume"),
        (("--resume", tmp_path), "is not a run directory"),
    ):
        command = facesim_here("run", *options)
        assert (command.code, message in command.errors) == (2, True), command.errors


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path, killed):
    run = Run(tmp_path / "run")
    shutil.copytree(killed.directory, run.directory)
    run.result_file.unlink()
    changed = json.loads(run.job_file.read_text())
    changed["experiment"]["learning_rate"] = 0.5
    run.job_file.write_text(json.dumps(changed))

    command = facesim_here("run", "--resume", run.directory)

    assert command.code == 1
    assert "is of another experiment: it has learning_rate 0.003" in command.output


def test_a_folder_for_checkpoints_that_cannot_be_written_is_told_before_anything_starts(tmp_path, faces):
    (tmp_path / "file").write_text("")

    command = facesim_here(
        "run", "--data", faces, "--checkpoint-dir", tmp_path / "file" / "deep", "--output", tmp_path / "runs"
    )

    assert command.code == 2
    assert "--checkpoint-dir" in command.errors and "cannot be written" in command.errors
    assert not (tmp_path / "runs").exists()


def test_a_full_folder_for_checkpoints_is_told_before_anything_starts(tmp_path, faces, small_disk):
    with (small_disk / "ballast").open("wb") as file:
        try:
            while True:
                file.write(bytes(1_000_000))
        except OSError:
            pass

    command = facesim_here("run", "--data", faces, "--checkpoint-dir", small_disk, "--output", tmp_path / "runs")

    assert command.code == 2
    assert "No space left" in command.errors
    assert not (tmp_path / "runs").exists()
