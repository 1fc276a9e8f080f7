"""A plan as one HTML page that needs nothing else: the answer, the plots, the table, what was assumed."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from facesim.planning.answer import answer, notes, table
from facesim.planning.explain import explain
from facesim.planning.jobs import profile_text
from facesim.planning.plots import speed_up, time_against_cost
from facesim.planning.search import Plan
from facesim.util.disk import writing_to
from facesim.util.errors import doing
from facesim.util.files import write_text
from facesim.util.pages import page_environment

_TEMPLATE = "plan.html"


def render(plan: Plan) -> str:
    """The page. All that comes from the user is escaped."""
    from markupsafe import Markup

    environment = page_environment(Path(__file__).parent)
    plots = {"Time against cost": time_against_cost(plan), "Speed-up": speed_up(plan)}
    described = plan.cheapest or plan.fastest_of_all
    return environment.get_template(_TEMPLATE).render(
        answer=answer(plan),
        plots=[(title, Markup(svg)) for title, svg in plots.items() if svg],
        rows=table(plan),
        shapes=len(plan.rows),
        wanted=str(plan.wanted),
        notes=list(notes(plan)),
        explained=described.forecast.shape,
        steps=explain(plan, described),
        profile=profile_text(plan.profile),
        epochs=plan.epochs,
        batch=plan.batch,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def write_page(plan: Plan, output: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        FacesimError: it cannot be written.
    """
    page = render(plan)
    with doing(f"write {output}", "choose another file with --output"), writing_to(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, page)
