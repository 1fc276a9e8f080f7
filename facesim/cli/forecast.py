"""Commands about forecasts: `forecast`, of given jobs, and `calibrate`, by which later ones learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, command_option, help_all, job_options
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice
from facesim.cli.plan import FILE, OF_THE_EXPERIMENT, measured_profile, profile_for
from facesim.spec.options import flag
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError
from facesim.util.folders import RUNS
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.planning.learning import Learnt
    from facesim.runs.directory import Run


@click.command(cls=GroupedCommand)
@click.argument("jobs", nargs=-1, type=FILE, metavar="[RUN|TOML]...")
@command_option("--strategy", "strategies", type=Choice(list(STRATEGIES)), multiple=True, group="Training",
     help="how replicas train together; repeatable  [default: single]")  # fmt: skip
@job_options(without=("strategy",))
@command_option("--spot/--no-spot", default=None, group="Cost and spot", help="spot capacity")
@command_option("--profile", "profile_file", type=FILE, group="Output", help="the profile  [default: this machine's]")
@command_option("--instances", "own_instances", type=FILE, group="Cost and spot",
     help="TOML file of speeds and prices of your own, of types of the catalogue")  # fmt: skip
@command_option(
    "--output", type=FILE, default=RUNS, show_default=True, help="folder for the forecasts' run directories"
)
@command_option("--json", "as_json", is_flag=True, help="print JSON for machines in place of text")
@help_all()
def forecast(
    jobs: tuple[Path, ...],
    strategies: tuple[str, ...],
    profile_file: Path | None,
    own_instances: Path | None,
    output: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast given jobs, each a run directory whose numbers are marked forecast: `facesim report` shows them, also
    beside runs.

    A job is a run directory (which is forecast as it was asked for), a TOML file of options, or the options given here,
    which win over both. Without --backend a job is forecast as it would be at AWS.
    """
    from facesim.forecast.profile_data import Profile
    from facesim.planning.described import described_jobs
    from facesim.planning.jobs import Asked, write_forecasts
    from facesim.planning.notes import FAULTS_LEFT_OUT, check_profile, data_notes

    given = {name: value for name, value in options.items() if value is not None}
    _check_types(given, own_instances)
    of_file = Profile.load(profile_file) if profile_file else None
    where = f"the profile {profile_file}" if profile_file else None
    asked = []
    for job, data_options, examples, had_faults in described_jobs(jobs, strategies, given, of_file):
        faults = [FAULTS_LEFT_OUT] if had_faults else []
        if of_file and where:
            asked.append(Asked(job, of_file, [*data_notes(of_file, where, data_options, examples), *faults]))
        else:
            asked.append(Asked(job, measured_profile(job, as_json), faults))
    for job, profile, _ in asked:
        check_profile(profile, job, where or "the profile of this machine")
    _print_forecasts(write_forecasts(asked, output, own_instances, where), as_json)


def _check_types(given: Mapping[str, Any], own_instances: Path | None) -> None:
    """A job is of types that the catalogue has, where its bill is made; plans are also of others."""
    from facesim.billing.catalogue import instances
    from facesim.billing.own_prices import own_file
    from facesim.forecast.hosts import hosts

    own = hosts(own_instances).keys() - instances().keys() if own_instances else ()
    for option, name in ((each, given.get(each)) for each in ("instance_type", "ps_instance_type")):
        if name in own:
            raise InputError(
                f"{flag(option)} {name}: it is in {own_instances} alone, and a job runs on types of the catalogue: "
                f"{own_file()} can add it there; or ask facesim plan, which takes types of your own"
            )


def _print_forecasts(runs: list[Run], as_json: bool) -> None:
    from facesim.planning.quantities import dollars_text, time_text

    records = [(run, record) for run in runs if (record := run.forecast()) is not None]
    if as_json:
        echo_json([{"run_directory": str(run.directory), **record.model_dump(mode="json")} for run, record in records])
        return
    for run, record in records:
        backend = run.job().backend
        echo(f"{record.shape} ({backend.name}): forecast, 80 % intervals")
        echo(
            f"  time      {time_text(record.total_s)} ({time_text(record.low_s)} to {time_text(record.high_s)}); "
            f"bound by {record.bound}"
        )
        if backend.costs_money:
            echo(
                f"  dollars   {dollars_text(record.cost_usd)} ({dollars_text(record.low_usd)} to "
                f"{dollars_text(record.high_usd)})"
            )
        phases = ", ".join(
            f"{name.removesuffix('_s').replace('_', ' ')} {time_text(seconds)}"
            for name, seconds in record.phases.items()
            if seconds > 0 and name != "first_step_s"  # it is in the start
        )
        echo(f"  phases    {phases}")
        echo(
            f"  training  {count_text(record.updates, 'update')} of {1000 * record.update_s:.4g} ms, "
            f"{record.images_per_s:,.0f} images/s"
        )
        for text in record.assumptions:
            echo(f"  assumed   {text}")
        echo(f"  run directory: {run.directory}")
    echo(f"\nfacesim report {' '.join(str(run.directory) for run, _ in records)} [RUN...] shows them, beside runs")


