"""The formulas of the forecast: speed of each strategy from what one machine can measure. Pure NumPy, vectorised.

Words: w workers, p servers, S parameter bytes; seconds, bytes, updates a second everywhere. Arguments may be arrays
that broadcast against each other, unless it says otherwise; where stations matter, they are the last axis. "Ours" marks
what is no one else's formula but derived, or chosen, here.

An asynchronous parameter server is a closed queueing network: w customers, the servers' processors and links as
stations, the workers' computing as a delay (Li, Yan, Paolieri, Golubchik, "Throughput prediction of asynchronous SGD",
ICPE 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

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


def overlapped(first_s: ArrayLike, second_s: ArrayLike, overlap: ArrayLike) -> Array:
    """|x, y|_p = (x^p + y^p)^(1/p): activities that overlap in part; not at all with p = 1.

    Source: Qiao et al., "Pollux", OSDI 2021, for computing and synchronising.
    """
    most = np.maximum(first_s, second_s)
    scale = np.where(most > 0, most, 1.0)
    powers = (np.asarray(first_s) / scale) ** overlap + (np.asarray(second_s) / scale) ** overlap
    return np.where(most > 0, most * powers ** (1.0 / np.asarray(overlap)), 0.0)


def ps_async_step_s(
    compute_s: ArrayLike,
    pull_s: ArrayLike,
    push_s: ArrayLike,
    workers: ArrayLike,
    overlap: float = 1.0,
    latency: float = 1.0,
    least_s: ArrayLike = 0.0,
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
        least_s: (...) seconds that either direction takes at least: over the worker's own link, which nobody shares.

    Source: `stretch` and `overlapped`; that they are put together so is ours. Backward takes twice as long as forward
    because it computes two products where forward computes one.
    """
    compute_s, workers = np.asarray(compute_s, dtype=float), np.asarray(workers, dtype=float)
    pull_s, push_s = np.asarray(pull_s, dtype=float), np.asarray(push_s, dtype=float)

    def step_s(updates_per_s: Array) -> Array:
        slower = stretch(updates_per_s[..., None], pull_s + push_s, workers[..., None], latency)
        pulling, pushing = (np.maximum((each * slower).max(axis=-1), least_s) for each in (pull_s, push_s))
        return overlapped(compute_s / 3, pulling, overlap) + overlapped(compute_s * (2 / 3), pushing, overlap)

    shape = np.broadcast_shapes(compute_s.shape, workers.shape, pull_s.shape[:-1], push_s.shape[:-1])
    low, high = np.zeros(shape), np.broadcast_to(workers / step_s(np.zeros(shape)), shape)
    # The step gets longer with the speed, so the speed at which w workers make it is found by halving.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        possible = middle * step_s(middle) <= workers
        low, high = np.where(possible, middle, low), np.where(possible, high, middle)
    return workers / high


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
    # The measured speed tells how long the queues were; what is left depends on computing alone.
    pull, push = np.asarray(pull_s, dtype=float), np.asarray(push_s, dtype=float)
    slower = stretch(workers / step_s, pull + push, workers, latency)
    pulling, pushing = float((pull * slower).max()), float((push * slower).max())

    def longer(compute_s: float) -> float:
        forward = (max(compute_s, 0.0) / 3) ** overlap + pulling**overlap
        backward = (max(compute_s, 0.0) * 2 / 3) ** overlap + pushing**overlap
        return forward ** (1 / overlap) + backward ** (1 / overlap) - step_s

    return float(brentq(longer, 0.0, step_s, xtol=1e-9 * step_s)) if longer(0.0) < 0 else 0.0


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
    compute_s: ArrayLike, pull_s: ArrayLike, push_s: ArrayLike, workers: ArrayLike, least_s: ArrayLike = 0.0
) -> Array:
    """Seconds of an asynchronous worker's step that does not overlap, arguments as for `ps_async_step_s`.

    With one station this is `exact_mva`; several work side by side, and the slowest counts. Where messages overlap
    with computing, or come in bursts, the knee is rounder, and `ps_async_step_s` is closer to what was measured.

    Source: as `exact_mva`.
    """
    compute_s, workers = np.asarray(compute_s, dtype=float), np.asarray(workers)
    pull_s, push_s = np.asarray(pull_s, dtype=float), np.asarray(push_s, dtype=float)
    found, queue = np.zeros(()), np.zeros(())
    for count in range(1, int(workers.max()) + 1):
        slower = 1 + queue
        pulling, pushing = (np.maximum((each * slower).max(axis=-1), least_s) for each in (pull_s, push_s))
        step_s = compute_s + pulling + pushing
        found = np.where(workers == count, step_s, found)
        queue = (pull_s + push_s) * slower * (count / step_s)[..., None]
    return found


