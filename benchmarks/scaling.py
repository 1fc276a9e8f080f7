"""How throughput changes with the number of workers: each strategy with 1 to 4 of them, at one batch, on one machine.

    python -m benchmarks.scaling --rounds 3 --strategy ps-async --strategy allreduce

On one machine more workers share the same cores: this shows what each further worker costs in work and messages; what
a cluster gains needs a cluster. The base of every ratio is `single`, within a round.
"""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import run_job, show, write
from facesim.spec.strategies import STRATEGIES

_SCALING = [name for name, strategy in STRATEGIES.items() if strategy.distributed and name != "independent"]


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--batch", default=32, show_default=True, help="examples in one update, whatever the number of workers")
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--data", default="rendered", show_default=True)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--strategy", type=click.Choice(_SCALING), multiple=True, default=_SCALING, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), multiple=True, default=[1, 2, 3, 4], show_default=True)
@click.option("--ps", default=1, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    rounds: int,
    epochs: int,
    batch: int,
    model: str,
    data: str,
    precision: str,
    strategy: tuple[str, ...],
    workers: tuple[int, ...],
    ps: int,
    path: Path | None,
) -> None:
    options = {"data": data, "model": model, "batch": batch, "epochs": epochs, "precision": precision}
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    sent: dict[tuple[str, int], float | None] = {}
    for _ in range(rounds):
        rates["single", 1].append(run_job(strategy="single", evaluate_every=epochs, **options)["images_per_s"])
        for name in dict.fromkeys(strategy):
            for count in dict.fromkeys(workers):
                result = run_job(strategy=name, workers=count, ps=ps, evaluate_every=epochs, **options)
                rates[name, count].append(result["images_per_s"])
                wire = result["wire_bytes"]
                sent[name, count] = None if wire is None else wire / result["updates"]

    click.echo(
        f"\n{model}, batch {batch}, {data}, {precision}, {os.cpu_count()} CPUs: images/s (to single), MB an update"
    )
    click.echo(f"  {'workers':10}" + "".join(f"{count:>24}" for count in workers))
    click.echo(f"  {'single':10}{statistics.median(rates['single', 1]):>24.0f}")
    rows = []
    for (name, count), images_per_s in rates.items():
        ratios = [rate / single for rate, single in zip(images_per_s, rates["single", 1])]
        rows.append(
            {
                "strategy": name,
                "workers": count,
                "images_per_s": images_per_s,
                "ratio_to_single": statistics.median(ratios),
                "wire_bytes_per_update": sent.get((name, count)),
            }
        )
    for name in dict.fromkeys(strategy):
        cells = [_cell(row) for row in rows if row["strategy"] == name]
        click.echo(f"  {name:10}" + "".join(f"{cell:>24}" for cell in cells))
    if path:
        figures = {f"{name}, {count} workers" if count > 1 else name: values for (name, count), values in rates.items()}
        summary = show(f"{model}, batch {batch}, {data}, {precision}", figures, "single", "images/s")
        write([summary | {"options": {**options, "ps": ps, "cpus": os.cpu_count()}, "rows": rows}], path)


def _cell(row: dict) -> str:
    wire = row["wire_bytes_per_update"]
    megabytes = "" if wire is None else f", {wire / 1e6:.1f}"
    return f"{statistics.median(row['images_per_s']):.0f} (x{row['ratio_to_single']:.2f}){megabytes}"


if __name__ == "__main__":
    main()
