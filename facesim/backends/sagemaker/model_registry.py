"""A run's model as a new version of a group of SageMaker's Model Registry, ready to be served with AWS' own image."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim import __version__
from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.organisation import layered
from facesim.backends.sagemaker.session import asking
from facesim.backends.sagemaker.site import aws_image
from facesim.backends.sagemaker.storage import have_bucket, upload
from facesim.spec.backends import SageMaker
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account
    from facesim.runs.directory import Run
    from facesim.runs.records import Result

_TYPES = ["ml.m5.xlarge", "ml.c5.xlarge", "ml.g5.xlarge"]


def register(run: Run, saved_model: Path, group: str, account: Account) -> str:
    """Upload a run's model, a folder as TensorFlow serves it, and register it; the version's ARN.

    It waits for approval there. With it goes how well it recognises, and from which run it is.

    Raises:
        InputError: the run has not completed, or AWS does not allow it.
        AwsError: AWS refuses it.
    """
    result = run.result()
    if result is None or result.held_out_accuracy is None:
        raise InputError(f"{run.directory} has no result: a model is registered once its run has ended")
    backend = run.job().backend
    aws = layered(backend if isinstance(backend, SageMaker) else SageMaker()).aws
    names = Names(account.region)
    bucket, owner = aws.bucket or names.bucket, aws.bucket_owner or account.id
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.tar.gz")
        with tarfile.open(file, "w:gz") as archive:
            archive.add(saved_model, arcname="1")  # TensorFlow Serving's number of a version
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        home = f"s3://{bucket}/{aws.prefix}/models/{run.id}/{digest}/"
        Path(folder, "quality.json").write_text(json.dumps(_quality(result)), encoding="utf-8")
        with asking(f"upload to {home}"):
            s3 = account.client("s3")
            have_bucket(s3, bucket, account.region, owner)
            for _ in upload(s3, Path(folder), home, aws.kms_key, owner):
                pass
    client = account.client("sagemaker")
    with asking(f"look for the model package group {group}"):
        pages = client.get_paginator("list_model_package_groups").paginate(NameContains=group)
        groups = {one["ModelPackageGroupName"] for page in pages for one in page["ModelPackageGroupSummaryList"]}
    tags = [{"Key": key, "Value": value} for key, value in {"facesim": "model", **aws.tags}.items()]
    if group not in groups:
        with asking(f"make the model package group {group}"):
            client.create_model_package_group(ModelPackageGroupName=group, Tags=tags)
    image = aws_image(names, "inference", _TYPES[0])
    with asking(f"register the model in {group}"):
        return client.create_model_package(
            ModelPackageGroupName=group,
            ModelPackageDescription=f"face recognition, run {run.id}"[:1024],
            InferenceSpecification={
                "Containers": [{"Image": image, "ModelDataUrl": f"{home}model.tar.gz"}],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json"],
                "SupportedRealtimeInferenceInstanceTypes": _TYPES,
            },
            ModelMetrics={
                "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": f"{home}quality.json"}}
            },
            CustomerMetadataProperties=_facts(run, result),
            ModelApprovalStatus="PendingManualApproval",
        )["ModelPackageArn"]


def _quality(result: Result) -> dict[str, Any]:
    """As Model Registry shows it: AWS, "Model quality metrics", of a classification with several classes."""
    accuracy = {"value": result.held_out_accuracy, "standard_deviation": "NaN"}
    return {"multiclass_classification_metrics": {"accuracy": accuracy}}


def _facts(run: Run, result: Result) -> dict[str, str]:
    facts = {
        "run": run.id,
        "strategy": result.strategy,
        "backend": result.backend,
        "measurement": result.measurement,
        f"{result.tested_in_words.replace('-', '_')}_accuracy": result.held_out_accuracy,
        "trained_together": result.sync_audit.verdict,
        "data_sha256": result.data.content_sha256,
        "facesim": __version__,
    }
    return {name: str(getattr(value, "value", value))[:256] for name, value in facts.items() if value is not None}
