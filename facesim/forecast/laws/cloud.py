"""What rented hosts do to a job: networks that burst until their credit is spent, spot capacity that is reclaimed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


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


def bucket_spent_bytes(
    times_s: ArrayLike, sent_bytes: ArrayLike, base_bytes_per_s: float, bin_s: float = 60.0, least_s: float = 300.0
) -> float | None:
    """Credit that a link's token bucket held, if it was spent: from counters of `sent_bytes` (n,) at `times_s` (n,).

    What is sent above the base rate spends credit, what is sent below it gives some back. It has been spent when the
    link, faster before, is at its base rate for good: for `least_s` at least, and within 20 %, because one that nobody
    asks for more may be anywhere. None where that was not seen. A bucket that was not full at first held less.

    Bins are so long that what a pause gives back, as for an evaluation, does not make a later one look faster.

    Source: leaky bucket (Turner, 1986), as `burst_transfer_s`.
    """
    times = np.asarray(times_s, dtype=float)
    edges = np.arange(times[0], times[-1], bin_s)
    rates = np.diff(np.interp(edges, times, np.asarray(sent_bytes, dtype=float))) / bin_s
    faster = np.flatnonzero(rates > 1.25 * base_bytes_per_s)
    if not len(faster):
        return None
    later = rates[faster[-1] + 1 :]
    if len(later) * bin_s < least_s or np.median(later) < 0.8 * base_bytes_per_s:
        return None
    spent = 0.0
    for rate in rates[: faster[-1] + 1]:
        spent = max(0.0, spent + (rate - base_bytes_per_s) * bin_s)
    return spent


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
