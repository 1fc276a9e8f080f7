"""Commands that ask before anything is run: `plan`, `forecast`, `calibrate`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, help_all, job_options, own
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice, read_config
from facesim.errors import InputError
from facesim.spec.strategies import STRATEGIES

if TYPE_CHECKING:
    from facesim.forecast.hosts import HostType
    from facesim.forecast.profile_data import Profile
    from facesim.planning.search import Plan
    from facesim.runs.directory import Run
    from facesim.spec.job import Job

#: Strategies that a plan tries; the others gain nothing where hosts compute on their processors.
_TRIED = ("single", "ps-async", "ps-sync", "allreduce", "local-sgd")

#: Options of a job that say what is trained, and are the same for every shape of a plan.
_OF_THE_EXPERIMENT = (
    "recipe", "data", "subset", "model", "head", "image_size", "channels", "held_out", "min_images", "image_feature",
    "label_feature", "epochs", "batch", "precision", "cache", "augment", "mirror_test", "evaluate_every", "seed",
    "learning_rate", "schedule", "warmup", "weight_decay", "clip_norm", "label_smoothing", "margin", "margin_scale",
)  # fmt: skip

_FILE = click.Path(path_type=Path)


@click.command(cls=GroupedCommand)
@own("--strategy", "strategies", type=Choice(list(STRATEGIES)), multiple=True, group="Training",
     help=f"what to try; repeatable  [default: {', '.join(_TRIED)}]")  # fmt: skip
@job_options(only=_OF_THE_EXPERIMENT)
@own("--instance-type", "instance_types", multiple=True, group="Cluster",
     help="what to try; repeatable  [default: every type whose speed is known]")  # fmt: skip
@own("--workers", default="1..8", show_default=True, group="Cluster", help="how many: 4, 1,2,4 or 1..16")
@own("--ps", default="1..2", show_default=True, group="Cluster", help="how many parameter servers")
@own("--ps-instance-type", group="Cluster", help="hosts of their own for parameter servers  [default: the workers']")
@own("--backup-workers", type=click.IntRange(0, 64), default=0, show_default=True, group="Cluster", common=False,
     help="ps-sync: workers that may come too late")  # fmt: skip
@own("--local-steps", type=click.IntRange(1, 10_000), default=8, show_default=True, group="Cluster", common=False,
     help="local-sgd: steps between averagings")  # fmt: skip
@own("--deadline", group="Cost and spot", help="how long it may take, such as 2h or 90m")
@own("--budget", group="Cost and spot", help="US dollars that it may cost, such as 5")
@own("--min-accuracy", group="Training", help="held-out accuracy that it must reach, such as 0.95 or 95 %")
@own("--spot/--no-spot", default=False, show_default=True, group="Cost and spot",
     help="try spot capacity, too, beside on demand")  # fmt: skip
@own("--region", group="AWS", help="AWS region whose prices are meant")
@own(
    "--profile",
    "profile_file",
    type=_FILE,
    group="Output",
    help="the profile  [default: this machine's, measured if there is none]",
)
@own("--instances", "own_instances", type=_FILE, group="Cost and spot",
     help="TOML file of instance types and prices of your own")  # fmt: skip
@own("--runs", type=_FILE, default=Path("runs"), show_default=True, help="folder of runs, which tell accuracies")
@own(
    "--explain",
    metavar="SHAPE",
    help="the arithmetic of one shape in words: cheapest, fastest, or ps-async:ml.m5.xlarge:4w:1ps",
)
@own("--all", "everything", is_flag=True, common=False, help="print every shape")
@own("--output", type=_FILE, help="HTML file with the plots  [default: in --runs]")
@own("--config", type=_FILE, is_eager=True, expose_value=False, callback=read_config,
     help="TOML file with any of these options; flags win over it")  # fmt: skip
@own("--json", "as_json", is_flag=True, help="print JSON for machines, every shape, in place of text")
@help_all()
def plan(
    strategies: tuple[str, ...],
    instance_types: tuple[str, ...],
    workers: str,
    ps: str,
    deadline: str | None,
    budget: str | None,
    min_accuracy: str | None,
    spot: bool,
    region: str | None,
    profile_file: Path | None,
    own_instances: Path | None,
    runs: Path,
    explain: str | None,
    everything: bool,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what training would take and cost on clusters that nobody has run: one machine or a cluster, and which.

    All numbers are forecasts, from a profile of this machine and formulas, with 80 % intervals. Nothing is started
    but, where there is no profile yet, the measurements of one.
    """
    from facesim.planning import quantities
    from facesim.planning.search import Axes, Wanted

    wanted = Wanted(
        None if deadline is None else quantities.seconds(deadline, "--deadline"),
        None if budget is None else quantities.dollars(budget, "--budget"),
        None if min_accuracy is None else quantities.share(min_accuracy, "--min-accuracy"),
    )
    axes = Axes(
        strategies=tuple(dict.fromkeys(strategies or _TRIED)),
        instance_types=tuple(dict.fromkeys(instance_types)),
        workers=quantities.counts(workers, "--workers"),
        ps=quantities.counts(ps, "--ps", 64),
        spot=spot,
        ps_instance_type=options.pop("ps_instance_type"),
        backup_workers=options.pop("backup_workers"),
        local_steps=options.pop("local_steps"),
    )
    made = _plan(axes, wanted, region, profile_file, own_instances, runs, options, as_json)
    chosen = None if explain is None else _row_of(made, explain)
    if as_json:
        _print_json(made, chosen)
        return
    if chosen is not None:
        from facesim.planning.explain import explain as explained
        from facesim.planning.explain import told

        echo(f"forecast of {chosen.forecast.shape}, step by step:")
        for line in told(explained(made, chosen)):
            echo(line)
        return
    _print_plan(made, everything)
    from facesim.planning.page import write_page

    page = output or runs / f"plan-{time.strftime('%Y%m%d-%H%M%S')}.html"
    write_page(made, page)
    echo(f"\nplan: {page}")


