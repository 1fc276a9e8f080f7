"""Prepared data on disk: checked whenever it is found, never left half done, private, refused where it has no room."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facesim.data import PreparedData, RenderSpec, cache, prepare
from facesim.util.errors import InputError
from facesim.util.folders import make_own_folder

REPOSITORY = Path(__file__).parents[2]
SPEC = RenderSpec(identities=3, images=4, difficulty=0.2)


@pytest.fixture
def ready(tmp_path):
    return lambda **options: prepare(
        "rendered", **{"image_size": 16, "render": SPEC, "cache_dir": tmp_path / "cache", **options}
    )


def change(path: Path, at: int = 0, same_time: bool = True) -> None:
    """Another byte in a file of the same size."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    if same_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("same_time", [True, False])
@pytest.mark.parametrize("name", ["images.u8", "labels.npy", "origins.json", "dataset.json"])
def test_changed_bytes_of_the_same_size_are_found_at_the_next_start_and_told(ready, name, same_time):
    first = ready()
    expected = np.array(first.images)
    path = first.directory / name
    change(path, path.stat().st_size - 3, same_time)

    again = ready()

    np.testing.assert_array_equal(again.images, expected)
    assert (again.directory, again.sha256) == (first.directory, first.sha256)
    assert again.notes[0].startswith("prepared again, because what was kept was damaged: ")
    assert ready().notes == ()


def test_only_blocks_of_a_file_that_seems_unchanged_are_read_and_all_of_one_with_another_time(tmp_path):
    def write(new: Path) -> None:
        (new / "many").write_bytes(bytes(64 << 20))

    directory, _ = cache.made_once(tmp_path, "key", write, lambda path: path)
    path = directory / "many"

    for block in (0, 63):
        change(path, block << 20)
        with pytest.raises(InputError, match=f"checksum of many does not match at byte {block << 20:,}"):
            cache.check(directory)
        change(path, block << 20)

    change(path, 30 << 20, same_time=False)
    with pytest.raises(InputError, match=f"at byte {30 << 20:,}"):
        cache.check(directory)


def test_a_copy_with_other_times_is_read_once_and_then_taken(ready):
    first = ready()
    os.utime(first.directory / "images.u8")

    assert ready().notes == ()
    assert (first.directory / "images.u8").stat().st_mtime < time.time()
    cache.check(first.directory)


def test_checks_that_are_lost_make_it_again(ready):
    (ready().directory / cache.CHECKS).unlink()

    assert "checks.json cannot be read" in ready().notes[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_preparation_that_is_ended_leaves_nothing(tmp_path, number):
    # As a terminal starts it: what this test runs in may ignore some signals, which children inherit.
    script = (
        f"import signal, sys; signal.signal({int(number)}, signal.SIG_DFL if {int(number)} != 2 else "
        f"signal.default_int_handler); from facesim.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "data", "describe", "rendered", "--image-size", "256"]
    environment = {**os.environ, "FACESIM_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("cache/.*/images.u8")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, output = process.communicate(timeout=100)

    assert process.returncode == 130
    assert "interrupted" in output and "Traceback" not in output
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_preparation_left_is_removed_at_the_next_one_and_what_goes_on_is_not(ready, tmp_path):
    killed, going_on = (tmp_path / f"cache/.{number * 24}.{number * 32}" for number in "12")
    for folder in (killed, going_on):
        folder.mkdir(parents=True)
        (folder / "lock").touch()

    with (going_on / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ready()

    assert going_on.exists() and not killed.exists()


def test_what_else_lies_in_a_folder_that_is_named_for_it_stays(ready, tmp_path):
    old = time.time() - 48 * 3600
    theirs = [tmp_path / "cache" / name for name in (".emacs.d", ".config.old", f".{24 * 'a'}.backup", "photos.2019")]
    ours = tmp_path / "cache" / f".{24 * 'a'}.{32 * 'b'}.old"  # put aside by a process that was killed then
    for folder in (*theirs, ours):
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        os.utime(folder, (old, old))

    ready()

    assert [folder.exists() for folder in (*theirs, ours)] == [True] * 4 + [False]


def test_the_folder_is_the_user_s_alone(ready, tmp_path, monkeypatch):
    ready()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    if sys.platform == "linux":
        (tmp_path / "own/facesim").mkdir(parents=True, mode=0o755)
        make_own_folder(tmp_path / "own/facesim")
        assert stat.S_IMODE((tmp_path / "own/facesim").stat().st_mode) == 0o700


def test_a_disk_without_room_is_told_before_anything_is_decoded(ready):
    free = shutil.disk_usage("/").free
    images = 8
    people = free // (images * 1024 * 1024 * 3) + 100

    with pytest.raises(InputError, match=r"no room to prepare the data in .*cache: [\d,]+ bytes are needed and"):
        ready(image_size=1024, render=RenderSpec(identities=people, images=images),
              progress=lambda *_: pytest.fail("rendered"))  # fmt: skip


def test_a_disk_that_becomes_full_while_writing_is_told(tmp_path):
    # A limit on a file's size, as a quota is one: the system refuses the write itself.
    script = (
        "import resource, sys; from facesim.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(['data', 'describe', 'rendered', '--image-size', '64']))"
    )
    environment = {**os.environ, "FACESIM_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY)}

    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2
    assert "no room to prepare the data" in ended.stderr and "5,345,280 bytes are needed" in ended.stderr
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_real_full_disk_is_told(tmp_path):
    script = (
        'mount -t tmpfs -o size=1m none "$FACESIM_CACHE" && '
        'exec "$PYTHON" -m facesim data describe rendered --image-size 32'
    )
    (tmp_path / "cache").mkdir()
    environment = {**os.environ, "FACESIM_CACHE": str(tmp_path / "cache"), "PYTHON": sys.executable}
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "none", tmp_path / "cache"],
                                     capture_output=True).returncode:  # fmt: skip
        pytest.skip("this system lets no user mount a disk of their own")

    command = [unshare, "-rm", "sh", "-c", script]
    ended = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2
    assert "no room to prepare the data" in ended.stderr


def test_a_file_of_labels_that_promises_too_much_is_no_prepared_data(ready):
    path = ready().directory / "labels.npy"
    path.write_bytes(path.read_bytes().replace(b"(12,)", b"(9" + b"9" * 12 + b",)", 1))

    with pytest.raises(InputError, match="no usable prepared data set"):
        PreparedData.load(path.parent)
