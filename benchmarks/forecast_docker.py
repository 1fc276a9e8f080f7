"""How right the forecast is on clusters that this machine plays: forecast against docker runs, by time dilation.

    python -m benchmarks.forecast_docker [--output DIR] [--shapes FILE] [--rounds N] [--resume] [--minutes M]
                                         [--json FILE]

For each shape the forecast is made from this machine's profile, from what chief, server and worker of each model need
of a processor when one host has all three (DIR/one_host, once a round), and from how fast as many hosts compute when
each trains for itself, found anew before each run (DIR/speeds). It is written to DIR/forecasts with the time; only then
the job is run in containers, each with its share of this machine's processors and bandwidth (`benchmarks.dilation`).
What is measured, divided by the factor of the containers, is what the forecast was of. DIR/runs has the runs,
DIR/results what they told, DIR/report.json and DIR/report.md the errors.

A machine that is shared with others is not always as fast. So the hosts' speed is found once more after each run: where
it has changed by more than 7 %, or others had the machine meanwhile, forecast and run are repeated, at most twice, and
the steadiest counts, whatever its error was. If none was steady, the table says so. Of asynchronous shapes it also has
the error of a forecast that is told, afterwards, what the run's tasks needed of a processor.

The profile is measured on one processor, as each host has, unless --profile gives files of `facesim profile`. A shape
file has a table [[shape]] each: strategy, workers, ps, ps_hosts, gbps, model, batch, image_size, host_cpus.

It needs a container engine and facesim's image (`facesim image build`). Where no engine answers, hosts are network
namespaces (`benchmarks.namespaces`), which needs Linux and root. Nothing else should run meanwhile.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.dilation import (
    DilatedShape,
    Figures,
    cpu_s_per_update,
    epochs_for,
    errors_of,
    forecast_of,
    forecast_with_cpu_of,
    measured,
    profile_file,
    shapes_of,
    speed_of,
    stamp,
    with_cpu_s,
)
from benchmarks.dilation_report import disturbances_of, summary, table
from benchmarks.namespaces import Namespaces, why_not
from cluster.containers.engine import EngineError, capacity
from facesim.forecast.profile_data import Profile
from facesim.runs.directory import Run
from facesim.runs.states import RunState
from facesim.study.runner import run_study
from facesim.util.errors import FacesimError, InputError
from facesim.util.files import write_json, write_text

#: How often a shape is forecast and run in one round, at the most, for hosts that stay as fast.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Setting:
    """What all shapes are played with: the images, about how long a run is to take, the folder of the results, what
    plays the hosts (`players`), and how many processors it has.
    """

    data: str
    seconds: float
    output: Path
    played: str
    cpus: float


def profile_of(shape: DilatedShape, data: str, folder: Path, given: Sequence[Profile]) -> Profile:
    """The profile of the shape's experiment: one that was given, else of this machine, measured once for each.

    Raises:
        InputError: those of its model that were given are of another batch or size of images.
    """
    of_model = [profile for profile in given if profile.model == shape.model]
    for profile in of_model:
        if (profile.batch, profile.options.get("image_size", shape.image_size)) == (shape.batch, shape.image_size):
            return profile
    if of_model:
        raise InputError(
            f"no --profile of {shape.model} is of batch {shape.batch} and images of {shape.image_size} pixels: give "
            "one that is, or leave --profile out to have it measured"
        )
    file = profile_file(folder, shape)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        options = {"model": shape.model, "batch": shape.batch, "image-size": shape.image_size, "data": data}
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        # On one processor, as a host has; in a cache of its own, because it is not what this machine can do.
        made = subprocess.run(
            [sys.executable, "-m", "facesim", "profile", *arguments, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"FACESIM_CACHE": str(folder / "cache")},
            preexec_fn=_on_one_processor,
        )
        if made.returncode != 0:
            raise FacesimError(f"the machine could not be profiled for {shape.model}; what it said is above")
        write_text(file, made.stdout)
    return Profile.load(file)


def _on_one_processor() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def speed_as_played(shape: DilatedShape, profile: Profile, setting: Setting, name: str) -> float:
    """How fast so many hosts are, now, that compute and send nothing, against the profile."""
    alike = shape.computing
    epochs = epochs_for(alike, profile, setting.seconds / 2, setting.cpus)
    run = play(alike, setting.data, epochs, setting.output / "runs", setting.played)
    speed = speed_of(run, alike, profile)
    file = setting.output / "speeds" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"run": run.directory.name, "hosts": shape.hosts, "speed": speed})
    return speed


def foresee(shape: DilatedShape, profile: Profile, epochs: int, speed: float, file: Path) -> Figures:
    """The forecast, written to `file` with the time."""
    forecast, figures = forecast_of(shape, profile, epochs, speed)
    write_json(
        file,
        {
            "made": stamp(),
            "shape": shape.model_dump(),
            "epochs": epochs,
            "speed": speed,
            "forecast": asdict(figures),
            "half_width": forecast.half_width,
            "offered_load": forecast.offered_load,
            "bound": forecast.bound,
            "extrapolated": forecast.extrapolated,
            "profile": {"created": profile.created, "disturbed": profile.disturbed},
        },
    )
    return figures


def play(shape: DilatedShape, data: str, epochs: int, folder: Path, played: str = "docker") -> Run:
    """Run the shape's job, its hosts `played` by containers (`docker`) or by `namespaces`.

    Raises:
        FacesimError: it did not complete.
    """
    job = shape.job(data, epochs)
    if played == "namespaces":
        job = job.model_copy(update={"backend": Namespaces(**job.backend.model_dump())})
    (run,) = run_study([job], folder)
    result = run.result()
    if result and result.state is RunState.STOPPED:
        raise KeyboardInterrupt
    if result is None or result.state is not RunState.COMPLETED:
        raise FacesimError(f"the run {run.directory} did not complete: {result.failure if result else 'no result'}")
    return run


def players() -> tuple[str, float]:
    """What plays the hosts here, and how many processors it has.

    Raises:
        InputError: neither containers nor namespaces are possible.
    """
    try:
        return "docker", capacity()[0]
    except EngineError as error:
        if reason := why_not():
            raise InputError(f"{error}; and {reason}") from None
        return "namespaces", float(len(os.sched_getaffinity(0)))


def judge(shape: DilatedShape, profile: Profile, round_: int, setting: Setting) -> dict[str, Any]:
    """One shape's forecast and then its run, again while hosts did not stay as fast: what `results` keeps of both."""
    if shape.served:
        profile = profile_of_one_host(shape, profile, round_, setting)
    epochs = epochs_for(shape, profile, setting.seconds, setting.cpus)
    (setting.output / "forecasts").mkdir(parents=True, exist_ok=True)

    def once(name: str, speed: float) -> dict[str, Any]:
        file = setting.output / "forecasts" / f"{name}.json"
        foresee(shape, profile, epochs, speed, file)
        run = play(shape, setting.data, epochs, setting.output / "runs", setting.played)
        found = result_of(shape, round_, json.loads(file.read_text(encoding="utf-8")), run)
        told = forecast_with_cpu_of(run, shape, profile, epochs)
        return found | {
            "error_with_cpu": told and errors_of(told, Figures(**found["measured"]["figures"])).updates_per_s
        }

    attempts = attempts_at(shape, profile, setting, f"{shape.name}-{round_}", once)
    kept = [{name: each[name] for name in ("run", "speed_change", "errors")} for each in attempts]
    return {"played": setting.played} | steadiest(attempts) | {"attempts": kept}