def _plan(
    axes: Any,
    wanted: Any,
    region: str | None,
    profile_file: Path | None,
    own_instances: Path | None,
    runs: Path,
    options: dict[str, Any],
    as_json: bool,
) -> Plan:
    import math
    from dataclasses import replace

    from facesim.planning.accuracy import accuracies
    from facesim.planning.jobs import check_profile
    from facesim.planning.saved import saved_hosts, saved_outside, saved_widths
    from facesim.planning.search import make_plan
    from facesim.spec.job import make_job

    known = saved_hosts(own_instances)
    _check_types(known, (*axes.instance_types, *filter(None, [axes.ps_instance_type])))
    if not axes.instance_types:
        usable = tuple(name for name, kind in known.items() if kind.relative_speed)
        axes = replace(axes, instance_types=usable)
    shapes = axes.shapes()  # before anything is measured
    given = {name: value for name, value in options.items() if value is not None}
    if profile_file is not None:
        from facesim.forecast.profile_data import Profile

        profile = Profile.load(profile_file)
        said = {"model": profile.model, "batch": profile.batch, "precision": profile.precision}
        job = make_job(**{**(said if "recipe" not in given else {}), **given})
        check_profile(profile, job, f"the profile {profile_file}")
    else:
        job = make_job(**given)
        profile = _measured(job, as_json)
        check_profile(profile, job, "the profile of this machine")
    notes = [*_of_the_profile(profile, job, profile_file, given), *_of_the_region(region, known, axes)]
    return make_plan(
        profile,
        axes,
        wanted,
        epochs=job.experiment.epochs,
        batch=job.experiment.batch,
        evaluations=math.ceil(job.experiment.epochs / job.experiment.evaluate_every),
        known_hosts=known,
        accuracies=accuracies(_runs_in(runs), job, shapes),
        widths=saved_widths(),
        outside=saved_outside(),
        notes=notes,
    )


def _check_types(known: dict[str, HostType], names: tuple[str, ...]) -> None:
    from facesim.forecast.hosts import host

    for name in names:
        try:
            host(name, known)
        except InputError as error:
            raise InputError(f"--instance-type: {error}; a type of your own goes in a file for --instances") from None


def _measured(job: Job, quiet: bool) -> Profile:
    """This machine's profile of a job's experiment, measured now if there is none."""
    from facesim.planning.profiles import have_profile

    return have_profile(job, quiet)


def _of_the_profile(profile: Profile, job: Job, file: Path | None, given: dict[str, Any]) -> list[str]:
    """What has to be said of a profile that may be of another experiment than the job's."""
    told = []
    if file is not None and given.keys() & {"data", "subset", "image_size", "channels", "head"}:
        told.append(
            f"{file} was measured with images, people and a head like those that are asked for: "
            f"{profile.examples:,} training examples are taken from it"
        )
    return told


