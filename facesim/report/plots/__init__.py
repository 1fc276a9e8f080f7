"""The plots, each an SVG that stands inside an HTML page: one module a family, `drawing` what they share."""

from facesim.report.comparison import Comparison
from facesim.report.plots.bars import cost_bars, phase_bars
from facesim.report.plots.curves import accuracy_against_time, learning_curves, loss_against_time
from facesim.report.plots.overview import accuracies, time_and_cost
from facesim.report.plots.recognition import cmc, roc
from facesim.report.plots.resources import by_role_against_time, wire
from facesim.report.plots.scaling import interruptions, scaling, staleness_by_worker
from facesim.report.plots.tasks import tasks


def plots(comparison: Comparison) -> dict[str, str]:
    """Every plot that the runs have data for, as name -> SVG, in the order of the page."""
    drawn = {
        "pareto": time_and_cost(comparison),
        "accuracies": accuracies(comparison),
        "curve": learning_curves(comparison),
        "accuracy": accuracy_against_time(comparison),
        "loss": loss_against_time(comparison),
        "time": phase_bars(comparison),
        "cost": cost_bars(comparison),
        "cpu": by_role_against_time(comparison, "cpu_percent", "CPU (% of the host)", 1.0),
        "memory": by_role_against_time(comparison, "memory_bytes", "memory (GiB)", 2.0**30, without="host"),
        "wire": wire(comparison),
        "scaling": scaling(comparison),
        "staleness": staleness_by_worker(comparison),
        "interruptions": interruptions(comparison),
        "tasks": tasks(comparison),
        "roc": roc(comparison),
        "cmc": cmc(comparison),
    }
    return {name: svg for name, svg in drawn.items() if svg}
