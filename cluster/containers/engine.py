"""The container engine of this machine (Docker's API), and that nothing of ours is left in it.

Whatever we make carries labels: which job it is of, and which process of which machine made it. A guard, a process of
its own, removes a job's things when the process that made them is gone without having done so itself; what even a
guard could not remove is removed when the next job starts.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from cluster.surroundings import python, without_settings

if TYPE_CHECKING:
    from docker import DockerClient

#: Labels of everything that a job makes. (`cluster.client` was one of earlier versions, by another clock.)
JOB, CLIENT = "cluster.job", "cluster.process"


class EngineError(Exception):
    """The engine cannot do what is asked of it; the message says what to do."""


def connect() -> DockerClient:
    """The engine that Docker's own commands would use (DOCKER_HOST, or this machine's).

    Raises:
        EngineError: none answers.
    """
    try:
        import docker
    except ImportError:
        raise EngineError("the Python package docker is not installed; pip install 'facesim-cluster[docker]'") from None
    try:
        client = docker.DockerClient.from_env(timeout=120)
        client.ping()
        return client
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(
            f"no container engine answers ({_shortly(error)}): start Docker, see that this user may use it (group "
            "docker), or let DOCKER_HOST name one"
        ) from None


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Within it, that the engine refuses something, or does not answer any more, is an `EngineError`."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (DockerException, RequestException, HTTPError, ConnectionError) as error:
        raise EngineError(f"the container engine failed: {_shortly(error)}; is it running?") from None


def capacity() -> tuple[float, int]:
    """CPUs and bytes of memory that containers can use: on some systems the engine has a machine of its own.

    Raises:
        EngineError: no engine answers.
    """
    with contextlib.closing(connect()) as client, answering():
        about = client.info()
    return float(about["NCPU"]), int(about["MemTotal"])


def _shortly(error: Exception) -> str:
    """The innermost of the reasons that docker's errors are wrapped in."""
    quoted = re.findall(r"'([^']+)'", str(error))
    return quoted[-1] if quoted else str(error)


def labels(job: str) -> dict[str, str]:
    """What this process puts on everything that it makes for `job`."""
    return {JOB: job, CLIENT: _this_process()}


def remove(client: DockerClient, job: str) -> None:
    """Remove a job's containers, then its networks. What is gone already is no error."""
    _remove(client, {"label": f"{JOB}={job}"})


def sweep(client: DockerClient) -> None:
    """Remove what jobs left whose process has ended without doing so."""
    things = [
        *client.containers.list(all=True, filters={"label": CLIENT}, ignore_removed=True),
        *client.networks.list(filters={"label": CLIENT}),
    ]
    for made_by in {_labels(thing)[CLIENT] for thing in things}:
        if not _runs(made_by):
            _remove(client, {"label": f"{CLIENT}={made_by}"})


def _labels(thing: Any) -> dict[str, str]:
    return thing.labels if hasattr(thing, "labels") else thing.attrs["Labels"]


def _remove(client: DockerClient, filters: dict[str, str]) -> None:
    from docker.errors import APIError

    for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
        with contextlib.suppress(APIError):  # it is being removed by somebody else
            container.remove(force=True, v=True)
    for network in client.networks.list(filters=filters):
        with contextlib.suppress(APIError):
            network.remove()


@functools.cache
def _this_process() -> str:
    """This process, so that another with its number, or on another machine, is not taken for it."""
    return f"{_machine()}/{os.getpid()}/{_began_s(os.getpid()):.2f}"


def _began_s(pid: int) -> float:
    """When a process began, in seconds since this system was started: what is not changed when the clock is set.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    boot_unix_s = psutil.boot_time()  # first: some versions of psutil keep it for the times of processes
    return psutil.Process(pid).create_time() - boot_unix_s


@functools.cache
def _machine() -> str:
    """A name for this system since it was started: processes of one container cannot see another's."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot[:13]}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{psutil.boot_time():.0f}"


def _runs(made_by: str) -> bool:
    machine, pid, began = made_by.split("/")
    if machine != _machine():
        return True  # not ours to judge
    try:
        return f"{_began_s(int(pid)):.2f}" == began and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Guard:
    """A process that removes a job's things, and `directory`, once this process has ended in whatever way.

    It waits for the end of a pipe that only this process holds, in a session of its own, so that what ends this process
    does not end it.
    """

    def __init__(self, job: str, directory: Path):
        self._process = subprocess.Popen(
            python("cluster.containers.engine", job, str(directory)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=without_settings(os.environ),
        )

    def dismiss(self) -> None:
        """There is nothing left to guard."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"done")
            self._process.stdin.close()
        self._process.wait()


def _guard(job: str, directory: str) -> None:
    if sys.stdin.buffer.read() == b"done":
        return
    with contextlib.suppress(EngineError):
        remove(connect(), job)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _guard(*sys.argv[1:])
