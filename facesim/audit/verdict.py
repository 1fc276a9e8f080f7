"""Did the processes of a training train together? Answered from what was seen from outside, and from their reports.

`apart` needs evidence that says so. `together` needs all of it: nobody trained on another's examples, all ended with
the same parameters, and something that large went between them, as far as that can be counted: where it cannot, as on
macOS, equal parameters in the end are all that is known of it. Otherwise the verdict is `unknown`, and the last
sentence of the evidence says what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from facesim.util.words import count_text

TOGETHER, APART, UNKNOWN, SINGLE = "together", "apart", "unknown", "single"

#: A process that never received as much at a time did not exchange gradients or parameters: those of a network of 8,000
#: parameters are larger. Numbers such as a loss, and signs of life, are less.
LEAST_BYTES = 32_000
#: Less CPU time is no training: it is spent on imports alone.
LEAST_CPU_S = 5.0
#: Nor are the gradients of a small network less than this, for each second of CPU time, unless its steps take long.
_LEAST_BYTES_A_CPU_S = 10_000
#: Of a process' first pass over its examples, the share that another may have, too: samplers repeat some, to give
#: everybody as many, and a first pass ends a few examples into the second, where these were divided anew.
_MOST_SHARED = 0.25
#: A process with less than this share of an equal share of the steps did not take part.
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Rank:
    """A training process, or several of the same rank, such as one with those that load its data.

    received_bytes: from other processes, here and on other hosts; None where they could not be counted.
    most_at_a_time_bytes: of these, between two looks at it. received_while_training_bytes: from its first step to its
    last; None where it was not looked at twice in between.
    gpu_s: in which its kernels ran. shares_memory: with another rank, which may be how they exchange. connects_briefly:
    some of the ranks' connections came and went between two looks.
    steps: that it reported; None if it reported none.
    examples: of these steps. first_pass: what identifies its examples, until one came again; None if unknown.
    repeated: examples that came again. hashed: whether examples are identified by their content.
    parameters_sha256: of the parameters that it reported after its last step. holds_part: it has some of the
    parameters, and others have the rest.
    world: how many ranks there are, as its launcher says. processes: of this rank that trained, as far as is known.
    coordinates: parameter servers and their workers, perhaps, and does not train.
    numbered: as a rank, by a launcher or by itself; else it counts as one only for what it reported. looked_at: it did
    not end before that.
    """

    name: str
    cpu_s: float
    received_bytes: float | None = None
    most_at_a_time_bytes: float = 0.0
    received_while_training_bytes: float | None = None
    uses_gpu: bool = False
    gpu_s: float = 0.0
    gpu_memory_bytes: float = 0.0
    shares_memory: bool = False
    connects_briefly: bool = False
    steps: int | None = None
    examples: int = 0
    first_pass: frozenset[str] | None = None
    repeated: int = 0
    hashed: bool = False
    parameters_sha256: str | None = None
    parameter_bytes: int | None = None
    holds_part: bool = False
    world: int = 1
    processes: int = 1
    coordinates: bool = False
    numbered: bool = True
    looked_at: bool = True


class Verdict(NamedTuple):
    verdict: str
    evidence: list[str]


def judge(ranks: Sequence[Rank], *, failure: str | None = None) -> Verdict:
    """The verdict on some ranks, and its evidence in sentences. `failure` says why the training did not come to its
    end, where it did not: ranks may then differ in what they did.
    """
    if not ranks:
        why = (
            "No process that was seen says which rank it is: none has RANK, TF_CONFIG or an MPI rank in its "
            "environment, and none reported a step; start them by a launcher that sets these, or add the two lines to "
            "the script."
        )
        return Verdict(UNKNOWN, [why])
    if len(ranks) == 1:
        return _alone(ranks[0])
    evidence = ["CPU time by rank: " + "; ".join(f"{rank.name}: {rank.cpu_s:.1f} s" for rank in ranks) + "."]
    if unseen := ", ".join(rank.name for rank in ranks if not rank.looked_at):
        evidence.append(f"Ended before they were looked at, so of their CPU time and bytes nothing is known: {unseen}.")
    if any(rank.uses_gpu for rank in ranks):
        evidence.append(
            "GPU time and memory by rank: "
            + "; ".join(f"{rank.name}: {rank.gpu_s:.1f} s, {_size(rank.gpu_memory_bytes)}" for rank in ranks)
            + "."
        )
    wire, steps, examples, parameters = (find(ranks, evidence) for find in (_wire, _steps, _examples, _parameters))
    meanwhile = _meanwhile(ranks, evidence)
    reported_steps, reported_examples, reported_parameters = steps, examples, parameters
    cut_short = failure is not None and False in (wire, steps, parameters)
    if failure:
        wire, steps, parameters = (found or None for found in (wire, steps, parameters))
        evidence.append(
            f"{failure}: what ranks did by then may differ, so bytes, steps and parameters say nothing against it."
        )
    if in_parts := _in_parts(ranks):
        examples, parameters = examples or None, None
        evidence.append(
            "They hold different parts of a network, as with FSDP, ZeRO-3 or a pipeline: these are not compared, and "
            "that they share examples says nothing against it."
        )
    # What is exchanged, and differs in the end, may be an asynchronous training.
    differ = parameters is False and not meanwhile
    # What no launcher started may exchange through pipes or files, by which a launcher's ranks do not.
    alone = wire is False and parameters is None and all(rank.numbered for rank in ranks)
    if differ or alone or False in (steps, examples):
        return Verdict(APART, evidence)
    if cut_short:
        doubts = ["the training did not come to its end"]
    elif in_parts:
        doubts = ["parts of a network cannot be compared"]
    else:
        doubts = list(_doubts(wire, _exchange_unseen(ranks) or meanwhile, steps, parameters))
    unreported = _unreported(reported_steps, reported_examples, in_parts or reported_parameters)
    if missing := [*doubts, *unreported]:
        return Verdict(UNKNOWN, [*evidence, f"So it is not known whether they trained together: {'; '.join(missing)}."])
    return Verdict(TOGETHER, evidence)


def _alone(rank: Rank) -> Verdict:
    """The verdict on the only rank that was seen."""
    if rank.world > 1:
        why = (
            f"Of {rank.world} ranks only {rank.name} was seen: the others run on other hosts, which are not watched, "
            "ended before they were seen, or do not say which rank they are."
        )
        return Verdict(UNKNOWN, [why])
    if rank.processes > 1:
        why = (
            f"{rank.processes} processes that may have trained say that they are {rank.name}: which of them are ranks "
            "is not known; start them by a launcher that numbers them, or without the variable that says so."
        )
        return Verdict(UNKNOWN, [why])
    return Verdict(SINGLE, [f"One rank was seen, {rank.name}: on this machine it has nobody to train together with."])


def _doubts(wire: bool | None, meanwhile: bool | None, steps: bool | None, parameters: bool | None) -> Iterator[str]:
    if parameters is False:
        yield "they exchanged as much as their parameters while they trained, and ended with different ones"
    elif wire is False and parameters:
        yield (
            "they ended with the same parameters, and too little went between them over TCP; one of the two is wrong, "
            "or they exchange through pipes, Unix sockets or files, which is not seen"
        )
    elif wire is False:
        yield "they may exchange through pipes, Unix sockets or files, which is not seen"
    elif meanwhile is False:
        yield "what made their parameters the same went between them before the first step or after the last"
    elif meanwhile is None and steps and parameters:
        yield "the training was too short to see what went between them in it"


def _unreported(steps: bool | None, examples: bool | None, parameters: bool | None) -> Iterator[str]:
    if steps is None:
        yield "which examples each trained on is not known, which facesim.audit.step(examples=...) reports"
    elif examples is None:
        yield (
            "which examples each trained on is not known: give facesim.audit.step their numbers, or the images alone, "
            "before anything random is done to them"
        )
    if parameters is None:
        yield "whether their parameters are equal is not known, which facesim.audit.parameters(model) reports"


def _wire(ranks: Sequence[Rank], evidence: list[str]) -> bool | None:
    """Whether each rank received what training together takes; None where that cannot be known."""
    if any(rank.received_bytes is None for rank in ranks):
        evidence.append("Bytes between processes cannot be counted on this system.")
        return None
    evidence.append(
        "Received from other processes over TCP: "
        + "; ".join(f"{rank.name}: {_size(rank.received_bytes or 0)}" for rank in ranks)
        + "."
    )
    if _exchange_unseen(ranks):
        ways = {
            "use GPUs": any(rank.uses_gpu for rank in ranks),
            "have memory in common": any(rank.shares_memory for rank in ranks),
            "have connections that end before they are looked at": any(rank.connects_briefly for rank in ranks),
        }
        way = " and ".join(way for way, is_taken in ways.items() if is_taken)
        evidence.append(f"They {way}, by which they may exchange, too: these bytes are not all.")
        return None
    trained = _trained(ranks)
    least, least_cpu_s = min(rank.received_bytes or 0 for rank in trained), min(rank.cpu_s for rank in trained)
    # What goes from stage to stage of a pipeline may be less than the parameters of any.
    sizes = set() if _in_parts(ranks) else _parameter_bytes(ranks)
    if sizes and least >= min(sizes):
        return True
    # Of less, a connection may have come and gone between two looks.
    looked_at = all(rank.cpu_s >= LEAST_CPU_S or rank.received_while_training_bytes is not None for rank in trained)
    if sizes and looked_at and least < min(sizes) / 2:
        evidence.append(f"That is less than half of their parameters, {_size(min(sizes))}, once in a whole training.")
        return False
    at_a_time = min(rank.most_at_a_time_bytes for rank in trained)
    rarely = least < max(LEAST_BYTES, _LEAST_BYTES_A_CPU_S * least_cpu_s)
    if not sizes and at_a_time < LEAST_BYTES and rarely and least_cpu_s >= LEAST_CPU_S:
        evidence.append(
            f"One never received more than {_size(at_a_time)} at a time over TCP, less than the gradients of a small "
            "network."
        )
        return False
    return None


def _meanwhile(ranks: Sequence[Rank], evidence: list[str]) -> bool | None:
    """Whether each received as much as its parameters from its first step to its last; None where that is not known."""
    sizes, trained = _parameter_bytes(ranks), _trained(ranks)
    if not sizes or _exchange_unseen(ranks):
        return None
    received = [rank.received_while_training_bytes for rank in trained]
    if None not in received:
        least = min(received)  # type: ignore[type-var]
        evidence.append(f"From its first step to its last, each received {_size(least)} or more.")
        return least >= min(sizes)
    # Everybody's parameters, and twice more, are all that is handed on before a training and after it.
    return True if min(rank.received_bytes or 0 for rank in trained) > (len(ranks) + 2) * min(sizes) else None


def _exchange_unseen(ranks: Sequence[Rank]) -> bool:
    """Whether what they exchange cannot all be counted."""
    return any(
        rank.received_bytes is None or rank.uses_gpu or rank.shares_memory or rank.connects_briefly for rank in ranks
    )


def _trained(ranks: Sequence[Rank]) -> Sequence[Rank]:
    """Those that do not only coordinate the others."""
    return [rank for rank in ranks if not rank.coordinates] or ranks


def _in_parts(ranks: Sequence[Rank]) -> bool:
    """Whether they hold different parts of a network."""
    return any(rank.holds_part for rank in ranks) or len(_parameter_bytes(ranks)) > 1


def _parameter_bytes(ranks: Sequence[Rank]) -> set[int]:
    return {rank.parameter_bytes for rank in ranks if rank.parameter_bytes}


def _steps(ranks: Sequence[Rank], evidence: list[str]) -> bool | None:
    reporting = [rank for rank in ranks if rank.steps is not None]
    if not reporting:
        return None
    evidence.append("Steps reported: " + "; ".join(f"{rank.name}: {_steps_of(rank)}" for rank in ranks) + ".")
    if len(reporting) < len(ranks):
        return None
    steps = [rank.steps or 0 for rank in ranks]
    if min(steps) < _LEAST_SHARE * sum(steps) / len(steps):
        evidence.append("One that makes hardly a step does not train with the others.")
        return False
    return True


def _steps_of(rank: Rank) -> str:
    if rank.steps is None:
        return "none"
    return f"{rank.steps:,} on {count_text(rank.examples, 'example')}" if rank.examples else f"{rank.steps:,}"


def _examples(ranks: Sequence[Rank], evidence: list[str]) -> bool | None:
    """Whether ranks divided the data: in its first pass, each trained on its own examples."""
    passes = [rank.first_pass for rank in ranks]
    if any(not examples for examples in passes):
        return None
    shared = max(len(one & other) / min(len(one), len(other)) for one, other in combinations(passes, 2))  # type: ignore
    distinct = len(frozenset().union(*passes))  # type: ignore[arg-type]
    evidence.append(
        f"Before an example came again, {sum(map(len, passes)):,} were trained on, {distinct:,} of them "  # type: ignore
        f"different; two ranks shared {shared:.0%}."
    )
    if shared > _MOST_SHARED:
        evidence.append("They trained on the same examples: the data was not divided between them.")
        return False
    if any(rank.hashed for rank in ranks) and not any(rank.repeated for rank in ranks):
        evidence.append(
            "No example came again, so it may be that each is altered whenever it is read: report their numbers "
            "instead."
        )
        return None
    return True


def _parameters(ranks: Sequence[Rank], evidence: list[str]) -> bool | None:
    digests = {rank.name: rank.parameters_sha256 for rank in ranks if rank.parameters_sha256}
    if not digests:
        return None
    distinct = len(set(digests.values()))
    found = "equal, bit for bit" if distinct == 1 else f"{distinct} different sets"
    evidence.append(
        f"After the last step, the parameters of {len(digests)} of {len(ranks)} ranks were reported"
        + (f": {found}." if len(digests) > 1 else ".")
    )
    if distinct > 1:
        return False
    return True if len(digests) == len(ranks) else None


def _size(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
