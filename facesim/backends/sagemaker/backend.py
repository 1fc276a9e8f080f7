"""`sagemaker`: AWS SageMaker runs the job's CreateTrainingJob request on instances of its own."""

from __future__ import annotations

from pathlib import Path

from facesim.backends.emulation import takes_all_hosts
from facesim.backends.sagemaker.advice import RefusedError
from facesim.backends.sagemaker.bill import refuse_above
from facesim.backends.sagemaker.calls import OUTCOMES, describe
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
        """The request. AWS is asked for the account's number at the most, if a default needs it; of a run that goes on,
        for its training job, too.
        """
        if any(takes_all_hosts(fault) for fault in job.faults):
            raise InputError(
                "`interrupt` in --faults cannot be played at AWS, which takes capacity away itself; "
                "leave it out, or try it with --backend docker"
            )
        account, run = Account(job.backend.region), Run(directory)
        site = site_of(job.backend, account, [kind for kind, _ in job.groups])
        # A run that goes on is another training job, with the checkpoints of the first.
        lives = sum(isinstance(event, Submitted) for event in run.events())
        if lives:
            _check_ended(run, account)
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


def _check_ended(run: Run, account: Account) -> None:
    """Look whether the training job that a run had before is over, for two would train with the same checkpoints.

    Raises:
        InputError: it goes on at AWS, or has completed there and not come home.
        AwsError: AWS cannot be asked.
    """
    request = run.plan().get("CreateTrainingJob") if run.plan_file.exists() else None
    if not isinstance(request, dict):
        return
    name = request["TrainingJobName"]
    try:
        status = describe(account, name)["TrainingJobStatus"]
    except RefusedError:  # there is none: the command ended before it was made
        return
    if status not in OUTCOMES:
        raise InputError(
            f"the training job {name} of {run.directory} goes on at AWS: `facesim attach {run.directory}` follows it, "
            f"`facesim cancel {name}` ends it"
        )
    if status == "Completed" and run.result() is None:
        raise InputError(
            f"the training job {name} of {run.directory} has completed at AWS: `facesim attach {run.directory}` brings "
            "home what it left"
        )


BACKEND = SageMakerBackend()
