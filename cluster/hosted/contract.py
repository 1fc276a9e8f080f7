"""The files under /opt/ml by which SageMaker tells a host what it is part of, and by which a host answers.

AWS: "How Amazon SageMaker AI Provides Training Information" and "... Processes Training Output". Of SageMaker only the
files are read: variables such as SM_HOSTS exist only where one of AWS' toolkits set them. Where all hosts of a job are
given the same files, as Kubernetes' pods are, a variable says which of them a host is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.hosted.log_relay import Kept
from cluster.plan import Plan

ROOT = Path("/opt/ml")

#: The variable that names this host where `resourceconfig.json` does not.
CURRENT_HOST = "CLUSTER_CURRENT_HOST"
#: The variable with the exit code of a host that was asked to stop, where that has to be told from work that is done.
STOPPED_EXIT_CODE = "CLUSTER_STOPPED_EXIT_CODE"

#: SageMaker keeps this much of what a host leaves in /opt/ml/output/failure.
FAILURE_CHARACTERS = 1024


@dataclass(frozen=True)
class Contract:
    """What SageMaker tells a host. Hosts are in the order of their numbers: algo-2 before algo-10.

    groups: the hosts of each instance group by its name. channels: the folder of each input channel.
    """

    job_name: str
    current_host: str
    hosts: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    instance_type: str
    interface: str
    hyperparameters: dict[str, str]
    channels: dict[str, Path]
    root: Path = ROOT
    stopped_exit_code: int = 0

    @property
    def checkpoints(self) -> Path:
        """Restored when the job starts, and kept elsewhere while it runs; shared, in the end, by all hosts."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """Becomes model.tar.gz."""
        return self.root / "model"

    @property
    def output(self) -> Path:
        """Becomes output.tar.gz."""
        return self.root / "output" / "data"

    @classmethod
    def read(cls, root: Path = ROOT) -> Contract:
        """The contract that this host was given.

        Raises:
            FileNotFoundError: it was not started by SageMaker, or by what takes its place.
        """
        config = root / "input" / "config"
        resources = _json(config / "resourceconfig.json")
        groups = resources.get("instance_groups") or []
        return cls(
            job_name=os.environ.get("TRAINING_JOB_NAME", ""),
            current_host=os.environ.get(CURRENT_HOST) or resources["current_host"],
            hosts=by_number(resources["hosts"]),
            groups={group["instance_group_name"]: by_number(group["hosts"]) for group in groups},
            instance_type=resources.get("current_instance_type", ""),
            interface=resources.get("network_interface_name", "eth0"),
            hyperparameters=_json(config / "hyperparameters.json"),
            channels={name: root / "input" / "data" / name for name in _json(config / "inputdataconfig.json")},
            root=root,
            stopped_exit_code=int(os.environ.get(STOPPED_EXIT_CODE, "0")),
        )

    def tell_failure(self, reason: str) -> None:
        """Leave `reason` where SageMaker looks for it; too long, its middle is left out."""
        if len(reason) > FAILURE_CHARACTERS:
            half = FAILURE_CHARACTERS // 2 - 2
            reason = f"{reason[:half]}\n…\n{reason[-half:]}"
        self.output.parent.mkdir(parents=True, exist_ok=True)
        (self.output.parent / "failure").write_text(reason, encoding="utf-8")


@dataclass(frozen=True)
class HostWork:
    """What one host of a contract has to do, as the function named by `cluster.node --contract` finds out.

    first_host: where the leader of all runs; the others end when it has ended. record: is called with what happens.
    finish: is called with the outcome when the work has ended. kept: what is to outlive this host while it works.
    patience_s: how long the other hosts may take until they are there. over: whether the first host is known to have
    ended its work in an earlier start of this job: if it is not there, there is nothing left to do.
    """

    plan: Plan
    first_host: str
    record: Callable[..., None]
    finish: Callable[[str], None]
    kept: Kept | None = None
    patience_s: float = 300.0
    over: bool = False


def by_number(hosts: list[str]) -> tuple[str, ...]:
    """SageMaker sorts hosts as text, algo-10 before algo-2."""
    return tuple(sorted(hosts, key=lambda host: [int(part) for part in re.findall(r"\d+", host)]))


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
