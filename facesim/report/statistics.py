"""What several seeds allow one to say: intervals, paired comparisons, and when nothing can be said.

Accuracies are shares, 0-1, and so are their differences. All intervals are 95 % unless several strategies are compared
at once: then tests, and the intervals that belong to them, are corrected so that they hold together. Seeds vary the
initial weights, the order of examples and the split of one data set, so the intervals speak of training again on this
data, not of other data.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

#: Fewer paired seeds than this allow no statement about accuracy.
MIN_SEEDS = 3

#: Accuracies closer than this, one percentage point, are called the same for practical purposes.
MARGIN = 0.01

#: How often all statements of one kind in a report may hold one that is wrong, where nothing differs.
ALPHA = 0.05

#: Values closer than this have no spread.
_SAME = 1e-9


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
    """Second minus first, paired by seed, as a share.

    `low` and `high` bound its t-interval, which excludes 0 where the paired t test, whose p-value is `p`, finds a
    difference. `p_equivalent` is that of the two one-sided tests against differences of `margin` and more. Where
    several comparisons are made at once, all of these are adjusted for it (`holm`), and the interval has a confidence
    of `confidence` in place of 0.95.
    """

    outcome: Outcome
    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_equivalent: float | None = None
    margin: float = MARGIN
    confidence: float = 1 - ALPHA


@dataclass(frozen=True)
class Ratio:
    """Second over first, paired by seed: geometric mean, and interval and p-value of the paired t test of logarithms,
    which need two seeds and a spread, and are adjusted as those of a `Difference`.
    """

    ratio: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None
    confidence: float = 1 - ALPHA

    @property
    def undecided(self) -> bool:
        """Whether the interval holds 1: no evidence that either is larger."""
        return self.low is not None and self.high is not None and self.low <= 1 <= self.high


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of `values` and its t-interval; one value has no interval.

    Raises:
        ValueError: `values` is empty.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, n)
    if max(values) - min(values) < _SAME * max(1.0, abs(mean)):
        return Estimate(mean, mean, mean, n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * _standard_error(values)
    return Estimate(mean, mean - half, mean + half, n)


def _standard_error(values: Sequence[float]) -> float:
    """That of the mean of two values or more, (n,)."""
    return statistics.stdev(values) / math.sqrt(len(values))


class _PValues(NamedTuple):
    """Those of one-sample t tests, by what they test of the mean."""

    different: float
    less: float
    greater: float


def _p_values(values: Sequence[float], mean: float = 0.0) -> _PValues:
    """Whether values with a spread have another mean than `mean`. `scipy.special` has the distribution, and is imported
    in a quarter of the time of `scipy.stats`.
    """
    from scipy.special import stdtr

    t = (statistics.fmean(values) - mean) / _standard_error(values)
    less, greater = (float(stdtr(len(values) - 1, bound)) for bound in (t, -t))
    return _PValues(2 * min(less, greater), less, greater)


def wilson_interval(accuracy: float, examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of one model's accuracy, 0-1, that was measured on `examples` held-out examples."""
    from scipy.special import ndtri

    share, z = round(accuracy * examples) / examples, float(ndtri((1 + confidence) / 2))
    centre = share + z**2 / (2 * examples)
    half = z * math.sqrt(share * (1 - share) / examples + z**2 / (4 * examples**2))
    low, high = ((centre + bound) / (1 + z**2 / examples) for bound in (-half, half))
    return max(0.0, low), min(1.0, high)


class Corrected(NamedTuple):
    """Of one of several tests: the adjusted p-value, and by how much the level of its interval is divided."""

    p: float
    factor: int


def holm(p_values: Sequence[float]) -> list[Corrected]:
    """Several tests, corrected so that all together are wrong with a chance of `ALPHA` at most (S. Holm, Scandinavian
    Journal of Statistics 6, 1979).

    From the smallest p-value on, a test counts as one of as many as are left; from the first on that finds nothing, the
    others find nothing either, and their intervals are as wide as that one's. So an interval excludes 0 where, and only
    where, the test finds something.
    """
    corrected = [Corrected(1.0, 1)] * len(p_values)
    factor, adjusted = len(p_values), 0.0
    for rank, nth in enumerate(sorted(range(len(p_values)), key=lambda nth: p_values[nth])):
        adjusted = max(adjusted, min(1.0, p_values[nth] * (len(p_values) - rank)))
        corrected[nth] = Corrected(adjusted, factor)
        factor -= adjusted < ALPHA
    return corrected


Paired = tuple[Mapping[int, float], Mapping[int, float]]


def paired_differences(pairs: Sequence[Paired], *, margin: float = MARGIN) -> list[Difference]:
    """Compare accuracies by seed, several pairs (first, second) at once: `paired_difference`, corrected by `holm`."""
    uncorrected = [paired_difference(*pair, margin=margin) for pair in pairs]
    different = _corrected([difference.p for difference in uncorrected])
    same = _corrected([difference.p_equivalent for difference in uncorrected])
    return [
        replace(
            paired_difference(*pair, margin=margin, comparisons=of_p.factor, equivalences=of_same.factor),
            p=None if difference.p is None else of_p.p,
            p_equivalent=None if difference.p_equivalent is None else of_same.p,
        )
        for pair, difference, of_p, of_same in zip(pairs, uncorrected, different, same, strict=True)
    ]


