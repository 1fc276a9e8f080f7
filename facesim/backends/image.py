"""The container image that every host runs: made from the facesim that is installed here, and checked against it.

The dependencies are downloaded by this Python's pip, so with this user's index, proxy and certificates, none of which
gets into the image; inside the build nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.containers.engine import EngineError, connect
from facesim import __version__
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.util.errors import InputError
from facesim.util.folders import cache_folder

if TYPE_CHECKING:
    from docker import DockerClient

#: The image's name; FACESIM_IMAGE gives it another, such as one of a registry.
IMAGE = os.environ.get("FACESIM_IMAGE") or f"facesim:{__version__}"
BASE = "python:3.12-slim"

#: Holds `source_key`: which facesim is in an image.
SOURCE_LABEL = "facesim.source"

#: Holds the image that it was built on, and the framework that is in it.
BASE_LABEL, FRAMEWORK_LABEL = "facesim.base", "facesim.framework"

#: Of the Dockerfile: the first stage, which the engine keeps so that dependencies are installed once, and its label, by
#: framework.
_STAGE, _STAGE_LABEL = "installed", "facesim.stage"

#: What instances of SageMaker execute, as engines call it.
_SAGEMAKER = "amd64"

#: Beside a framework with CUDA: what measures GPUs.
_WITH_CUDA = "nvidia-ml-py>=12"
#: What pods use whose storage is in S3 (`facesim.backends.kubernetes.in_pod`).
_FOR_S3 = "boto3>=1.40"

#: What facesim needs and a host of a cluster does not: reports and baselines are made at home.
_AT_HOME = {"matplotlib", "jinja2", "scikit-learn", "scikit-image", "scipy", "pandas", "msgspec"}

_PACKAGES = Path(__file__).resolve().parents[2]
_LEFT_OUT = ("__pycache__", "*.pyc")


def variant(framework: str, cuda: bool = False) -> str:
    """The end of the tag of facesim's own image with a framework; CUDA, for instances with GPUs, makes it six times as
    large.
    """
    return ("" if framework == TENSORFLOW else f"-{framework}") + ("-cuda" if cuda else "")


def name_in_ecr(image: str) -> str:
    """What an image is called in the account's own registry: by its last word, whichever registry it is from."""
    return image.rpartition("/")[2]


def package_of(framework: str, cuda: bool = False) -> str:
    """What an image gets of a framework.

    Raises:
        InputError: there is no image with it.
    """
    known = FRAMEWORKS[framework]
    package = known.cuda_package if cuda else known.cpu_package
    if package is None:
        raise InputError(f"facesim makes no image with --framework {framework}; make one that has it, for --image")
    return package


