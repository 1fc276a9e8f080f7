"""Where a job is run, as the tests of the backends' contract need to know it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from facesim.backends.base import Execution
from facesim.backends.sagemaker.session import Account
from facesim.backends.sagemaker.storage import split
from facesim.runs.directory import Run
from tests.conftest import pids_of, still_running
from tests.containers.conftest import left

if TYPE_CHECKING:
    from facesim.testing.emulator.endpoint import Emulator
    from tests.kubernetes.cluster import TestCluster


class Local:
    """Everything on this machine, as processes."""

    name = "local"
    hosts = [""]  # all tasks are on this machine, whatever it is called
    measurement = "emulated"
    options: dict[str, Any] = {}
    plays_capacity = True

    def interrupt(self, execution: Execution, run: Run) -> None:
        """Take the machine away: the cluster's processes are gone all at once, as far as the node can see."""
        node, *tasks = pids_of(run)
        os.kill(node, signal.SIGSTOP)
        for pid in tasks:
            os.kill(pid, signal.SIGKILL)
        assert not still_running(tasks)
        os.kill(node, signal.SIGCONT)

    def kept(self, run: Run) -> bool:
        """Whether a checkpoint is where it outlives an interruption."""
        return any(run.checkpoints.glob("checkpoint-*.npz"))

    def left(self, run: Run) -> list[Any]:
        """What of the run is still there that should not be."""
        return still_running(pids_of(run))


class Docker:
    """A container a host."""

    name = "docker"
    hosts = ["algo-1", "algo-2"]
    measurement = "emulated"
    options: dict[str, Any] = {}
    plays_capacity = True

    def __init__(self, containers: str):
        self.image = containers

    def interrupt(self, execution: Execution, run: Run) -> None:
        execution.interrupt(notice_s=0)  # type: ignore[attr-defined]

    def kept(self, run: Run) -> bool:
        return any(run.checkpoints.glob("checkpoint-*.npz"))

    def left(self, run: Run) -> list[Any]:
        scratch = [path.name for path in run.directory.iterdir() if path.name == ".hosts"]
        return left(f"facesim-{run.id}") + scratch


class SageMaker:
    """AWS' training jobs, at an endpoint of this machine in which they really run."""

    name = "sagemaker"
    hosts = ["algo-1", "algo-2"]
    measurement = "measured"
    options = {"spot": True, "tensorboard": True}  # what is on demand is not interrupted
    plays_capacity = False

    def __init__(self, endpoint: Emulator):
        self.endpoint = endpoint

    def interrupt(self, execution: Execution, run: Run) -> None:
        self.endpoint.job(f"facesim-{run.id}").interrupt(notice_s=0)

    def kept(self, run: Run) -> bool:
        request = json.loads(run.plan_file.read_text())["CreateTrainingJob"]
        bucket, prefix = split(request["CheckpointConfig"]["S3Uri"])
        return Account().client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["KeyCount"] > 0

    def left(self, run: Run) -> list[Any]:
        name = f"facesim-{run.id}"
        return left(name) + ([] if self.endpoint.job(name).ended.wait(60) else [name])


class Kubernetes:
    """A JobSet, in a cluster of this machine whose pods really run."""

    name = "kubernetes"
    hosts = ["worker-0-0", "worker-0-1"]
    measurement = "emulated"
    options = {"on_interrupt": "stop"}
    plays_capacity = False

    def __init__(self, cluster: TestCluster):
        self.cluster = cluster

    def interrupt(self, execution: Execution, run: Run) -> None:
        """Its nodes are gone."""
        for index in range(len(self.hosts)):
            self.cluster.jobsets[f"facesim-{run.id}"].evict(index, "the node does not answer", grace_s=0)

    def kept(self, run: Run) -> bool:
        return any(self.cluster.claim.glob(f"facesim/checkpoints/facesim-{run.id}/checkpoint-*.npz"))

    def left(self, run: Run) -> list[Any]:
        running = [pod.name for pod in self.cluster.pods_of(f"facesim-{run.id}") if pod.exit_code is None]
        return left(f"facesim-{run.id}") + running


def within_its_job(host: str) -> str:
    """The name of a host without that of its job, which pods have in theirs."""
    return re.sub(r"^.*-(\w+-0-\d+)\..*$", r"\1", host)


PLACES: dict[str, Callable[[pytest.FixtureRequest], Any]] = {
    "local": lambda request: Local(),
    "docker": lambda request: Docker(request.getfixturevalue("containers")),
    "sagemaker": lambda request: request.getfixturevalue("sagemaker"),
    "kubernetes": lambda request: request.getfixturevalue("kubernetes"),
}
