"""The command that forecasts accuracy: `replay`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, command_option, help_all, job_options
from facesim.cli.output import console, echo, echo_json
from facesim.cli.parsing import Choice
from facesim.cli.plan import FILE, OF_THE_EXPERIMENT, profile_for
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.forecast.replay import AccuracyForecast

#: What says on what cluster, and how an update's rate follows from it. A joint strategy's seed is one of --seeds.
_CLUSTER = ("workers", "ps", "local_steps", "scale_lr", "warmup_epochs", "instance_type")


@click.command(cls=GroupedCommand)
@command_option("--strategy", type=Choice(list(STRATEGIES)), default="ps-async", show_default=True, group="Training",
     help="how replicas train together")  # fmt: skip
@job_options(only=(*(name for name in OF_THE_EXPERIMENT if name != "seed"), *_CLUSTER))
@command_option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, group="Training",
     help="replays, with seeds 0, 1, ...; the interval is over them")  # fmt: skip
@command_option("--replayed-epochs", type=click.IntRange(4), group="Training",
     help="replay only so many epochs and extrapolate the rest  [default: all]")  # fmt: skip
@command_option("--to-accuracy", help="also say when this held-out accuracy is reached, such as 0.95 or 95 %")
@command_option(
    "--here", is_flag=True, help="forecast --backend local, whose workers share this machine's cores, not AWS"
)
@command_option(
    "--profile", "profile_file", type=FILE, help="the profile  [default: this machine's, measured if there is none]"
)
@command_option("--json", "as_json", is_flag=True, help="print JSON for machines")
@help_all()
def replay(
    strategy: str,
    seeds: int,
    replayed_epochs: int | None,
    to_accuracy: str | None,
    here: bool,
    profile_file: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast the accuracy of a cluster: one process makes its updates in the order in which the cluster would.

    It takes as long as training alone does, whatever the number of workers, and nothing but this machine.
    """
    from facesim.data.cache import signals_interrupt
    from facesim.planning import quantities
    from facesim.planning.accuracy import time_to_accuracy_s
    from facesim.planning.jobs import forecast_of
    from facesim.preflight.inputs import prepare_inputs
    from facesim.profiling.accuracy import check_replayable, forecast_accuracy
    from facesim.spec.job import make_job

    target = None if to_accuracy is None else quantities.share(to_accuracy, "--to-accuracy")
    if not STRATEGIES[strategy].trains_together():
        raise InputError(f"--strategy {strategy} trains nothing together: its accuracy is that of single; replay that")
    job = make_job(strategy=strategy, backend="local" if here else "sagemaker", **options)
    check_replayable(job)
    profile = profile_for(job, profile_file, as_json)
    inputs = prepare_inputs(job, lambda *_: None)
    # Before anything is replayed: it may be that nobody knows how fast the instance type is.
    phases = None if target is None else forecast_of(job, profile)[0].phases

    def began(seed: int) -> None:
        if not as_json:
            console().print(f"replaying {strategy}, seed {seed}", markup=False, highlight=False)

    with signals_interrupt(), tempfile.TemporaryDirectory(prefix="facesim-replay-") as folder:
        forecast = forecast_accuracy(
            job, profile, Path(folder), inputs, seeds=seeds, replayed_epochs=replayed_epochs, began=began
        )
    reached_s = None if phases is None else time_to_accuracy_s(forecast, target, phases)
    if as_json:
        rows = {name: getattr(forecast, name).tolist() for name in ("mean", "low", "high")}
        facts = {
            "seeds": forecast.seeds,
            "replayed_epochs": forecast.replayed_epochs,
            "extrapolated": forecast.extrapolated,
        }
        reached = {"epochs_to_accuracy": target and forecast.epochs_to(target), "time_to_accuracy_s": reached_s}
        echo_json({"measurement": "forecast", "held_out_accuracy": rows, **facts, **(reached if target else {})})
        return
    _print(forecast)
    if target is not None:
        when = "not within these epochs" if reached_s is None else f"after {forecast.epochs_to(target)} epochs"
        after = "" if reached_s is None else f", {reached_s:.0f} s from the submission"
        echo(f"{100 * target:.4g} % is reached {when}{after} (forecast)")


def _print(forecast: AccuracyForecast) -> None:
    count = len(forecast.mean)
    shown = sorted({*range(0, count, max(1, count // 10)), forecast.replayed_epochs - 1, count - 1})
    echo(f"\nforecast of held-out accuracy, {forecast.seeds} seed{'s' * (forecast.seeds > 1)}, 80 % interval for a run")
    for place in shown:
        mark = "  extrapolated" if place >= forecast.replayed_epochs else ""
        interval = (
            f"  {100 * forecast.low[place]:5.1f} to {100 * forecast.high[place]:.1f} %" if forecast.seeds > 1 else ""
        )
        echo(f"  epoch {place + 1:4}  {100 * forecast.mean[place]:5.1f} %{interval}{mark}")
