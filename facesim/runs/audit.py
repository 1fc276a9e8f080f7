"""The sync audit: did the replicas train together? Answered from what was counted and measured, not from configuration.

Four independent kinds of evidence:

- Examples: those whose gradients were applied, against those due.
- Steps by worker: one that hardly contributes does not train with the others.
- Parameters. On parameter servers every update takes a number from one counter, so updates of the same parameters are
  numbered without gap or repetition. Replicas that hold parameters each must hold the same at the end.
- Wire: a worker that exchanges parameters or gradients receives the model's bytes each time, which the kernel counts.

A fifth is of the money: a job that pays for accelerators has to compute on them (`idle_accelerators`).

`apart` needs evidence that says so: what is missing is no evidence. Where something is missing, or one kind of evidence
says the opposite of another, the verdict is `unknown`, and the last sentence of the evidence says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facesim.util.words import count_text

TOGETHER, APART, UNKNOWN, SINGLE = "together", "apart", "unknown", "single"

#: A worker with less than this share of an equal share of the steps did not take part.
_LEAST_SHARE = 0.1
#: Steps for each worker from which its share of them can be told.
_ENOUGH_STEPS = 10
#: Bytes received, per exchange and model size, below which nothing was exchanged. A ring all-reduce of n workers
#: receives 2 (n - 1) / n model sizes (Patarasuk and Yuan, 2009), a pull from a parameter server one.
_LEAST_WIRE = 0.5
#: A worker whose connections were measured for less than this share of the training has bytes that nobody counted.
_WHOLE_RUN = 0.9


def audit(
    outcomes: list[dict[str, Any]],
    workers: int,
    received_bytes: Mapping[int, float],
    *,
    over_wire: bool,
    replaced: int = 0,
    steps_at_a_time: int = 1,
    spare: int = 0,
    outcomes_due: int = 1,
    measured: Mapping[int, float] | None = None,
) -> dict[str, Any]:
    """The verdict on one run and its evidence, in sentences.

    `outcomes` is what each training task left, the chief's first; `workers` how many were to train; `received_bytes`
    what each worker's connections received, without those that were not measured; `over_wire` whether the workers are
    processes; `replaced` how often one died and was started again while the others went on; `steps_at_a_time` of how
    many steps a worker tells at once; `spare` how many workers may always be late; `outcomes_due` how many tasks were
    to leave counts; `measured` the share of the training, 0-1, for which each worker's connections were measured.
    """
    if not outcomes:
        return {"verdict": UNKNOWN, "evidence": ["The run left no counts."]}
    counted = [outcome["counted"] for outcome in outcomes]
    steps, examples = _by_worker(counted, "steps_by_worker"), _by_worker(counted, "examples_by_worker")
    due, seen = counted[0]["examples_due"], sum(examples.values())
    complete = seen == due or (outcomes[0]["stopped"] and seen < due)
    evidence = [
        f"{count_text(seen, 'example was', 'examples were')} trained on; {due:,} {'was' if due == 1 else 'were'} due, "
        "each counted once."
    ]
    if workers == 1:
        return {"verdict": SINGLE if complete else UNKNOWN, "evidence": evidence}

    since = counted[0].get("steps_since_resized")
    of = steps if since is None else {int(worker): count for worker, count in since.items()}
    shares = [of.get(worker, 0) for worker in range(workers)]
    enough = sum(shares) >= _ENOUGH_STEPS * workers
    least = sorted(shares)[spare]
    contributed, unseen = not enough or least >= _LEAST_SHARE * sum(shares) / workers, not enough and not least
    evidence.append(
        ("Steps by worker: " if since is None else "Steps by worker since their number changed: ")
        + ", ".join(f"{worker}: {share:,}" for worker, share in enumerate(shares))
        + ("." if contributed else "; a worker that hardly contributes does not train with the others.")
    )
    digests = [digest for outcome in outcomes for digest in outcome["parameters_sha256"]]
    if len(digests) == 1 and outcomes_due > 1:
        same = True  # there is none to compare with: another task left nothing
    elif len(digests) == 1:
        same = _numbered_once(counted[0], replaced * steps_at_a_time, evidence)
    else:
        same = _equal(digests, evidence)
    never = over_wire and counted[0]["steps_per_exchange"] is None
    # Of workers that trained before the run continued with fewer nobody knows what they received.
    there = {worker: count for worker, count in steps.items() if worker < workers}
    received = _received(outcomes[0], there, received_bytes, measured or {}, evidence) if over_wire else True
    together = complete and contributed and same
    missing = outcomes_due - len(outcomes)
    if missing > 0:
        evidence.append(f"Only {len(outcomes)} of {count_text(outcomes_due, 'training task')} left their counts.")
    if never or (not together and missing <= 0):
        return {"verdict": APART, "evidence": evidence}
    if together and missing <= 0 and received and not unseen:
        return {"verdict": TOGETHER, "evidence": evidence}
    if missing > 0:
        why = "the counts of the other tasks are missing"
    elif unseen:
        why = "there were too few steps for each worker to have one"
    elif received is None:
        why = (
            "what was counted says that they trained together, but bytes on the wire, which would prove it, are missing"
        )
    else:
        why = (
            "what was counted says that they trained together, and the bytes on the wire say that they did not; "
            "one of them is wrong"
        )
    return {"verdict": UNKNOWN, "evidence": [*evidence, f"So it is not known whether they trained together: {why}."]}


#: A host whose GPUs computed for less than this share of each interval, in percent, did not compute on them.
_LEAST_GPU_PERCENT = 1.0


def idle_accelerators(
    paid: str, devices: list[list[str] | None], busiest_percent: Mapping[str, float]
) -> tuple[str | None, str | None]:
    """Which accelerators were paid for and not computed on, in a sentence, None if none were; and the evidence.

    Args:
        paid: what is paid for, in words.
        devices: the accelerators that each task says it computed on; None where it does not say.
        busiest_percent: by host, the most of an interval, 0-100 %, for which its GPUs computed.
    """
    reported = [names for names in devices if names is not None]
    idle = sorted(host for host, percent in busiest_percent.items() if percent < _LEAST_GPU_PERCENT)
    # Tasks of different hosts call their devices the same.
    count = sum(map(len, reported))
    seen = f"it was computed on {count_text(count, 'accelerator')}" if reported else ""
    if reported and not count:
        seen = "no task saw an accelerator"
    measured = (
        f"the busiest interval of their GPUs was {max(busiest_percent.values()):.0f} %" if busiest_percent else ""
    )
    evidence = "; ".join(filter(None, [seen, measured]))
    if (reported and not all(reported)) or (idle and len(idle) == len(busiest_percent)):
        return f"{paid} were paid for, and it was computed on the CPU: {evidence}.", f"{evidence}."
    if idle:
        return f"{paid} were paid for, and those of {', '.join(idle)} computed nothing: {evidence}.", f"{evidence}."
    return None, f"{paid}: {evidence}." if evidence else None


def _by_worker(counted: list[dict[str, Any]], name: str) -> dict[int, int]:
    """What tasks counted for each worker. Tasks that know of each other's steps count the same ones: not a sum."""
    merged: dict[int, int] = {}
    for counts in counted:
        for worker, count in counts[name].items():
            merged[int(worker)] = max(count, merged.get(int(worker), 0))
    return merged


