"""The command `export-job`: code that sends a job's request to SageMaker without facesim."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import click

from facesim.cli.options import GroupedCommand, command_option, help_all, job_options
from facesim.cli.output import echo
from facesim.cli.parsing import Choice


@click.command("export-job", cls=GroupedCommand)
@job_options(without=("backend",))
@command_option("--spot/--no-spot", default=None, group="Cost and spot", help="managed spot training")
@command_option("--format", "form", type=Choice(["boto3", "modeltrainer", "cli"]), default="boto3", show_default=True,
     help="for boto3, for ModelTrainer of SageMaker's SDK, or for AWS' command line")  # fmt: skip
@help_all()
def export_job(form: str, **options: Any) -> None:
    """Print code that runs a training job at AWS as facesim would: the same request, to keep, read or change."""
    from facesim.backends.sagemaker.as_code import FORMATS
    from facesim.backends.sagemaker.names import Names
    from facesim.preflight.checks import preflight
    from facesim.spec.job import make_job

    job = make_job(backend="sagemaker", **options)
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    directory = Path("runs") / f"{stamp}-{job.strategy.name}-seed{job.experiment.seed}"  # gives the job its name
    cleared = preflight([job], [directory], to_run=False)
    for notice in cleared.all_notices():
        echo(f"notice: {notice}", err=True)
    echo(FORMATS[form](cleared.planned[0].request, Names(job.backend.region).region))
