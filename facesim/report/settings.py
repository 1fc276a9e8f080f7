"""What a run was made with beside its experiment, framework and shape, as far as its numbers may follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from facesim.runs.records import JobFields, Scalar
from facesim.spec.backends import BACKENDS
from facesim.spec.job import Job
from facesim.spec.recovery import Recovery
from facesim.spec.spot import Spot

#: Options that say where things lie, who may read them, for how long they are kept, what a run is called by, and what
#: is done where it cannot begin. Runs that differ in nothing else are runs of the same thing.
_NO_SETTINGS = frozenset(
    {
        "bucket", "bucket_owner", "checkpoint_dir", "kms_key", "kube_context", "max_cost", "name", "namespace",
        "on_interrupt", "prefix", "pull_policy", "quota_wait_s", "retention_s", "role", "security_groups",
        "service_account", "storage", "storage_claim", "storage_secret", "subnets", "tags", "tensorboard",
    }
)  # fmt: skip


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
    given["faults"] = faults_in_words(job.faults) or None
    return {name: _plain(value) for name, value in given.items() if name not in _NO_SETTINGS}


def faults_in_words(faults: Iterable[Mapping[str, Any]]) -> str:
    """Faults as a job records them, in words."""
    return "; ".join(map(_fault, faults))


def _fault(fault: Mapping[str, Any]) -> str:
    """`kill worker-1, at s 5`."""
    targets = " and ".join(map(str, fault.get("targets") or ()))
    others = [f"{name.replace('_', ' ')} {value}" for name, value in fault.items() if name not in ("kind", "targets")]
    known = [text for text in others if not text.endswith(" None")]
    return ", ".join([f"{fault.get('kind', 'fault')} {targets}".rstrip(), *known])


def _plain(value: Any) -> Scalar:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in sorted(value.items())) or None
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or None
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