def build(
    image: str = IMAGE,
    base: str = BASE,
    tell: Callable[[str], None] = print,
    *,
    framework: str = TENSORFLOW,
    cuda: bool = False,
    package: str | None = None,
) -> str:
    """Make the image with a framework, which is installed from `package`, and return its id. `tell` is called with a
    line for each step.

    Raises:
        InputError: no engine answers, or the base image or a dependency is not available.
    """
    wanted = [*requirements(package, framework, cuda), _FOR_S3]
    client = _engine()
    tell(f"base image {base}")
    python, architecture = _python_of(client, base)
    tell(f"dependencies for Python {python}, {architecture}")
    wheels = _wheels(wanted, python, architecture)
    with tempfile.TemporaryDirectory(prefix="facesim-image-") as made:
        context = Path(made)
        shutil.copytree(wheels, context / "wheels", copy_function=_link_or_copy)
        (context / "requirements.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")
        for part in ("cluster", "facesim"):
            shutil.copytree(_PACKAGES / part, context / "source" / part, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        shutil.copy(_PACKAGES / "cluster" / "Dockerfile", context)
        tell(f"image {image}")
        arguments = {"BASE": base, "FRAMEWORK": framework}
        labels = {SOURCE_LABEL: source_key(context / "source"), BASE_LABEL: base, FRAMEWORK_LABEL: framework}
        stage = _build(client, context, arguments, target=_STAGE)
        built = _build(client, context, arguments, tag=image, labels=labels)
    _remove_replaced(client, stage, framework)
    return built


def check(image: str = IMAGE, framework: str = TENSORFLOW) -> None:
    """That `image` is here and holds this facesim and a framework.

    Raises:
        InputError: no engine answers, the image is missing, or it was made from another facesim or with another
            framework.
    """
    make = "`facesim image build" + ("`" if framework == TENSORFLOW else f" --framework {framework}`")
    labels = _labels(image, f"make it with {make}")
    if labels.get(SOURCE_LABEL) != source_key():
        raise InputError(f"the image {image} was made from another facesim than this; make it again with {make}")
    _check_framework(image, labels, framework)


def check_present(image: str, framework: str | None = None) -> None:
    """That an image that a user named is here: containers are made of it as it is.

    Raises:
        InputError: no engine answers, the image is missing, or it was made with another framework than `framework`.
    """
    labels = _labels(image, "pull it, or leave --image out for facesim's own")
    if framework is not None:
        _check_framework(image, labels, framework)


def _check_framework(image: str, labels: dict[str, str], framework: str) -> None:
    """What others made has no such label, and may have any framework."""
    held = labels.get(FRAMEWORK_LABEL, framework)
    if held != framework:
        raise InputError(
            f"the image {image} has {held}, and the job is for --framework {framework}: use --framework {held}, or "
            f"an image from `facesim image build --framework {framework}`"
        )


def _labels(image: str, remedy: str) -> dict[str, str]:
    from docker.errors import APIError, ImageNotFound

    try:
        held = _engine().images.get(image)
    except ImageNotFound:
        raise InputError(f"there is no image {image}; {remedy}") from None
    except APIError as error:
        raise InputError(f"the image {image} cannot be used: {error.explanation}; {remedy}") from None
    return (held.attrs.get("Config") or {}).get("Labels") or {}  # others' may have no configuration at all


def source_key(folder: Path = _PACKAGES) -> str:
    """Tells the packages in a folder, by default those that are installed here, from any other."""
    digest = hashlib.sha256()
    for package in ("cluster", "facesim"):
        for path in sorted((folder / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def requirements(package: str | None = None, framework: str = TENSORFLOW, cuda: bool = False) -> list[str]:
    """What a host needs, as facesim's own metadata has it: of the frameworks the one that the host trains with, from
    `package`.
    """
    package = package or package_of(framework, cuda)
    extra = FRAMEWORKS[framework].extra
    wanted = []
    for line in importlib.metadata.requires("facesim-cluster") or ():
        name, of_extra = re.match(r"[\w.-]+", line), re.search(r"extra == [\"'](.+)[\"']", line)
        assert name is not None
        if name[0] in {*_AT_HOME, *({TENSORFLOW} - {framework})} or (of_extra and of_extra[1] != extra):
            continue
        needed = _without_marker(line) if of_extra else line
        wanted.append(needed.replace(framework, package, 1) if name[0] == framework else needed)
    return [*wanted, _WITH_CUDA] if cuda or "cuda" in package else wanted


def _engine() -> DockerClient:
    try:
        return connect()
    except EngineError as error:
        raise InputError(str(error)) from None


def _python_of(client: DockerClient, base: str) -> tuple[str, str]:
    """Version and architecture of the base image's Python, which is pulled if it is not here."""
    from docker.errors import APIError, ContainerError, ImageNotFound

    look = "import sys, platform; print('%d.%d' % sys.version_info[:2], platform.machine())"
    try:
        client.images.get(base)
    except ImageNotFound:
        try:
            client.images.pull(base)
        except APIError as error:
            raise InputError(
                f"the base image {base} is not here and cannot be pulled: {error.explanation}; name another with --base"
            ) from None
    try:
        output = client.containers.run(base, entrypoint=["python3", "-c", look], command=[], remove=True)
    except (APIError, ContainerError) as error:
        raise InputError(f"the base image {base} cannot be used, it must have python3: {error}") from None
    python, architecture = output.decode().split()
    if not (3, 10) <= tuple(map(int, python.split("."))) <= (3, 13):
        raise InputError(f"the base image {base} has Python {python}; facesim needs 3.10 to 3.13")
    return python, architecture


def _wheels(wanted: list[str], python: str, architecture: str) -> Path:
    """A folder of the user's cache with a wheel of every dependency, downloaded once."""
    cache = cache_folder() / "wheels"
    key = hashlib.sha256(json.dumps([sorted(wanted), python, architecture]).encode()).hexdigest()[:16]
    folder = cache / key
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".new-") as new:
        platforms = [f"manylinux_2_{minor}_{architecture}" for minor in (36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)]
        names = [f"manylinux2014_{architecture}", *platforms, f"linux_{architecture}"]
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", "wheels"),
            *("--only-binary", ":all:", "--python-version", python, "--implementation", "cp"),
            *(word for name in names for word in ("--platform", name)),
            *(_without_marker(line) for line in wanted),
        ]
        # In an empty folder, for Python looks for pip and what it imports in the current one first.
        ended = subprocess.run(command, cwd=new, capture_output=True, text=True)
        if ended.returncode != 0:
            last = (ended.stderr.strip().splitlines() or ["no word why"])[-1]
            raise InputError(f"the dependencies of the image cannot be downloaded: {last}")
        os.rename(f"{new}/wheels", folder)
    return folder


def _without_marker(requirement: str) -> str:
    """Markers would be taken for this system; the image's is Linux."""
    return requirement.split(";", maxsplit=1)[0].strip()


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _build(client: DockerClient, context: Path, arguments: dict[str, str], **options: Any) -> str:
    from docker.errors import APIError, BuildError

    try:
        built, _ = client.images.build(path=str(context), buildargs=arguments, rm=True, forcerm=True, **options)
    except BuildError as error:
        lines = [_line(entry) for entry in error.build_log]
        raise InputError(f"the image cannot be made: {error}\n" + "".join(lines[-15:])) from None
    except APIError as error:
        raise InputError(f"the image cannot be made: {error}") from None
    return built.id


def _remove_replaced(client: DockerClient, stage: str, framework: str) -> None:
    """Remove the images without a name that earlier builds left, but for stages that are kept and what is in use."""
    from docker.errors import APIError

    for label in (SOURCE_LABEL, f"{_STAGE_LABEL}={_STAGE}-{framework}"):
        for old in client.images.list(filters={"dangling": True, "label": label}):
            if old.id != stage:
                with contextlib.suppress(APIError):  # a container is made of it, or somebody else removes it
                    client.images.remove(old.id)


def _line(entry: dict[str, Any]) -> str:
    return entry.get("stream") or entry.get("error") or ""


def push(image: str, address: str, user: str, password: str, tell: Callable[[str], None] = print) -> None:
    """Bring an image that is here to `address`, a registry's REGISTRY/NAME:TAG, as `user` with `password`.

    Raises:
        InputError: no engine answers, the image is missing, SageMaker cannot execute it, or the registry does not take
            it.
    """
    from docker.errors import APIError

    check_present(image)
    client = _engine()
    held = client.images.get(image)
    architecture = held.attrs.get("Architecture")
    if architecture not in (None, "", _SAGEMAKER):
        raise InputError(
            f"the image {image} is for {architecture}, and SageMaker's instances execute {_SAGEMAKER} alone: an engine "
            f"makes images for the processor that it runs on; run `facesim image build` and `facesim image push` on an "
            f"{_SAGEMAKER} (x86-64) machine"
        )
    held.tag(address)
    reported: set[str] = set()
    try:
        lines = client.images.push(
            address, auth_config={"username": user, "password": password}, stream=True, decode=True
        )
        for line in lines:
            if "error" in line:
                raise InputError(f"{address} was not taken: {line['error']}; `facesim policy setup` prints what has to "
                                 "be allowed, `facesim aws setup` makes the repository")  # fmt: skip
            layer, status = line.get("id"), line.get("status", "")
            if status in ("Pushed", "Layer already exists") and layer not in reported:
                reported.add(layer)
                tell(f"layer {layer}: {status.lower()}")
    except APIError as error:
        raise InputError(f"{address} was not taken: {error.explanation}") from None
