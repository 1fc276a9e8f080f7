"""The sync audit: did the replicas train together? Answered from what was counted and measured, not from configuration.

Four independent kinds of evidence:

- Examples: those whose gradients were applied, against those due.
- Steps by worker: one that hardly contributes does not train with the others.
- Parameters. On parameter servers every update takes a number from one counter, so updates of the same parameters are
  numbered without gap or repetition. Replicas that hold parameters each must hold the same at the end.
- Wire: a worker that exchanges parameters or gradients receives the model's bytes each time, which the kernel counts.
"""

from __future__ import annotations

from typing import Any

TOGETHER, APART, UNKNOWN, SINGLE = "together", "apart", "unknown", "single"

#: A worker with less than this share of an equal share of the steps did not take part.
_LEAST_SHARE = 0.1
#: Steps for each worker, since their number changed, from which its share of them can be told.
_ENOUGH_STEPS = 10
#: Bytes received, per exchange and model size, below which nothing was exchanged. A ring all-reduce of n workers
#: receives 2 (n - 1) / n model sizes (Patarasuk and Yuan, 2009), a pull from a parameter server one.
_LEAST_WIRE = 0.5


def audit(
    outcomes: list[dict[str, Any]],
    workers: int,
    received_bytes: dict[int, float],
    *,
    over_wire: bool,
    replaced: int = 0,
    steps_at_a_time: int = 1,
) -> dict[str, Any]:
    """The verdict on one run and its evidence, in sentences.

    `outcomes` is what each training task left, the chief's first; `workers` how many were to train; `received_bytes`
    what each worker's connections received, empty where that was not measured; `over_wire` whether the workers are
    processes; `replaced` how often one died and was started again while the others went on; `steps_at_a_time` of how
    many steps a worker tells at once.
    """
    if not outcomes:
        return {"verdict": UNKNOWN, "evidence": ["The run left no counts."]}
    counted = [outcome["counted"] for outcome in outcomes]
    steps, examples = _by_worker(counted, "steps_by_worker"), _by_worker(counted, "examples_by_worker")
    due, seen = counted[0]["examples_due"], sum(examples.values())
    complete = seen == due or (outcomes[0]["stopped"] and seen < due)
    evidence = [f"{seen:,} examples were trained on; {due:,} were due, each counted once."]
    if workers == 1:
        return {"verdict": SINGLE if complete else UNKNOWN, "evidence": evidence}

    since = counted[0].get("steps_since_resized")
    of = steps if since is None else {int(worker): count for worker, count in since.items()}
    shares = [of.get(worker, 0) for worker in range(workers)]
    enough = since is None or sum(shares) >= _ENOUGH_STEPS * workers
    contributed = not enough or min(shares) >= _LEAST_SHARE * sum(shares) / workers
    evidence.append(
        ("Steps by worker: " if since is None else "Steps by worker since their number changed: ")
        + ", ".join(f"{worker}: {share:,}" for worker, share in enumerate(shares))
        + ("." if contributed else "; a worker that hardly contributes does not train with the others.")
    )
    digests = [digest for outcome in outcomes for digest in outcome["parameters_sha256"]]
    if len(digests) == 1:
        same = _numbered_once(counted[0], replaced * steps_at_a_time, evidence)
    else:
        same = _equal(digests, evidence)
    received = _received(outcomes[0], steps, received_bytes, evidence) if over_wire else True
    if not (complete and contributed and same) or received is False:
        return {"verdict": APART, "evidence": evidence}
    return {"verdict": TOGETHER if received else UNKNOWN, "evidence": evidence}


def _by_worker(counted: list[dict[str, Any]], name: str) -> dict[int, int]:
    """What tasks counted for each worker. Tasks that know of each other's steps count the same ones: not a sum."""
    merged: dict[int, int] = {}
    for counts in counted:
        for worker, count in counts[name].items():
            merged[int(worker)] = max(count, merged.get(int(worker), 0))
    return merged


def _numbered_once(counted: dict[str, Any], untold: int, evidence: list[str]) -> bool:
    """Whether updates were numbered without gap; workers that died may have left `untold` that nobody counted."""
    updates, last = counted["updates"], counted["last_version"]
    orphans = last - updates
    once = 0 <= orphans <= untold
    found = f"{updates:,} distinct parameter versions were made, the last of them number {last:,}: "
    if once and orphans:
        found += (
            f"one set of parameters took every update, and {orphans} more, whole or in part, from workers that died "
            "before they could tell; their examples were trained on again by others."
        )
    else:
        found += "one set of parameters took every update." if once else "updates were lost, or made elsewhere."
    evidence.append(found)
    return once


def _equal(digests: list[str], evidence: list[str]) -> bool:
    distinct = len(set(digests))
    evidence.append(
        f"At the end the parameters of {len(digests)} replicas were "
        + ("equal, bit for bit." if distinct == 1 else f"{distinct} different sets.")
    )
    return distinct == 1


def _received(
    outcome: dict[str, Any], steps: dict[int, int], received_bytes: dict[int, float], evidence: list[str]
) -> bool | None:
    """Whether each worker received the model at every exchange; None where bytes were not measured."""
    if not received_bytes:
        evidence.append("Bytes on the wire were not measured for each task.")
        return None
    size, every = outcome["counted"]["exchange_bytes"], outcome["counted"]["steps_per_exchange"]
    if every is None:
        evidence.append("No worker was to receive anything from another, nor did it.")
        return False
    ratios = {
        worker: received_bytes.get(worker, 0) / (count / every * size) for worker, count in steps.items() if count
    }
    evidence.append(
        f"Received at each exchange, in units of the parameters' {size / 1e6:.1f} MB: "
        + ", ".join(f"{worker}: {ratio:.2f}" for worker, ratio in ratios.items())
        + "."
    )
    return all(ratio >= _LEAST_WIRE for ratio in ratios.values())
