"""Replicas that make every update, or average, together: parameter servers, rings and trees, the bus of one host."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from facesim.forecast.laws.overlap import overlapped

Array = NDArray[np.float64]


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
    separate = np.maximum(workers / servers, 1.0)
    shared = np.maximum((workers - 1) / servers, (servers - 1) / servers)
    return np.where(own_hosts, separate, shared) * np.asarray(param_bytes) / link_bytes_per_s


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