def capacity_updates_per_s(cores: ArrayLike, cpu_s_per_update: ArrayLike) -> Array:
    """The most updates a second that tasks on one host can make: X <= c / (sum of CPU-seconds an update).

    Source: the utilisation law (Denning and Buzen, 1978).
    """
    with np.errstate(divide="ignore"):
        return np.asarray(cores, dtype=float) / np.asarray(cpu_s_per_update, dtype=float)


def order_statistic(of: ArrayLike, rank: ArrayLike | None = None) -> Array:
    """The mean of the `rank`-th smallest of `of` standard normal values (the largest, if no rank is given).

    Source: Blom, "Statistical estimates and transformed beta-variables", 1958: Phi^-1((r - 0.375) / (n + 0.25)).
    """
    number = np.asarray(of, dtype=float)
    which = number if rank is None else np.asarray(rank, dtype=float)
    return np.where(number > 1, ndtri((which - 0.375) / (number + 0.25)), 0.0)


def slowest_s(mean_s: ArrayLike, cv: ArrayLike, workers: ArrayLike, needed: ArrayLike | None = None) -> Array:
    """When the `needed`-th of `workers` workers has finished, whose times have mean and coefficient of variation `cv`.

    With backup workers fewer are needed than there are (Chen et al., "Revisiting distributed synchronous SGD", 2016).
    Never less than a fifth of the mean, which a normal distribution could give (the bound is ours).
    """
    return np.asarray(mean_s) * np.maximum(0.2, 1 + np.asarray(cv) * order_statistic(workers, needed))


def barrier_transfer_s(
    param_bytes: ArrayLike, workers: ArrayLike, servers: ArrayLike, link_bytes_per_s: ArrayLike, own_hosts: ArrayLike
) -> Array:
    """One direction of a synchronous update over the busiest link, when all workers pull, or push, at the same time.

    Servers with hosts of their own carry w/p S, a worker S. Servers on the workers' hosts carry (w-1)/p S, because one
    worker is beside each, and a worker (p-1)/p S.

    Source: counting, ours, for servers as Li et al. have them, "Scaling distributed machine learning with the parameter
    server", OSDI 2014.
    """
    workers, servers = np.asarray(workers, dtype=float), np.asarray(servers, dtype=float)
    own = np.maximum(workers / servers, 1.0)
    beside = np.maximum((workers - 1) / servers, (servers - 1) / servers)
    return np.where(own_hosts, own, beside) * np.asarray(param_bytes) / link_bytes_per_s


def ps_sync_step_s(
    compute_s: ArrayLike,
    cv: ArrayLike,
    workers: ArrayLike,
    pull_s: ArrayLike,
    push_s: ArrayLike,
    backup_workers: ArrayLike = 0,
    overlap: float = 1.0,
) -> Array:
    """Seconds of a synchronous update: the workers that are waited for, and pulling and pushing by all of them.

    T = |E/3, pull|_p + |2E/3, push|_p, E = `slowest_s` of computing. `pull_s` and `push_s` are for the barrier as a
    whole, as `barrier_transfer_s` and w times a server's service give them. p = 1: T = E + pull + push.

    Source: Chen et al. (2016) for waiting for the fastest; Peng et al., "Optimus", EuroSys 2018, for the sum; that
    parts of it overlap, by `overlapped`, is ours.
    """
    computing = slowest_s(compute_s, cv, workers, np.asarray(workers) - np.asarray(backup_workers))
    return overlapped(computing / 3, pull_s, overlap) + overlapped(computing * (2 / 3), push_s, overlap)


def ring_s(sum_bytes: ArrayLike, peers: ArrayLike, bytes_per_s: ArrayLike, alpha_s: ArrayLike) -> Array:
    """Seconds to add up `sum_bytes` over a ring: 2 (n-1)/n S / B + 2 (n-1) alpha.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 2009; alpha and beta: Thakur et al.,
    "Optimization of collective communication operations in MPICH", 2005.
    """
    return allreduce_s(sum_bytes, peers, bytes_per_s, alpha_s, 2.0 * (np.asarray(peers) - 1))


