"""The sync audit: did the replicas train together? Answered from what was counted and measured, not from what was
configured.

Three independent kinds of evidence. Examples: those whose gradients were applied, against those due. Versions: every
update takes a number from one shared counter, so updates of replicas that share parameters are numbered without gap or
repetition, and replicas that do not share them each count from zero. Wire: a replica that pulls parameters receives
the model's bytes with each update, which the kernel counts for its connections.
"""

from __future__ import annotations

from typing import Any

TOGETHER, APART, UNKNOWN, SINGLE = "together", "apart", "unknown", "single"

#: A worker with less than this share of an equal share of the updates did not take part.
_LEAST_SHARE = 0.1
#: Bytes received, per update and model size, below which parameters did not come over the wire.
_LEAST_WIRE = 0.5


def audit(outcome: dict[str, Any] | None, workers: int, received_bytes: dict[int, float]) -> dict[str, Any]:
    """The verdict on one run and its evidence, in sentences.

    `outcome` is what the training task left, or None; `workers` how many were to train; `received_bytes` what each
    worker's connections received, by index, empty where that was not measured.
    """
    if outcome is None:
        return {"verdict": UNKNOWN, "evidence": ["The run left no counts."]}
    counted = outcome["counted"]
    by_worker = {int(worker): updates for worker, updates in counted["updates_by_worker"].items()}
    updates, due = counted["updates"], counted["examples_due"]
    evidence = [f"{counted['examples']:,} examples were counted once each; {due:,} were due."]
    complete = counted["examples"] == due or outcome["stopped"]
    if workers == 1:
        return {"verdict": SINGLE if complete else UNKNOWN, "evidence": evidence}

    shared = counted["distinct_versions"] == updates == counted["last_version"]
    evidence.append(
        f"{updates:,} updates took {counted['distinct_versions']:,} distinct parameter versions, the last of them "
        f"{counted['last_version']:,}: "
        + ("one set of parameters took them all." if shared else "updates were lost or made apart.")
    )
    shares = [by_worker.get(worker, 0) for worker in range(workers)]
    contributed = min(shares) >= _LEAST_SHARE * updates / workers
    evidence.append(
        "Updates by worker: "
        + ", ".join(f"worker-{worker} {share:,}" for worker, share in enumerate(shares))
        + ("." if contributed else "; a worker that hardly contributes does not train with the others.")
    )
    on_wire = _wire(outcome, by_worker, received_bytes, evidence)
    if not (shared and contributed and complete) or on_wire is False:
        return {"verdict": APART, "evidence": evidence}
    return {"verdict": TOGETHER if on_wire else UNKNOWN, "evidence": evidence}


def _wire(
    outcome: dict[str, Any], by_worker: dict[int, int], received_bytes: dict[int, float], evidence: list[str]
) -> bool | None:
    """Whether each worker received the model with its updates; None where bytes were not measured."""
    if not received_bytes:
        evidence.append("Bytes on the wire were not measured for each task.")
        return None
    size = outcome["parameter_bytes"]
    ratios = {
        worker: received_bytes.get(worker, 0) / (updates * size) for worker, updates in by_worker.items() if updates
    }
    evidence.append(
        f"Received with each update, in units of the model's {size / 1e6:.1f} MB: "
        + ", ".join(f"worker-{worker} {ratio:.2f}" for worker, ratio in ratios.items())
        + "."
    )
    return all(ratio >= _LEAST_WIRE for ratio in ratios.values())
