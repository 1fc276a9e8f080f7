"""What every backend of this machine answers about a run that another command runs, has ended or was killed.

The run is made by hand (`tests.backends.held_run`), the process that has it is a real one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facesim.cli import main
from facesim.runs.claim import Claim
from facesim.runs.directory import Run
from facesim.runs.records import Result
from facesim.spec.backends import BACKENDS
from facesim.spec.job import make_job
from tests.backends import held_run
from tests.conftest import wait_until

BACKENDS_HERE = [name for name in BACKENDS if not BACKENDS[name].can_attach]


#: Forks of a process that has loaded what they need: to load it is most of what these tests would do.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([held_run.__name__])


class Held:
    """A run that a process has."""

    def __init__(self, directory: Path, backend: str, stopped_in_time: bool):
        self.run = Run(directory)
        self._run, other_end = _FORKS.Pipe()
        self.process = _FORKS.Process(target=held_run.hold, args=(directory, backend, other_end, stopped_in_time))
        self.process.start()
        assert self._run.recv() == "begun"

    def print(self, text: str) -> None:
        """Have worker-0 print."""
        self._run.send(text)
        assert self._run.recv() == "printed"

    def end(self) -> None:
        """Complete the run."""
        self._run.send("end")
        self.wait()

    def wait(self) -> None:
        """Wait until the process has ended as it should."""
        self.process.join(30)
        assert self.process.exitcode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


@pytest.fixture(params=BACKENDS_HERE)
def backend(request) -> str:
    return request.param


@pytest.fixture
def hold(tmp_path) -> Iterator[Callable[..., Held]]:
    started: list[Held] = []

    def hold(backend: str, stopped_in_time: bool = True) -> Held:
        started.append(Held(tmp_path / "runs" / f"{backend}-{len(started)}", backend, stopped_in_time))
        return started[-1]

    yield hold
    for held in started:
        held.kill()


@pytest.fixture
def held(hold, backend) -> Held:
    return hold(backend)


@pytest.fixture
def ended(held) -> Run:
    held.end()
    return held.run


@pytest.fixture
def dead(held) -> Run:
    """A run whose command was killed."""
    held.kill()
    return held.run


def facts(capsys, *arguments: object) -> dict:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


def started(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "facesim", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


# status


def test_the_status_of_a_run_that_goes_on_says_how_far_it_is_and_who_runs_it(held, backend, capsys):
    status = facts(capsys, "status", held.run.directory)

    assert (status["state"], status["running"], status["backend"]) == ("Training", True, backend)
    assert (status["epoch"], status["epochs"], status["loss"], status["held_out_accuracy"]) == (3, 10, 0.5, 0.75)
    assert f"process {held.process.pid}" in status["process"]
    assert status["spans"][-1][0] == "Training" and status["spans"][-1][2] is None
    assert main(["status", str(held.run.directory)]) == 0
    assert f"{held.run.id}: Training, run by process {held.process.pid}" in capsys.readouterr().out


def test_looking_takes_nothing_from_who_runs_it(held, capsys):
    for _ in range(3):
        facts(capsys, "status", held.run.directory)

    assert held.run.claim.look().held
    assert held.process.is_alive()


def test_the_status_of_a_run_that_has_ended_is_that_of_its_result(ended, capsys):
    status = facts(capsys, "status", ended.directory)

    assert (status["state"], status["running"], status["held_out_accuracy"]) == ("Completed", False, 0.875)
    assert "process" not in status


@pytest.mark.parametrize(
    ("options", "tested"),
    [({}, "held-out"), ({"validation": 0.2}, "validation"), ({"test_part": "val"}, "validation")],
)
def test_the_status_says_what_the_accuracy_is_of(tmp_path, capsys, options, tested):
    job = make_job(**options)
    run = Run.create(tmp_path / "one", job)
    found = {"job": job.model_dump(), "strategy": "single", "backend": "local", "seed": 0, "state": "Completed"}
    Result.model_validate({**found, "held_out_accuracy": 0.875}).write(run.result_file)
    run.claim.release()

    assert main(["status", str(run.directory)]) == 0

    assert f"  {tested} accuracy 0.875\n" in capsys.readouterr().out
    assert facts(capsys, "status", run.directory)["tested_in_words"] == tested


def test_the_status_of_a_run_that_was_killed_says_so_and_what_to_do(dead, capsys):
    status = facts(capsys, "status", dead.directory)

    assert (status["state"], status["running"], status["epoch"]) == ("Unfinished", False, 3)
    assert "is gone and did not end it" in status["notes"][0]
    assert f"facesim run --resume {dead.directory}" in status["notes"][0]


def test_whether_a_run_of_another_machine_goes_on_is_not_guessed(dead, capsys):
    (holder,) = json.loads((dead.directory / ".lock").read_text())
    (dead.directory / ".lock").write_text(json.dumps([{**holder, "host": "elsewhere"}]))

    status = facts(capsys, "status", dead.directory)

    assert "running" not in status
    assert "on elsewhere" in status["notes"][0] and "only there" in status["notes"][0]


# logs


def test_logs_are_those_of_every_task_or_of_one(ended, capsys):
    assert main(["logs", str(ended.directory)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "chief-0  epoch 3", "worker-0  first", "worker-0  and part of a li",
    ]  # fmt: skip
    assert main(["logs", str(ended.directory), "--task", "chief-0"]) == 0
    assert capsys.readouterr().out.splitlines() == ["chief-0  epoch 3"]
    assert main(["logs", str(ended.directory), "--task", "ps-0"]) == 0  # a task of the job that printed nothing
    assert capsys.readouterr().out == ""


def test_logs_of_a_task_that_there_is_not_name_those_that_there_are(ended, capsys):
    assert "no task or host 'worker-7'; there are chief-0, ps-0" in refused(
        capsys, "logs", ended.directory, "--task", "worker-7"
    )


def test_logs_are_followed_until_the_run_has_ended(held):
    command = started("logs", held.run.directory, "--task", "worker-0", "--follow", "--json")
    first = json.loads(command.stdout.readline())

    held.print("ne\n")
    held.print("last\n")
    more = [json.loads(command.stdout.readline()) for _ in range(2)]
    held.end()
    rest, _ = command.communicate(timeout=20)

    assert [line["line"] for line in (first, *more)] == ["first", "and part of a line", "last"]
    assert (rest, command.returncode) == ("", 0)


# attach


@pytest.mark.slow
def test_attaching_shows_a_run_to_its_end_as_run_does(held):
    command = started("attach", held.run.directory)
    assert "starting in" in command.stdout.readline()

    held.end()
    shown, _ = command.communicate(timeout=60)

    assert command.returncode == 0, shown
    assert "Completed after 0:12, held-out accuracy 0.875" in shown
    assert f"report: {held.run.directory / 'report.html'}" in shown


@pytest.mark.slow
def test_ctrl_c_ends_the_looking_and_not_the_run(held):
    command = started("attach", held.run.directory)
    assert "starting in" in command.stdout.readline()

    command.send_signal(signal.SIGINT)
    shown, _ = command.communicate(timeout=20)

    assert command.returncode == 130
    assert f"is still run by process {held.process.pid}" in " ".join(shown.split())
    assert held.process.is_alive()


def test_attaching_to_a_run_that_has_ended_shows_its_report(ended, capsys):
    assert main(["attach", str(ended.directory)]) == 0

    assert "report:" in capsys.readouterr().out


def test_a_damaged_run_does_not_keep_others_of_its_folder_from_being_followed(hold, tmp_path, capsys):
    damaged, held = hold("local"), hold("local")
    for each in (damaged, held):
        each.end()
    damaged.run.result_file.write_text("{")

    assert main(["attach", str(tmp_path / "runs")]) == 1

    shown = capsys.readouterr()
    assert f"{damaged.run.id} cannot be followed: cannot read" in shown.err
    assert f"report: {tmp_path / 'runs' / 'report.html'}" in shown.out


def test_attaching_to_a_run_that_was_killed_is_refused(dead, capsys):
    refusal = refused(capsys, "attach", dead.directory)

    assert f"nothing of {dead.directory} runs any more" in refusal and "--resume" in refusal


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_is_watched_is_told(held):
    command = started("attach", held.run.directory)
    assert "starting in" in command.stdout.readline()

    held.kill()
    shown, _ = command.communicate(timeout=20)

    assert command.returncode == 2
    assert f"process {held.process.pid}" in shown and "did not end it" in shown


# cancel


def test_cancelling_drains_a_run_and_may_be_repeated(held, capsys):
    status = facts(capsys, "cancel", held.run.directory)

    assert status == {"name": held.run.id, "state": "Stopped", "ended_before": False}
    held.wait()
    assert [event.event for event in held.run.events()][-3:] == ["stopping", "node_ended", "state"]
    assert facts(capsys, "cancel", held.run.directory) == {**status, "ended_before": True}
    assert main(["cancel", str(held.run.directory)]) == 0
    assert "had ended already (Stopped)" in capsys.readouterr().out


def test_a_run_that_completes_all_the_same_is_not_said_to_continue(hold, capsys):
    held = hold("local", stopped_in_time=False)

    assert main(["cancel", str(held.run.directory)]) == 0

    shown = capsys.readouterr()
    assert shown.out == f"{held.run.id}: completed\n"
    assert shown.err == ""


def test_a_run_that_was_killed_cannot_be_cancelled(dead, capsys):
    assert "runs any more" in refused(capsys, "cancel", dead.directory)


def test_a_process_that_does_not_have_the_run_is_not_ended(held, capsys):
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        now = {"pid": bystander.pid, "host": socket.gethostname(), "since_unix_s": time.time()}
        (held.run.directory / ".lock").write_text(json.dumps([now]))

        refusal = refused(capsys, "cancel", held.run.directory)

        assert f"process {bystander.pid}" in refusal and "does not have it open" in refusal
        assert bystander.poll() is None and held.process.is_alive()
    finally:
        bystander.kill()
        bystander.wait()


def test_a_run_of_another_machine_is_cancelled_there(held, capsys):
    (holder,) = json.loads((held.run.directory / ".lock").read_text())
    (held.run.directory / ".lock").write_text(json.dumps([{**holder, "host": "elsewhere"}]))

    assert "on elsewhere" in refused(capsys, "cancel", held.run.directory)
    assert held.process.is_alive()


def test_a_run_that_does_not_end_in_time_is_told(held, monkeypatch, capsys):
    monkeypatch.setattr("facesim.backends.base.Backend.ends_within_s", 0.3)
    monkeypatch.setattr("facesim.backends.docker.DockerBackend.ends_within_s", 0.3)
    os.kill(held.process.pid, signal.SIGSTOP)

    assert main(["cancel", str(held.run.directory)]) == 1

    assert "still runs after 0.3 s" in capsys.readouterr().err


# list


def test_a_folder_of_runs_is_listed(hold, tmp_path, capsys):
    runs = [hold(name) for name in BACKENDS_HERE]
    done, going_on = runs[0], runs[1]
    done.end()
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "job.json").write_text("{")

    assert main(["list", str(tmp_path / "runs"), "--json"]) == 0
    shown = capsys.readouterr()
    by_name = {one["name"]: one for one in json.loads(shown.out)}
    assert f"left out: cannot read {broken / 'job.json'}" in shown.err
    assert by_name.keys() == {done.run.id, going_on.run.id}
    assert (by_name[done.run.id]["state"], by_name[done.run.id]["held_out_accuracy"]) == ("Completed", 0.875)
    assert (by_name[going_on.run.id]["state"], by_name[going_on.run.id]["running"]) == ("Training", True)

    assert main(["list", str(tmp_path / "runs"), "--backend", "docker"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["run", "strategy", "backend", "state"]
    (row,) = [row.split() for row in rows if row.strip()]
    assert row[1:3] == ["ps-async", "docker"] and row[-1] == "team=faces"


def test_runs_are_listed_by_their_names_as_they_are(tmp_path, capsys):
    Run.create(tmp_path / "lr-[adam]:key:", make_job(strategy="single"))

    assert main(["list", str(tmp_path)]) == 0

    _, row = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "lr-[adam]:key:"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "sagemaker", "--tag", "team=faces"], "--tag has no meaning with --backend sagemaker"),
        (["--studies", "--namespace", "team"], "--studies has no meaning with"),
        (["--studies", "--kube-context", "mine"], "--studies has no meaning with"),
        (["--namespace", "team"], "give --backend kubernetes, too"),
        (["--region", "eu-west-1"], "give --backend sagemaker, too"),
        ([".", "--backend", "sagemaker", "--region", "eu-west-1"], "give --backend sagemaker, too, and no FOLDER"),
    ],
)
def test_what_a_list_would_not_heed_is_refused(arguments, message, capsys):
    assert main(["list", *arguments]) == 2

    assert message in capsys.readouterr().err


def test_a_folder_that_is_named_is_listed_also_of_a_backend_with_a_list_of_its_own(hold, tmp_path, capsys):
    hold(BACKENDS_HERE[0]).end()

    assert main(["list", str(tmp_path / "runs"), "--backend", "sagemaker"]) == 0

    assert capsys.readouterr().out == f"no runs in {tmp_path / 'runs'}\n"


def test_a_folder_without_runs_is_no_error_and_one_that_is_not_there_is(tmp_path, capsys):
    assert main(["list", str(tmp_path)]) == 0
    assert f"no runs in {tmp_path}" in capsys.readouterr().out
    assert main(["list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert "does not exist" in refused(capsys, "list", tmp_path / "none")


# what is named


@pytest.mark.parametrize("verb", ["status", "logs", "attach", "cancel"])
def test_what_is_no_run_directory_is_refused_in_words(verb, tmp_path, capsys):
    assert "is not a run directory" in refused(capsys, verb, tmp_path)
    assert "is not a run directory" in refused(capsys, verb, tmp_path / "none")


def test_a_run_may_be_named_from_within(ended, monkeypatch, capsys):
    monkeypatch.chdir(ended.directory)

    assert facts(capsys, "status", ".")["name"] == ended.id


@pytest.mark.parametrize("verb", ["status", "logs", "attach", "cancel"])
def test_an_option_of_another_backend_is_refused(verb, dead, capsys):
    assert "--region means nothing to --backend" in refused(capsys, verb, dead.directory, "--region", "eu-west-1")


# the claim


def test_a_claim_is_taken_also_while_others_look_at_it(tmp_path):
    claim = Claim(tmp_path / ".lock")
    claim.take()
    claim.release()
    looking = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from facesim.runs.claim import Claim\n"
         "claim = Claim(Path(sys.argv[1]))\nprint('looks', flush=True)\nwhile True: claim.look()", tmp_path / ".lock"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert looking.stdout.readline() == "looks\n"
        for _ in range(200):
            claim.take()
            claim.release()
    finally:
        looking.kill()
        looking.communicate()


def test_a_claim_that_is_free_looks_free(tmp_path):
    claim = Claim(tmp_path / ".lock")

    assert not claim.look().held
    claim.take()
    assert claim.look().held
    wait_until(lambda: claim.look().alive, within_s=1)
    claim.release()
    assert not claim.look().held
