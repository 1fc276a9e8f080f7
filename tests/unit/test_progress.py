"""How far a run is, and how long it still goes on."""

from __future__ import annotations

import time

import pytest

from facesim.metrics.files import SampleWriter
from facesim.metrics.progress import Progress
from facesim.runs.directory import Run
from facesim.spec.job import make_job

EPOCHS = 10


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", make_job(epochs=EPOCHS))


@pytest.fixture
def told(run):
    """Tells values of the chief's that are as old as so many seconds."""
    writer = SampleWriter(run.metrics / "chief-0.jsonl", run_id=run.id, host="algo-1", source="training")
    now = time.time()
    return lambda ago_s, **values: writer.write(now - ago_s, "chief", 0, values)


def left_s(progress: Progress) -> float | None:
    progress.update()
    return progress.left_s


def submit(run: Run, ago_s: float) -> None:
    run.record("submitted", time_unix_s=time.time() - ago_s)


def test_the_time_left_is_that_of_the_epochs_that_have_ended(run, told):
    submit(run, 1000)
    progress = Progress(run)
    told(800, examples=32)

    assert (left_s(progress), progress.training) == (None, True)
    told(400, examples=320, epoch=1)
    told(0, examples=640, epoch=2)
    assert left_s(progress) == pytest.approx(800 / 2 * (EPOCHS - 2), rel=0.01)


@pytest.mark.parametrize("order", [("epoch", "examples"), ("examples", "epoch")])
def test_the_time_of_an_epoch_that_nothing_was_told_of_is_not_that_of_two(run, told, order):
    """A host elsewhere tells what it has trained on at the end of each epoch, for the first time after the first."""
    submit(run, 5000)
    progress = Progress(run)
    values = {"epoch": 1.0, "examples": 320.0}
    told(800, **{name: values[name] for name in order})

    assert left_s(progress) is None
    told(0, epoch=2, examples=640)
    assert left_s(progress) == pytest.approx(800 * (EPOCHS - 2), rel=0.01)


@pytest.mark.parametrize(("again", "done"), [((3,), 1), ((2, 3), 2)], ids=["from its end", "from before its end"])
def test_the_time_between_two_lives_of_a_run_does_not_count(run, told, again, done):
    submit(run, 90_000)
    told(89_000, examples=32)
    told(88_000, examples=640, epoch=2)
    progress = Progress(run)  # before it is submitted again, as a display is made

    assert left_s(progress) is not None
    submit(run, 1000)
    assert (left_s(progress), progress.training) == (None, False)
    told(800, examples=672)
    assert left_s(progress) is None
    for number, epoch in enumerate(again, 1):
        told(800 - 800 * number / len(again), examples=320 * epoch, epoch=epoch)
    assert left_s(progress) == pytest.approx(800 / done * (EPOCHS - 3), rel=0.01)
