"""Commands about forecasts: `forecast`, of given jobs, and `calibrate`, by which later ones learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, help_all, job_options, own
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice
from facesim.cli.plan import FILE, OF_THE_EXPERIMENT, measured_profile
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.forecast.profile_data import Profile
    from facesim.planning.learning import Learnt
    from facesim.runs.directory import Run
    from facesim.spec.job import Job


@click.command(cls=GroupedCommand)
@click.argument("jobs", nargs=-1, type=FILE, metavar="[RUN|TOML]...")
@own("--strategy", "strategies", type=Choice(list(STRATEGIES)), multiple=True, group="Training",
     help="how replicas train together; repeatable  [default: single]")  # fmt: skip
@job_options(without=("strategy",))
@own("--spot/--no-spot", default=None, group="Cost and spot", help="spot capacity")
@own("--profile", "profile_file", type=FILE, group="Output", help="the profile  [default: this machine's]")
@own("--instances", "own_instances", type=FILE, group="Cost and spot",
     help="TOML file of instance types and prices of your own")  # fmt: skip
@own("--output", type=FILE, default=Path("runs"), show_default=True, help="folder for the forecasts' run directories")
@own("--json", "as_json", is_flag=True, help="print JSON for machines in place of text")
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
    from facesim.planning.jobs import check_profile, profile_notes, write_forecasts

    given = {name: value for name, value in options.items() if value is not None}
    wanted = _jobs_of(jobs, strategies, given, profile_file)
    profiles = [(job, profile_for(job, profile_file, as_json)) for job in wanted]
    for job, profile in profiles:
        check_profile(profile, job, f"the profile {profile_file}" if profile_file else "the profile of this machine")
    if profile_file:
        for note in dict.fromkeys(note for job, own in profiles for note in profile_notes(own, job, profile_file)):
            echo(note, err=True)
    _print_forecasts(write_forecasts(profiles, output, own_instances), as_json)


def profile_for(job: Job, file: Path | None, quiet: bool) -> Profile:
    from facesim.forecast.profile_data import Profile

    return measured_profile(job, quiet) if file is None else Profile.load(file)


def _jobs_of(
    sources: tuple[Path, ...], strategies: tuple[str, ...], given: dict[str, Any], profile_file: Path | None
) -> list[Job]:
    """The jobs that run directories, TOML files or options describe."""
    from facesim.runs.directory import find_runs
    from facesim.spec.job import flat
    from facesim.util.files import read_toml

    bases: list[dict[str, Any]] = []
    for source in sources:
        if source.suffix == ".toml":
            content = {name.replace("-", "_"): value for name, value in read_toml(source, "forecast").items()}
            bases.append({"backend": "sagemaker", **content})
        else:
            jobs = [run.job() for run in find_runs([source])]
            bases += [{**flat(job), "spot": job.spot is not None} for job in jobs]
    if not bases:
        bases = [{"backend": "sagemaker"}]
        if profile_file is not None and "recipe" not in given:
            from facesim.forecast.profile_data import Profile

            profile = Profile.load(profile_file)
            bases[0] |= profile.experiment
    return [job for base in bases for job in _study_of(base, given, strategies)]


def _study_of(base: dict[str, Any], given: dict[str, Any], strategies: tuple[str, ...]) -> list[Job]:
    """The jobs of a base with the options that are given over it; a list in a TOML file is several jobs."""
    from facesim.spec.job import options
    from facesim.spec.study import Study

    table = options()
    named = strategies or base.get("strategy", "single")
    names = {"strategy": {named} if isinstance(named, str) else set(named)}
    names["backend"] = {given.get("backend", base.get("backend", "local"))}
    # What a run, or a file, has for another strategy or backend than is asked for now.
    fitting = {
        name: value
        for name, value in base.items()
        if not (name in table and table[name].of and not names[table[name].path[0]] & set(table[name].of))
    }
    merged = {**fitting, **given, "strategy": named}
    several = {name: value for name, value in merged.items() if isinstance(value, list | tuple) and value}
    seeds = merged.pop("seed", None) or 0
    axes = {
        name: value
        for name, value in several.items()
        if name != "seed" and (name == "strategy" or name not in table or not table[name].several)
    }
    shared = {name: value for name, value in merged.items() if name not in axes and value is not None}
    return Study(shared, axes, seeds if isinstance(seeds, list | tuple) else [seeds]).jobs()


def _print_forecasts(runs: list[Run], as_json: bool) -> None:
    from facesim.planning.quantities import dollars_told, time_told

    records = [(run, record) for run in runs if (record := run.forecast()) is not None]
    if as_json:
        echo_json([{"run_directory": str(run.directory), **record.model_dump(mode="json")} for run, record in records])
        return
    for run, record in records:
        backend = run.job().backend
        echo(f"{record.shape} ({backend.name}): forecast, 80 % intervals")
        echo(
            f"  time      {time_told(record.total_s)} ({time_told(record.low_s)} to {time_told(record.high_s)}); "
            f"bound by {record.bound}"
        )
        if backend.costs_money:
            echo(
                f"  dollars   {dollars_told(record.cost_usd)} ({dollars_told(record.low_usd)} to "
                f"{dollars_told(record.high_usd)})"
            )
        phases = ", ".join(
            f"{name.removesuffix('_s').replace('_', ' ')} {time_told(seconds)}"
            for name, seconds in record.phases.items()
            if seconds > 0 and name != "first_step_s"  # it is in the start
        )
        echo(f"  phases    {phases}")
        echo(
            f"  training  {record.updates:,} updates of {1000 * record.update_s:.4g} ms, {record.images_per_s:,.0f} "
            "images/s"
        )
        for text in record.assumptions:
            echo(f"  assumed   {text}")
        echo(f"  run directory: {run.directory}")
    echo(f"\nfacesim report {' '.join(str(run.directory) for run, _ in records)} [RUN...] shows them, beside runs")


@click.command(cls=GroupedCommand)
@click.argument("runs", nargs=-1, type=FILE, metavar="[RUN]...")
@own("--instance-type", help="measure this type with a job of about three minutes", group="Cost and spot")
@own("--backend", type=Choice(["sagemaker"]), default="sagemaker", show_default=True, group="Cluster",
     help="where to measure --instance-type")  # fmt: skip
@job_options(only=(
    *OF_THE_EXPERIMENT, "region", "role", "bucket", "bucket_owner", "subnets", "security_groups", "kms_key", "image",
    "prefix", "tags", "max_cost", "on_interrupt",
), without=("epochs", "evaluate_every", "seed"))  # fmt: skip
@own("--profile", "profile_file", type=FILE, group="Output", help="the profile  [default: this machine's]")
@own("--output", type=FILE, default=Path("runs"), show_default=True, help="folder for the job's run directory")
@own("--dry-run", is_flag=True, help="print the request and what it may cost; start nothing, or keep nothing")
@own("--json", "as_json", is_flag=True, help="print JSON for machines in place of text")
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
    given = {name: value for name, value in options.items() if value is not None}
    return _measure_type(str(instance_type), backend, given, profile_file, output, dry_run, as_json)


def _measure_type(
    instance_type: str,
    backend: str,
    given: dict[str, Any],
    profile_file: Path | None,
    output: Path,
    dry_run: bool,
    as_json: bool,
) -> int:
    from facesim.cli.study import observers
    from facesim.planning.calibration import calibration_job, learn_type
    from facesim.runs.states import RunState
    from facesim.spec.job import make_job
    from facesim.study.runner import dry_run as dry_run_of
    from facesim.study.runner import run_study

    plain = make_job(**{**given, "backend": backend, "instance_type": instance_type})
    profile = profile_for(plain, profile_file, as_json)
    job = calibration_job(plain, profile)
    if dry_run:
        echo_json(dry_run_of([job], output))
        return 0
    (run,) = run_study([job], output, observers(as_json))
    result = run.result()
    if result is None or result.state is not RunState.COMPLETED:
        return 1
    if result.measurement != "measured":
        told = f"the numbers are {result.measurement}: nothing is learnt of {instance_type} from them"
        echo_json({"run_directory": str(run.directory), "kept": [], "notice": told}) if as_json else echo(told)
        return 0
    speed, outside_s, files = learn_type(result, job, profile)
    if as_json:
        told = {"speeds": {instance_type: speed}, "outside_s": outside_s, "kept": files}
        echo_json({"run_directory": str(run.directory), **told})
    else:
        _print_measured({instance_type: speed}, outside_s, files)
    return 0


def _print_learnt(learnt: Learnt, files: list[str], as_json: bool) -> None:
    from facesim.forecast.intervals import published_widths

    if as_json:
        echo_json(
            {
                "runs": [
                    {
                        "run_id": each.run_id,
                        "measurement": each.measurement,
                        "shape": each.record.shape,
                        "offered_load": each.record.offered_load,
                        "update_s": each.update_s,
                        "forecast_update_s": each.record.update_s,
                        "residual": each.residual,
                        "total_residual": each.total_residual,
                        "within_interval": each.within,
                    }
                    for each in learnt.lessons
                ],
                "widths": learnt.widths._asdict(),
                "speeds": learnt.speeds,
                "outside_s": learnt.outside_s,
                "left_out": list(learnt.left_out),
                "kept": files,
            }
        )
        return
    for each in learnt.lessons:
        total = "" if each.total_residual is None else f", the whole {100 * each.total_residual:+.1f} %"
        within = "within" if each.within else "outside of"
        echo(
            f"{each.run_id} ({each.measurement}): {each.record.shape}: updates took {1000 * each.update_s:.4g} ms, "
            f"forecast {1000 * each.record.update_s:.4g} ms ({100 * each.residual:+.1f} %){total}; {within} its "
            "interval"
        )
    for text in learnt.left_out:
        echo(f"left out: {text}")
    before = published_widths()
    echo(
        "intervals of the formulas, by how busy servers or links are: "
        + ", ".join(
            f"{name} ± {100 * own:.0f} % (published {100 * was:.0f} %)"
            for name, own, was in zip(("little", "half", "full"), learnt.widths, before, strict=True)
        )
    )
    _print_measured(learnt.speeds, learnt.outside_s, files)


def _print_measured(speeds: dict[str, float], outside_s: dict[str, float], files: list[str]) -> None:
    for name, speed in speeds.items():
        echo(f"{name} trains like {speed:.3g} reference cores, measured")
    for name, seconds in outside_s.items():
        echo(f"{name.removesuffix('_s')} takes {seconds:.0f} s, measured")
    for file in files:
        echo(f"kept in {file}")
