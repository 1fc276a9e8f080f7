"""Disks that are full: the run ends with a state and a message, and what there is to show is shown."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from facesim.data import RenderSpec, render_folder
from facesim.report import write_report
from facesim.runs.directory import Run, find_runs
from facesim.runs.record import read_json
from facesim.runs.states import RunState
from facesim.spec.job import make_job
from facesim.util import disk
from facesim.util.errors import DiskFull
from facesim.util.files import write_json
from tests.conftest import QUICK, facesim
from tests.report.conftest import make_run  # noqa: F401


def fill(folder: Path, but_bytes: int = 0) -> Path:
    """Leave so much of a file system free."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    os.truncate(ballast, ballast.stat().st_size - but_bytes)
    return ballast


def told_of(error: pytest.ExceptionInfo[DiskFull], folder: Path) -> None:
    assert str(folder) in str(error.value)
    assert "MB are free" in str(error.value) and "make room" in str(error.value)


def test_a_run_that_has_no_room_to_begin_is_not_begun(small_disk):
    fill(small_disk)

    with pytest.raises(DiskFull) as error:
        Run.create(small_disk / "runs" / "one", make_job())

    told_of(error, small_disk / "runs" / "one")


def test_there_is_room_for_the_end_of_a_run_whose_disk_is_full(small_disk):
    run = Run.create(small_disk / "one", make_job())
    fill(small_disk)
    with pytest.raises(DiskFull) as error, disk.writing_to(run.directory):
        write_json(run.result_file, {"state": "Failed"})
    told_of(error, run.directory)

    disk.release(run.directory)
    write_json(run.result_file, {"state": "Failed"})

    assert read_json(run.result_file) == {"state": "Failed"}
    assert not list(run.directory.glob(".result*"))


def test_images_that_there_is_no_room_for_leave_nothing(small_disk):
    fill(small_disk, but_bytes=200_000)

    with pytest.raises(DiskFull) as error:
        render_folder(RenderSpec(identities=20, images=20, size=64), small_disk / "people")

    told_of(error, small_disk / "people")
    assert not list(small_disk.rglob("*.png"))


def test_a_report_that_there_is_no_room_for_is_told_and_leaves_no_file(make_run, small_disk):  # noqa: F811
    fill(small_disk)

    with pytest.raises(DiskFull) as error:
        write_report([make_run()], small_disk / "report.html")

    told_of(error, small_disk)
    assert sorted(file.name for file in small_disk.iterdir()) == ["ballast"]


def test_the_limit_of_a_files_size_is_named(tmp_path, largest_file):
    largest_file(1_000_000)

    with pytest.raises(DiskFull, match=r"larger than 1\.0 MB \(ulimit -f\)"), disk.writing_to(tmp_path):
        (tmp_path / "large").write_bytes(bytes(2_000_000))


@pytest.mark.slow
def test_a_run_whose_disk_becomes_full_ends_with_a_state_and_says_what_to_do(small_disk, faces):
    fill(small_disk, but_bytes=1_100_000)  # the model takes more

    options = ("--epochs", 1, "--max-restarts", 0, *QUICK)
    command = facesim("run", "--data", faces, *options, "--output", small_disk / "runs")

    assert command.code == 1
    assert "Traceback" not in command.output + command.errors
    (run,) = find_runs([small_disk / "runs"])
    result = run.result()
    assert result["state"] == RunState.FAILED
    assert f"no room left in {run.directory}" in result["failure"].splitlines()[0]
    assert "MB are free" in result["failure"] and "--resume" in result["failure"]
    assert not list(run.directory.glob("*.keras"))
