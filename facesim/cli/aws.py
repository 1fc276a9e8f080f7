"""Commands about an AWS account: its `aws setup` and `policy`, and an `emulator` in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from facesim.cli.output import agreed, echo, echo_json
from facesim.cli.parsing import Choice, command, group
from facesim.util.errors import InputError, doing

_places = [
    click.option("--region", help="AWS region  [default: as AWS' own tools are configured]"),
    click.option("--role", default="facesim-training", show_default=True, help="name of the role of training jobs"),
    click.option("--bucket", help="S3 bucket  [default: sagemaker-REGION-ACCOUNT]"),
    click.option("--prefix", default="facesim", show_default=True, help="folder in the bucket"),
    click.option("--kms-key", help="KMS key of one's own, for jobs that have --kms-key"),
    click.option("--vpc", is_flag=True, help="for jobs in subnets of one's own, --subnets"),
]


def _with_places(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_places):
        function = option(function)
    return function


def _check_names(**given: str | None) -> None:
    """Raise InputError unless each is a name that AWS takes for it."""
    from facesim.spec import aws_names

    for name, value in given.items():
        try:
            value is None or getattr(aws_names, name)(value)
        except ValueError as error:
            raise InputError(f"--{name.replace('_', '-')} {value} is not allowed: {error}") from None


@command()
@click.argument("name", type=Choice(["user", "role", "trust", "setup"]), default="user")
@_with_places
@click.option("--data", metavar="S3-ADDRESS", help="for jobs that read s3://BUCKET/FOLDER themselves")
def policy(
    name: str, region: str | None, role: str, bucket: str | None, prefix: str, kms_key: str | None, vpc: bool,
    data: str | None,
) -> None:  # fmt: skip
    """Print the least that has to be allowed, as an IAM policy: of the `user` of facesim, of the `role` that training
    jobs run as, the `trust` of that role, or of the one who runs `aws setup` and `image push`.

    Where no account can be asked, placeholders stand for its number and region, and a notice says so.
    """
    from facesim.backends.sagemaker.names import Names
    from facesim.backends.sagemaker.policies import policy as written

    _check_names(region=region, role=role, bucket=bucket, prefix=prefix, kms_key=kms_key)
    if data and (not data.startswith("s3://") or "*" in data):
        raise InputError(f"--data {data} is not allowed: it has to be s3://BUCKET/FOLDER")
    names = Names(region)
    places = {
        "PARTITION": names.partition,
        "ACCOUNT": names.id,
        "REGION": names.region,
        "BUCKET": bucket or names.bucket,
        "PREFIX": prefix,
        "ROLE": role,
    }
    echo(written(name, places, kms_key=kms_key, vpc=vpc, data=data))
    for text in names.placeholders:
        echo(f"notice: {text}", err=True)


@group()
def aws() -> None:
    """The AWS account that training jobs run in."""


@aws.command()
@_with_places
@click.option("--yes", is_flag=True, help="make what is missing without asking")
@click.option("--dry-run", is_flag=True, help="print a CloudFormation template of all of it; ask AWS nothing")
def setup(
    region: str | None, role: str, bucket: str | None, prefix: str, kms_key: str | None, vpc: bool, yes: bool,
    dry_run: bool,
) -> None:  # fmt: skip
    """Make what training jobs need: their role, an encrypted bucket that nobody else sees, and a repository for the
    image. Shows what is missing, and makes that alone; what is there already stays."""
    from facesim.backends.sagemaker import setup as account_setup

    _check_names(region=region, role=role, bucket=bucket, prefix=prefix, kms_key=kms_key)
    if role.startswith("arn:") or "/" in role:
        raise InputError(f"--role {role}: give the name alone of the role that is to be made")
    wanted = account_setup.Wanted(role, bucket or account_setup.BUCKET, prefix, kms_key, vpc)
    if dry_run:
        echo_json(account_setup.template(wanted))
        where = f"--region {region} " if region else ""
        echo(
            f"an admin deploys it: aws cloudformation deploy {where}--stack-name facesim --capabilities "
            "CAPABILITY_NAMED_IAM --template-file FILE\n"
            f"a role is of the account, not of a region: where {role} is there already, as after the first region, the "
            "deployment fails; give a second region a role of its own, --role NAME here and in jobs",
            err=True,
        )
        return
    from facesim.backends.sagemaker.session import Account, asking

    account = Account(region)
    steps = account_setup.missing(account, replace(wanted, bucket=bucket or f"sagemaker-{account.region}-{account.id}"))
    for step in steps:
        echo(f"missing: {step.what}")
    if not steps:
        echo(f"account {account.id}, {account.region}: role, bucket and repository are there, as they should be")
        return
    question = f"change account {account.id}, {account.region}?"
    if not yes and not agreed(question):
        raise InputError("nothing was changed; give --yes to make what is missing without being asked")
    for step in steps:
        with asking(step.what):
            step.make()
        echo(f"done: {step.what}")
    echo("next: facesim image build, facesim image push, facesim doctor --backend sagemaker")


@command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on; nobody is authenticated")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5055,
    show_default=True,
    help="port to listen on; 0 is any free one",
)
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
@click.option("--hosts", type=click.IntRange(1), default=2, show_default=True,
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
        raise InputError(
            f"the emulator needs more packages ({error.name}): pip install 'facesim-cluster[emulator]'"
        ) from None

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = Emulator(
        host, port, interruptions_s=interrupt_after, metrics_period_s=metrics_period, image=image, hosts=hosts
    )
    with doing(f"listen on {host}, port {port}", "give another --host or --port"):
        url = running.start()
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda *_: over.set())
    echo(f"export AWS_ENDPOINT_URL={url} AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x")
    while not over.wait(0.5):  # a wait without an end would not let the signal's handler run on every system
        pass
    running.stop()


COMMANDS: list[Any] = [aws, policy, emulator]
