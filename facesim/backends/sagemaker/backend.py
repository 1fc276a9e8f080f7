"""`sagemaker`: AWS SageMaker runs the job's CreateTrainingJob request on instances of its own."""

from __future__ import annotations

from pathlib import Path

from facesim.backends.emulation import takes_all_hosts
from facesim.backends.sagemaker.bill import refuse_above
from facesim.backends.sagemaker.job import SageMakerJob
from facesim.backends.sagemaker.session import Account
from facesim.backends.sagemaker.site import site_of
from facesim.backends.sagemaker.validation import problems
from facesim.backends.training_job import TrainingJob, job_name, training_job_request
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import Submitted
from facesim.spec.job import Job
from facesim.util.errors import InputError


class SageMakerBackend:
    """Sends the request and follows the training job until its results are home."""

    measurement = "measured"

    def render(self, job: Job, directory: Path, inputs: Inputs) -> TrainingJob:
        """The request. AWS is asked for the account's number at the most, if a default needs it."""
        if any(takes_all_hosts(fault) for fault in job.faults):
            raise InputError(
                "`interrupt` in --faults cannot be played at AWS, which takes capacity away itself; "
                "leave it out, or try it with --backend docker"
            )
        site = site_of(job.backend, Account(job.backend.region), [kind for kind, _ in job.groups])
        # A run that goes on is another training job, with the checkpoints of the first.
        lives = sum(isinstance(event, Submitted) for event in Run(directory).events())
        name, lineage = job_name(directory, again=lives), job_name(directory)
        made = training_job_request(job, name, inputs.folders, site, lineage=lineage)
        if wrong := problems("CreateTrainingJob", made.request):
            raise InputError(f"SageMaker does not take this training job: {'; '.join(wrong)}")
        return made

    def submit(self, run: Run, request: TrainingJob) -> SageMakerJob:
        run.plan_file.write_text(request.to_json())
        aws = run.job().backend
        return SageMakerJob(run, Account(aws.region), request.name, request, aws.on_interrupt)

    def estimate(self, requests: list[TrainingJob], max_cost_usd: float | None) -> str:
        return refuse_above(max_cost_usd, [request.request for request in requests])


BACKEND = SageMakerBackend()