def tree_s(sum_bytes: ArrayLike, peers: ArrayLike, bytes_per_s: ArrayLike, alpha_s: ArrayLike) -> Array:
    """The same with the latency of a tree, alpha log2 n, and each byte still sent twice (Thakur et al., 2005)."""
    return allreduce_s(sum_bytes, peers, bytes_per_s, alpha_s, np.log2(np.maximum(peers, 1)))


def allreduce_s(
    sum_bytes: ArrayLike, peers: ArrayLike, bytes_per_s: ArrayLike, alpha_s: ArrayLike, rounds: ArrayLike
) -> Array:
    """2 (n-1)/n S / B + alpha h(n), for an algorithm of `rounds` = h(n) rounds."""
    peers = np.asarray(peers, dtype=float)
    return 2 * (peers - 1) / peers * np.asarray(sum_bytes) / bytes_per_s + np.asarray(alpha_s) * rounds


def allreduce_step_s(
    compute_s: ArrayLike, cv: ArrayLike, workers: ArrayLike, exchange_s: ArrayLike, overlap: float = 1.0
) -> Array:
    """Seconds of a step whose gradients are summed over the network: T = E/3 + |2E/3, exchange|_p, E = `slowest_s`.

    Summing can begin when the last layer's gradient is there, so it overlaps the backward two thirds.

    Source: Qiao et al. (OSDI 2021); the forward pass apart is ours.
    """
    computing = slowest_s(compute_s, cv, workers)
    return computing / 3 + overlapped(computing * (2 / 3), exchange_s, overlap)


def local_sgd_step_s(
    compute_s: ArrayLike, cv: ArrayLike, workers: ArrayLike, exchange_s: ArrayLike, local_steps: ArrayLike
) -> Array:
    """Seconds of a step where workers average parameters every H steps: (E[max of sums of H] + exchange) / H.

    A sum of H independent steps varies less: its coefficient of variation is cv / sqrt(H).

    Source: Stich, "Local SGD converges fast and communicates little", ICLR 2019, for the algorithm; its time is ours,
    from `slowest_s`.
    """
    local_steps = np.asarray(local_steps, dtype=float)
    return slowest_s(compute_s, np.asarray(cv) / np.sqrt(local_steps), workers) + np.asarray(exchange_s) / local_steps


def mirrored_step_s(
    compute_s: ArrayLike, cv: ArrayLike, replicas: ArrayLike, sum_bytes: ArrayLike, bus_bytes_per_s: ArrayLike
) -> Array:
    """Seconds of a step with a replica on each device of one host, whose gradients are summed over its bus.

    The bus carries every replica's gradients up and the sum down, one after another: 2 g S / B of which nothing is
    hidden; one replica sends nothing.

    Source: Shang et al., "spotDNN", IWQoS 2023, whose term for g devices on PCIe it is.
    """
    replicas = np.asarray(replicas, dtype=float)
    bus_s = np.where(replicas > 1, 2 * replicas * np.asarray(sum_bytes) / np.asarray(bus_bytes_per_s), 0.0)
    return slowest_s(compute_s, cv, replicas) + bus_s


