"""Commands about an AWS account: its `policy`, and an `emulator` in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from facesim.cli.output import echo
from facesim.cli.parsing import Choice, command
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account

_region = click.option("--region", help="AWS region  [default: as AWS' own tools are configured]")


def _account(region: str | None) -> Account:
    from facesim.backends.sagemaker.session import Account

    return Account(region)


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


COMMANDS: list[Any] = [policy, emulator]
