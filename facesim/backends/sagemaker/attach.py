"""The run directory of a training job that is already at AWS."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from facesim.backends.sagemaker.calls import describe
from facesim.backends.training_job import JOB, checkpoints_of, job_of, place_of
from facesim.billing.bill import submitted
from facesim.runs.directory import Run, find_runs
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from facesim.backends.sagemaker.session import Account
    from facesim.spec.backends import BackendSpec


def open_run(account: Account, name: str, place: Path, backend: BackendSpec | None = None) -> Run:
    """The run of the training job `name`: in or below `place` if it was started from there, else a new one in it, which
    goes on where the job was: with its role, image, network and keys. What AWS does not say of a job, its tags and the
    owner of its bucket, is as `backend` has it.

    Raises:
        InputError: it is no training job of facesim's.
        AwsError: there is none of that name.
    """
    for run in find_runs([place]) if os.path.exists(place) and any(place.rglob("job.json")) else []:
        try:
            request = run.plan().get("CreateTrainingJob")
        except InputError:
            continue  # a damaged run, which is not this one as far as one can tell
        if isinstance(request, dict) and request.get("TrainingJobName") == name:
            return run
    description = describe(account, name)
    hyperparameters = description.get("HyperParameters", {})
    if JOB not in hyperparameters:
        raise InputError(f"{name} is not a training job of facesim's: it has no hyperparameter `{JOB}`")
    job = job_of(hyperparameters)
    backend = (backend or job.backend).model_copy(update={"region": account.region, **place_of(description)})
    run = Run.create(place / name, job.model_copy(update={"backend": backend}))
    run.record("submitted", time_unix_s=description["CreationTime"].timestamp(), **submitted(job.groups, job.spot))
    known = {"TrainingJobName": name, "CheckpointConfig": {"S3Uri": checkpoints_of(description)}}
    run.plan_file.write_text(json.dumps({"CreateTrainingJob": known}), encoding="utf-8")
    return run
