"""From seconds that were measured to the constants of the forecast's formulas. Pure NumPy, and `scipy.optimize`, which
is loaded where it is used: that takes 0.3 s, for which a run that only looks for a profile has no use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facesim.forecast.laws import overlapped

#: More overlap than this cannot be distinguished from full overlap.
_MOST_OVERLAP = 8.0


@dataclass(frozen=True)
class Load:
    """What one update asks of a server: messages and bytes, pulled and pushed, and what it was measured to take."""

    messages: float
    sent_bytes: float
    service_s: float


def server_constants(loads: Sequence[Load]) -> tuple[float, float, float]:
    """Seconds an update, a message, and a byte of the parameters, both ways together, that explain the `loads`.

    service = u + a messages + b bytes / 2, least squares of relative errors, none below 0: with three loads, of which
    one is hardly more than an update, and one of few bytes, exact. Source: the utilisation law (Denning and Buzen,
    1978), a station's demand by class of work.
    """
    from scipy.optimize import nnls

    rows = np.array([[1.0, load.messages, load.sent_bytes / 2] for load in loads], dtype=float)
    service = np.array([load.service_s for load in loads])
    (update_s, message_s, byte_s), _ = nnls(rows / service[:, None], np.ones(len(service)))
    return float(update_s), float(message_s), float(byte_s)


def ring_constants(
    peers: Sequence[int], sum_bytes: Sequence[int], seconds: Sequence[float], cores: int
) -> tuple[float, float]:
    """Seconds a round and a byte of a ring, from sums by so many `peers` on one machine with `cores`.

    T = max(1, n / c) (2 (n-1) alpha + 2 (n-1)/n S beta), least squares of relative errors: processes that share cores
    take turns, which those on hosts of their own need not. Source: `facesim.forecast.laws.ring_s`.
    """
    from scipy.optimize import nnls

    number, size, taken = (np.asarray(each, dtype=float) for each in (peers, sum_bytes, seconds))
    turns = np.maximum(1.0, number / cores)
    rounds = 2 * (number - 1)
    rows = np.stack([turns * rounds, turns * rounds / number * size], axis=1)
    (alpha_s, byte_s), _ = nnls(rows / taken[:, None], np.ones(len(taken)))
    return float(alpha_s), float(byte_s)


def overlap(step_s: float, compute_s: float, pull_s: float, push_s: float) -> float:
    """The p with which T = |C/3, pull|_p + |2C/3, push|_p is the step that was measured: 1 where nothing overlaps.

    `pull_s` and `push_s` are what a worker waits for them when it does nothing else. Source:
    `facesim.forecast.laws.ps_async_step_s`.
    """
    from scipy.optimize import brentq

    def longer(p: float) -> float:
        whole = overlapped(compute_s / 3, pull_s, p) + overlapped(compute_s * (2 / 3), push_s, p)
        return float(whole) - step_s

    if longer(1.0) <= 0:
        return 1.0
    return _MOST_OVERLAP if longer(_MOST_OVERLAP) >= 0 else float(brentq(longer, 1.0, _MOST_OVERLAP))


def spread(times_s: Sequence[float]) -> float:
    """The coefficient of variation of steps."""
    values = np.asarray(times_s, dtype=float)
    return float(values.std(ddof=1) / values.mean()) if len(values) > 1 else 0.0
