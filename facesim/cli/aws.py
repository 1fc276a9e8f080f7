"""Commands about training jobs at AWS: `attach`, `status`, `logs`, `cancel`, `policy`, and the `emulator`."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice, command
from facesim.util.errors import FacesimError, InputError

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account
    from facesim.runs.directory import Run

#: How often `logs --follow` looks for more.
_FOLLOW_EVERY_S = 2.0

_region = click.option("--region", help="AWS region  [default: as AWS' own tools are configured]")


def _account(region: str | None) -> Account:
    from facesim.backends.sagemaker.session import Account

    return Account(region)


def _is_run(target: str) -> bool:
    try:
        return os.path.lexists(Path(target) / "job.json")
    except ValueError:
        return False


def _name_and_region(target: str, region: str | None) -> tuple[str, str | None]:
    """The training job that TARGET names: by itself, or by the run directory that it was started from."""
    if not _is_run(target):
        return target, region
    from facesim.runs.directory import Run

    run = Run.open(Path(target))
    return _job_of(run), region or run.job().backend.region


def _job_of(run: Run) -> str:
    request = run.plan().get("CreateTrainingJob")
    name = request.get("TrainingJobName") if isinstance(request, dict) else None
    if not isinstance(name, str) or not run.job().backend.can_attach:
        raise InputError(f"{run.directory} did not run at AWS: its backend is {run.job().backend.name}")
    return name


@command()
@click.argument("target", metavar="JOB")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="folder for the run directory, if JOB is the name of a training job")  # fmt: skip
@_region
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def attach(target: str, output: Path, region: str | None, as_json: bool) -> int:
    """Follow a training job at AWS that goes on, or has ended, until its results are home.

    JOB is the run directory that it was started from, or the training job's name.
    """

    from facesim import api
    from facesim.backends.sagemaker.attach import open_run
    from facesim.backends.sagemaker.job import SageMakerJob
    from facesim.cli.study import INTERRUPTED, observers, show_report
    from facesim.runs.states import RunState
    from facesim.study.runner import attach as follow

    name, region = _name_and_region(target, region)
    account = _account(region)
    run = open_run(account, name, Path(target) if _is_run(target) else output)
    if run.result() is None:
        execution = SageMakerJob(run, account, name, on_interrupt=run.job().backend.on_interrupt)
        follow(run, execution, "measured", observers(as_json))
    show_report(api.compare(api.Run(run)), run.directory / "report.html", as_json)
    result = run.result()
    assert result is not None, "a run that was followed to its end has one"
    return {RunState.COMPLETED: 0, RunState.STOPPED: INTERRUPTED}.get(result.state, 1)


@command()
@click.argument("target", metavar="[JOB]", required=False)
@_region
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def status(target: str | None, region: str | None, as_json: bool) -> None:
    """Tell how a training job at AWS does; without JOB, the newest ones of facesim's."""
    from facesim.backends.sagemaker.bill import reported
    from facesim.backends.sagemaker.calls import OUTCOMES, describe, newest

    if target is None:
        jobs = newest(_account(region))
        if as_json:
            echo_json(jobs)
            return
        for job in jobs:
            created = f"{job['CreationTime']:%Y-%m-%d %H:%M}"
            echo(f"{job['TrainingJobName']:63} {job['TrainingJobStatus']:11} {created}")
        if not jobs:
            echo("no training jobs of facesim's in this region")
        return
    name, region = _name_and_region(target, region)
    account = _account(region)
    told = describe(account, name)
    if as_json:
        echo_json(told)
        return
    echo(f"{name}: {told['TrainingJobStatus']}, {told['SecondaryStatus']}")
    for transition in told.get("SecondaryStatusTransitions", []):
        end = transition.get("EndTime")
        lasted = f"{(end - transition['StartTime']).total_seconds():8.0f} s" if end else "   running"
        echo(f"  {transition['StartTime']:%H:%M:%S} {transition['Status']:20}{lasted}")
    if "FailureReason" in told:
        echo(f"  {told['FailureReason']}")
    if told["TrainingJobStatus"] in OUTCOMES:
        bill = reported(told)
        cost = f"emulated by {account.emulator}" if account.emulator else f"${bill['cost_usd']:.4f}"
        echo(f"  billed {bill['billable_s']} s, {cost}")


