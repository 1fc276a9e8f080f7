"""The commands of the container image: `image build`, `image check`, `image push`."""

from __future__ import annotations

import click

from facesim.cli.output import echo
from facesim.cli.parsing import group
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW

_tag = click.option(
    "--tag", help="name of the image  [default: facesim:VERSION, with -FRAMEWORK and -cuda where it has them]"
)
_framework = click.option(
    "--framework",
    default=TENSORFLOW,
    type=click.Choice(list(FRAMEWORKS)),
    help="what hosts train with",
    show_default=True,
)
_cuda = click.option("--cuda", is_flag=True, help="the image for instances with NVIDIA GPUs, facesim:VERSION-cuda")


def _name(tag: str | None, framework: str, cuda: bool = False) -> str:
    from facesim.backends import image as images

    return tag or images.IMAGE + images.variant(framework, cuda)


@group()
def image() -> None:
    """The container image that hosts run, in the docker backend and on SageMaker."""


@image.command()
@_tag
@click.option("--base", help="image to build on, with Python 3.10 to 3.13  [default: python:3.12-slim]")
@_framework
@click.option(
    "--package",
    "--tensorflow",
    "package",
    help="the framework's package  [default: tensorflow-cpu, torch or jax; with --cuda tensorflow[and-cuda], torch or "
    "jax[cuda12]]",
)
@_cuda
def build(tag: str | None, base: str | None, framework: str, package: str | None, cuda: bool) -> None:
    """Make the image from the facesim that is installed here. Only the first time takes minutes."""
    from facesim.backends import image as images

    name = _name(tag, framework, cuda)
    image_id = images.build(name, base or images.BASE, tell=echo, framework=framework, cuda=cuda, package=package)
    echo(f"made {name} ({image_id.removeprefix('sha256:')[:12]})")


@image.command()
@_tag
@_framework
@_cuda
def check(tag: str | None, framework: str, cuda: bool) -> None:
    """Whether an engine answers and has the image of the facesim that is installed here."""
    from facesim.backends import image as images

    name = _name(tag, framework, cuda)
    images.check(name, framework)
    echo(f"{name} is here and holds this facesim")


@image.command()
@_tag
@click.option("--region", help="AWS region  [default: as AWS' own tools are configured]")
@_framework
@_cuda
def push(tag: str | None, region: str | None, framework: str, cuda: bool) -> None:
    """Bring the image to Amazon ECR, in your account, where training jobs take it from. `aws setup` makes the
    repository."""
    from facesim.backends import image as images
    from facesim.backends.sagemaker.registry import login
    from facesim.backends.sagemaker.session import Account

    name = _name(tag, framework, cuda)
    if tag is None:
        images.check(name, framework)
    to = login(Account(region))
    address = f"{to.registry}/{images.name_in_ecr(name)}"
    images.push(name, address, to.user, to.password, tell=echo)
    echo(f"{address} is there; jobs use it" + ("" if tag is None else f" with --image {images.name_in_ecr(name)}"))
