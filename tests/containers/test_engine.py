"""ContainerJob with real containers, which run small scripts in place of trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from cluster.containers import engine
from cluster.containers.job import ContainerJob
from tests.aws.relay import Relay
from tests.containers.conftest import left
from tests.containers.jobs import NAME, TYPE, Played, request_for, when_it_says
from tests.support.events import named

#: Where the engine usually is.
SOCKET = "/var/run/docker.sock"

#: The first of them may have to wait for the image to be made.
pytestmark = pytest.mark.timeout(900)


def test_a_job_goes_through_sagemakers_states_and_leaves_its_results(play, tmp_path):
    played = play(
        """
        open("/opt/ml/model/model.txt", "w").write("a model")
        open("/opt/ml/output/data/notes.txt", "w").write("notes")
        print("done")
        """
    )

    assert played.states == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert played.end["outcome"] == "completed"
    assert played.end["host_exit_codes"] == {"algo-1": 0}
    assert played.lines() == ["done"]
    results = played.store.folder(f"s3://bucket/jobs/{NAME}/output")
    with tarfile.open(results / "model.tar.gz") as archive:
        assert archive.extractfile("model.txt").read() == b"a model"
    with tarfile.open(results / "output.tar.gz") as archive:
        assert archive.getnames() == ["notes.txt"]


def test_a_host_sees_the_contract(play):
    groups = [
        {"InstanceGroupName": "worker", "InstanceType": TYPE, "InstanceCount": 2},
        {"InstanceGroupName": "ps", "InstanceType": TYPE, "InstanceCount": 1},
    ]

    played = play(
        """
        import os, socket, time
        def known(host):
            while True:
                try:
                    return socket.gethostbyname(host) != ""
                except OSError:  # the others are only just being started
                    time.sleep(0.1)
        for name in ("resourceconfig", "hyperparameters", "inputdataconfig"):
            print(open(f"/opt/ml/input/config/{name}.json").read().replace("\\n", ""))
        print(socket.gethostname(), os.environ["TRAINING_JOB_NAME"], os.environ["COLOUR"])
        print([known(f"algo-{number}") for number in (1, 2, 3)])
        print(os.listdir("/opt/ml/input/data/faces"))
        time.sleep(1.5)  # until the others know this one
        """,
        Environment={"COLOUR": "red"},
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 30},
        InputDataConfig=[{"ChannelName": "faces", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/faces/"}}}],
    )

    resources, hyperparameters, channels = (json.loads(line) for line in played.lines("algo-3")[:3])
    assert resources["current_host"] == "algo-3"
    assert resources["current_group_name"] == "worker"
    assert resources["hosts"] == ["algo-1", "algo-2", "algo-3"]
    assert {group["instance_group_name"]: group["hosts"] for group in resources["instance_groups"]} == {
        "worker": ["algo-1", "algo-3"],
        "ps": ["algo-2"],
    }
    assert hyperparameters == {"greeting": "hello"}
    assert channels["faces"]["TrainingInputMode"] == "File"
    assert played.lines("algo-3")[3:] == [f"algo-3 {NAME} red", "[True, True, True]", "[]"]


def test_a_host_may_do_no_more_than_a_training_needs(play):
    played = play(
        """
        import os, pathlib
        status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
        print(int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"].strip(), os.getuid() != 0)
        groups = pathlib.Path("/sys/fs/cgroup")
        limits = [*groups.glob("pids.max"), *groups.glob("pids/pids.max")]
        print(limits[0].read_text().strip().isdigit())
        for folder in ("checkpoints", "model", "output", "output/data"):
            open(f"/opt/ml/{folder}/mine", "w").close()
        """,
        InputDataConfig=[{"ChannelName": "faces", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/faces/"}}}],
    )

    assert played.end["outcome"] == "completed"
    assert played.lines() == ["0 0 1 True", "True"]


def test_a_host_reads_data_that_is_its_owners_alone(play, tmp_path):
    data = tmp_path / "store" / "bucket" / "faces"
    data.mkdir(parents=True)
    (data / "private").write_text("a face")
    (data / "private").chmod(0o600)
    data.chmod(0o700)

    played = play(
        'print(open("/opt/ml/input/data/faces/private").read())',
        InputDataConfig=[{"ChannelName": "faces", "DataSource": {"S3DataSource": {"S3Uri": "s3://bucket/faces/"}}}],
    )

    assert played.lines() == ["a face"]


def test_no_folder_of_a_host_is_on_the_file_system_of_another(play):
    """Instances may have them on different ones; a link from one to another shows it."""
    played = play(
        """
        import os
        folders = ["checkpoints", "model", "output", "output/data"]
        for number, folder in enumerate(folders):
            open(f"/opt/ml/{folder}/here", "w").close()
            for other in folders:
                if other != folder:
                    try:
                        os.link(f"/opt/ml/{folder}/here", f"/opt/ml/{other}/link-{number}")
                        print("linked", folder, other)
                    except OSError as error:
                        print(error.strerror)
        """
    )

    assert played.end["outcome"] == "completed"
    assert set(played.lines()) == {"Invalid cross-device link"}


def test_a_failure_has_the_reason_that_the_host_left_and_ends_the_other_hosts(play):
    begin = time.monotonic()
    played = play(
        """
        import socket, sys, time
        if socket.gethostname() == "algo-2":
            open("/opt/ml/output/failure", "w").write("out of luck")
            sys.exit(3)
        time.sleep(100)
        """,
        hosts=2,
        grace_s=2.0,
    )

    assert played.states[-2:] == ["Uploading", "Failed"]
    assert played.end["outcome"] == "failed"
    assert played.end["reason"] == "out of luck"
    assert played.end["host_exit_codes"]["algo-2"] == 3
    assert time.monotonic() - begin < 40


def test_a_command_that_the_image_does_not_have_is_told(play, containers):
    played = play(
        "",
        AlgorithmSpecification={
            "TrainingImage": containers,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["no-such-program"],
        },
    )

    assert played.end["outcome"] == "failed"
    assert "no-such-program" in played.end["reason"]


def test_stop_drains_with_sigterm_and_may_be_repeated(play):
    def stop_twice(job: ContainerJob) -> None:
        job.stop()
        job.stop()

    played = play(
        """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(0)))
        print("ready")
        time.sleep(100)
        """,
        on=when_it_says("ready", stop_twice),
    )

    assert played.states[-3:] == ["Stopping", "Uploading", "Stopped"]
    assert played.end["outcome"] == "stopped"
    assert "saved" in played.lines()


@pytest.mark.parametrize("how", ["paused", "stopped"])
def test_a_host_that_is_frozen_is_named_killed_and_starts_again(play, containers, how):
    def freeze(job: ContainerJob) -> None:
        (container,) = engine.connect().containers.list(filters={"name": job.name})
        container.pause() if how == "paused" else container.kill("SIGSTOP")

    played = play(
        """
        import time
        from pathlib import Path
        here = Path("/opt/ml/checkpoints/been_here")
        before, _ = here.exists(), here.touch()
        print("before" if before else "begun")
        until = time.monotonic() + (0 if before else 600)
        while time.monotonic() < until:
            time.sleep(0.01)
        """,
        on=when_it_says("begun", freeze),
        frozen_s=3.0,
        CheckpointConfig={"S3Uri": "s3://bucket/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
        RetryStrategy={"MaximumRetryAttempts": 1},
    )

    (hung,) = named(played.events, "hung")
    assert (hung["task"], hung["silent"]) == ("algo-1", True)
    assert played.lines() == ["begun", "before"]
    assert played.end["outcome"] == "completed"


def test_who_does_not_heed_sigterm_is_killed_after_the_grace(play):
    played = play(
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready")
        time.sleep(100)
        """,
        on=when_it_says("ready", ContainerJob.stop),
        grace_s=1.0,
    )

    assert played.end["outcome"] == "stopped"
    assert played.end["host_exit_codes"] == {"algo-1": 137}