def _numbered_once(counted: dict[str, Any], uncounted: int, evidence: list[str]) -> bool:
    """Whether updates were numbered without gap; workers that died may have left `uncounted` more."""
    updates, last = counted["updates"], counted["last_version"]
    orphans = last - updates
    once = 0 <= orphans <= uncounted
    made = count_text(updates, "distinct parameter version was", "distinct parameter versions were")
    sentence = f"{made} made, the last of them number {last:,}: "
    if once and orphans:
        sentence += (
            f"one set of parameters took every update, and {orphans} more, whole or in part, from workers that died "
            "before they could tell; their examples were trained on again by others."
        )
    else:
        sentence += "one set of parameters took every update." if once else "updates were lost, or made elsewhere."
    evidence.append(sentence)
    return once


def _equal(digests: list[str], evidence: list[str]) -> bool:
    distinct = len(set(digests))
    evidence.append(
        f"At the end the parameters of {len(digests)} replicas were "
        + ("equal, bit for bit." if distinct == 1 else f"{distinct} different sets.")
    )
    return distinct == 1


def _received(
    outcome: dict[str, Any],
    steps: dict[int, int],
    received_bytes: Mapping[int, float],
    measured: Mapping[int, float],
    evidence: list[str],
) -> bool | None:
    """Whether each worker received the model at every exchange; None where too little was measured to tell."""
    size, every = outcome["counted"]["exchange_bytes"], outcome["counted"]["steps_per_exchange"]
    if every is None:
        evidence.append("No worker was to receive anything from another" + (", nor did it." if received_bytes else "."))
        return False
    busy = {worker: count for worker, count in steps.items() if count}
    unmeasured = sorted(busy.keys() - received_bytes.keys())
    if unmeasured:
        of = "" if len(unmeasured) == len(busy) else f" of worker {', '.join(map(str, unmeasured))}"
        evidence.append(f"Bytes on the wire{of} were not measured.")
        return None
    ratios = {worker: received_bytes[worker] / (count / every * size) for worker, count in busy.items()}
    evidence.append(
        f"Received at each exchange, in units of the {size / 1e6:.1f} MB that it is of: "
        + ", ".join(f"{worker}: {ratio:.2f}" for worker, ratio in ratios.items())
        + "."
    )
    low = [worker for worker, ratio in ratios.items() if ratio < _LEAST_WIRE]
    partly = [worker for worker in low if measured.get(worker, 1.0) < _WHOLE_RUN]
    if partly:
        evidence.append(
            "Bytes were measured for a part of the training only: "
            + ", ".join(f"{worker}: {measured[worker]:.0%}" for worker in partly)
            + "."
        )
    return None if partly else not low
