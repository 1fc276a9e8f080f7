"""The commands of the container image: `image build`, `image check`, `image push`."""

from __future__ import annotations

import click

from facesim.cli.output import echo
from facesim.cli.parsing import group

_cuda = click.option("--cuda", is_flag=True, help="the image for instances with NVIDIA GPUs, facesim:VERSION-cuda")


@group()
def image() -> None:
    """The container image that hosts run, in the docker backend and on SageMaker."""


@image.command()
@click.option("--tag", help="name of the image  [default: facesim:VERSION]")
@click.option("--base", help="image to build on, with Python 3.10 to 3.13  [default: python:3.12-slim]")
@click.option("--tensorflow", help="TensorFlow's package  [default: tensorflow-cpu; with --cuda tensorflow[and-cuda]]")
@_cuda
def build(tag: str | None, base: str | None, tensorflow: str | None, cuda: bool) -> None:
    """Make the image from the facesim that is installed here. Only the first time takes minutes."""
    from facesim.backends import image as images

    name = tag or (images.CUDA_IMAGE if cuda else images.IMAGE)
    package = tensorflow or (images.CUDA_TENSORFLOW if cuda else images.TENSORFLOW)
    image_id = images.build(name, base or images.BASE, package, tell=echo)
    echo(f"made {name} ({image_id.removeprefix('sha256:')[:12]})")


@image.command()
@click.option("--tag", help="name of the image  [default: facesim:VERSION]")
def check(tag: str | None) -> None:
    """Whether an engine answers and has the image of the facesim that is installed here."""
    from facesim.backends import image as images

    name = tag or images.IMAGE
    images.check(name)
    echo(f"{name} is here and holds this facesim")


@image.command()
@click.option("--tag", help="name of the image  [default: facesim:VERSION]")
@click.option("--region", help="AWS region  [default: as AWS' own tools are configured]")
@_cuda
def push(tag: str | None, region: str | None, cuda: bool) -> None:
    """Bring the image to Amazon ECR, in your account, where training jobs take it from. `aws setup` makes the
    repository."""
    from facesim.backends import image as images
    from facesim.backends.sagemaker.registry import login
    from facesim.backends.sagemaker.session import Account

    name = tag or (images.CUDA_IMAGE if cuda else images.IMAGE)
    to = login(Account(region))
    address = f"{to.registry}/{name.rpartition('/')[2]}"
    images.push(name, address, to.user, to.password, tell=echo)
    echo(f"{address} is there; jobs use it" + ("" if tag is None else f" with --image {name.rpartition('/')[2]}"))