@pytest.mark.parametrize(
    ("limit", "state"),
    [({"MaxRuntimeInSeconds": 1}, "MaxRuntimeExceeded"),
     ({"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 1}, "MaxWaitTimeExceeded")],
)  # fmt: skip
def test_a_time_limit_stops_the_job(play, limit, state):
    played = play("import time; time.sleep(100)", StoppingCondition=limit, grace_s=1.0)

    assert played.states[-3:] == ["Stopping", "Uploading", state]
    assert played.end["outcome"] == "stopped"


FOLLOWS = """
    import sys
    from pathlib import Path
    from tests.containers.jobs import Played, request_for
    request = request_for(sys.argv[1], "import time; print('ready'); time.sleep(100)", hosts=2)
    request["TrainingJobName"] = sys.argv[3]
    Played(request, Path(sys.argv[2]), on=lambda job, event: print(event["event"], flush=True))
    """


def follower(image: str, directory: Path) -> subprocess.Popen:
    """Another process that follows a job, once its hosts run."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FOLLOWS), image, str(directory), NAME], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line == "log\n":
            return process
    raise AssertionError("it did not begin")


def gone(directory: Path, within_s: float = 60) -> bool:
    deadline = time.monotonic() + within_s
    while left(NAME) or directory.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_nothing_is_left_when_who_follows_is_killed(containers, tmp_path):
    process = follower(containers, tmp_path)
    assert len(left(NAME)) == 3

    process.kill()
    process.communicate()

    assert gone(tmp_path / "hosts")


def test_what_even_the_guard_could_not_remove_is_removed_by_the_next_job(containers, tmp_path, play):
    process = follower(containers, tmp_path / "first")
    for child in psutil.Process(process.pid).children():
        os.kill(child.pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    assert len(left(NAME)) == 3

    play("print('next')")

    assert left(NAME) == []


def test_an_engine_that_goes_away_ends_the_job_in_words(containers, play, monkeypatch, capfd):
    if "DOCKER_HOST" in os.environ or not os.path.exists(SOCKET):
        pytest.skip(f"the engine is not at {SOCKET}")
    relay = Relay(SOCKET)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{relay.port}")

    def on(job, event):
        if event["event"] == "log":
            relay.cut()
        elif event["event"] == "node_ended":
            relay.mend()  # so that what is left can be removed

    played = play("import time; print('begun'); time.sleep(60)", on=on)

    relay.cut()
    assert played.end["outcome"] == "failed"
    assert "the container engine failed: " in played.end["reason"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_container_that_somebody_removes_is_a_host_that_was_lost(play):
    def remove(job):
        for container in engine.connect().containers.list(filters={"name": NAME}):
            container.remove(force=True)

    played = play("import time; print('begun'); time.sleep(60)", on=when_it_says("begun", remove))

    assert played.end["outcome"] == "failed"
    assert played.end["reason"] == "algo-1 was killed from outside, and no other attempt is left"


def test_an_image_that_is_missing_is_told_before_anything_is_started(containers, tmp_path):
    request = request_for("facesim:none", "")

    with pytest.raises(engine.EngineError, match="no image facesim:none; make it with"):
        Played(request, tmp_path)


def test_without_an_engine_it_is_told_what_to_do(monkeypatch):
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    with pytest.raises(engine.EngineError, match="no container engine answers .*start Docker"):
        engine.connect()


def test_who_made_things_runs_also_when_the_clock_has_been_set(monkeypatch):
    made_by = engine.labels(NAME)[engine.CLIENT]
    boot_time, create_time = psutil.boot_time, psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time() + 3600)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)

    assert engine._runs(made_by)
    machine, pid, began = made_by.split("/")
    assert not engine._runs(f"{machine}/{pid}/{float(began) - 1:.2f}"), "another process had this number before"
