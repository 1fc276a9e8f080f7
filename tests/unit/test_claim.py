"""Who runs a run: one command and what it started, however these end."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from facesim.runs.claim import Claim
from facesim.util.errors import InputError
from tests.conftest import wait_until

#: A command that has the run, and a process that it started, to which it hands the claim. It tells that one's pid.
COMMAND = """
    import subprocess, sys
    from pathlib import Path
    from facesim.runs.claim import Claim
    claim = Claim(Path(sys.argv[1]))
    claim.take()
    child = subprocess.Popen(["sleep", "60"], pass_fds=[claim.descriptor], stdout=subprocess.DEVNULL)
    claim.add(child.pid)
    print(child.pid, flush=True)
    child.wait()
"""


def held(file: Path) -> tuple[subprocess.Popen, int]:
    command = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(COMMAND), file], stdout=subprocess.PIPE, text=True
    )
    return command, int(command.stdout.readline())


def test_what_a_command_started_has_the_run_for_as_long_as_it_lives(tmp_path):
    file = tmp_path / ".lock"
    command, child = held(file)

    with pytest.raises(InputError, match=rf"still being run by process {command.pid} \(since .*\) and process {child}"):
        Claim(file).take()
    command.kill()
    command.communicate()
    with pytest.raises(InputError, match=rf"still being run by process {child} \(since \d{{4}}-"):
        Claim(file).take()
    os.kill(child, 9)

    claim, messages = Claim(file), []

    def taken() -> bool:
        try:
            messages.append(claim.take())
        except InputError:
            return False
        return True

    wait_until(taken, within_s=5)
    assert messages[0].startswith(f"process {command.pid} (since ")
    assert messages[0].endswith("is gone and did not end the run; its place is taken")


def test_a_regular_end_leaves_nothing_to_tell(tmp_path):
    first, second = Claim(tmp_path / ".lock"), Claim(tmp_path / ".lock")

    assert first.take() is None
    assert first.take() is None  # it has it already
    with pytest.raises(InputError, match=f"process {os.getpid()}"):
        second.take()
    first.release()
    first.release()

    assert second.take() is None
    second.release()


def test_another_process_with_the_number_of_one_that_is_gone_is_not_taken_for_it(tmp_path):
    claim = Claim(tmp_path / ".lock")
    claim.take()
    (holder,) = json.loads((tmp_path / ".lock").read_text())
    (tmp_path / ".lock").write_text(json.dumps([{**holder, "since_unix_s": 1000.0}]))

    with pytest.raises(InputError, match="by another process"):
        Claim(tmp_path / ".lock").take()
    claim.release()


def test_a_run_whose_command_was_killed_can_be_gone_on_with_at_once(tmp_path):
    """What it started ends with it, and takes a moment for that."""
    file = tmp_path / ".lock"
    command, child = held(file)
    (first, _) = json.loads(file.read_text())
    file.write_text(json.dumps([first]))  # a task: nobody has said that it has a part
    command.kill()
    command.communicate()
    threading.Timer(0.5, os.kill, (child, 9)).start()

    claim = Claim(file)

    assert "its place is taken" in claim.take()
    claim.release()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)

    with pytest.raises(InputError, match=r"cannot lock .*\.lock: No locks available; put runs"):
        Claim(tmp_path / ".lock").take()


def test_who_has_had_it_since_no_date_is_nobody(tmp_path):
    file = tmp_path / ".lock"
    file.write_text(json.dumps([{"pid": 1, "host": "elsewhere", "since_unix_s": 1e300}]))

    assert Claim(file).look().holders == ()


def test_a_clock_that_was_set_forward_makes_no_other_process_of_who_has_it(tmp_path):
    claim = Claim(tmp_path / ".lock")
    claim.take()
    (holder,) = json.loads((tmp_path / ".lock").read_text())
    hour_ago = {name: holder[name] - 3600 for name in ("since_unix_s", "boot_unix_s")}  # by the clock as it was
    (tmp_path / ".lock").write_text(json.dumps([{**holder, **hour_ago}]))

    (alive,) = claim.look().alive

    assert alive.pid == os.getpid()
    claim.release()
