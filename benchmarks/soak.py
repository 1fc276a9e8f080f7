"""Random kills and freezes of everything that a run consists of: does each run arrive, with nothing counted twice?

    python -m benchmarks.soak [--disturbances 100] [--compare] [--json soak.json]
    python -m benchmarks.soak --short        # in about a minute, for CI

Jobs of all strategies, one after another, are disturbed until there have been so many: a task of every role in turn,
the node that supervises them, or the command itself, is killed or stopped, at a random step or while the run starts. A
command that was killed must leave no process, and is continued. It exits with 1 unless every run completed, every
example was counted once, the audit found what it should, and no process is left. With `--compare` every job is also run
undisturbed, and each strategy's held-out accuracy must be that of these runs: its mean lies in their interval, or that
of the difference, paired by seed, has 0 in it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.common import write
from facesim.data import RenderSpec, render_folder
from facesim.report.statistics import mean_interval
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.spec.strategies import STRATEGIES

#: Disturbances of one run.
_A_RUN = 2
#: Seconds after its begin in which a run is taken to be starting.
_STARTS_S = 4.0
#: Seconds until what was killed, with all that it started, must have ended; and until a run has hung for good.
_ENDS_S, _RUN_S = 5.0, 240.0

#: 12 updates an epoch of 192 examples.
_UPDATES = 12
_OPTIONS = {
    "model": "compact-cnn", "image_size": 32, "batch": 16, "learning_rate": 3e-3, "held_out": 0.4,
    "checkpoint_steps": 12, "max_restarts": 10, "sampling_s": 0.5, "hang_s": 5,
}  # fmt: skip

#: What a task's disturbance is: a fault as `--faults` has it. One that is stopped for good has to be noticed.
_TASK_KINDS: list[dict[str, Any]] = [
    {"kind": "kill"},
    {"kind": "freeze", "for_s": 600},
    {"kind": "freeze", "for_s": 0.5},
]


class Disturbed:
    """One run of a command, disturbed as `draw` has it, and continued until it ends by itself."""

    def __init__(self, options: dict[str, Any], directory: Path, draw: random.Random, roles: list[str]):
        self.happened: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._token, self._directory, self._strategy = uuid.uuid4().hex, directory, options["strategy"]
        directory.mkdir(parents=True)
        tasks = make_job(**options).tasks
        faults = [
            _fault(draw, [task for task in tasks if task.startswith(role)], _UPDATES * options["epochs"])
            for role in roles
            if role not in ("node", "command")
        ]
        script = directory / "faults.toml"
        script.write_text("\n".join(map(_toml, faults)), encoding="utf-8")
        flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        arguments = [*flags, "--faults", str(script), "--output", str(directory / "runs")]
        outside = {role: draw.uniform(0.2, 3 * _STARTS_S) for role in roles if role in ("node", "command")}
        self._follow(arguments, outside)

    @property
    def run(self) -> Run | None:
        files = list((self._directory / "runs").glob("*/job.json"))
        return Run(files[0].parent) if files else None

    def _follow(self, arguments: list[str], outside: dict[str, float]) -> None:
        """Start the command, kill it or its node when it is time, and continue it when it was killed."""
        until_s = time.monotonic() + _RUN_S
        process, begin_s = self._start(arguments), time.monotonic()
        try:
            self._disturb(process, outside, begin_s, until_s)
        finally:
            process.kill()  # if this is being ended, too
            process.wait()
        if process.returncode == -signal.SIGKILL:
            self._expect_nothing_left("after the command was killed")
            if not self.wrong:
                going_on = ["--resume", str(self.run.directory)] if self.run else arguments
                self._follow(going_on, {})

    def _disturb(
        self, process: subprocess.Popen[bytes], outside: dict[str, float], begin_s: float, until_s: float
    ) -> None:
        while process.poll() is None:
            if time.monotonic() > until_s:
                self.wrong.append(f"did not end within {_RUN_S:.0f} s")
                process.kill()
            for role, in_s in list(outside.items()):
                if time.monotonic() - begin_s >= in_s and self._kill(role, process):
                    del outside[role]
            time.sleep(0.02)

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "facesim", "run", *arguments],
            env={**os.environ, "FACESIM_SOAK": self._token},
            stdout=(self._directory / "shown").open("ab"),
            stderr=subprocess.STDOUT,
        )

    def _kill(self, role: str, process: subprocess.Popen[bytes]) -> bool:
        """Kill the command, or the node that it has last started; whether there was one."""
        if role == "command":
            process.kill()
        else:
            nodes = [e["pid"] for e in self.run.events() if e["event"] == "node_started"] if self.run else []
            try:
                os.kill(nodes[-1], signal.SIGKILL)
            except (IndexError, ProcessLookupError):  # there is none yet, or it has just ended
                return False
        self.happened[f"kill {role}"] += 1
        return True

    def _expect_nothing_left(self, when: str) -> None:
        until_s = time.monotonic() + _ENDS_S
        while (left := _carrying(self._token)) and time.monotonic() < until_s:
            time.sleep(0.05)
        if left:
            self.wrong.append(f"{when} were left: {[process.info['name'] for process in left]}")
        for process in left:
            process.kill()

    def check(self) -> dict[str, Any]:
        """Add what is wrong with the run that has ended to `wrong`; its result."""
        self._expect_nothing_left("in the end")
        result = (self.run.result() if self.run else None) or {}
        if result.get("state") != "Completed":
            shown = (self._directory / "shown").read_text(errors="replace", encoding="utf-8")[-2000:]
            self.wrong.append(f"ended as {result.get('state')}: {result.get('failure') or shown}")
            return {}
        assert self.run
        for event in self.run.events():
            if event["event"] == "fault":
                role = event["target"].rsplit("-", 1)[0]
                self.happened[f"{event['kind']} {role}"] += 1
        counted = result["counted"]
        # The copies of `independent` train everything each, and count each its own.
        if counted["examples"] != counted["examples_due"]:
            self.wrong.append(f"{counted['examples']} examples counted, {counted['examples_due']} due")
        expected = {"single": "single", "independent": "apart"}.get(self._strategy, "together")
        if result["sync_audit"]["verdict"] != expected:
            self.wrong.append(f"audited {result['sync_audit']['verdict']}: {result['sync_audit']['evidence']}")
        return result


def _fault(draw: random.Random, targets: list[str], updates: int) -> dict[str, Any]:
    """A disturbance of one of these tasks: a third of them come while it starts."""
    starting = draw.random() < 1 / 3
    when = {"at_s": round(draw.uniform(0, _STARTS_S), 2)} if starting else {"at_step": draw.randrange(1, updates)}
    return {**draw.choice(_TASK_KINDS), "target": draw.choice(targets), **when}


def _toml(fault: dict[str, Any]) -> str:
    return "[[fault]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fault.items())


def _carrying(token: str) -> list[psutil.Process]:
    """Processes that run with `token` in their environment."""
    problems = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.environ().get("FACESIM_SOAK") == token and process.status() != psutil.STATUS_ZOMBIE:
                problems.append(process)
        except psutil.Error:
            continue
    return problems


def _roles(strategy: str, draw: random.Random) -> itertools.cycle[str]:
    """What of a strategy's runs is disturbed, in turn, beginning with any."""
    roles = sorted({task.rsplit("-", 1)[0] for task in make_job(strategy=strategy).tasks})
    roles += ["node", "command"]
    draw.shuffle(roles)
    return itertools.cycle(roles)


