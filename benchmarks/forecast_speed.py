"""How fast the forecast itself is: simulation of 1,000 workers, of 1,000 spot jobs, formulas for 10,000 shapes,
and a whole plan.

    python -m benchmarks.forecast_speed [--rounds 3] [--json FILE]

Each has a bound that it should stay within on one core.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks.common import show, write, yardstick_s
from facesim.forecast.hosts import hosts
from facesim.forecast.model import forecast_jobs
from facesim.forecast.profile_data import Compute, Machine, Profile, Ring, Server, Variable
from facesim.forecast.shapes import ClusterShape
from facesim.forecast.simulate import simulate_async, simulate_barriers, simulate_spot
from facesim.planning.page import render
from facesim.planning.search import Axes, Plan, Wanted, make_plan
from facesim.spec.spot import Spot

#: About that of the paper's network on two cores.
PROFILE = Profile(
    machine=Machine(cores=2, sgemm_gflops=150),
    model="paper-cnn",
    batch=32,
    examples=900,
    compute=(Compute(batch=8, step_s=0.02, cv=0.05), Compute(batch=32, step_s=0.06, cv=0.05)),
    variables=(
        Variable(name="kernel", shape=(8192, 512), held_bytes=2**24, sent_bytes=2**24),
        Variable(name="bias", shape=(512,), held_bytes=2048, sent_bytes=2048),
    ),
    server=Server(message_s=1e-4, byte_s=1e-9, saturation_s=0.02),
    ring=Ring(alpha_s=2e-4, byte_s=3e-10),
)


def shapes(count: int = 10_000) -> list[ClusterShape]:
    """So many shapes of which none is like another."""
    types = ("ml.m5.large", "ml.m5.xlarge", "ml.m5.2xlarge", "ml.c5.xlarge", "ml.c5.2xlarge")
    axes = itertools.product(
        ("ps-async", "ps-sync"), range(1, 33), range(1, 9), types, (None, *types[:1]), (True, False)
    )
    return [
        ClusterShape(strategy=name, workers=workers, ps=ps, instance_type=kind, ps_instance_type=ps_type, spot=spot)
        for name, workers, ps, kind, ps_type, spot in itertools.islice(axes, count)
    ]


def plan() -> Plan:
    """A plan of so many shapes, all instance types whose speed is known, with a deadline and a budget."""
    known = hosts()
    types = tuple(name for name, kind in known.items() if kind.relative_speed)
    strategies = ("single", "ps-async", "ps-sync", "allreduce", "local-sgd")
    axes = Axes(strategies, types, tuple(range(1, 49)), (1, 2, 3, 4, 5, 6), spot=True)
    return make_plan(PROFILE, axes, Wanted(deadline_s=7200, budget_usd=5), epochs=50, known_hosts=known)


CASES: dict[str, tuple[float, Callable[[], object]]] = {
    "1,000 workers to steady state, 200,000 updates": (
        2.0,
        lambda: simulate_async([0.1] * 1000, [5e-5], [5e-5], 200_000, cv=0.1),
    ),
    "1,000 workers, 10,000 barriers": (2.0, lambda: simulate_barriers([0.1] * 1000, 0.01, 10_000, cv=0.1)),
    "1,000 spot jobs": (10.0, lambda: simulate_spot(7200.0, 4, Spot(), start_s=60, write_s=0.2, jobs=1000)),
    "10,000 shapes": (5.0, lambda: forecast_jobs(PROFILE, shapes())),
    "a plan of 10,544 shapes, from the profile to the page": (5.0, lambda: render(plan())),
}


@click.command()
@click.option("--rounds", default=1, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(rounds: int, path: Path | None) -> None:
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        figures["yardstick"].append(yardstick_s())
        for name, (_bound_s, case) in CASES.items():
            begin = time.process_time()
            case()
            figures[name].append(time.process_time() - begin)
    summary = show("forecasts, CPU time", figures, "yardstick", "s")
    for name, (bound_s, _case) in CASES.items():
        if min(figures[name]) > bound_s:
            click.echo(f"  TOO SLOW: {name}, bound {bound_s:g} s")
    write([summary], path)


if __name__ == "__main__":
    main()
