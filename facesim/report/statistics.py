"""What several seeds allow one to say: intervals, paired comparisons, and when nothing can be said.

Accuracies are shares, 0-1, and so are their differences. All intervals are 95 % unless a caller compares
several strategies at once. Seeds vary the initial weights, the order of examples and the split of one data set, so the
intervals speak of training again on this data, not of other data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

#: Fewer paired seeds than this allow no statement about accuracy.
MIN_SEEDS = 3

#: Accuracies closer than this, one percentage point, are called the same for practical purposes.
MARGIN = 0.01


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` runs; `low` and `high` bound its interval and are None where there is none."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit, which is `factor` times smaller."""
        low, high = (None if bound is None else factor * bound for bound in (self.low, self.high))
        return Estimate(factor * self.mean, low, high, self.n)


class Outcome(str, Enum):
    """What a paired comparison of accuracies allows one to say."""

    TOO_FEW_SEEDS = "too few seeds"
    NO_SPREAD = "no spread"
    DIFFERENT = "different"
    NEGLIGIBLE = "different by less than the margin"
    EQUIVALENT = "the same within the margin"
    NO_EVIDENCE = "no evidence of a difference"


@dataclass(frozen=True)
class Difference:
    """Second minus first, paired by seed, as a share, with its t-interval and the p of the paired t test."""

    outcome: Outcome
    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Ratio:
    """Second over first, paired by seed: geometric mean and interval, which needs two seeds and a spread."""

    ratio: float
    low: float | None
    high: float | None
    n: int

    @property
    def undecided(self) -> bool:
        """Whether the interval holds 1: no evidence that either is larger."""
        return self.low is not None and self.high is not None and self.low <= 1 <= self.high


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of `values` and its t-interval: mean +- t(n-1) s / sqrt(n) (Student 1908); one value has no interval.

    Raises:
        ValueError: `values` is empty.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, n)
    half = _t_half_width(values, mean, confidence)
    return Estimate(mean, mean - half, mean + half, n)


def wilson_interval(accuracy: float, examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of one model's accuracy, 0-1, that was measured on `examples` held-out examples.

    With p the accuracy and z the normal quantile, the centre is (p + z2/2n) / (1 + z2/n) and the half-width
    z sqrt(p(1-p)/n + z2/4n2) / (1 + z2/n), where z2 = z^2 (E. B. Wilson, JASA 22, 1927).
    """
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    scale = 1 + z**2 / examples
    centre = (accuracy + z**2 / (2 * examples)) / scale
    half = z * math.sqrt(accuracy * (1 - accuracy) / examples + z**2 / (4 * examples**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(
    first: Mapping[int, float], second: Mapping[int, float], *, margin: float = MARGIN, comparisons: int = 1
) -> Difference:
    """Compare accuracies by seed: `first` and `second` map seeds to shares; only seeds in both count.

    "The same within the margin" is claimed when the whole interval lies within +-`margin`, which is the two one-sided
    tests of Schuirmann (1987) at half the level. `comparisons` is the number of such comparisons that a reader sees at
    once: interval and p are corrected for it after Bonferroni, so that they hold jointly.
    """
    seeds = sorted(first.keys() & second.keys())
    n = len(seeds)
    differences = [second[seed] - first[seed] for seed in seeds]
    if n < MIN_SEEDS:
        return Difference(Outcome.TOO_FEW_SEEDS, n, math.fsum(differences) / n if n else None)
    estimate = mean_interval(differences, confidence=1 - 0.05 / comparisons)
    mean, low, high = estimate.mean, estimate.low, estimate.high
    if high - low < 1e-9:
        # Without spread there is no estimate of the noise, and a test would claim certainty that nobody has.
        return Difference(Outcome.NO_SPREAD, n, mean)
    from scipy.stats import ttest_1samp

    p = min(1.0, float(ttest_1samp(differences, 0.0).pvalue) * comparisons)
    within = -margin < low and high < margin
    if low <= 0 <= high:
        outcome = Outcome.EQUIVALENT if within else Outcome.NO_EVIDENCE
    else:
        outcome = Outcome.NEGLIGIBLE if within else Outcome.DIFFERENT
    return Difference(outcome, n, mean, low, high, p)


def paired_ratio(first: Mapping[int, float], second: Mapping[int, float], *, comparisons: int = 1) -> Ratio | None:
    """How many times `first` is `second`: mean and t-interval of logarithms by seed, where 2 and 1/2 weigh the same.

    Values must be positive. None if no seed is in both.
    """
    logs = [math.log(second[seed] / first[seed]) for seed in sorted(first.keys() & second.keys())]
    if not logs:
        return None
    estimate = mean_interval(logs, confidence=1 - 0.05 / comparisons)
    if estimate.low is None or estimate.high - estimate.low < 1e-9:
        return Ratio(math.exp(estimate.mean), None, None, estimate.n)
    return Ratio(math.exp(estimate.mean), math.exp(estimate.low), math.exp(estimate.high), estimate.n)


def time_to_reach(times_s: Sequence[float], accuracies: Sequence[float], target: float) -> float | None:
    """The first of `times_s` (ascending) at which the accuracy is at least `target`; None if it never is.

    It is as fine as the evaluations are frequent: nothing is interpolated.
    """
    for time_s, accuracy in zip(times_s, accuracies, strict=True):
        if accuracy >= target:
            return float(time_s)
    return None


def _t_half_width(values: Sequence[float], mean: float, confidence: float) -> float:
    from scipy.stats import t

    n = len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return float(t.ppf(0.5 + confidence / 2, n - 1)) * spread / math.sqrt(n)