def profile_of_one_host(shape: DilatedShape, profile: Profile, round_: int, setting: Setting) -> Profile:
    """The profile as one host shows it that has chief, server and worker, measured once a round for each model."""
    one = shape.on_one_host
    name = f"{one.model}-{one.image_size}-{one.batch}{one.cpus_in_name}-{round_}"
    file = setting.output / "one_host" / f"{name}.json"

    def once(_: str, speed: float) -> dict[str, Any]:
        epochs = epochs_for(one, profile, setting.seconds, setting.cpus)
        run = play(one, setting.data, epochs, setting.output / "runs", setting.played)
        used_s = cpu_s_per_update(run)
        return {"run": run.directory.name, "speed": speed, "cpu_s": used_s, "measured": measured(run).to_dict()}

    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, steadiest(attempts_at(one, profile, setting, f"one-host-{name}", once)))
    seen = json.loads(file.read_text(encoding="utf-8"))
    return with_cpu_s(profile, seen["cpu_s"], seen["speed"])


def attempts_at(
    shape: DilatedShape,
    profile: Profile,
    setting: Setting,
    name: str,
    once: Callable[[str, float], dict[str, Any]],
) -> list[dict[str, Any]]:
    """What `once` finds, which is given a name and how fast the shape's hosts were just before, by how much they have
    become faster since; again while it was disturbed.
    """
    results: list[dict[str, Any]] = []
    speed = speed_as_played(shape, profile, setting, f"{name}-before")
    for attempt in range(1, _ATTEMPTS + 1):
        found = once(f"{name}-{attempt}", speed)
        after = speed_as_played(shape, profile, setting, f"{name}-{attempt}-after")
        results.append({"attempt": attempt, "speed_change": after / speed - 1} | found)
        if not disturbances_of(results[-1]):
            break
        speed = after
    return results


