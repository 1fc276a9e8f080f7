"""From launch to the first training step: the parameter-server cluster against a single process.

python -m benchmarks.startup --rounds 5
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import run_job, show, write
from facesim.spec.strategies import STRATEGIES


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), multiple=True, default=["single", "ps-async"])
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(rounds: int, strategy: tuple[str, ...], path: Path | None) -> None:
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name in dict.fromkeys(("single", *strategy)):
            figures[name].append(run_job(strategy=name, epochs=1)["phases"]["launch_to_first_step_s"])
    write([show("launch to first training step, paper-cnn", figures, "single", "s")], path)


if __name__ == "__main__":
    main()