def paired_difference(
    first: Mapping[int, float],
    second: Mapping[int, float],
    *,
    margin: float = MARGIN,
    comparisons: int = 1,
    equivalences: int = 1,
) -> Difference:
    """Compare accuracies by seed: `first` and `second` map seeds to shares; only seeds in both count.

    "The same within the margin" is claimed where two one-sided t tests find the difference above -`margin` and below
    `margin` (D. J. Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987). The p-values are multiplied
    by `comparisons` and `equivalences`, the interval is as much wider: `holm` says what they have to be.
    """
    seeds = sorted(first.keys() & second.keys())
    n = len(seeds)
    differences = [second[seed] - first[seed] for seed in seeds]
    if n < MIN_SEEDS:
        return Difference(Outcome.TOO_FEW_SEEDS, n, math.fsum(differences) / n if n else None, margin=margin)
    confidence = 1 - ALPHA / comparisons
    estimate = mean_interval(differences, confidence)
    mean, low, high = estimate.mean, estimate.low, estimate.high
    if low is None or high is None or high - low < _SAME:
        # Without spread there is no estimate of the noise, and a test would claim certainty that nobody has.
        return Difference(Outcome.NO_SPREAD, n, mean, margin=margin)
    p = min(1.0, _p_values(differences).different * comparisons)
    above, below = _p_values(differences, -margin).greater, _p_values(differences, margin).less
    p_equivalent = min(1.0, max(above, below) * equivalences)
    if p < ALPHA:
        outcome = Outcome.NEGLIGIBLE if p_equivalent < ALPHA else Outcome.DIFFERENT
    else:
        outcome = Outcome.EQUIVALENT if p_equivalent < ALPHA else Outcome.NO_EVIDENCE
    return Difference(outcome, n, mean, low, high, p, p_equivalent, margin, confidence)


def paired_ratios(pairs: Sequence[Paired]) -> list[Ratio | None]:
    """Compare positive values by seed, several pairs (first, second) at once: `paired_ratio`, corrected by `holm`."""
    uncorrected = [paired_ratio(*pair) for pair in pairs]
    ratios = []
    p_values = _corrected([ratio and ratio.p for ratio in uncorrected])
    for pair, ratio, corrected in zip(pairs, uncorrected, p_values, strict=True):
        wider = paired_ratio(*pair, comparisons=corrected.factor)
        ratios.append(replace(wider, p=corrected.p) if wider and ratio and ratio.p is not None else wider)
    return ratios


def paired_ratio(first: Mapping[int, float], second: Mapping[int, float], *, comparisons: int = 1) -> Ratio | None:
    """How many times `first` is `second`: mean and t-interval of logarithms by seed, where 2 and 1/2 weigh the same.

    Values must be positive. None if no seed is in both. `comparisons` as of `paired_difference`.
    """
    logs = [math.log(second[seed] / first[seed]) for seed in sorted(first.keys() & second.keys())]
    if not logs:
        return None
    confidence = 1 - ALPHA / comparisons
    estimate = mean_interval(logs, confidence)
    if estimate.low is None or estimate.high is None or estimate.high - estimate.low < _SAME:
        return Ratio(math.exp(estimate.mean), None, None, estimate.n)
    p = min(1.0, _p_values(logs).different * comparisons)
    low, high = math.exp(estimate.low), math.exp(estimate.high)
    return Ratio(math.exp(estimate.mean), low, high, estimate.n, p, confidence)


def _corrected(p_values: Sequence[float | None]) -> list[Corrected]:
    """`holm` of those that there are."""
    there = [nth for nth, p in enumerate(p_values) if p is not None]
    corrected = [Corrected(1.0, 1)] * len(p_values)
    for nth, one in zip(there, holm([p for p in p_values if p is not None]), strict=True):
        corrected[nth] = one
    return corrected


def better_than_chance(
    accuracies: Sequence[float], chances: Sequence[float], examples: Sequence[int | None]
) -> float | None:
    """The p-value of the one-sided test whether models recognise better than chance; both 0-1, a model each.

    From three models with a spread on it is the t test of their differences from chance; of fewer the exact binomial
    test of the right answers to `examples` images, the largest of the models' p-values, for each of them has to be
    better. None if there is nothing to test.
    """
    differences = [accuracy - chance for accuracy, chance in zip(accuracies, chances, strict=True)]
    if len(differences) >= MIN_SEEDS and max(differences) - min(differences) > _SAME:
        return _p_values(differences).greater
    from scipy.special import bdtrc

    p_values = [
        float(bdtrc(round(accuracy * number) - 1, number, chance))  # of so many right answers or more
        for accuracy, chance, number in zip(accuracies, chances, examples, strict=True)
        if number and 0 < chance < 1
    ]
    return max(p_values, default=None)


def time_to_reach(times_s: Sequence[float], accuracies: Sequence[float], target: float) -> float | None:
    """The first of `times_s` (ascending) at which the accuracy is at least `target`; None if it never is.

    It is as fine as the evaluations are frequent: nothing is interpolated.
    """
    for time_s, accuracy in zip(times_s, accuracies, strict=True):
        if accuracy >= target:
            return float(time_s)
    return None
