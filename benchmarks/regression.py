"""Whether figures are worse than those of a baseline, and how sure that is.

Compared are ratios to the base series of the same summary, taken within a round: what the machine does to all series
of a round is in none of them. With two rounds or more each, Welch's interval of the difference of the mean logarithms
(B. L. Welch, Biometrika 34, 1947) says how large the change is and how sure. What differs from one run of the
benchmarks to the next is not in it: hence a tolerance, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scipy.stats import ttest_ind

#: A change that is smaller is no regression, however sure.
TOLERANCE = 0.1

#: So sure the whole comparison is wrong about one series at the most, after Holm (1979).
LEVEL = 0.05


class Verdict(str, Enum):
    WORSE = "WORSE"
    PERHAPS_WORSE = "perhaps worse"
    SAME = "no worse"
    BETTER = "better"
    NEW = "new"


@dataclass(frozen=True)
class Change:
    """How a series has changed.

    Attributes:
        factor: how many times as good it is as in the baseline: 0.9 is a tenth worse. `low` and `high` bound its 95 %
            interval; None where a round alone tells nothing of that.
        p: probability of so large a loss, or a larger one, where there is none; None likewise.
    """

    suite: str
    title: str
    series: str
    factor: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    verdict: Verdict = Verdict.NEW

    def __str__(self) -> str:
        if self.verdict is Verdict.NEW:
            return "not in the baseline"
        sure = "of one round: how sure that is, is not known" if self.low is None else (
            f"95 % interval {100 * (self.low - 1):+.0f} to {100 * ((self.high or 0) - 1):+.0f} %, p = {self.p:.2g}"
        )  # fmt: skip
        return f"{self.verdict.value}: {100 * (self.factor - 1):+.1f} % ({sure})"


def compare(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[Change]:
    """What has changed of each series; both are figures as `benchmarks.__main__` writes them."""
    earlier = {place: (ratios, lower) for place, ratios, lower in _series(before)}
    changes = [_change(place, ratios, lower, earlier.get(place)) for place, ratios, lower in _series(now)]
    return _judged(changes)


def _series(figures: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], list[float], bool]]:
    """((suite, title, series), its ratios to the base by round, whether less is better) of all but the bases."""
    for suite, summaries in figures["suites"].items():
        for summary in summaries:
            base = summary["series"][summary["base"]]["values"]
            for name, one in summary["series"].items():
                if name != summary["base"]:
                    ratios = [value / reference for value, reference in zip(one["values"], base, strict=True)]
                    yield (suite, summary["title"], name), ratios, summary["lower_is_better"]


def _change(
    place: tuple[str, str, str], ratios: Sequence[float], lower: bool, earlier: tuple[Sequence[float], bool] | None
) -> Change:
    if earlier is None:
        return Change(*place, factor=1.0)
    sign = -1 if lower else 1
    now, before = ([sign * math.log(ratio) for ratio in some] for some in (ratios, earlier[0]))
    factor = math.exp(sum(now) / len(now) - sum(before) / len(before))
    if min(len(now), len(before)) < 2:
        return Change(*place, factor, verdict=Verdict.PERHAPS_WORSE if factor < 1 - TOLERANCE else Verdict.SAME)
    test = ttest_ind(now, before, equal_var=False)
    interval = test.confidence_interval(0.95)
    loss = ttest_ind(now, before, equal_var=False, alternative="less")
    return Change(*place, factor, math.exp(interval.low), math.exp(interval.high), float(loss.pvalue), Verdict.SAME)


def _judged(changes: Sequence[Change]) -> list[Change]:
    """The same with their verdicts, each after how many there are (Holm)."""
    tested = sorted((one for one in changes if one.p is not None), key=lambda one: one.p or 0.0)
    sure: set[int] = set()
    for number, one in enumerate(tested):
        if (one.p or 0.0) * (len(tested) - number) > LEVEL:
            break
        sure.add(id(one))
    return [_with_verdict(one, id(one) in sure) if one.p is not None else one for one in changes]


def _with_verdict(one: Change, sure: bool) -> Change:
    if one.factor < 1 - TOLERANCE:
        verdict = Verdict.WORSE if sure else Verdict.PERHAPS_WORSE
    elif one.low is not None and one.low > 1 + TOLERANCE:
        verdict = Verdict.BETTER
    else:
        verdict = Verdict.SAME
    return Change(one.suite, one.title, one.series, one.factor, one.low, one.high, one.p, verdict)
