"""Accuracy of a cluster, from one process: the simulated order of its updates, what follows from replaying them.

    orders = simulated_orders(profile, workers=8, ps=1, updates=..., epochs=...)      # this module: no framework
    curve = facesim.profiling.accuracy.replay(job, orders, ...)                       # one process trains
    forecast = accuracy_forecast([curve.held_out_accuracy for each seed], epochs)

What asynchrony does to accuracy depends on the whole distribution of staleness, not on its mean, which is w - 1 for w
workers however fast they are. So the order is simulated event by event, and then replayed update by update. How long
training takes to an accuracy is the epochs that it needs (statistical efficiency) times the seconds of an epoch
(hardware efficiency): Hadjis et al., "Omnivore", 2016; Dai et al., "Toward understanding the impact of staleness in
distributed machine learning", 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.special import stdtrit

from facesim.forecast.laws import sequential_step_s
from facesim.forecast.profile_data import Profile
from facesim.forecast.simulate import AsyncRun, Stragglers, simulate_async
from facesim.training.order import Order
from facesim.util.errors import InputError
from facesim.util.words import count_text

Array = NDArray[np.float64]

#: Workers that are alike and never vary would stay in step for ever.
_LEAST_CV = 0.02
#: With fewer epochs than these nothing is known of where a curve goes.
LEAST_EPOCHS = 4
_NONE = Stragglers()
_EXPONENTS = np.linspace(0.1, 3.0, 30)


def simulated_orders(
    profile: Profile,
    workers: int,
    ps: int,
    updates: int,
    epochs: int,
    *,
    batch: int | None = None,
    relative_speeds: Sequence[float] | None = None,
    stragglers: Stragglers = _NONE,
    shared_cores: bool = False,
    seed: int = 0,
) -> list[Order]:
    """The order of `updates` of each epoch by asynchronous workers, each with a host like the profile's machine, or so
    many times as fast, that compute `batch` examples for an update (the profile's batch, if left out).

    With `shared_cores` all tasks are on the profile's machine, as those of the local backend are: there workers wait
    longer to be given their next step, and what is not read yet cannot be stale.

    Raises:
        InputError: there is no worker, server, update or epoch, or another number of speeds than of workers.
    """
    for name, value in (("workers", workers), ("ps", ps), ("updates", updates), ("epochs", epochs)):
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    speeds = np.ones(workers) if relative_speeds is None else np.asarray(relative_speeds, dtype=float)
    if len(speeds) != workers or np.any(speeds <= 0):
        raise InputError(
            f"relative speeds {list(speeds)} must be {count_text(workers, 'positive number')}, one for each worker"
        )
    pull_s, push_s = profile.service_s(ps, batch)
    computing_s = max(float(profile.step_s(np.array(batch or profile.batch))) - profile.optimizer_s, 1e-6)
    dispatch_s = profile.dispatch_s
    if shared_cores and profile.in_step_share is not None:
        step_s = float(sequential_step_s(computing_s, pull_s, push_s, workers))
        dispatch_s = step_s * (1 / profile.in_step_share - 1)

    def simulated(count: int, seed: int) -> AsyncRun:
        return simulate_async(
            computing_s / speeds, pull_s.tolist(), push_s.tolist(), count,
            cv=max(profile.cv, _LEAST_CV), stragglers=stragglers, dispatch_s=dispatch_s, seed=seed,
        )  # fmt: skip

    orders = []
    for epoch in range(epochs):
        count, order = updates + workers, None
        while order is None:  # a slow worker's last update may come after many by others, of the next epoch
            order, count = order_of(simulated(count, seed * 1_000_003 + epoch), updates, workers), 2 * count
        orders.append(order)
    return orders


def order_of(run: AsyncRun, updates: int, workers: int) -> Order | None:
    """The order of an epoch of `updates` batches, which begins with idle workers and is over when all are applied.

    Batches are handed out as workers ask for them. None where `run` ended before each of the `workers` had made an
    update that is not of this epoch: it may still have been at work on one that is.
    """
    begun = np.empty(len(run.workers), dtype=np.int64)
    # A worker asks as soon as it has made its update; all together at the beginning.
    begun[np.lexsort((run.workers, run.versions_read))] = np.arange(len(run.workers))
    of_epoch = begun < updates
    if len(set(run.workers[~of_epoch].tolist())) < workers:
        return None
    # What is left out was begun after all others, so nobody of these has read it.
    return Order(run.workers[of_epoch], run.versions_read[of_epoch], begun[of_epoch])


@dataclass(frozen=True, eq=False)
class AccuracyForecast:
    """Held-out accuracy, 0-1, after each epoch: mean over seeds, and between what an 80 % interval of a further seed's
    accuracy is; without an interval (equal to the mean) if there was one seed. Epochs after `replayed_epochs` are
    extrapolated.
    """

    mean: Array
    low: Array
    high: Array
    seeds: int
    replayed_epochs: int

    @property
    def extrapolated(self) -> bool:
        return self.replayed_epochs < len(self.mean)

    def epochs_to(self, accuracy: float) -> int | None:
        """After how many epochs the mean is at least `accuracy`; None: not within these."""
        reached = np.flatnonzero(self.mean >= accuracy)
        return int(reached[0]) + 1 if len(reached) else None

    def time_to_s(self, accuracy: float, epoch_s: float, start_s: float = 0.0) -> float | None:
        """Seconds to `accuracy`: epochs to it times the seconds of one, evaluation included, as they are forecast."""
        epochs = self.epochs_to(accuracy)
        return None if epochs is None else start_s + epochs * epoch_s


def accuracy_forecast(accuracies: Sequence[ArrayLike], epochs: int, confidence: float = 0.8) -> AccuracyForecast:
    """From the accuracies after each epoch of one replay a seed, of the same number of epochs: the forecast for
    `epochs` of them, of which those beyond are extrapolated.

    The interval is one for a further run, mean +- t(n-1) s sqrt(1 + 1/n), because a user's run has a seed of its own.

    Raises:
        InputError: there is no replay, or it is too short to be extrapolated from.
    """
    rows = [np.asarray(each, dtype=float) for each in accuracies]
    if not rows or len({len(row) for row in rows}) > 1 or not len(rows[0]):
        raise InputError("a forecast of accuracy needs replays of the same number of epochs, at least one")
    known = min(len(rows[0]), epochs)
    values = np.stack([extrapolated(row[:known], epochs) for row in rows])
    mean, count = values.mean(axis=0), len(values)
    half = np.zeros(epochs)
    if count > 1:
        half = stdtrit(count - 1, 0.5 + confidence / 2) * values.std(axis=0, ddof=1) * np.sqrt(1 + 1 / count)
    low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
    return AccuracyForecast(mean, low, high, count, known)


def extrapolated(accuracies: ArrayLike, epochs: int) -> Array:
    """A curve of accuracies after each epoch, continued to `epochs` of them.

    Errors fall as c + a k^-b, none negative; recent epochs count more. Source: the learning curves of Hestness et al.,
    "Deep learning scaling is predictable, empirically", 2017.

    Returns:
        (epochs,) what is known, and then the continuation, which begins where that ended.

    Raises:
        InputError: there are too few epochs to tell.
    """
    known = np.asarray(accuracies, dtype=float)
    if epochs <= len(known):
        return known[:epochs]
    if len(known) < LEAST_EPOCHS:
        raise InputError(
            f"{count_text(len(known), 'epoch is', 'epochs are')} too few to tell what {epochs} will bring: replay at "
            f"least {LEAST_EPOCHS}"
        )
    number, errors = np.arange(1, len(known) + 1), 1 - known
    weight = np.sqrt(number / len(known))
    best: tuple[float, Array, float] | None = None
    for exponent in _EXPONENTS:
        rows = np.stack([number**-exponent, np.ones(len(known))], axis=1)
        coefficients, residual = nnls(rows * weight[:, None], errors * weight)
        if best is None or residual < best[0]:
            best = (residual, coefficients, exponent)
    assert best is not None
    _, (falling, left), exponent = best
    later = np.arange(len(known) + 1, epochs + 1)
    # The last epochs are noisy: the continuation begins at their mean, and goes on as the curve does.
    recent = errors[-3:].mean() - (falling * number[-3:] ** -exponent + left).mean()
    continued = 1 - np.clip(falling * later**-exponent + left + recent, 0, 1)
    return np.concatenate([known, continued])
