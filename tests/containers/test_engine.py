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

import pytest

from cluster.containers import engine
from cluster.containers.host import HostShape
from cluster.containers.job import ContainerJob
from facesim.backends.docker import FolderStore
from facesim.util.errors import InputError
from tests.containers.conftest import left
from tests.support.events import named, values_of

#: The first of them may have to wait for the image to be made.
pytestmark = pytest.mark.timeout(900)

#: The name of these tests' jobs: others may use the same engine.
NAME = f"test-{os.getpid()}"

TYPE = "ml.m5.large"
SHAPES = {TYPE: HostShape(cpus=0.5, memory_bytes=300 * 2**20)}


def script(text: str) -> list[str]:
    return ["python3", "-u", "-c", textwrap.dedent(text)]


def request_for(image: str, text: str, hosts: int = 1, **fields) -> dict:
    return {
        "TrainingJobName": NAME,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": script(text)[:3],
            "ContainerArguments": script(text)[3:],
        },
        "HyperParameters": {"greeting": "hello"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs/"},
        "ResourceConfig": {"InstanceType": TYPE, "InstanceCount": hosts, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **fields,
    }


class Played:
    """A job that was followed to its end; `on` is called with it and each event."""

    def __init__(self, request: dict, directory: Path, on=lambda job, event: None, shapes=SHAPES, **options):
        self.store = FolderStore(directory / "store", {})
        job = ContainerJob(request, self.store, directory / "hosts", shapes=shapes, sampling_s=0.2, **options)
        self.events: list[dict] = []
        try:
            for event in job.events(5.0):
                if event is not None:
                    self.events.append(event)
                    on(job, event)
        finally:
            job.close()
        assert not (directory / "hosts").exists()

    @property
    def states(self) -> list[str]:
        return values_of(self.events, "state", "state")

    @property
    def end(self) -> dict:
        return self.events[-1]

    def lines(self, host: str = "algo-1") -> list[str]:
        return [event["line"] for event in self.events if event["event"] == "log" and event["host"] == host]


@pytest.fixture
def play(containers, tmp_path):
    def play(
        text: str,
        *,
        hosts: int = 1,
        on=lambda job, event: None,
        shapes=SHAPES,
        grace_s=20.0,
        frozen_s=None,
        **fields,
    ) -> Played:
        request = request_for(containers, text, hosts, **fields)
        played = Played(request, tmp_path, on, shapes, grace_s=grace_s, frozen_s=frozen_s)
        assert left(NAME) == []
        return played

    return play


def when_it_says(word: str, do):
    """Do it once, when a host has printed the word."""
    said = []

    def on(job: ContainerJob, event: dict) -> None:
        if event["event"] == "log" and word in event["line"] and not said:
            said.append(word)
            do(job)

    return on


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


COUNTS_ITS_ATTEMPTS = """
    import os, pathlib, signal, sys, time
    folder = pathlib.Path("/opt/ml/checkpoints")
    attempts = len(list(folder.iterdir())) + 1
    (folder / f"attempt-{attempts}").write_text("")
    print("attempt", attempts)
    if attempts == 2:
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "noticed").write_text(""), sys.exit(0)))
    time.sleep(100)
    """


def checkpoints() -> dict:
    return {"S3Uri": "s3://bucket/checkpoints/", "LocalPath": "/opt/ml/checkpoints"}


def test_an_interrupted_job_starts_again_with_its_checkpoints(play):
    played = play(
        COUNTS_ITS_ATTEMPTS.replace(
            "attempts = len(list(folder.iterdir())) + 1", "attempts = 1 + (folder / 'noticed').exists()"
        ),
        on=when_it_says("attempt 1", lambda job: job.interrupt(again_after_s=0.5)),
        CheckpointConfig=checkpoints(),
    )

    assert played.states == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    assert played.lines() == ["attempt 1", "attempt 2"]
    assert values_of(played.events, "state", "attempt") == [1] * 4 + [2] * 5


def test_without_notice_a_job_has_what_was_kept_before(play):
    played = play(
        COUNTS_ITS_ATTEMPTS,
        on=when_it_says("attempt 1", lambda job: job.interrupt(notice_s=0)),
        CheckpointConfig=checkpoints(),
    )

    assert played.lines() == ["attempt 1", "attempt 2"]
    assert played.end["outcome"] == "completed"


WAITS_FOR_ALGO_2 = """
    import pathlib, time
    noted = pathlib.Path("/opt/ml/checkpoints/noted")
    print("again" if noted.exists() else "ready")
    if not noted.exists():
        noted.write_text("")
        time.sleep(100)
    """


def kill(host: str) -> None:
    """As `docker kill` does."""
    for container in engine.connect().containers.list(filters={"label": engine.JOB}):
        if container.name.startswith(NAME) and container.name.endswith(host):
            container.kill()


@pytest.mark.parametrize(
    "allowed", [{"RetryStrategy": {"MaximumRetryAttempts": 1}}, {"EnableManagedSpotTraining": True}], ids=str
)
def test_a_host_that_is_killed_costs_an_attempt_where_another_is_allowed(play, allowed):
    said = []

    def kill_the_second(job: ContainerJob, event: dict) -> None:
        if event["event"] == "log":
            said.append(event["line"])
            if said == ["ready", "ready"]:
                kill("algo-2")

    played = play(WAITS_FOR_ALGO_2, hosts=2, on=kill_the_second, CheckpointConfig=checkpoints(), **allowed)

    assert played.states.count("Training") == 2
    (interrupted,) = [event for event in played.events if event.get("state") == "Interrupted"]
    assert interrupted["reason"] == "algo-2 was killed"
    assert said[2:] == ["again", "again"]
    assert played.end["outcome"] == "completed"


def test_a_host_that_is_killed_once_too_often_is_the_reason_of_the_failure(play):
    played = play(
        "import time; print('ready'); time.sleep(100)",
        hosts=2,
        on=lambda job, event: kill("algo-2") if event["event"] == "log" and event["host"] == "algo-2" else None,
        RetryStrategy={"MaximumRetryAttempts": 1},
        grace_s=0.0,
    )

    assert played.states.count("Interrupted") == 1
    assert played.end["outcome"] == "failed"
    assert played.end["reason"] == "algo-2 was killed from outside, and no other attempt is left"


def test_a_job_is_stopped_while_it_waits_for_capacity(play):
    def interrupt_and_stop(job: ContainerJob, event: dict) -> None:
        if event["event"] == "log":
            job.interrupt(again_after_s=100)
        elif event["event"] == "host_ended":
            job.stop()

    played = play("import time; print('ready'); time.sleep(100)", on=interrupt_and_stop, grace_s=1.0)

    assert played.states[-4:] == ["Interrupted", "Stopping", "Uploading", "Stopped"]


@pytest.mark.parametrize(
    ("limit", "state"),
    [({"MaxRuntimeInSeconds": 1}, "MaxRuntimeExceeded"),
     ({"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 1}, "MaxWaitTimeExceeded")],
)  # fmt: skip
def test_a_time_limit_stops_the_job(play, limit, state):
    played = play("import time; time.sleep(100)", StoppingCondition=limit, grace_s=1.0)

    assert played.states[-3:] == ["Stopping", "Uploading", state]
    assert played.end["outcome"] == "stopped"


def when_measured(directory: Path, name: str, least: float):
    """Let a host's `await_measured` return once the engine has measured so much of it."""

    def on(job: ContainerJob, event: dict) -> None:
        if event["event"] == "stats" and event[name] > least:
            (directory / "hosts" / event["host"] / "output" / "measured").touch()

    return on


AWAIT_MEASURED = """
        import pathlib, time
        def await_measured():
            while not pathlib.Path("/opt/ml/output/measured").exists():
                time.sleep(0.05)
"""


def test_a_host_has_the_cpu_and_memory_of_its_shape(play, tmp_path):
    played = play(
        AWAIT_MEASURED
        + """
        import time
        from cluster.hosted.cgroup import available_cpus
        print(available_cpus())
        begin = time.monotonic()
        while time.process_time() < 1.5:
            pass
        print(time.monotonic() - begin)
        await_measured()
        hoard = bytearray(400 * 2**20)
        """,
        on=when_measured(tmp_path, "cpu_s", 1.4),
    )

    assert played.lines()[0] == "0.5"
    used = named(played.events, "stats")
    assert all(event["cpu_count"] == 0.5 for event in used)
    assert float(played.lines()[1]) > 2.4  # seconds, for 1.5 s of half a processor
    assert all(0 <= event.get("cpu_percent", 0) <= 100 for event in used)
    assert max(event["cpu_s"] for event in used) > 1.4
    ended = named(played.events, "host_ended")[0]
    assert ended["exit_code"] != 0
    assert ended["oom"]


def test_every_host_sends_at_its_bandwidth(play, tmp_path):
    bits_per_s = 40e6
    played = play(
        AWAIT_MEASURED
        + """
        import socket, threading
        from pyroute2 import IPRoute
        amount = 5_000_000
        me = socket.gethostname()
        other = {"algo-1": "algo-2", "algo-2": "algo-1"}[me]
        with IPRoute() as route:
            while not any(one.get_attr("TCA_KIND") == "tbf" for one in route.get_qdiscs()):
                time.sleep(0.05)  # it is limited from beside, once it runs
        listener = socket.create_server(("", 5000))
        def send():
            with listener.accept()[0] as connection:
                connection.sendall(bytes(amount))
        sender = threading.Thread(target=send)
        sender.start()
        while True:
            try:
                connection = socket.create_connection((other, 5000))
                break
            except OSError:
                time.sleep(0.1)
        begin, got = time.monotonic(), 0
        while got < amount:
            got += len(connection.recv(1 << 20))
        print(8 * amount / (time.monotonic() - begin))
        sender.join()
        await_measured()
        """,
        hosts=2,
        on=when_measured(tmp_path, "net_sent_bytes", 5_000_000),
        shapes={TYPE: HostShape(cpus=1, bandwidth_bits_per_s=bits_per_s)},
    )

    for host in ("algo-1", "algo-2"):
        assert 0.7 * bits_per_s < float(played.lines(host)[0]) < 1.25 * bits_per_s
        sent = [
            event["net_sent_bytes"] for event in played.events if event["event"] == "stats" and event["host"] == host
        ]
        assert max(sent) > 5_000_000


def test_a_host_receives_at_its_bandwidth_from_all_others_together(play):
    bits_per_s = 40e6
    played = play(
        """
        import socket, threading, time
        amount = 2_500_000
        if socket.gethostname() == "algo-1":
            listener = socket.create_server(("", 5000))
            connections = [listener.accept()[0] for _ in range(2)]
            time.sleep(2)  # both ends of every link are limited from beside, once it runs
            begin = time.monotonic()
            def receive(connection):
                connection.sendall(b"!")
                got = 0
                while got < amount:
                    got += len(connection.recv(1 << 20))
            receivers = [threading.Thread(target=receive, args=(each,)) for each in connections]
            for each in receivers:
                each.start()
            for each in receivers:
                each.join()
            print(8 * 2 * amount / (time.monotonic() - begin))
        else:
            while True:
                try:
                    connection = socket.create_connection(("algo-1", 5000))
                    break
                except OSError:
                    time.sleep(0.1)
            connection.recv(1)
            connection.sendall(bytes(amount))
            connection.recv(1)
        """,
        hosts=3,
        shapes={TYPE: HostShape(cpus=0.5, bandwidth_bits_per_s=bits_per_s)},
    )

    assert 0.7 * bits_per_s < float(played.lines("algo-1")[0]) < 1.25 * bits_per_s


FOLLOWS = """
    import sys
    from pathlib import Path
    from tests.containers.test_engine import Played, request_for
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


def gone(directory: Path, within_s: float = 20) -> bool:
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
    import psutil

    process = follower(containers, tmp_path / "first")
    for child in psutil.Process(process.pid).children():
        os.kill(child.pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    assert len(left(NAME)) == 3

    play("print('next')")

    assert left(NAME) == []


def test_an_image_that_is_missing_is_told_before_anything_is_started(containers, tmp_path):
    request = request_for("facesim:none", "")

    with pytest.raises(engine.EngineError, match="no image facesim:none; make it with"):
        Played(request, tmp_path)


def test_without_an_engine_it_is_told_what_to_do(monkeypatch):
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    with pytest.raises(engine.EngineError, match="no container engine answers .*start Docker"):
        engine.connect()


def test_a_base_image_that_cannot_be_had_is_told(containers):
    from facesim.backends import image

    with pytest.raises(InputError, match="no-such-base:1 is not here and cannot be pulled: .* another with --base"):
        image.build("facesim:never", base="no-such-base:1", tell=lambda line: None)


def test_the_image_that_a_new_one_replaces_is_removed_unless_it_is_in_use(containers, monkeypatch):
    from facesim.backends import image

    client = engine.connect()
    name = f"{NAME}:replaced"
    made = client.containers.create(containers, entrypoint=["true"], name=NAME)
    unused = made.commit(changes=f"LABEL {image.SOURCE_LABEL}=unused").id
    used = made.commit(changes=f"LABEL {image.SOURCE_LABEL}=used").id
    user = client.containers.create(used, entrypoint=["true"], name=f"{NAME}-user")
    monkeypatch.delenv("FACESIM_CACHE")  # the user's own has the dependencies
    try:
        built = image.build(name, base=client.images.get(containers).labels[image.BASE_LABEL], tell=lambda line: None)

        kept = {each.id for each in client.images.list(all=True)}
        assert unused not in kept
        assert {used, built, client.images.get(containers).id} <= kept
    finally:
        made.remove()
        user.remove()
        client.images.remove(used)
        client.images.remove(name)


def test_an_image_that_was_made_from_another_facesim_is_told(containers):
    from facesim.backends import image

    client = engine.connect()
    made = client.containers.create(containers, entrypoint=["true"], name=NAME)
    made.commit(repository=NAME, tag="other", changes=f"LABEL {image.SOURCE_LABEL}=other")
    made.remove()
    try:
        with pytest.raises(InputError, match="was made from another facesim than this; make it again"):
            image.check(f"{NAME}:other")
    finally:
        client.images.remove(f"{NAME}:other")
    with pytest.raises(InputError, match=f"there is no image {NAME}:other; make it with `facesim image build`"):
        image.check(f"{NAME}:other")