@command()
@click.argument("target", metavar="JOB")
@click.option("--host", help="only of this host, such as algo-2")
@click.option("--follow", is_flag=True, help="go on until the job has ended")
@_region
def logs(target: str, host: str | None, follow: bool, region: str | None) -> None:
    """Print what the hosts of a training job at AWS printed."""
    from facesim.backends.sagemaker.calls import OUTCOMES, describe
    from facesim.backends.sagemaker.logs import LogTail
    from facesim.backends.sagemaker.session import DeniedError, RefusedError, asking, redacted

    name, region = _name_and_region(target, region)
    account = _account(region)
    tail, told, ended = LogTail(account.client("logs"), name), "", False
    while not ended:
        try:
            over = describe(account, name)["TrainingJobStatus"] in OUTCOMES  # before the lines: none is missed
            with asking("read the training job's logs"):
                lines = list(tail.new())
        except FacesimError as error:
            if not follow or isinstance(error, (DeniedError, RefusedError)):
                raise
            if str(error) != told:
                told = str(error)
                echo(f"{told}; trying again", err=True)
            with contextlib.suppress(FacesimError):  # the user may have signed in again
                account.renew()
                tail.logs = account.client("logs")
        else:
            for line in lines:
                if host in (None, line.host):
                    echo(f"{line.host}  {redacted(line.text)}")
            ended, told = over or not follow, ""
        if not ended:
            time.sleep(_FOLLOW_EVERY_S)


@command()
@click.argument("target", metavar="JOB")
@_region
def cancel(target: str, region: str | None) -> None:
    """Stop a training job at AWS; it may save and upload for two minutes more. Harmless when repeated."""
    from facesim.backends.sagemaker.calls import cancel as stop

    name, region = _name_and_region(target, region)
    going_on = stop(_account(region), name)
    echo(f"{name}: {'stopping' if going_on else 'had ended already'}")


@command()
@click.argument("name", type=Choice(["user", "role", "trust"]), default="user")
@_region
@click.option("--role", default="facesim-training", show_default=True, help="name of the role of training jobs")
@click.option("--bucket", help="S3 bucket  [default: sagemaker-REGION-ACCOUNT]")
@click.option("--prefix", default="facesim", show_default=True, help="folder in the bucket")
def policy(name: str, region: str | None, role: str, bucket: str | None, prefix: str) -> None:
    """Print the least that has to be allowed, as an IAM policy: of the `user` of facesim, of the `role` that training
    jobs run as, or the `trust` of that role."""
    from facesim.backends.sagemaker.policies import policy as written
    from facesim.spec import aws_names

    for option, given, check in (
        ("role", role, aws_names.role),
        ("bucket", bucket, aws_names.bucket),
        ("prefix", prefix, aws_names.prefix),
    ):
        try:
            given is None or check(given)
        except ValueError as error:
            raise InputError(f"--{option} {given} is not allowed: {error}") from None
    account = _account(region)
    places = {
        "PARTITION": account.partition,
        "ACCOUNT": account.id,
        "REGION": account.region,
        "BUCKET": bucket or f"sagemaker-{account.region}-{account.id}",
        "PREFIX": prefix,
        "ROLE": role,
    }
    echo(written(name, places))


@command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on; nobody is authenticated")
@click.option("--port", default=5055, show_default=True, help="port to listen on; 0 is any free one")
@click.option(
    "--interrupt-after",
    type=float,
    multiple=True,
    metavar="SECONDS",
    help="of training after which a spot job's capacity is taken away; repeatable",
)
@click.option(
    "--metrics-period", type=float, default=60.0, show_default=True, help="seconds between points of instance metrics"
)
@click.option("--image", help="run this local image in place of every job's")
@click.option("--hosts", default=2, show_default=True,
              help="divide this machine among so many hosts, also while a job has fewer")  # fmt: skip
def emulator(
    host: str, port: int, interrupt_after: tuple[float, ...], metrics_period: float, image: str | None, hosts: int
) -> None:
    """Run an AWS-shaped endpoint on this machine, in which training jobs really run, in containers.

    For tests and demonstrations without an account: set AWS_ENDPOINT_URL to what it prints. Ctrl-C ends it and its
    jobs.
    """
    import logging
    import signal
    import threading

    try:
        from facesim.testing.emulator.endpoint import Emulator
    except ImportError as error:
        raise InputError(f"the emulator needs more packages ({error.name}): pip install 'facesim[emulator]'") from None

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = Emulator(
        host, port, interruptions_s=interrupt_after, metrics_period_s=metrics_period, image=image, hosts=hosts
    )
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    url = running.start()
    echo(f"export AWS_ENDPOINT_URL={url} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x")
    while not over.wait(0.5):  # a wait without an end would not let the signal's handler run on every system
        pass
    running.stop()


COMMANDS: list[Any] = [attach, status, logs, cancel, policy, emulator]
