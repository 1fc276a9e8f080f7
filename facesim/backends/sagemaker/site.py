"""From the user's settings to the place that a job runs at, with the account's own defaults for what is left out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING

from facesim.backends import image as images
from facesim.backends.training_job import Site, content_key
from facesim.billing.catalogue import instance
from facesim.spec import aws_names
from facesim.spec.backends import AWS_IMAGE
from facesim.spec.frameworks import TENSORFLOW
from facesim.util.errors import InputError, doing
from facesim.util.folders import cache_folder

if TYPE_CHECKING:
    from facesim.backends.sagemaker.names import Names
    from facesim.spec.backends import SageMaker

ROLE = "facesim-training"

#: The account of AWS' images in most regions, and the repository of those for TensorFlow.
_AWS_NUMBER, AWS_REPOSITORY = "763104351884", "tensorflow-training"
_TENSORFLOW = {"training": "2.21", "inference": "2.20"}
_PYTHON = "py312"


def site_of(
    aws: SageMaker,
    account: Names,
    instance_types: Sequence[str] = ("ml.m5.2xlarge",),
    framework: str = TENSORFLOW,
) -> Site:
    """Where a job of a framework with these settings runs, on instances of these types.

    The account is asked for its number only if that is needed: with role, bucket and image given nothing is asked.

    Raises:
        InputError: the image is none for the instances or the framework, or not one that SageMaker takes; role or key
            are of another part of AWS.
    """
    role = aws.role or f"arn:{account.partition}:iam::{account.id}:role/{ROLE}"
    if not role.startswith("arn:"):
        role = f"arn:{account.partition}:iam::{account.id}:role/{role}"
    _check_place("--role", role, account)
    if aws.kms_key and aws.kms_key.startswith("arn:"):
        _check_place("--kms-key", aws.kms_key, account)
    return Site(
        role_arn=role,
        image=_image(aws.image, account, instance_types, framework),
        bucket=aws.bucket or account.bucket,
        prefix=aws.prefix,
        input_mode=aws.input_mode,
        subnets=aws.subnets,
        security_groups=aws.security_groups,
        network_isolation=aws.network_isolation,
        encrypt_traffic=aws.encrypt_traffic,
        kms_key=aws.kms_key,
        tags=aws.tags,
        source=stage_source() if aws.image == AWS_IMAGE else None,
        keep_alive_s=aws.keep_alive_s,
        tensorboard=aws.tensorboard,
    )


def _check_place(option: str, arn: str, account: Names) -> None:
    """Raise InputError unless what is called so can be used in the region of the job."""
    _, partition, _, region, *_ = arn.split(":")
    if partition != account.partition or region not in ("", account.region):
        raise InputError(
            f"{option} {arn} is of {region or partition} and the job would run in {account.region} "
            f"({account.partition}): give one of that, or another --region"
        )


def _image(name: str | None, account: Names, instance_types: Sequence[str], framework: str) -> str:
    with_gpu = [kind for kind in instance_types if instance(kind).accelerator]
    if name == AWS_IMAGE:
        if framework != TENSORFLOW:
            raise InputError(
                f"--image {AWS_IMAGE} is AWS' image for TensorFlow, and the job is for --framework {framework}: leave "
                f"--image out for facesim's own (facesim image build --framework {framework})"
            )
        # There is one image with CUDA, and one without.
        return aws_image(account, "training", [*with_gpu, *instance_types][0])
    if name is None or "/" not in name:
        name = name or images.name_in_ecr(images.IMAGE + images.variant(framework, cuda=bool(with_gpu)))
        return f"{account.id}.dkr.ecr.{account.region}.{_suffix(account)}/{name}"
    region = aws_names.ecr_region(name)
    if region is None:
        raise InputError(
            f"--image {name} is not in Amazon ECR, from where SageMaker takes images: push it there and give "
            f"ACCOUNT.dkr.ecr.{account.region}.amazonaws.com/NAME:TAG, or NAME:TAG if it is in your own account"
        )
    if region != account.region:
        raise InputError(
            f"--image {name} is in {region} and the job would run in {account.region}: SageMaker takes images of "
            f"its own region only; push it there, too, or give --region {region}"
        )
    return name


def aws_image(account: Names, scope: str, instance_type: str) -> str:
    """AWS' own TensorFlow image for an instance type: for `training`, or for `inference`."""
    try:
        # AWS' account and DNS suffix differ between regions; SageMaker's package has the list.
        from sagemaker.core import image_uris
    except ImportError:
        account.placeholders.append(
            f"{_AWS_NUMBER} stands for the account of AWS' images in {account.region}: the list of them is in packages "
            "that are not installed (pip install 'facesim-cluster[aws]')"
        )
        kind = "gpu" if instance(instance_type).accelerator else "cpu"
        registry = f"{_AWS_NUMBER}.dkr.ecr.{account.region}.{_suffix(account)}"
        return f"{registry}/{AWS_REPOSITORY}:{_TENSORFLOW[scope]}-{kind}-{_PYTHON}"
    return image_uris.retrieve(
        "tensorflow",
        account.region,
        version=_TENSORFLOW[scope],
        py_version=_PYTHON if scope == "training" else None,
        instance_type=instance_type,
        image_scope=scope,
    )


def _suffix(account: Names) -> str:
    return "amazonaws.com.cn" if account.partition == "aws-cn" else "amazonaws.com"


def stage_source() -> Path:
    """A folder with what AWS' image lacks: facesim's packages, the names of those that they need, and a bootstrap. It
    is named by its content: what an earlier job uploads, and another command makes, stays as it is.
    """
    import cluster
    import facesim

    place = cache_folder() / "source"
    with doing(f"write to {place}", "name another folder with FACESIM_CACHE"):
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place) as scratch:
            new = Path(scratch, "new")
            for package in (facesim, cluster):
                here = Path(package.__path__[0])
                shutil.copytree(here, new / here.name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(Path(__file__).with_name("bootstrap.py"), new)
            (new / "requirements.txt").write_text("\n".join(_requirements()) + "\n", encoding="utf-8")
            folder = place / content_key(new)
            try:
                new.rename(folder)
            except OSError:  # another has made the same
                if not folder.is_dir():
                    raise
    return folder


def _requirements() -> list[str]:
    """What a host needs to train, without what makes reports. TensorFlow is what AWS' image is made for, so it is not
    replaced.
    """
    try:
        needed = images.requirements()
    except PackageNotFoundError:
        raise InputError(
            "--image aws needs facesim to be installed, so that its requirements are known: pip install ."
        ) from None
    return [line for line in needed if not line.startswith("tensorflow")]
