"""Checkpoint files and what is counted beside the variables. Without TensorFlow."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from facesim.training.checkpoint import Checkpoints
from facesim.training.course import Course
from facesim.training.step import StepResult

VARIABLES = [np.arange(12, dtype=np.float32).reshape(3, 4), np.array(7, np.int64)]


def never(file, why):
    raise AssertionError(f"{file} is damaged: {why}")


def test_what_is_saved_is_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    file = checkpoints.save(20, VARIABLES, {"epoch": 3})

    found = checkpoints.newest(never)

    assert (found.file, found.course) == (file, {"epoch": 3})
    for mine, theirs in zip(found.variables, VARIABLES, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_the_newest_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)

    for step in (9, 10, 100):
        checkpoints.save(step, VARIABLES, {})

    assert [file.name for file in checkpoints.files()] == ["checkpoint-000000100.npz", "checkpoint-000000010.npz"]


@pytest.mark.parametrize("damage", [
    lambda content: content[: len(content) // 2],
    lambda content: content.replace(VARIABLES[0].tobytes(), VARIABLES[0][::-1].tobytes()),
    lambda content: b"",
    lambda content: b"not an archive",
], ids=["torn", "other values", "empty", "nonsense"])  # fmt: skip
def test_a_damaged_one_is_told_of_and_the_one_before_it_is_used(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save(10, VARIABLES, {"epoch": 1})
    newest = checkpoints.save(20, VARIABLES, {"epoch": 2})
    newest.write_bytes(damage(newest.read_bytes()))
    damaged = []

    found = checkpoints.newest(lambda file, why: damaged.append((file, why)))

    assert found.course == {"epoch": 1}
    assert [file for file, _ in damaged] == [newest]
    assert damaged[0][1]


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path, keep=1).newest(never) is None


def test_pickled_objects_are_not_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    np.savez(tmp_path / "checkpoint-000000001.npz", course=np.array([{"a": 1}], object))
    damaged = []

    assert checkpoints.newest(lambda file, why: damaged.append(why)) is None
    assert "allow_pickle" in damaged[0]


def test_a_writer_that_was_killed_leaves_nothing_that_counts(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    leftover = tmp_path / ".checkpoint-000000030.npz.123"
    leftover.write_bytes(b"half")

    assert checkpoints.newest(never) is None
    assert not leftover.exists()


def test_at_any_moment_only_whole_ones_are_seen(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    large = [np.random.default_rng(0).random(300_000)]
    checkpoints.save(0, large, {})
    seen, ended = [], threading.Event()

    def look():
        while not ended.is_set():
            found = Checkpoints(tmp_path, keep=2)
            newest = found.files()[0]
            try:
                with np.load(newest) as archive:
                    seen.append(len(archive["variable_0000"]))
            except FileNotFoundError:  # it was let go of in between
                continue

    reader = threading.Thread(target=look)
    reader.start()
    for step in range(1, 30):
        checkpoints.save(step, large, {})
    ended.set()
    reader.join()

    assert seen and set(seen) == {300_000}


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/dev/full"), reason="needs a way to make writing fail")
def test_one_that_cannot_be_written_leaves_those_that_were_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(10, VARIABLES, {"epoch": 1})
    os.symlink("/dev/full", tmp_path / f".checkpoint-000000020.npz.{os.getpid()}")

    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(20, VARIABLES, {"epoch": 2})

    assert checkpoints.newest(never).course == {"epoch": 1}


def test_a_course_goes_on_as_it_was():
    course = Course(epoch=2, done=16, workers=2, starts=1, history=[(12.5, {"loss": 1.0})])
    for version in (0, 1, 2, 5):
        course.add(StepResult(1.5, 3, 8, version % 2, version, version))

    again = Course.from_json(course.to_json())

    assert again.to_json() == course.to_json()
    assert (again.counts.updates, again.counts.last_version, again.counts.examples) == (4, 6, 32)