def _of_the_region(region: str | None, known: dict[str, HostType], axes: Any) -> list[str]:
    from facesim.billing import instances
    from facesim.spec.aws_names import region as checked

    if region is None:
        return []
    try:
        checked(region)
    except ValueError as error:
        raise InputError(f"--region {region!r} is not allowed: {error}") from None
    others = {
        kind.price_region
        for name, kind in instances().items()
        if name in axes.instance_types and known[name].price_source != "the user" and kind.price_region != region
    }
    if not others:
        return []
    return [
        f"prices are those of {', '.join(sorted(others))}, not of {region}: facesim prices refresh --region {region} "
        "asks AWS for them"
    ]


def _runs_in(folder: Path) -> list[Run]:
    from facesim.runs.directory import find_runs

    if not folder.exists():
        return []
    try:
        return find_runs([folder])
    except InputError:  # it has none
        return []


def _row_of(made: Plan, text: str) -> Any:
    """The row that --explain names; made now where it is none of the plan's."""
    from facesim.planning.explain import read_shape
    from facesim.planning.search import Row

    named = {"cheapest": made.cheapest or made.cheapest_of_all, "fastest": made.fastest or made.fastest_of_all}
    if text.strip() in named:
        return named[text.strip()]
    usual = (made.cheapest or made.cheapest_of_all).forecast.shape
    wanted = read_shape(text, made.known, usual)
    for row in made.rows:
        if row.forecast.shape == wanted:
            return row
    from facesim.forecast.model import forecast_job

    forecast = forecast_job(
        made.profile, wanted, epochs=made.epochs, batch=made.batch, known_hosts=made.known, widths=made.widths
    )
    return Row(forecast, None, ())


def _print_json(made: Plan, chosen: Any) -> None:
    from facesim.planning.answer import to_json

    content = to_json(made)
    if chosen is not None:
        from facesim.planning.explain import explain

        content["explained"] = {
            "shape": str(chosen.forecast.shape),
            "steps": [step._asdict() for step in explain(made, chosen)],
        }
    echo_json(content)