@click.command()
@click.option("--disturbances", type=click.IntRange(1), default=100, show_default=True, help="in all, at the least")
@click.option("--epochs", type=click.IntRange(2), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="of what is drawn")
@click.option("--strategy", "strategies", multiple=True, type=click.Choice(list(STRATEGIES)), help="[default: all]")
@click.option("--compare", is_flag=True, help="also run each job undisturbed, and compare accuracies")
@click.option("--short", is_flag=True, help="a few disturbances of three strategies, for CI")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="also write the figures here")
def main(
    disturbances: int,
    epochs: int,
    seed: int,
    strategies: tuple[str, ...],
    compare: bool,
    short: bool,
    json_file: Path | None,
) -> None:
    """Disturb runs at random, and see whether everyone arrives."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with what is under way
    if short:
        disturbances, epochs, strategies = 5, 4, ("ps-async", "allreduce", "single")
    names = list(strategies or STRATEGIES)
    draw = random.Random(seed)
    roles = {name: _roles(name, draw) for name in names}
    wrong: list[str] = []
    happened, lost = Counter[str](), Counter[str]()
    accuracy: dict[str, dict[str, list[float]]] = {name: {"undisturbed": [], "disturbed": []} for name in names}
    runs = 0
    with tempfile.TemporaryDirectory(prefix="facesim-soak-") as folder:
        data = Path(folder) / "faces"
        render_folder(RenderSpec(identities=16, images=20, size=32, difficulty=0.3), data)
        while sum(happened.values()) < disturbances:
            strategy, begin_s = names[runs % len(names)], time.monotonic()
            options = {"strategy": strategy, "data": str(data), "epochs": epochs, **_OPTIONS}
            chosen = [next(roles[strategy]) for _ in range(_A_RUN)]
            one = Disturbed(options, Path(folder) / str(runs), draw, chosen)
            result = one.check()
            happened += one.happened
            wrong += [f"run {runs}, {strategy}: {each}" for each in one.wrong]
            if result:
                accuracy[strategy]["disturbed"].append(result["held_out_accuracy"] or 0.0)
                lost.update({name: result["recovery"][name] for name in ("restarts", "lost_examples")})
            if compare:
                calm = Disturbed(options, Path(folder) / f"{runs}-calm", draw, [])
                accuracy[strategy]["undisturbed"].append(calm.check().get("held_out_accuracy") or 0.0)
                wrong += [f"run {runs}, {strategy}, undisturbed: {each}" for each in calm.wrong]
            seconds = time.monotonic() - begin_s
            click.echo(f"{runs:3} {strategy:12} {seconds:6.1f} s  {dict(one.happened)}  {one.wrong or 'well'}")
            runs += 1
    if compare:
        _compare(accuracy, wrong)
    click.echo(f"\n{sum(happened.values())} disturbances of {runs} runs: {dict(happened)}; {dict(lost)}")
    click.echo("\n".join(["", "WRONG:", *wrong]) if wrong else "every run completed, every example was counted once")
    figures = {"title": "soak", "runs": runs, "happened": happened, "lost": lost, "wrong": wrong, "accuracy": accuracy}
    write([figures], json_file)
    sys.exit(1 if wrong else 0)


def _compare(accuracy: dict[str, dict[str, list[float]]], wrong: list[str]) -> None:
    """Print accuracies; a strategy that learnt other than undisturbed is wrong."""
    click.echo(f"\n{'held-out accuracy, %':22}{'undisturbed':>26}{'disturbed':>12}")
    for name, kinds in accuracy.items():
        if min(map(len, kinds.values())) < 3:
            click.echo(f"{name:22}  too few runs to compare")
            continue
        calm = mean_interval([100 * share for share in kinds["undisturbed"]])
        mean = mean_interval([100 * share for share in kinds["disturbed"]]).mean
        differences = [100 * (b - a) for a, b in zip(kinds["undisturbed"], kinds["disturbed"])]
        change = mean_interval(differences, confidence=1 - 0.05 / len(accuracy))  # jointly, after Bonferroni
        click.echo(f"{name:22}{calm.mean:10.1f} ({calm.low:5.1f} to {calm.high:5.1f}){mean:12.1f}")
        if not (calm.low <= mean <= calm.high or change.low <= 0 <= change.high):
            wrong.append(f"{name}: {mean:.1f} % disturbed is outside of {calm.low:.1f} to {calm.high:.1f} %")


if __name__ == "__main__":
    main()
