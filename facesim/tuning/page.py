"""What a search found as one HTML page that needs nothing else, and as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.planning.quantities import dollars_text, time_text
from facesim.report.cells import AUDIT_WORDS
from facesim.report.plots.drawing import HALF_PAGE_IN, INK, STRATEGY_COLOURS, drawing, legend
from facesim.spec.options import flag
from facesim.tuning.findings import Findings
from facesim.tuning.search import Trial, in_words
from facesim.util.disk import writing_to
from facesim.util.errors import doing
from facesim.util.files import write_text
from facesim.util.pages import page_environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TEMPLATE = "tuning.html"


def write_page(findings: Findings, output: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        FacesimError: it cannot be written.
    """
    from markupsafe import Markup

    environment = page_environment(Path(__file__).parent)
    page = environment.get_template(_TEMPLATE).render(
        sentences=findings.sentences(),
        command=findings.command,
        plots=[(title, Markup(svg)) for title, svg in plots(findings)],
        rows=[row(one, findings) for one in table_order(findings)],
        importance=[(flag(name)[2:], f"{share:.0%}") for name, share in findings.importance.items()],
        measurements=sorted(
            {one.result.measurement for one in findings.trials if one.result and one.result.measurement}
        ),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    with doing(f"write {output}", "choose another folder with --output"), writing_to(output.parent):
        write_text(output, page)


def table_order(findings: Findings) -> list[Trial]:
    """The complete trials, the best first, then the others."""
    return [*findings.complete, *(one for one in findings.trials if one.value is None)]


def row(trial: Trial, findings: Findings) -> dict[str, Any]:
    """A trial in words."""
    reached = max(trial.course.items(), default=None)
    accuracy = f"{trial.value:.1%}" if trial.value is not None else ""
    if trial.value is None and reached:
        accuracy = f"({reached[1]:.1%} at epoch {reached[0]})"
    marks = ["best"] * (trial is findings.best) + ["front"] * (trial in findings.front)
    if trial.value is None:
        marks.append({"pruned": "ended early", "fail": "failed", "running": "not ended"}.get(trial.state, trial.state))
    dollars, verdict = dollars_text(trial.cost_usd), trial.result and trial.result.sync_audit.verdict
    return {
        "number": trial.number + 1,
        "params": in_words(trial.params),
        "accuracy": accuracy,
        "time": time_text(trial.total_s) if trial.result else "",
        "cost": "" if not trial.result else f"{dollars}, hypothetical" if trial.hypothetical else dollars,
        "together": AUDIT_WORDS.get(verdict, verdict) if trial.result else "",
        "marks": ", ".join(marks),
    }


def plots(findings: Findings) -> list[tuple[str, str]]:
    """(title, SVG) of what the trials allow to be drawn."""
    drawn: list[tuple[str, Callable[[Axes, Findings], None]]] = []
    if findings.complete:
        drawn.append(("Accuracy against time, and the front", _front))
    if any(one.course for one in findings.trials):
        drawn.append(("Courses of the trials", _courses))
    if findings.importance:
        drawn.append(("What mattered", _importance))
    rendered = []
    for number, (title, draw) in enumerate(drawn):
        with drawing(f"tuning-{number}", title, (HALF_PAGE_IN, 3.2)) as (figure, svg):
            draw(figure.subplots(), findings)
        rendered.append((title, svg[0]))
    return rendered


def _front(axes: Axes, findings: Findings) -> None:
    front = findings.front
    others = [one for one in findings.complete if one not in front]
    axes.scatter([one.total_s for one in others], [_percent(one) for one in others], color=INK, alpha=0.4, s=16)
    axes.plot(
        [one.total_s for one in front], [_percent(one) for one in front],
        marker="o", color=STRATEGY_COLOURS[0], drawstyle="steps-post", label="front",
    )  # fmt: skip
    for one in front:
        axes.annotate(str(one.number + 1), (one.total_s, _percent(one)), (5, 5), textcoords="offset points")
    axes.set_xlabel("seconds of the trial")
    axes.set_ylabel("validation accuracy, %")
    legend(axes)


def _courses(axes: Axes, findings: Findings) -> None:
    for one in findings.trials:
        best, pruned = one is findings.best, one.state == "pruned"
        colour = STRATEGY_COLOURS[0] if best else STRATEGY_COLOURS[1] if pruned else INK
        epochs = sorted(one.course)
        axes.plot(
            epochs, [100 * one.course[epoch] for epoch in epochs],
            color=colour, linewidth=2 if best else 1, alpha=1 if best else 0.5, marker="x" if pruned else None,
            markevery=[len(epochs) - 1] if pruned and epochs else None,
        )  # fmt: skip
    axes.plot([], [], color=STRATEGY_COLOURS[0], linewidth=2, label="best")
    axes.plot([], [], color=STRATEGY_COLOURS[1], marker="x", label="ended early")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy, %")
    legend(axes)


def _importance(axes: Axes, findings: Findings) -> None:
    names = list(findings.importance)[::-1]
    axes.barh([flag(name)[2:] for name in names], [100 * findings.importance[name] for name in names],
              color=STRATEGY_COLOURS[0])  # fmt: skip
    axes.set_xlabel("share of the variance of the accuracy, %")


def _percent(trial: Trial) -> float:
    return 100 * (trial.value or 0.0)