def _print_plan(made: Plan, everything: bool) -> None:
    from facesim.planning.answer import answer, notes, table

    for sentence in answer(made):
        echo(sentence)
    echo("\nAll numbers are forecast; in brackets the 80 % interval.")
    rows = table(made, everything)
    headings = ("shape", "time", "dollars", "accuracy", "bound by", "")
    cells = [headings, *((row.shape, row.time, row.cost, row.accuracy, row.bound, row.marks) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    for line in cells:
        echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    left = len(made.rows) - len(rows)
    if left:
        echo(f"and {left:,} more shapes: --all prints them")
    echo()
    for topic, text in notes(made):
        echo(f"{topic:12}{text}")


@click.command(cls=GroupedCommand)
@click.argument("jobs", nargs=-1, type=_FILE, metavar="[RUN|TOML]...")
@own("--strategy", "strategies", type=Choice(list(STRATEGIES)), multiple=True, group="Training",
     help="how replicas train together; repeatable  [default: single]")  # fmt: skip
@job_options(without=("strategy",))
@own("--spot/--no-spot", default=None, group="Cost and spot", help="spot capacity")
@own("--profile", "profile_file", type=_FILE, group="Output", help="the profile  [default: this machine's]")
@own("--instances", "own_instances", type=_FILE, group="Cost and spot",
     help="TOML file of instance types and prices of your own")  # fmt: skip
@own("--output", type=_FILE, default=Path("runs"), show_default=True, help="folder for the forecasts' run directories")
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
    import secrets

    from facesim.planning.jobs import check_profile, write_forecast

    given = {name: value for name, value in options.items() if value is not None}
    wanted = _jobs_of(jobs, strategies, given, profile_file)
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    profiles = [(job, _profile_for(job, profile_file)) for job in wanted]
    for job, profile in profiles:
        check_profile(profile, job, f"the profile {profile_file}" if profile_file else "the profile of this machine")
    runs = []
    for number, (job, profile) in enumerate(profiles, 1):
        place = f"-{number}" if len(profiles) > 1 else ""
        directory = output / f"{stamp}-{job.strategy.name}-seed{job.experiment.seed}-forecast{place}"
        runs.append(write_forecast(job, profile, directory, own_instances))
    _print_forecasts(runs, as_json)


def _profile_for(job: Job, file: Path | None) -> Profile:
    from facesim.forecast.profile_data import Profile
    from facesim.planning.profiles import have_profile

    return have_profile(job) if file is None else Profile.load(file)


def _jobs_of(
    sources: tuple[Path, ...], strategies: tuple[str, ...], given: dict[str, Any], profile_file: Path | None
) -> list[Job]:
    """The jobs that run directories, TOML files or options describe."""
    from facesim.files import read_toml
    from facesim.runs.directory import find_runs
    from facesim.spec.job import applicable, flat, make_job

    bases: list[dict[str, Any]] = []
    for source in sources:
        if source.suffix == ".toml":
            content = {name.replace("-", "_"): value for name, value in read_toml(source, "forecast").items()}
            named = content.pop("strategy", ["single"])
            for name in named if isinstance(named, list) else [named]:
                bases += [{"backend": "sagemaker", **own} for own in applicable({**content}, [name])]
        else:
            for run in find_runs([source]):
                job = run.job()
                bases.append({**flat(job), "spot": job.spot is not None})
    if not bases:
        bases = [{"backend": "sagemaker"}]
        if profile_file is not None and not given.keys() & {"recipe"}:
            from facesim.forecast.profile_data import Profile

            profile = Profile.load(profile_file)
            bases[0] |= {"model": profile.model, "batch": profile.batch, "precision": profile.precision}
        strategies = strategies or ("single",)
    wanted = []
    for base in bases:
        for name in strategies or (base.get("strategy", "single"),):
            (merged,) = applicable({**base, **given}, [name]) if name in STRATEGIES else ({**base, **given},)
            wanted.append(make_job(**_fitting(merged)))
    return wanted


def _fitting(options: dict[str, Any]) -> dict[str, Any]:
    """The options without those of another backend than theirs, which a run that is forecast elsewhere may have had."""
    from facesim.spec.job import options as every

    table, backend = every(), options.get("backend", "local")
    return {
        name: value
        for name, value in options.items()
        if not (name in table and table[name].path[0] == "backend" and table[name].of and backend not in table[name].of)
    }


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
@click.argument("runs", nargs=-1, type=_FILE, metavar="[RUN]...")
@own("--instance-type", help="measure this type with a job of about three minutes", group="Cost and spot")
@own("--backend", type=Choice(["sagemaker"]), default="sagemaker", show_default=True, group="Cluster",
     help="where to measure --instance-type")  # fmt: skip
@job_options(only=(
    *_OF_THE_EXPERIMENT, "region", "role", "bucket", "bucket_owner", "subnets", "security_groups", "kms_key", "image",
    "prefix", "tags", "max_cost", "on_interrupt",
), without=("epochs", "evaluate_every", "seed"))  # fmt: skip
@own("--profile", "profile_file", type=_FILE, group="Output", help="the profile  [default: this machine's]")
@own("--output", type=_FILE, default=Path("runs"), show_default=True, help="folder for the job's run directory")
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
    from facesim.cli.study import _print_dry_run, _watcher
    from facesim.planning.calibration import calibration_job
    from facesim.planning.learning import keep, learn
    from facesim.runs.states import RunState
    from facesim.spec.job import make_job
    from facesim.study import run_study

    plain = make_job(**{**given, "backend": backend, "instance_type": instance_type})
    job = calibration_job(plain, _profile_for(plain, profile_file))
    if dry_run:
        return _print_dry_run([job], output)
    (run,) = run_study([job], output, _watcher(as_json))
    result = run.result()
    if result is None or result.state is not RunState.COMPLETED:
        return 1
    if result.measurement != "measured":
        told = f"the numbers are {result.measurement}: nothing is learnt of {instance_type} from them"
        echo_json({"run_directory": str(run.directory), "kept": [], "notice": told}) if as_json else echo(told)
        return 0
    learnt = learn([run])
    _print_learnt(learnt, keep(learnt, residuals=False), as_json)
    return 0


def _print_learnt(learnt: Any, files: list[str], as_json: bool) -> None:
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
            f"{each.run_id} ({each.measurement}): {each.record.shape}: an update took {1000 * each.update_s:.4g} ms, "
            f"forecast {1000 * each.record.update_s:.4g} ms ({100 * each.residual:+.1f} %){total}; {within} its interval"
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
    for name, speed in learnt.speeds.items():
        echo(f"{name} trains like {speed:.3g} reference cores, measured")
    for name, seconds in learnt.outside_s.items():
        echo(f"{name.removesuffix('_s')} takes {seconds:.0f} s, measured")
    for file in files:
        echo(f"kept in {file}")
