"""The command `tune`: settings found by trying."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, command_option, help_all, job_options
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice, Choices, Dollars, FilePath, Number, flattened, read_config
from facesim.cli.study import INTERRUPTED, observers
from facesim.planning import quantities
from facesim.tracking import TRACKERS
from facesim.util.errors import InputError
from facesim.util.folders import RUNS

if TYPE_CHECKING:
    from facesim.api import Tuning

_FILE = FilePath()


@click.command(cls=GroupedCommand)
@command_option("--search", multiple=True, metavar="NAME=VALUES", group="Training",
     help="an option with the values to try: learning-rate=1e-5..1e-2 or batch=16,32,64; repeatable; a range over a "
     "factor of ten is searched by its logarithm  [default: these two]")  # fmt: skip
@command_option("--trials", type=click.IntRange(1, 10_000), default=20, show_default=True, group="Training",
     help="how many, those of earlier commands in --output included")  # fmt: skip
@command_option("--validation", type=Number(0, 1, min_open=True, max_open=True), group="Data",
     help="share of the training images to test trials on; the held-out ones are left alone  [default: the part val of "
     "the data's own split, or 0.2]")  # fmt: skip
@command_option("--deadline", group="Cost and spot", help="how long all trials together may take, such as 2h or 90m")
@command_option("--budget", type=Dollars("--budget"), group="Cost and spot",
     help="US dollars that all trials may cost, such as 5")  # fmt: skip
@command_option("--tuner", type=Choice(["optuna", "sagemaker"]), default="optuna", show_default=True, group="Training",
     help="what proposes the values: Optuna on any backend, or with --backend sagemaker SageMaker's own tuner, in one "
     "tuning job at AWS")  # fmt: skip
@command_option("--tuner-strategy", type=Choice(["bayesian", "random", "hyperband"]), group="Training", common=False,
     help="by which --tuner sagemaker proposes  [default: bayesian]")  # fmt: skip
@command_option("--parallel", type=click.IntRange(1), group="Training", common=False,
     help="trials that --tuner sagemaker runs at a time  [default: 1]")  # fmt: skip
@job_options(without=("validation",))
@command_option("--spot/--no-spot", default=None, group="Cost and spot", help="play managed spot training")
@command_option("--output", type=_FILE, default=RUNS / "tune", show_default=True,
     help="folder of the search: the same folder again continues it")  # fmt: skip
@command_option("--track", type=Choices(list(TRACKERS)), multiple=True, common=False, callback=flattened,
     help="also send what is measured, as it is measured; repeatable, or with commas")  # fmt: skip
@command_option("--config", type=_FILE, is_eager=True, expose_value=False, callback=read_config,
     help="TOML file with any of these options; flags win over it")  # fmt: skip
@command_option("--dry-run", is_flag=True, help="with --tuner sagemaker: print the exact request; start nothing")
@command_option("--json", "as_json", is_flag=True, help="print JSON for machines in place of text")
@help_all()
def tune(
    search: tuple[str, ...],
    trials: int,
    validation: float | None,
    deadline: str | None,
    budget: float | None,
    output: Path,
    track: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Find settings by trying: each trial is a run, tested on a part of the training images, never on held-out ones.

    Trials that fall behind are ended early. A search that was stopped, in any way, continues when the command is
    repeated.
    """
    from facesim import api
    from facesim.tuning.space import read_texts

    wanted: dict[str, Any] = {
        "search": read_texts(search) or None,
        "trials": trials,
        "validation": validation,
        "budget_s": None if deadline is None else quantities.seconds(deadline, "--deadline"),
        "budget_usd": budget,
        **{name: value for name, value in options.items() if value is not None},
    }
    if dry_run:
        return _show_request(output, **wanted)
    tuning = api.tune(**wanted, output=output, observers=observers(as_json, None, track, output))
    return show_tuning(tuning, output, as_json)


def _show_request(output: Path, **wanted: Any) -> int:
    from facesim.api.tuning import wanted_search
    from facesim.tuning.sagemaker_request import plan_search

    search = wanted_search(**wanted)
    if search.tuner is None:
        raise InputError("--dry-run is for --tuner sagemaker: Optuna proposes a trial once those before have ended")
    echo_json(plan_search(search, output, to_run=False).facts())
    return 0


def show_tuning(tuning: Tuning, output: Path, as_json: bool) -> int:
    """Write the report to `output` and print what was found; the command's exit code."""
    from facesim.tuning.page import row, table_order

    findings = tuning.findings
    page = tuning.write(output / "report.html")
    if as_json:
        echo_json({"report": str(page), **findings.to_json()})
    else:
        for trial in table_order(findings):
            cells = row(trial, findings)
            numbers = f"{cells['number']:>5}  {cells['accuracy']:>20}  {cells['time']:>10}"
            echo(f"{numbers}  {cells['params']}  {cells['marks']}")
        echo()
        for sentence in findings.sentences():
            echo(sentence)
        if findings.command:
            echo(f"\ntrain with them, and test once on the held-out images: {findings.command}")
        echo(f"\nreport: {page}")
    if findings.stopped:
        return INTERRUPTED
    going_on = any(trial.state == "running" for trial in findings.trials)
    return 0 if findings.complete and not going_on else 1
