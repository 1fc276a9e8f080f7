"""A plan as one HTML page that needs nothing else: the answer, the plots, the table, what was assumed."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from facesim.planning.answer import answer, named_rows, notes, table, words
from facesim.planning.explain import explain
from facesim.planning.jobs import profile_text
from facesim.planning.plots import speed_up, time_against_cost
from facesim.planning.search import Plan
from facesim.util.disk import probe, writing_to
from facesim.util.errors import InputError, doing, reason
from facesim.util.files import check_replaceable, write_text
from facesim.util.pages import page_environment

_TEMPLATE = "plan.html"


def render(plan: Plan) -> str:
    """The page. All that comes from the user is escaped."""
    from markupsafe import Markup

    environment = page_environment(Path(__file__).parent)
    plots = {"Time against cost": time_against_cost(plan), "Speed-up": speed_up(plan)}
    described, rows = named_rows(plan)[0], table(plan)
    return environment.get_template(_TEMPLATE).render(
        answer=answer(plan),
        plots=[(title, Markup(svg)) for title, svg in plots.items() if svg],
        rows=rows,
        words=list(words(rows)),
        shapes=len(plan.rows),
        wanted=str(plan.wanted),
        notes=list(notes(plan)),
        explained=described.forecast.shape,
        steps=explain(plan, described),
        profile=profile_text(plan.profile),
        model=plan.profile.model,
        examples=plan.profile.examples,
        epochs=plan.epochs,
        batch=plan.batch,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def check_output(output: Path) -> None:
    """Look whether a page can be written, before the work for it.

    Raises:
        InputError: it cannot.
    """
    try:
        check_replaceable(output)
        probe(output.parent, 0)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {output}: {reason(error)}; choose another file with --output") from None


def write_page(plan: Plan, output: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        FacesimError: it cannot be written.
    """
    page = render(plan)
    with doing(f"write {output}", "choose another file with --output"), writing_to(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, page)
