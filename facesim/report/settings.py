"""What a run was made with beside its experiment, framework and shape, as far as its numbers may follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from facesim.runs.records import JobFields, Scalar
from facesim.spec.backends import BACKENDS
from facesim.spec.faults import Fault
from facesim.spec.job import Job
from facesim.spec.recovery import Recovery
from facesim.spec.shape import Shape
from facesim.spec.spot import Spot
from facesim.spec.strategies import Single, known_strategy

#: Options that say where things lie, who may read them, for how long they are kept, what a run is called by, and what
#: is done where it cannot begin or its tasks fail. Runs that differ in nothing else are runs of the same thing.
_NO_SETTINGS = frozenset(
    {
        "bucket", "bucket_owner", "checkpoint_dir", "checkpoint_keep", "hang_s", "kms_key", "kube_context", "max_cost",
        "max_restarts", "name", "namespace", "on_interrupt", "prefix", "pull_policy", "quota_wait_s", "retention_s",
        "role", "security_groups", "service_account", "storage", "storage_claim", "storage_secret", "subnets", "tags",
        "tensorboard",
    }
)  # fmt: skip

#: Settings that forecasts do not heed.
UNFORESEEN = frozenset({"faults", "keep_alive_s", "sampling_s"})


def settings(job: JobFields) -> dict[str, Scalar]:
    """The options of its backend, of spot capacity if it had that, and of recovery, by name; its faults. What an
    earlier version did not record has its default.
    """
    usual = BACKENDS[job.backend]().model_dump(mode="json") if job.backend in BACKENDS else {}
    given: dict[str, Any] = usual | job.backend_options
    given |= Recovery().model_dump(mode="json") | job.recovery
    if job.spot is not None:
        spot = Spot().model_dump(mode="json") | job.spot
        given |= {f"spot_{name}": value for name, value in spot.items()}
    given["sampling_s"] = Job.model_fields["sampling_s"].default if job.sampling_s is None else job.sampling_s
    given["faults"] = faults_in_words(job.faults, _targets(job)) or None
    return {name: _plain(value) for name, value in given.items() if name not in _NO_SETTINGS}


def faults_in_words(faults: Iterable[Mapping[str, Any]], everyone: Sequence[set[str]] = ()) -> str:
    """Faults as a job records them, in words, without what is as usual, such as that `everyone` may be struck."""
    return "; ".join(_fault(fault, everyone) for fault in faults)


def _fault(fault: Mapping[str, Any], everyone: Sequence[set[str]]) -> str:
    """`kill worker-1, at s 5`."""
    named = [str(target) for target in fault.get("targets") or ()]
    targets = "" if set(named) in everyone else " and ".join(named)
    usual = {name: field.default for name, field in Fault.model_fields.items()}
    others = {name: value for name, value in fault.items() if name not in ("kind", "targets")}
    told = [f"{name.replace('_', ' ')} {value}" for name, value in others.items() if value != usual.get(name)]
    return ", ".join([f"{fault.get('kind', 'fault')} {targets}".rstrip(), *told])


def _targets(job: JobFields) -> list[set[str]]:
    """All tasks of a job, and all its hosts: whom a fault may strike that names nobody."""
    kind = known_strategy(job.strategy)
    try:
        shape = Shape.model_validate({name: job.shape[name] for name in Shape.model_fields if name in job.shape})
        asked = Job(strategy=kind().model_copy() if kind else Single(), shape=shape)
    except (ValidationError, TypeError):  # of an earlier or a later version
        return []
    return [{*asked.tasks}, {f"algo-{number}" for number in range(1, asked.hosts + 1)}]


def _plain(value: Any) -> Scalar:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in sorted(value.items())) or None
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or None
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
