"""How right the forecast of accuracy is: replays in one process against real `ps-async` runs on this machine.

    python -m benchmarks.forecast_accuracy --data DATA [--model M --image-size 32 --epochs 15 --workers 4 --workers 8]

For each number of workers and each seed there is a real run; a replay of the order that it recorded, which must follow
its curve; and a replay of a simulated order, which is the forecast. Differences are in points of held-out accuracy, of
means over seeds. Real asynchronous runs of the same seed differ from each other, too.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.common import run_completed
from facesim.forecast.profile_data import Profile
from facesim.forecast.replay import simulated_orders
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.accuracy import Curve, curve_of, replay, updates_of_epoch
from facesim.profiling.profile import profile_of
from facesim.spec.job import make_job
from facesim.training.order import read_orders


@click.command()
@click.option("--data", default="rendered", show_default=True)
@click.option("--model", default="compact-cnn", show_default=True)
@click.option("--image-size", default=32, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--learning-rate", default=0.002, show_default=True)
@click.option("--schedule", default="constant", show_default=True, help="cosine: runs end where accuracy has settled")
@click.option("--epochs", default=15, show_default=True)
@click.option("--held-out", default=0.5, show_default=True)
@click.option("--workers", multiple=True, type=int, default=[4, 8], show_default=True)
@click.option("--seeds", default=2, show_default=True)
@click.option("--profile", "file", type=click.Path(path_type=Path), help="a profile, in place of measuring one")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the curves to this file")
def main(workers: tuple[int, ...], seeds: int, file: Path | None, path: Path | None, **experiment: Any) -> None:
    profile = Profile.load(file) if file else profile_of(make_job(**experiment))[0]
    rows = []
    for count in workers:
        for seed in range(seeds):
            rows.append(one(profile, experiment, count, seed))
            show_row(rows[-1])
    click.echo("\nheld-out accuracy, mean of the last three epochs, mean over seeds (sd)")
    for count in workers:
        same_size = [row for row in rows if row["workers"] == count]
        real, recorded, forecast = (
            [row[kind]["final"] for row in same_size] for kind in ("real", "recorded", "forecast")
        )
        click.echo(
            f"  {count} workers: real {_told(real)}, recorded order replayed {_told(recorded)}, forecast "
            f"{_told(forecast)}: off by {100 * (statistics.fmean(forecast) - statistics.fmean(real)):+.1f} points"
        )
    if path:
        path.write_text(json.dumps(rows, indent=1) + "\n")


def one(profile: Profile, experiment: dict[str, Any], workers: int, seed: int) -> dict[str, Any]:
    """The forecast, then a real run and the replay of its order."""
    job = make_job(**experiment, strategy="ps-async", workers=workers, seed=seed)
    inputs = prepare_inputs(job, lambda *_: None)
    with tempfile.TemporaryDirectory(prefix="facesim-bench-") as folder:
        simulated = simulated_orders(
            profile, workers, job.shape.ps, updates_of_epoch(job, inputs), job.experiment.epochs,
            batch=job.update_batch, shared_cores=True, seed=seed,
        )  # fmt: skip
        forecast = replay(job, simulated, Path(folder) / "forecast", inputs, lambda: None)
        with run_completed(**experiment, strategy="ps-async", workers=workers, seed=seed) as run:
            real, orders = curve_of(run), read_orders(run.order_file)
        recorded = replay(job, orders, Path(folder) / "recorded", inputs, lambda: None)
    curves = {"real": real, "recorded": recorded, "forecast": forecast}
    return {"workers": workers, "seed": seed} | {name: _figures(curve) for name, curve in curves.items()}


def show_row(row: dict[str, Any]) -> None:
    click.echo(f"{row['workers']} workers, seed {row['seed']}")
    for name in ("real", "recorded", "forecast"):
        curve = row[name]
        losses = " ".join(f"{loss:.3f}" for loss in curve["loss"])
        click.echo(
            f"  {name:9} accuracy {100 * curve['final']:.1f} %, staleness {curve['staleness_mean']:.2f}, loss {losses}"
        )


def _figures(curve: Curve) -> dict[str, Any]:
    return {**vars(curve), "final": statistics.fmean(curve.held_out_accuracy[-3:])}


def _told(values: list[float]) -> str:
    spread = f" ({100 * statistics.stdev(values):.1f})" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.1f} %{spread}"


if __name__ == "__main__":
    main()