@click.command(cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=FILE, metavar="[RUN]...")
@command_option("--instance-type", help="measure this type with a job of about three minutes", group="Cost and spot")
@command_option("--backend", type=Choice(["sagemaker"]), default="sagemaker", show_default=True, group="Cluster",
     help="where to measure --instance-type")  # fmt: skip
@job_options(only=(
    *OF_THE_EXPERIMENT, "region", "role", "bucket", "bucket_owner", "subnets", "security_groups", "kms_key", "image",
    "prefix", "tags", "max_cost", "on_interrupt",
), without=("epochs", "evaluate_every", "seed"))  # fmt: skip
@command_option("--profile", "profile_file", type=FILE, group="Output", help="the profile  [default: this machine's]")
@command_option("--output", type=FILE, default=RUNS, show_default=True, help="folder for the job's run directory")
@command_option(
    "--dry-run", is_flag=True, help="print the request and what it may cost; start nothing, or keep nothing"
)
@command_option("--json", "as_json", is_flag=True, help="print JSON for machines in place of text")
@help_all()
def calibrate(
    runs: tuple[Path, ...],
    instance_type: str | None,
    backend: str,
    profile_file: Path | None,
    output: Path,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int | None:
    """Learn for later forecasts: from RUNS, how far off forecasts were; with --instance-type, how fast a type is.

    What is learnt from RUNS takes the place of what was learnt from earlier ones.
    """
    if bool(runs) == bool(instance_type):
        raise InputError(
            "calibrate takes either RUNS, from which it learns how right forecasts were, or --instance-type, which it "
            "measures; give one of them"
        )
    if runs:
        from facesim.planning.learning import keep, learn
        from facesim.runs.directory import find_runs

        learnt = learn(find_runs(list(runs)))
        files = [] if dry_run else keep(learnt)
        _print_learnt(learnt, files, as_json)
        return None
    from facesim.cli.study import observers
    from facesim.spec.job import make_job
    from facesim.study.calibration import calibrate_type, what_calibrates

    given = {name: value for name, value in options.items() if value is not None}
    job = make_job(**{**given, "backend": backend, "instance_type": instance_type})
    profile = profile_for(job, profile_file, as_json)
    if dry_run:
        echo_json(what_calibrates(job, profile, output))
        return 0
    calibration = calibrate_type(job, profile, output, observers(as_json))
    if not calibration.completed:
        return 1
    if as_json:
        echo_json(calibration.to_dict())
    elif calibration.notice:
        echo(calibration.notice)
    else:
        _print_measured(calibration.speeds, calibration.outside_s, calibration.kept)
    return 0


def _print_learnt(learnt: Learnt, files: list[str], as_json: bool) -> None:
    from facesim.forecast.intervals import published_widths

    if as_json:
        echo_json({**learnt.to_dict(), "kept": files})
        return
    for each in learnt.lessons:
        total = "" if each.total_residual is None else f", the whole {100 * each.total_residual:+.1f} %"
        within = "within" if each.within else "outside of"
        echo(
            f"{each.run_id} ({each.measurement}): {each.record.shape}: updates took {1000 * each.update_s:.4g} ms, "
            f"forecast {1000 * each.record.update_with_drain_s:.4g} ms ({100 * each.residual:+.1f} %){total}; {within} "
            "its interval"
        )
    for text in learnt.left_out:
        echo(f"left out: {text}")
    before = published_widths()
    echo(
        "intervals of the formulas, by how busy servers or links are: "
        + ", ".join(
            f"{name} ± {100 * width:.0f} % (published {100 * was:.0f} %)"
            for name, width, was in zip(("little", "half", "full"), learnt.widths, before, strict=True)
        )
    )
    for name, burst_s in learnt.bursts_s.items():
        echo(f"the network of {name} bursts for {burst_s:.0f} s, measured")
    _print_measured(learnt.speeds, learnt.outside_s, files)


def _print_measured(speeds: dict[str, float], outside_s: dict[str, float], files: list[str]) -> None:
    for name, speed in speeds.items():
        echo(f"{name} trains like {speed:.3g} reference cores, measured")
    for name, seconds in outside_s.items():
        echo(f"{name.removesuffix('_s')} takes {seconds:.0f} s, measured")
    for file in files:
        echo(f"kept in {file}")
