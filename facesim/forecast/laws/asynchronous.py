"""Workers that share parameter servers and wait for none of the others.

They are a closed queueing network: w customers, the servers' processors and links as stations, the workers' computing
as a delay (Li, Yan, Paolieri, Golubchik, "Throughput prediction of asynchronous SGD", ICPE 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facesim.forecast.laws.overlap import overlapped

Array = NDArray[np.float64]

#: Halvings of an interval that is as long as the answer at first: to 1e-10 of it.
_BISECTIONS = 34


def service_s(
    messages: ArrayLike,
    sent_bytes: ArrayLike,
    message_s: ArrayLike,
    byte_s: ArrayLike,
    link_bytes_per_s: ArrayLike = math.inf,
    goodput: float = 1.0,
) -> Array:
    """For how long one direction (pull or push) of one update occupies a server: max(a M + b S, S / (eta B)).

    The processor handles `messages` at `message_s` each and bytes at `byte_s` each, while the link of
    `link_bytes_per_s` carries `goodput` of what it could. Bytes alone, or messages alone, are far from what was
    measured: small variables cost messages, large ones bytes.

    Source: service demand of a station, by the bottleneck law (Lazowska et al., "Quantitative System Performance",
    1984, chapter 5), the demand as measured on published runs (`constants.json`).
    """
    handled = np.asarray(message_s) * messages + np.asarray(byte_s) * sent_bytes
    return np.maximum(handled, np.asarray(sent_bytes) / (np.asarray(link_bytes_per_s) * goodput))


def knee_updates_per_s(workers: ArrayLike, one_worker_per_s: ArrayLike, bottleneck_s: ArrayLike, knee: float) -> Array:
    """Speed of w asynchronous workers by the smooth knee X = ((w X1)^-q + (1/D)^-q)^(-1/q).

    The two asymptotes of a closed network, w times one worker and one update a bottleneck's service, joined by a
    q-norm. q = 4.5 for TensorFlow 1's overlapped step; a sequential step has another knee, for which use
    `sequential_step_s`.

    Source: the asymptotes: Lazowska et al. (1984), asymptotic bounds. The q-norm is ours.
    """
    linear = np.asarray(workers) * one_worker_per_s
    with np.errstate(divide="ignore"):  # a bottleneck of no time bounds nothing
        most = 1.0 / np.asarray(bottleneck_s, dtype=float)
    # Scaled, so that no power overflows.
    least = np.minimum(linear, most)
    return least * ((least / linear) ** knee + (least / most) ** knee) ** (-1.0 / knee)


def stretch(updates_per_s: ArrayLike, service: ArrayLike, workers: ArrayLike, latency: ArrayLike) -> Array:
    """How many times its service an update spends at a server: max(m, 1 + (w-1)/w N), N = X R the updates there.

    Solved for N and never above w: an arriving worker finds at most all others. `latency`, m: by how much an idle
    server's answer takes longer than its own work on it, because the messages of one worker come one after another.

    Source: Schweitzer's approximation of mean value analysis (Bard, 1979; Schweitzer, 1979); the bounds m and w
    are ours.
    """
    busy = np.asarray(updates_per_s) * service * (1.0 - 1.0 / np.asarray(workers))
    queue = np.where(busy < 1.0, 1.0 / np.maximum(1.0 - busy, 1e-12), np.inf)
    return np.maximum(latency, np.minimum(queue, workers))


def ps_async_step_s(
    compute_s: ArrayLike,
    pull_s: ArrayLike,
    push_s: ArrayLike,
    workers: ArrayLike,
    overlap: float = 1.0,
    latency: float = 1.0,
    least_s: ArrayLike | tuple[ArrayLike, ArrayLike] = 0.0,
) -> Array:
    """Seconds that one asynchronous worker's step takes among `workers` of them: w / X.

    T = |C/3, R_pull|_p + |2C/3, R_push|_p: forward is a third of computing and overlaps pulling, backward two thirds
    and pushing. R of a direction is its service times `stretch`. Stations (each server's processor, its link out, its
    link in) work side by side, so the slowest counts. For the sequential step, p = 1 and m = 1, `sequential_step_s` is
    exact; this is within 7 % of it.

    Args:
        compute_s: (...) seconds of computing.
        pull_s, push_s: (..., stations) seconds of service of one update.
        workers: (...) asynchronous workers, all alike.
        least_s: (...) seconds that either direction takes at least, over the worker's own link, which nobody shares; or
            those of pulling and of pushing.

    Source: `stretch` and `overlapped`; that they are put together so is ours. Backward takes twice as long as forward
    because it computes two products where forward computes one.
    """
    compute_s, workers = np.asarray(compute_s, dtype=float), np.asarray(workers, dtype=float)
    pull_s, push_s = np.asarray(pull_s, dtype=float), np.asarray(push_s, dtype=float)

    def step_s(updates_per_s: Array) -> Array:
        slower = stretch(updates_per_s[..., None], pull_s + push_s, workers[..., None], latency)
        pulling, pushing = _at_least(least_s, (pull_s * slower).max(axis=-1), (push_s * slower).max(axis=-1))
        return overlapped(compute_s / 3, pulling, overlap) + overlapped(compute_s * (2 / 3), pushing, overlap)

    shape = np.broadcast_shapes(compute_s.shape, workers.shape, pull_s.shape[:-1], push_s.shape[:-1])
    low, high = np.zeros(shape), np.broadcast_to(workers / step_s(np.zeros(shape)), shape)
    # The step gets longer with the speed, so the speed at which w workers make it is found by halving.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        possible = middle * step_s(middle) <= workers
        low, high = np.where(possible, middle, low), np.where(possible, high, middle)
    return workers / high


def _at_least(least_s: ArrayLike | tuple[ArrayLike, ArrayLike], pulling: Array, pushing: Array) -> tuple[Array, Array]:
    least_pull_s, least_push_s = least_s if isinstance(least_s, tuple) else (least_s, least_s)
    return np.maximum(pulling, least_pull_s), np.maximum(pushing, least_push_s)


def compute_from_step_s(
    step_s: float,
    pull_s: Sequence[float],
    push_s: Sequence[float],
    workers: int = 1,
    overlap: float = 1.0,
    latency: float = 1.0,
) -> float:
    """The seconds of computing in a measured step of each of `workers`: `ps_async_step_s` inverted.

    0 where the servers alone explain more than what was measured.
    """
    from scipy.optimize import brentq  # loading it takes 0.3 s, for which a run without a forecast has no use

    # The measured speed tells how long the queues were; what is left depends on computing alone.
    pull, push = np.asarray(pull_s, dtype=float), np.asarray(push_s, dtype=float)
    slower = stretch(workers / step_s, pull + push, workers, latency)
    pulling, pushing = float((pull * slower).max()), float((push * slower).max())

    def longer(compute_s: float) -> float:
        forward = (max(compute_s, 0.0) / 3) ** overlap + pulling**overlap
        backward = (max(compute_s, 0.0) * 2 / 3) ** overlap + pushing**overlap
        return forward ** (1 / overlap) + backward ** (1 / overlap) - step_s

    if longer(0.0) >= 0:
        return 0.0
    if longer(step_s) <= 0:  # by rounding: the servers' part is too small to be seen beside it
        return step_s
    return float(brentq(longer, 0.0, step_s, xtol=1e-9 * step_s))


def mixed_updates_per_s(
    compute_s: Sequence[float],
    counts: Sequence[int],
    pull_s: Sequence[float],
    push_s: Sequence[float],
    overlap: float = 1.0,
    latency: float = 1.0,
) -> float:
    """Updates a second of asynchronous workers of several kinds, `counts` of each, that share the servers.

    Source: `ps_async_step_s`, with one queue for all kinds (after Schweitzer's approximation of several classes; ours).
    """
    kinds, pull, push = np.asarray(compute_s, float), np.asarray(pull_s, float), np.asarray(push_s, float)
    numbers, workers = np.asarray(counts, float), float(sum(counts))

    def speed(updates_per_s: float) -> float:
        slower = stretch(updates_per_s, pull + push, workers, latency)
        forward = overlapped(kinds / 3, (pull * slower).max(), overlap)
        return float((numbers / (forward + overlapped(kinds * (2 / 3), (push * slower).max(), overlap))).sum())

    low, high = 0.0, speed(0.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if speed(middle) >= middle else (low, middle)
    return high


def exact_mva(think_s: float, service: Sequence[float], workers: int) -> Array:
    """Updates a second of 1 to `workers` workers whose step is sequential: computing, then each station in turn.

    Exact for stations that share their processor, whatever the distribution of the times.

    Source: Reiser and Lavenberg, "Mean-value analysis of closed multichain queuing networks", JACM 1980.

    Returns:
        (workers,) updates a second.
    """
    demands = np.asarray(service, dtype=float)
    queue = np.zeros_like(demands)
    speeds = np.empty(workers)
    for count in range(1, workers + 1):
        response = demands * (1 + queue)
        speeds[count - 1] = count / (think_s + response.sum())
        queue = speeds[count - 1] * response
    return speeds


def sequential_step_s(
    compute_s: ArrayLike,
    pull_s: ArrayLike,
    push_s: ArrayLike,
    workers: ArrayLike,
    least_s: ArrayLike | tuple[ArrayLike, ArrayLike] = 0.0,
) -> Array:
    """Seconds of an asynchronous worker's step that does not overlap, arguments as for `ps_async_step_s`.

    With one station this is `exact_mva`; several work side by side, and the slowest counts. Where messages overlap
    with computing, or come in bursts, the knee is rounder, and `ps_async_step_s` is closer to what was measured.

    Source: as `exact_mva`.
    """
    compute_s, workers = np.asarray(compute_s, dtype=float), np.asarray(workers)
    pull_s, push_s = np.asarray(pull_s, dtype=float), np.asarray(push_s, dtype=float)
    steps_s, queue = np.zeros(()), np.zeros(())
    for count in range(1, int(workers.max()) + 1):
        slower = 1 + queue
        pulling, pushing = _at_least(least_s, (pull_s * slower).max(axis=-1), (push_s * slower).max(axis=-1))
        step_s = compute_s + pulling + pushing
        steps_s = np.where(workers == count, step_s, steps_s)
        busy = (pull_s + push_s) * (count / step_s)[..., None]
        queue = busy * slower
    return steps_s


def capacity_updates_per_s(cores: ArrayLike, cpu_s_per_update: ArrayLike) -> Array:
    """The most updates a second that tasks on one host can make: X <= c / (sum of CPU-seconds an update).

    Source: the utilisation law (Denning and Buzen, 1978).
    """
    with np.errstate(divide="ignore"):
        return np.asarray(cores, dtype=float) / np.asarray(cpu_s_per_update, dtype=float)


def shared_hosts_step_s(
    computing_s: ArrayLike,
    turns_s: ArrayLike,
    pull_s: ArrayLike,
    push_s: ArrayLike,
    workers: ArrayLike,
    apart_s: Sequence[ArrayLike] = (0.0, 0.0),
    overlap: float = 1.0,
    latency: float = 1.0,
) -> tuple[Array, Array]:
    """Seconds of a step of each of two kinds of asynchronous workers, one worker of the first kind and all others of
    the second, whose tasks share the processors of hosts with chief and servers.

    A closed network of two classes: what a station does for either delays both, and who comes to it finds those who
    would be there without it. The rest is as for `ps_async_step_s`, but what computing needs of stations comes one
    after another.

    Args:
        computing_s: (2, ...) seconds of computing that nobody delays.
        turns_s: (2, ..., stations) seconds of computing, and of handing out steps, at stations that others use as well.
        pull_s, push_s: (2, ..., stations) seconds of service of one update; all stations side by side.
        workers: (...) of both kinds together.
        apart_s: of pulling and pushing, (2, ..., stations) seconds before or after their service that nobody delays;
            less than none where computing is at it meanwhile.

    Returns:
        (2, ...) seconds of a step, and (2, ..., stations) how many times its service each takes there.

    Source: mean value analysis: Reiser and Lavenberg, JACM 1980; that it holds where several classes share a processor:
    Baskett, Chandy, Muntz and Palacios, JACM 1975.
    """
    computing, turns, pull, push = (np.asarray(each, dtype=float) for each in (computing_s, turns_s, pull_s, push_s))
    workers = np.asarray(workers)
    apart_of = [np.broadcast_to(each, pull.shape) for each in apart_s]

    def step(kind: int, others: Array) -> tuple[Array, Array, Array]:
        """Seconds of a step of a worker that finds so many others at each station; those of its stay there, and how
        many times its service that is.
        """
        slower = 1 + others
        late = np.maximum(slower, latency)
        busy_s = computing[kind] + (turns[kind] * slower).sum(axis=-1)
        pulling, pushing = (
            (each[kind] * late + apart[kind]).max(axis=-1) for each, apart in zip((pull, push), apart_of)
        )
        step_s = overlapped(busy_s / 3, pulling, overlap) + overlapped(busy_s * (2 / 3), pushing, overlap)
        return step_s, turns[kind] * slower + (pull[kind] + push[kind]) * late, slower

    steps_s, slowdowns = np.zeros(computing.shape), np.ones(pull.shape)
    # How many of the others are at each station while the first is away, and how many of all while it is there.
    away = together = np.zeros(pull.shape[1:])
    for count in range(int(workers.max())):
        if count:
            step_s, stay_s, _ = step(1, away)
            away = stay_s * (count / step_s)[..., None]
        first_s, first_stay_s, first_slower = step(0, away)
        other_s, other_stay_s, other_slower = step(1, together)
        together = first_stay_s / first_s[..., None] + other_stay_s * (count / other_s)[..., None]
        reached = workers == count + 1
        steps_s = np.where(reached, np.stack([first_s, other_s]), steps_s)
        slowdowns = np.where(reached[..., None], np.stack([first_slower, other_slower]), slowdowns)
    return steps_s, slowdowns


def mean_staleness(workers: ArrayLike, updates: ArrayLike, idle_share: ArrayLike = 0.0) -> Array:
    """The mean staleness of `updates` by asynchronous workers who begin together, and who for `idle_share` of a step
    neither pull, compute nor push.

    Between a worker's reading and its applying every other makes one update, whatever their speeds: w - 1. They
    begin with all reading the same, so the first w updates have 0, 1, ..., w - 1. What others do while a worker waits
    for its next batch makes nothing stale.

    Source: counting, and Little's law (1961) for the share; ours.
    """
    workers, updates = np.asarray(workers, dtype=float), np.asarray(updates, dtype=float)
    first = np.minimum(workers, updates)
    steady = (updates - first) * (workers - 1) * (1 - np.asarray(idle_share))
    return (first * (first - 1) / 2 + steady) / updates


def drain_s(workers: ArrayLike, updates_per_s: ArrayLike) -> Array:
    """What a pause costs asynchronous workers, as for an evaluation: those that are done wait for the rest, about
    (w-1)/2 steps.

    Source: the remaining time of w steps that are spread evenly over their length; ours.
    """
    return (np.asarray(workers, dtype=float) - 1) / 2 / updates_per_s
