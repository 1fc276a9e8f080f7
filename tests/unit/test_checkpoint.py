"""Checkpoint files and what is counted beside the variables. Without TensorFlow."""

from __future__ import annotations

import json
import os
import random
import threading

import numpy as np
import pytest

from facesim.training.checkpoints import Checkpoints
from facesim.training.protocols import StepResult
from facesim.training.train_state import TrainState

VARIABLES = [np.arange(12, dtype=np.float32).reshape(3, 4), np.array(7, np.int64)]


def never(file, why):
    raise AssertionError(f"{file} is damaged: {why}")


def test_what_is_saved_is_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    file = checkpoints.save(20, VARIABLES, {"epoch": 3})

    checkpoint = checkpoints.newest(never)

    assert (checkpoint.file, checkpoint.state) == (file, {"epoch": 3})
    for mine, theirs in zip(checkpoint.variables, VARIABLES, strict=True):
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

    checkpoint = checkpoints.newest(lambda file, why: damaged.append((file, why)))

    assert checkpoint.state == {"epoch": 1}
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
    other = tmp_path / ".checkpoint-notes.txt"
    other.touch()

    assert checkpoints.newest(never) is None
    assert not leftover.exists()
    assert other.exists()


def test_at_any_moment_only_whole_ones_are_seen(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    large = [np.random.default_rng(0).random(300_000)]
    checkpoints.save(0, large, {})
    seen, ended = [], threading.Event()

    def look():
        while not ended.is_set():
            checkpoints = Checkpoints(tmp_path, keep=2)
            newest = checkpoints.files()[0]
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

    assert checkpoints.newest(never).state == {"epoch": 1}


def test_a_course_goes_on_as_it_was():
    state = TrainState(epoch=2, done=16, workers=2, first_updates=1, history=[(12.5, {"loss": 1.0})])
    for version in (0, 1, 2, 5):
        state.add(StepResult(1.5, 3, 8, version % 2, version, version))

    again = TrainState.from_json(state.to_json())

    assert again.to_json() == state.to_json()
    assert (again.counts.updates, again.counts.last_version, again.counts.examples) == (4, 6, 32)


def test_a_course_of_an_earlier_version_took_an_update_for_each_time_that_a_process_began():
    state = TrainState(workers=2)
    for version in range(4):
        for worker in range(2):
            state.add(StepResult(1.5, 3, 8, worker, version, version))
    fields = state.to_json()
    del fields["first_updates"], fields["first_examples"]

    again = TrainState.from_json(fields | {"starts": 2})

    assert (again.first_updates, again.first_examples) == (2, 32)
    assert fields.keys() | {"first_updates", "first_examples"} == again.to_json().keys()


def as_before(file):
    """Make a checkpoint one of facesim's first versions: an archive, with neither checksum nor list."""
    with np.load(file) as archive:
        arrays = dict(archive)
    state = json.loads(arrays.pop("course").tobytes())
    del state["variables"]
    file.unlink()
    np.savez(file, course=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)


def damages(content: bytes, seed: int, count: int):
    """`content` with something wrong, each time something else: bytes changed, lost, zeroed, put in."""
    draw = random.Random(seed)
    while count:
        wrong = bytearray(content)
        begin = draw.randrange(len(wrong))
        end = min(len(wrong), begin + draw.choice((1, 2, 4, 16, 64, 512)))
        kind = draw.choice(("flip", "bytes", "cut", "end", "zero", "insert", "double"))
        if kind == "flip":
            wrong[begin] ^= 1 << draw.randrange(8)
        elif kind == "bytes":
            wrong[begin:end] = draw.randbytes(end - begin)
        elif kind == "cut":
            del wrong[begin:end]
        elif kind == "end":
            del wrong[begin:]
        elif kind == "zero":
            wrong[begin:end] = bytes(end - begin)
        elif kind == "insert":
            wrong[begin:begin] = draw.randbytes(end - begin)
        else:
            wrong[begin:begin] = wrong[begin:end]
        if wrong != content:
            count -= 1
            yield bytes(wrong)


MANY = [np.random.default_rng(number).random((3, 5), np.float32) for number in range(53)]


def is_whole(checkpoint, variables=MANY):
    return len(checkpoint.variables) == len(variables) and all(map(np.array_equal, checkpoint.variables, variables))


@pytest.mark.slow
def test_whatever_is_damaged_the_one_before_is_used(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    before = checkpoints.save(10, MANY, {"epoch": 1})
    newest = checkpoints.save(20, MANY, {"epoch": 2})

    for wrong in damages(newest.read_bytes(), seed=1, count=400):
        newest.write_bytes(wrong)
        damaged = {}
        checkpoint = checkpoints.newest(damaged.__setitem__)

        assert (checkpoint.file, checkpoint.state, is_whole(checkpoint)) == (before, {"epoch": 1}, True)
        assert list(damaged) == [newest] and damaged[newest]


@pytest.mark.slow
def test_one_without_checksum_is_read_and_no_damage_of_it_ends_anything(tmp_path):
    def check(checkpoint):
        if not is_whole(checkpoint):
            raise ValueError("not the network's variables")

    checkpoints = Checkpoints(tmp_path, keep=2)
    before = checkpoints.save(10, MANY, {"epoch": 1})
    newest = checkpoints.save(20, MANY, {"epoch": 2})
    as_before(newest)
    assert (checkpoints.newest(never).file, is_whole(checkpoints.newest(never))) == (newest, True)

    for wrong in damages(newest.read_bytes(), seed=2, count=400):
        newest.write_bytes(wrong)
        checkpoint = checkpoints.newest(lambda *_: None, check)

        assert checkpoint.file in (before, newest) and is_whole(checkpoint)


@pytest.mark.parametrize("lost", [b"facesim SHA-256:", b"variables"])
def test_a_new_one_that_looks_like_an_old_one_is_damaged(tmp_path, lost):
    checkpoints = Checkpoints(tmp_path, keep=2)
    newest = checkpoints.save(20, MANY, {"epoch": 2})
    newest.write_bytes(newest.read_bytes().replace(lost, bytes(len(lost))))
    messages = []

    assert checkpoints.newest(lambda file, why: messages.append(why)) is None
    assert messages


def test_damaged_ones_take_no_place_of_whole_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (100, 200):
        checkpoints.save(step, VARIABLES, {}).write_bytes(b"damaged")

    assert checkpoints.newest(lambda file, _: checkpoints.put_aside(file)) is None
    new = [checkpoints.save(step, VARIABLES, {}) for step in (10, 20, 30)]

    assert checkpoints.newest(never).file == new[-1]
    assert checkpoints.files() == new[:0:-1]
    assert sorted(file.name for file in tmp_path.glob("damaged-*")) == [
        "damaged-checkpoint-000000100.npz",
        "damaged-checkpoint-000000200.npz",
    ]


def test_the_one_that_was_just_written_is_kept_whatever_else_is_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(100, VARIABLES, {})

    written = checkpoints.save(7, VARIABLES, {})

    assert checkpoints.files() == [written]


def test_files_that_are_no_checkpoints_are_left_alone(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (999_999_999, 1_000_000_000):
        checkpoints.save(step, VARIABLES, {})
    (tmp_path / "checkpoint-best.npz").write_bytes(b"mine")

    assert checkpoints.newest(never).file.name == "checkpoint-1000000000.npz"
    assert (tmp_path / "checkpoint-best.npz").exists()


def test_numpy_reads_it(tmp_path):
    with np.load(Checkpoints(tmp_path, keep=1).save(1, VARIABLES, {})) as archive:
        np.testing.assert_array_equal(archive["variable_0000"], VARIABLES[0])


@pytest.mark.parametrize("what", ["pipe", "folder", "link to nothing", "link to itself"])
def test_what_is_no_file_but_called_like_a_checkpoint_is_passed_over(tmp_path, what):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(10, VARIABLES, {"epoch": 1})
    for name in ("checkpoint-000000020.npz", ".checkpoint-000000020.npz.1"):
        place = tmp_path / name
        if what == "pipe":
            os.mkfifo(place)
        elif what == "folder":
            place.mkdir()
        else:
            place.symlink_to(place if what == "link to itself" else tmp_path / "nothing")

    checkpoint = checkpoints.newest(lambda file, why: checkpoints.put_aside(file))
    checkpoints.save(30, VARIABLES, {"epoch": 3})

    assert checkpoint.state == {"epoch": 1}
    assert checkpoints.newest(lambda file, why: checkpoints.put_aside(file)).state == {"epoch": 3}
