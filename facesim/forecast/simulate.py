"""Event simulation, for what formulas cannot: stragglers, mixed hosts, the order of updates, spot interruptions.

Where the formulas apply it agrees with them: a sequential step at servers that share their processor among requests is
the network that `laws.exact_mva` solves. All is seeded: the same seed gives the same run.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facesim.billing.bill import Groups, billable_s, discount_of
from facesim.billing.market import market
from facesim.forecast.laws import drain_s
from facesim.spec.spot import Spot
from facesim.util.errors import InputError

Array = NDArray[np.float64]

_BARRIERS_AT_ONCE = 4_000_000

#: A job that is interrupted so often makes no progress.
_MOST_INTERRUPTIONS = 1000


@dataclass(frozen=True)
class Stragglers:
    """Now and then a step takes `factor` times as long: with `probability`, each step by itself."""

    probability: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.probability <= 1 and 0 < self.factor < math.inf):
            raise InputError(
                f"stragglers with probability {self.probability:g} and factor {self.factor:g}: the probability must be "
                "0 to 1, the factor positive"
            )


@dataclass(frozen=True, eq=False)
class AsyncRun:
    """Updates of asynchronous workers in the order of their application, from the start, when all begin at once.

    `workers` (n,) made them, from the parameters after `versions_read` (n,) updates, at `times_s` (n,). The order is
    what a replay of the training needs.
    """

    workers: NDArray[np.int64]
    versions_read: NDArray[np.int64]
    times_s: Array
    bytes_per_update: float
    drain_s: float

    @property
    def staleness(self) -> NDArray[np.int64]:
        """(n,) updates by others between an update's reading and its applying."""
        return np.arange(len(self.workers)) - self.versions_read

    @property
    def steady(self) -> slice:
        """The updates after the start, in which every worker has made some steps: the second half of all."""
        return slice(len(self.workers) // 2, None)

    @property
    def updates_per_s(self) -> float:
        """In the steady state."""
        times = self.times_s[self.steady]
        return (len(times) - 1) / float(times[-1] - times[0])

    def staleness_shares(self) -> Array:
        """Which share of the steady state's updates had staleness 0, 1, 2, ..."""
        return np.bincount(self.staleness[self.steady]) / len(self.staleness[self.steady])


def simulate_async(  # noqa: PLR0915  one loop of events, which functions would slow down
    compute_s: ArrayLike,
    pull_s: Sequence[float],
    push_s: Sequence[float],
    updates: int,
    *,
    cv: float = 0.0,
    stragglers: Stragglers = Stragglers(),
    dispatch_s: float = 0.0,
    bytes_per_update: float = 0.0,
    seed: int = 0,
) -> AsyncRun:
    """Workers that pull from all servers, compute, push to all servers, and wait for nobody.

    Each server divides itself equally among the requests that it has: processor sharing, kept in virtual time, so that
    an event costs a heap operation whatever the number of requests (Parekh and Gallager, 1993). The parameters that a
    worker reads are those at the beginning of its pull. A step does not overlap; for an implementation that does, give
    the computing time that is left of a measured step after the servers' work.

    Args:
        compute_s: (workers,) mean seconds of computing of each, which may differ.
        pull_s, push_s: (servers,) seconds of a server's work on one update.
        cv: spread of computing over its mean; times are log-normal. With 0 workers that are alike stay in step for
            ever, all pulling at the same time; the least spread ends that.
        dispatch_s: mean seconds from a worker's update until it begins its next step, when it has read nothing:
            exponential, for it is mostly waiting for the chief; at first workers begin one after another.
    """
    means = np.atleast_1d(np.asarray(compute_s, dtype=float))
    draw = _Computing(means, cv, stragglers, seed)
    count, servers = len(means), range(len(pull_s))
    push, pop = heapq.heappush, heapq.heappop
    demands = (list(map(float, pull_s)), list(map(float, push_s)))
    requests: list[list[tuple[float, int]]] = [[] for _ in servers]  # of each server: virtual end, worker
    virtual, since = [0.0] * len(servers), [0.0] * len(servers)
    due = [math.inf] * len(servers)
    computing: list[tuple[float, int]] = []
    pushing = [0] * count  # whether a worker pushes, rather than pulls
    begins: list[tuple[float, int]] = []  # of steps that are being handed out
    waits = _Waits(dispatch_s, seed)
    open_requests = [0] * count
    read = [0] * count
    made, versions, times = [], [], []
    version, now = 0, 0.0

    def ask(worker: int, direction: int) -> None:
        pushing[worker], open_requests[worker] = direction, len(servers)
        for server in servers:
            waiting = requests[server]
            if waiting:
                virtual[server] += (now - since[server]) / len(waiting)
            since[server] = now
            push(waiting, (virtual[server] + demands[direction][server], worker))
            due[server] = now + (waiting[0][0] - virtual[server]) * len(waiting)

    for worker in range(count):
        if dispatch_s:
            push(begins, (worker * dispatch_s, worker))
        else:
            ask(worker, 0)
    while version < updates:
        now = min(due)
        if begins and begins[0][0] <= now and not (computing and computing[0][0] < begins[0][0]):
            now, worker = pop(begins)
            read[worker] = version
            ask(worker, 0)
            continue
        if computing and computing[0][0] <= now:
            now, worker = pop(computing)
            ask(worker, 1)
            continue
        server = due.index(now)
        waiting = requests[server]
        virtual[server], worker = pop(waiting)
        since[server] = now
        due[server] = now + (waiting[0][0] - virtual[server]) * len(waiting) if waiting else math.inf
        open_requests[worker] -= 1
        if open_requests[worker]:
            continue
        if not pushing[worker]:
            push(computing, (now + draw(worker), worker))
            continue
        made.append(worker)
        versions.append(read[worker])
        times.append(now)
        version += 1
        if dispatch_s:
            push(begins, (now + waits(), worker))
            continue
        read[worker] = version
        ask(worker, 0)
    spent = np.array(times)
    per_s = (len(spent) - 1) / max(spent[-1] - spent[0], 1e-300) if len(spent) > 1 else 1 / max(spent[0], 1e-300)
    return AsyncRun(
        np.array(made), np.array(versions), spent, bytes_per_update, float(drain_s(count, per_s)) if count > 1 else 0.0
    )


class _Computing:
    """Log-normal times of computing, drawn many at once."""

    _AT_ONCE = 65536

    def __init__(self, means_s: Array, cv: float, stragglers: Stragglers, seed: int):
        self._means, self._cv, self._stragglers = means_s.tolist(), cv, stragglers
        self._rng = np.random.default_rng(seed)
        self._factors: list[float] = []

    def __call__(self, worker: int) -> float:
        if not self._factors:
            self._factors = _factors(self._rng, self._AT_ONCE, self._cv, self._stragglers).tolist()
        return self._means[worker] * self._factors.pop()


class _Waits:
    """Exponential times, drawn many at once, independent of those of computing."""

    _AT_ONCE = 65536

    def __init__(self, mean_s: float, seed: int):
        self._mean_s, self._rng = mean_s, np.random.default_rng((seed, 1))
        self._times: list[float] = []

    def __call__(self) -> float:
        if not self._times:
            self._times = self._rng.exponential(self._mean_s, self._AT_ONCE).tolist()
        return self._times.pop()


def _factors(rng: np.random.Generator, size: int | tuple[int, int], cv: float, stragglers: Stragglers) -> Array:
    """Log-normal factors of mean 1 and coefficient of variation `cv`; a straggler's is multiplied."""
    if cv > 0:
        sigma = math.sqrt(math.log1p(cv * cv))
        factors = np.exp(rng.standard_normal(size, dtype=np.float32) * np.float32(sigma) - np.float32(sigma**2 / 2))
    else:
        factors = np.ones(size, dtype=np.float32)
    if stragglers.probability > 0:
        factors *= np.where(rng.random(size, dtype=np.float32) < stragglers.probability, stragglers.factor, 1.0)
    return factors


def simulate_barriers(
    compute_s: ArrayLike,
    exchange_s: float,
    updates: int,
    *,
    cv: float = 0.0,
    backup_workers: int = 0,
    local_steps: int = 1,
    stragglers: Stragglers = Stragglers(),
    seed: int = 0,
) -> Array:
    """Seconds of each of `updates` synchronous updates: until enough workers have computed, and the exchange after it.

    Args:
        compute_s: (workers,) mean seconds of computing of each.
        exchange_s: pulling and pushing, or summing, of all together; with `local_steps` once in so many.
        backup_workers: so many may come too late, and are not waited for.

    Returns:
        (updates // local_steps,) seconds, each of `local_steps` steps.
    """
    means = np.atleast_1d(np.asarray(compute_s, dtype=np.float32))
    needed = len(means) - backup_workers
    if not 1 <= needed <= len(means):
        raise InputError(f"{backup_workers} backup workers of {len(means)}: at least one worker must be waited for")
    rng = np.random.default_rng(seed)
    rounds = updates // local_steps
    rounds_s = np.empty(rounds)
    chunk = max(1, _BARRIERS_AT_ONCE // (len(means) * local_steps))
    for begin in range(0, rounds, chunk):
        size = min(chunk, rounds - begin)
        factors = _factors(rng, (size * local_steps, len(means)), cv, stragglers)
        spent = (factors * means).reshape(size, local_steps, len(means)).sum(axis=1)
        last = spent.max(axis=1) if needed == len(means) else np.partition(spent, needed - 1, axis=1)[:, needed - 1]
        rounds_s[begin : begin + size] = last + exchange_s
    return rounds_s


@dataclass(frozen=True, eq=False)
class SpotRuns:
    """Many simulated runs of one job on spot capacity; arrays of (jobs,). A job that never ends has infinite times."""

    total_s: Array  # from submission to end, waiting included
    training_s: Array  # with hosts: what is billed on demand
    billable_s: Array  # less the discount, in whole seconds
    interruptions: NDArray[np.int64]
    lost_s: Array  # work that was done again

    def interval(self, share: float = 0.8) -> tuple[float, float]:
        """Between which times so large a share of the jobs ends."""
        tails = (1 - share) / 2
        low, high = np.quantile(self.total_s, [tails, 1 - tails], method="nearest")
        return float(low), float(high)


def simulate_spot(
    work_s: float,
    hosts: int,
    spot: Spot,
    *,
    start_s: float = 0.0,
    upload_s: float = 0.0,
    checkpoint_s: float = 30.0,
    write_s: float = 0.0,
    groups: Groups = (),
    jobs: int = 1000,
    seed: int = 0,
) -> SpotRuns:
    """A job of `work_s` seconds of training on `hosts` hosts of the spot market, `jobs` times.

    Each life begins with `start_s` of download and starting, goes on from the newest checkpoint, which is due every
    `checkpoint_s` seconds of training (0: never) and takes `write_s`, and ends with `upload_s`. Hosts that get
    notice before they go write one more. What capacity of `groups`, as (instance type, count), saves is `discount_of`
    them, assumed where it is not known.

    Raises:
        InputError: the market's files are not what they should be, or never have so many hosts.
    """
    discount = discount_of(spot, groups)
    rows = np.empty((jobs, 5))
    for number in range(jobs):
        rows[number] = _spot_job(
            work_s, hosts, spot, start_s, upload_s, checkpoint_s, write_s, discount, seed * 1_000_003 + number
        )
    return SpotRuns(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3].astype(int), rows[:, 4])


def _spot_job(
    work_s: float,
    hosts: int,
    spot: Spot,
    start_s: float,
    upload_s: float,
    checkpoint_s: float,
    write_s: float,
    discount: float,
    seed: int,
) -> tuple[float, float, float, int, float]:
    capacity = market(spot, hosts, seed)
    slower = 1 + write_s / checkpoint_s if checkpoint_s > 0 else 1.0
    kept_s = training_s = lost_s = now_s = 0.0
    for interruptions in range(_MOST_INTERRUPTIONS):
        granted_s, reclaimed_s = (float(each) for each in capacity.grant(now_s))
        there_s = reclaimed_s - granted_s
        need_s = start_s + (work_s - kept_s) * slower + upload_s
        if there_s >= need_s:
            training_s += need_s
            return granted_s + need_s, training_s, billable_s(round(training_s), discount), interruptions, lost_s
        done_s = min(work_s - kept_s, max(0.0, there_s - start_s) / slower)
        saved_s = done_s // checkpoint_s * checkpoint_s if checkpoint_s > 0 else 0.0
        if spot.notice_s > write_s:
            saved_s = done_s
        kept_s, lost_s = kept_s + saved_s, lost_s + done_s - saved_s
        training_s, now_s = training_s + there_s, reclaimed_s
    return math.inf, math.inf, math.inf, _MOST_INTERRUPTIONS, lost_s