def burst_transfer_s(
    sent_bytes: ArrayLike, base_bytes_per_s: ArrayLike, peak_bytes_per_s: ArrayLike, bucket_bytes: ArrayLike
) -> Array:
    """Seconds to send `sent_bytes` through a link with a token bucket that is full: peak until it is empty, then base.

    The bucket fills at the base rate while it is emptied at peak, so it lasts bucket / (peak - base).

    Source: leaky bucket (Turner, 1986); that instances' networks are such: Uta et al., "Is big data performance
    reproducible in modern cloud networks?", NSDI 2020.
    """
    sent, base, peak = (np.asarray(each, dtype=float) for each in (sent_bytes, base_bytes_per_s, peak_bytes_per_s))
    gain = np.maximum(peak - base, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        burst = np.where(gain > 0, np.asarray(bucket_bytes) * peak / gain, np.inf)
    return np.minimum(sent, burst) / peak + np.maximum(sent - burst, 0.0) / base


def two_phase_s(
    updates: ArrayLike,
    burst_step_s: ArrayLike,
    base_step_s: ArrayLike,
    link_bytes: ArrayLike,
    base_bytes_per_s: ArrayLike,
    bucket_bytes: ArrayLike,
) -> tuple[Array, Array]:
    """Seconds of `updates` in the burst and in the base phase of the network, (burst, base).

    An update takes `burst_step_s` while the busiest link has credit, `base_step_s` later, and sends `link_bytes` over
    that link. Credit of `bucket_bytes` is spent by what is sent above the base rate, so a job that sends less than
    that stays in its burst phase for ever.

    Source: as `burst_transfer_s`.
    """
    updates, burst, base = (np.asarray(each, dtype=float) for each in (updates, burst_step_s, base_step_s))
    spent = np.asarray(link_bytes) - np.asarray(base_bytes_per_s) * burst  # of each update in the burst phase
    with np.errstate(divide="ignore", invalid="ignore"):
        affordable = np.where(spent > 0, np.asarray(bucket_bytes) / np.where(spent > 0, spent, 1.0), np.inf)
    in_burst = np.minimum(updates, affordable)
    return in_burst * burst, (updates - in_burst) * base


def mean_staleness(workers: ArrayLike, updates: ArrayLike, idle_share: ArrayLike = 0.0) -> Array:
    """The mean staleness of an epoch's `updates` by asynchronous workers, who for `idle_share` of a step neither pull,
    compute nor push.

    Between a worker's reading and its applying every other makes one update, whatever their speeds: w - 1. An epoch
    begins with all reading the same, so its first w updates have 0, 1, ..., w - 1. What others do while a worker waits
    for its next batch makes nothing stale.

    Source: counting, and Little's law (1961) for the share; ours.
    """
    workers, updates = np.asarray(workers, dtype=float), np.asarray(updates, dtype=float)
    first = np.minimum(workers, updates)
    steady = (updates - first) * (workers - 1) * (1 - np.asarray(idle_share))
    return (first * (first - 1) / 2 + steady) / updates


def shared_hosts_updates_per_s(
    free_per_s: ArrayLike,
    counts: ArrayLike,
    beside_cpu_s: ArrayLike,
    worker_cpu_s: ArrayLike,
    cores: ArrayLike,
) -> Array:
    """Updates a second of asynchronous workers, some of whom share their hosts with other tasks.

    X = sum over kinds of hosts: n min(x, max(0, c - X e) / u). A worker that had its host to itself would make
    `free_per_s` = x steps a second; one beside tasks that need e CPU-seconds for each of all X updates has what they
    leave of c cores for steps of u CPU-seconds. No worker waits for another, so the free make up for the others.

    Args:
        free_per_s, counts, beside_cpu_s: (..., kinds) of each kind of host: steps a second of its worker, how many
            there are, CPU-seconds of an update of all tasks beside a worker.
        worker_cpu_s, cores: (...) of every worker and host.

    Source: the utilisation law (Denning and Buzen, 1978); host by host is ours.
    """
    free, counts, beside = (np.asarray(each, dtype=float) for each in (free_per_s, counts, beside_cpu_s))
    worker, cores = np.asarray(worker_cpu_s, dtype=float)[..., None], np.asarray(cores, dtype=float)[..., None]
    low, high = np.zeros(counts.shape[:-1]), (counts * free).sum(axis=-1)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        left = np.maximum(cores - middle[..., None] * beside, 0.0)
        made = (counts * np.minimum(free, left / np.maximum(worker, 1e-12))).sum(axis=-1)
        low, high = np.where(made >= middle, middle, low), np.where(made >= middle, high, middle)
    return high


def drain_s(workers: ArrayLike, updates_per_s: ArrayLike) -> Array:
    """What the end of an epoch costs asynchronous workers: those that are done wait for the rest, about (w-1)/2 steps.

    Source: the remaining time of w steps that are spread evenly over their length; ours.
    """
    return (np.asarray(workers, dtype=float) - 1) / 2 / updates_per_s


def spot_stretch(
    hosts: ArrayLike, reclaims_per_hour: ArrayLike, checkpoint_s: ArrayLike, lost_s: ArrayLike, write_s: ArrayLike = 0.0
) -> Array:
    """By how much spot capacity lengthens training: 1 + write/tau + rate (tau/2 + lost).

    A checkpoint of `write_s` every `checkpoint_s` = tau; any of `hosts` that is reclaimed interrupts the job, which
    does on average half an interval again and loses `lost_s` with starting again. Waiting is not in it: it is not
    billed.

    Source: Young, "A first order approximation to the optimum checkpoint interval", CACM 1974; `lost_s` is ours.
    """
    tau = np.asarray(checkpoint_s, dtype=float)
    rate_per_s = np.asarray(hosts) * np.asarray(reclaims_per_hour) / 3600
    return 1 + np.asarray(write_s) / tau + rate_per_s * (tau / 2 + np.asarray(lost_s))
