"""What evaluations of the saved models found: verification's ROC and identification's CMC."""

from __future__ import annotations

from collections import Counter
from typing import Any

from facesim.report.comparison import Comparison
from facesim.report.plots.drawing import HALF_PAGE_IN, colours, drawing, legend


def _evaluated(comparison: Comparison, protocol: str) -> list[list[tuple[str, str, int, Any]]]:
    """Label, colour, place among the row's and scores, for each run's newest evaluation by `protocol` that can be
    drawn. A list for each test, for scores on other images are drawn apart. Of a row's seeds each may have images of
    its own.
    """
    by_test: dict[tuple[Any, ...], list[tuple[str, str, int, Any]]] = {}
    places: Counter[tuple[Any, ...]] = Counter()
    for row, colour in zip(comparison.rows, colours(comparison), strict=True):
        for record in row.counted:
            newest = record.evaluation_with(protocol)
            if newest is None:
                continue
            test = (newest.subject, newest.title, comparison.test_of(row))
            label = f"{row.label}, {newest.title}"
            by_test.setdefault(test, []).append((label, colour, places[row, test], newest[protocol]))
            places[row, test] += 1
    return list(by_test.values())


def roc(comparison: Comparison) -> str | None:
    """True against false accept rate, from the lowest false accept rate that the pairs can tell, if they tell any."""
    curves = _evaluated(comparison, "verification")
    if not curves:
        return None
    with drawing("roc-plot", "true against false accept rate", (HALF_PAGE_IN, 3.2 * len(curves))) as (figure, svg):
        for axes, of_test in zip(figure.subplots(len(curves), squeeze=False)[:, 0], curves, strict=True):
            for label, colour, nth, scores in of_test:
                axes.step(
                    scores.roc.far,
                    scores.roc.tar,
                    color=colour,
                    where="post",
                    linewidth=0.8 if nth else 2.2,
                    label=None if nth else f"{label}: EER {scores.eer:.1%}",
                )
            axes.set_xscale("log")
            axes.set_xlim(min(scores.lowest_far for *_, scores in of_test), 1)
            axes.set_ylim(0, 1.02)
            axes.set_xlabel("false accept rate")
            axes.set_ylabel("true accept rate")
            legend(axes)
    return svg[0]


def cmc(comparison: Comparison) -> str | None:
    """Share of probes whose identity is among the k closest of the gallery."""
    curves = _evaluated(comparison, "identification")
    if not curves:
        return None
    with drawing("cmc-plot", "identification against rank", (HALF_PAGE_IN, 3.2 * len(curves))) as (figure, svg):
        for axes, of_test in zip(figure.subplots(len(curves), squeeze=False)[:, 0], curves, strict=True):
            for label, colour, nth, scores in of_test:
                axes.plot(
                    range(1, len(scores.cmc) + 1),
                    scores.cmc,
                    color=colour,
                    linewidth=0.8 if nth else 2.2,
                    label=None if nth else f"{label}: rank 1 {scores.rank_1:.1%}",
                )
            axes.set_xscale("log")
            axes.set_ylim(top=1.02)
            axes.set_xlabel("rank")
            axes.set_ylabel("found up to that rank")
            legend(axes)
    return svg[0]
