"""ContainerJob with real containers whose capacity is taken away, or that are lost. It has a file of its own so that
several processes share what can only come last.
"""

from __future__ import annotations

import tarfile

import pytest

from cluster.containers import engine
from cluster.containers.job import ContainerJob
from tests.containers.jobs import NAME, when_it_says
from tests.support.events import named, values_of

#: The first of them may have to wait for the image to be made.
pytestmark = pytest.mark.timeout(900)


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


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_a_job_leaves_comes_home_though_its_checkpoints_cannot_be_stored(play, tmp_path, interrupted):
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    (tmp_path / "store" / "bucket" / "checkpoints").write_text("a file where a folder should be")

    played = play(
        f"""
        import time
        open("/opt/ml/checkpoints/checkpoint-1.npz", "w").write("all of it")
        open("/opt/ml/model/model.txt", "w").write("a model")
        print("saved")
        time.sleep({60 if interrupted else 0})
        """,
        on=when_it_says("saved", lambda job: job.interrupt(0.0) if interrupted else None),
        CheckpointConfig=checkpoints(),
    )

    (failed,) = named(played.events, "checkpoint_failed")
    assert failed["task"] == "algo-1" and "Exists" in failed["why"]
    if interrupted:  # the next attempt would begin without them
        assert played.end["outcome"] == "failed" and "checkpoints of algo-1 could not be stored" in played.end["reason"]
    else:
        assert played.end["outcome"] == "completed"
        with tarfile.open(played.store.folder(f"s3://bucket/jobs/{NAME}/output") / "model.tar.gz") as archive:
            assert archive.getnames() == ["model.txt"]


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
    lines = []

    def kill_the_second(job: ContainerJob, event: dict) -> None:
        if event["event"] == "log":
            lines.append(event["line"])
            if lines == ["ready", "ready"]:
                kill("algo-2")

    played = play(WAITS_FOR_ALGO_2, hosts=2, on=kill_the_second, CheckpointConfig=checkpoints(), **allowed)

    assert played.states.count("Training") == 2
    (interrupted,) = [event for event in played.events if event.get("state") == "Interrupted"]
    assert interrupted["reason"] == "algo-2 was killed"
    assert lines[2:] == ["again", "again"]
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
