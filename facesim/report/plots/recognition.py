"""What evaluations of the saved models found: verification's ROC and identification's CMC."""

from __future__ import annotations

from typing import Any

from facesim.report.comparison import Comparison
from facesim.report.plots.drawing import colours, drawing, legend


def _evaluated(comparison: Comparison, protocol: str) -> list[tuple[str, str, int, dict[str, Any]]]:
    """Label, colour, place among the row's and what was found, for each run's newest evaluation by `protocol`."""
    found = []
    for row, colour in zip(comparison.rows, colours(comparison), strict=True):
        newest = [list(record.evaluations.values())[-1] for record in row.counted if record.evaluations]
        own = [evaluation for evaluation in newest if evaluation.get(protocol) is not None]
        found += [
            (f"{row.label}, {evaluation['data']}", colour, nth, evaluation[protocol])
            for nth, evaluation in enumerate(own)
        ]
    return found


def roc(comparison: Comparison) -> str | None:
    """True against false accept rate, from the lowest false accept rate that the pairs can tell."""
    curves = _evaluated(comparison, "verification")
    if not curves:
        return None
    with drawing("roc-plot", "true against false accept rate", (6.2, 3.7)) as (figure, svg):
        axes = figure.subplots()
        for label, colour, nth, own in curves:
            axes.step(
                own["roc"]["far"],
                own["roc"]["tar"],
                color=colour,
                where="post",
                linewidth=0.8 if nth else 2.2,
                label=None if nth else f"{label}: EER {own['eer']:.1%}",
            )
        axes.set_xscale("log")
        axes.set_xlim(min(own["lowest_far"] for *_, own in curves), 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("false accept rate")
        axes.set_ylabel("true accept rate")
        legend(axes)
    return svg[0]


def cmc(comparison: Comparison) -> str | None:
    """Share of probes whose identity is among the k likest of the gallery."""
    curves = _evaluated(comparison, "identification")
    if not curves:
        return None
    with drawing("cmc-plot", "identification against rank", (6.2, 3.7)) as (figure, svg):
        axes = figure.subplots()
        for label, colour, nth, own in curves:
            axes.plot(
                range(1, len(own["cmc"]) + 1),
                own["cmc"],
                color=colour,
                linewidth=0.8 if nth else 2.2,
                label=None if nth else f"{label}: rank 1 {own['rank_1']:.1%}",
            )
        axes.set_xscale("log")
        axes.set_ylim(top=1.02)
        axes.set_xlabel("rank")
        axes.set_ylabel("found up to that rank")
        legend(axes)
    return svg[0]