def steadiest(attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The attempt that others disturbed least, and of several the one whose hosts changed their speed least."""
    return min(attempts, key=lambda each: (bool(each["measured"]["disturbances"]), abs(each["speed_change"])))


def result_of(shape: DilatedShape, round_: int, foreseen: dict[str, Any], run: Run) -> dict[str, Any]:
    """Forecast against measured.

    Raises:
        InputError: the run began before its forecast was written, which proves nothing.
    """
    began = min(event.time_unix_s for event in run.events())
    if began < foreseen["made"]["unix_s"]:
        raise InputError(f"the run {run.directory} began before its forecast was written")
    figures = measured(run)
    return {
        "shape": shape.model_dump(),
        "name": shape.name,
        "round": round_,
        "forecast_made": foreseen["made"]["utc"],
        "run": run.directory.name,
        "run_began_unix_s": began,
        "bound": foreseen["bound"],
        "offered_load": foreseen["offered_load"],
        "half_width": foreseen["half_width"],
        "forecast": foreseen["forecast"],
        "measured": figures.to_dict(),
        "errors": asdict(errors_of(Figures(**foreseen["forecast"]), figures.figures)),
    }


@click.command()
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default="dilated", show_default=True)
@click.option("--shapes", default="default", show_default=True, help="a TOML file with a table [[shape]] each")
@click.option("--profile", "profiles", type=click.Path(dir_okay=False, path_type=Path), multiple=True)
@click.option("--data", help="what is trained on  [default: 1600 rendered images]")
@click.option("--seconds", default=40.0, show_default=True, help="of training of each run, about")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--resume", is_flag=True, help="do not run again what DIR/results has already")
@click.option("--minutes", type=float, help="after so many begin no further run: --resume goes on  [default: no end]")
@click.option("--json", "as_json", is_flag=False, flag_value="-", help="also as JSON: to this file, or printed alone")
def main(
    output: Path,
    shapes: str,
    profiles: tuple[Path, ...],
    data: str | None,
    seconds: float,
    rounds: int,
    resume: bool,
    minutes: float | None,
    as_json: str | None,
) -> None:
    try:
        until = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
        report = _report(output, shapes, profiles, data, seconds, rounds, resume, until, quiet=as_json == "-")
    except (FacesimError, EngineError) as error:
        raise click.ClickException(str(error)) from None
    if as_json == "-":
        json.dump(report, sys.stdout, indent=1)
        click.echo()
    elif as_json:
        write_json(Path(as_json), report)


def _report(
    output: Path,
    shapes: str,
    profiles: tuple[Path, ...],
    data: str | None,
    seconds: float,
    rounds: int,
    resume: bool,
    until_s: float,
    quiet: bool,
) -> dict[str, Any]:
    chosen, given = shapes_of(shapes), [Profile.load(file) for file in profiles]
    played, cpus = players()
    (output / "results").mkdir(parents=True, exist_ok=True)
    if not resume:  # a machine is not always as fast
        shutil.rmtree(output / "one_host", ignore_errors=True)
    data = data or _rendered(output / "people", max(shape.image_size for shape in chosen))
    setting = Setting(data, seconds, output, played, cpus)
    tell = (lambda text: click.echo(text, err=True)) if quiet else click.echo
    results, left = [], 0
    for round_ in range(1, rounds + 1):
        for number, shape in enumerate(chosen, 1):
            file = output / "results" / f"{shape.name}-{round_}.json"
            if not (resume and file.exists()):
                if time.monotonic() > until_s:
                    left += 1
                    continue
                tell(f"[round {round_}, {number}/{len(chosen)}] {shape.name}")
                try:
                    profile = profile_of(shape, data, output / "profiles", given)
                    write_json(file, judge(shape, profile, round_, setting))
                except FacesimError as error:
                    tell(f"  left out: {error}")
                    continue
            results.append(json.loads(file.read_text(encoding="utf-8")))
    if left:
        tell(f"{left} runs are left: --resume goes on with them")
    report = summary(results)
    lines = list(table(report))
    write_json(output / "report.json", report)
    write_text(output / "report.md", "\n".join(lines) + "\n")
    if not quiet:
        for line in lines:
            click.echo(line)
    return report


def _rendered(folder: Path, size: int) -> str:
    """A folder of rendered faces, made once: enough for epochs that are longer than their ends."""
    if not folder.exists():
        arguments = ["--identities", "40", "--images", "40", "--size", str(size)]
        begun = folder.with_name(f"{folder.name}.part")  # whose rendering may have been interrupted
        shutil.rmtree(begun, ignore_errors=True)
        command = [sys.executable, "-m", "facesim", "data", "render", str(begun), *arguments]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            raise FacesimError("the images could not be rendered; what was said is above")
        begun.rename(folder)
    return str(folder)


if __name__ == "__main__":
    main()
