"""`sagemaker`: AWS SageMaker runs the job's CreateTrainingJob request on instances of its own."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from facesim.backends.base import Attached, Backend, Cancelled, Finding, Line, Status, Target
from facesim.backends.emulation import takes_all_hosts
from facesim.backends.kernels import unmeasured
from facesim.backends.remote_job import was_made
from facesim.backends.sagemaker import tuning
from facesim.backends.sagemaker.advice import DeniedError, RefusedError, UnknownJobError
from facesim.backends.sagemaker.attach import open_run
from facesim.backends.sagemaker.bill import fitting_s, groups_of, refuse_above
from facesim.backends.sagemaker.calls import OUTCOMES, cancel, describe, newest
from facesim.backends.sagemaker.data import look_at
from facesim.backends.sagemaker.doctor import examine
from facesim.backends.sagemaker.job import SageMakerJob
from facesim.backends.sagemaker.logs import LogTail
from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.organisation import layered
from facesim.backends.sagemaker.rules import broken_rules, unlike_described
from facesim.backends.sagemaker.session import Account, asking, redacted
from facesim.backends.sagemaker.site import site_of
from facesim.backends.sagemaker.status import listed, status_of
from facesim.backends.sagemaker.storage import split
from facesim.backends.training_job import TrainingJob, job_name, limits_s, training_job_request
from facesim.billing.catalogue import foreign_prices
from facesim.data.unseen import UnseenData
from facesim.preflight.inputs import Inputs, prepare_inputs
from facesim.preflight.memory import head_checkpoint_bytes
from facesim.runs.directory import Run
from facesim.runs.events import Submitted, TrainingJobCreated
from facesim.runs.states import RunState, state_of_sagemaker
from facesim.spec.backends import BackendSpec
from facesim.spec.job import Job
from facesim.spec.options import flag
from facesim.util.errors import FacesimError, InputError

#: How often what hosts print is asked for.
_LOGS_EVERY_S = 2.0


class SageMakerBackend(Backend):
    """Sends the request and follows the training job until its results are home."""

    def kernels(self, job: Job) -> str | None:
        return unmeasured(job)

    def limits_s(self, job: Job) -> tuple[float, float | None]:
        return limits_s(job)

    def render(self, job: Job, directory: Path, inputs: Inputs) -> TrainingJob:
        """The request. AWS is asked for the account's number at the most, if a default needs it; where it cannot be
        asked, a placeholder takes its place. Of a run that goes on, AWS is asked for its training job, too.
        """
        if any(takes_all_hosts(fault) for fault in job.faults):
            raise InputError(
                "`interrupt` in --faults cannot be played at AWS, which takes capacity away itself; "
                "leave it out, or try it with --backend docker"
            )
        names, run = Names(job.backend.region), Run(directory)
        settings = layered(job.backend)
        site = site_of(settings.aws, names, [kind for kind, _ in job.groups], job.framework)
        # A run that goes on is another training job, with the checkpoints of the first.
        lives = sum(isinstance(event, Submitted) for event in run.events())
        if lives:
            if not names.placeholders:  # else nobody knows yet where it would run
                _check_same_place(run, names.region, site.bucket)
            _check_ended(run, Account(job.backend.region))
        name = job_name(directory, again=lives)
        made = training_job_request(
            job,
            name,
            inputs.folders,
            site,
            checkpoints_uri=_checkpoints_in(site.bucket, run),
            # Of its head alone, which grows with the number of people.
            checkpoint_bytes=math.ceil(job.models / job.hosts) * head_checkpoint_bytes(job, len(inputs.data.names)),
            unseen_bytes=_unseen_bytes(inputs, site.input_mode),
        )
        violations = [
            *broken_rules(made.request),
            *unlike_described("CreateTrainingJob", made.request, names.placeholders),
        ]
        if violations:
            raise InputError(f"SageMaker does not take this training job: {'; '.join(violations)}")
        return replace(made, placeholders=tuple(names.placeholders), notices=settings.notices, region=names.region)

    def look_at_data(self, job: Job) -> UnseenData:
        return look_at(job)

    def examine(self, job: Job) -> Iterator[Finding]:
        return examine(job)

    def submit(self, run: Run, request: TrainingJob) -> SageMakerJob:
        run.plan_file.write_text(request.to_json(), encoding="utf-8")
        aws = run.job().backend
        return SageMakerJob(run, Account(aws.region), request.name, request, aws.on_interrupt)

    def affordable_s(self, job: Job, usd: float) -> float:
        """With what volumes and requests cost, and the time that a job which is ended has to save."""
        # Of a run that there is not: AWS is asked of no earlier training job.
        request = self.render(job, Path(f"priced-{secrets.token_hex(4)}"), prepare_inputs(job, lambda *_: None))
        return fitting_s([request.request], usd)

    def foreign_prices(self, job: Job) -> str | None:
        return foreign_prices(Names(job.backend.region).region, [kind for kind, _ in job.groups])

    def estimate(self, requests: Sequence[TrainingJob], max_cost_usd: float | None) -> str:
        uploads = {uri: folder for request in requests for uri, folder in request.uploads.items()}
        sizes = [file.stat().st_size for folder in uploads.values() for file in folder.rglob("*") if file.is_file()]
        made = [request.request for request in requests]
        regions = {request.region for request in requests if request.region}
        return refuse_above(max_cost_usd, made, sum(sizes) / 1e9, regions=regions)

    def attach(self, target: Target, output: Path) -> Attached:
        """A job that has ended is followed, too, until its results are here."""
        account, name = _account(target), _name(target)
        run = target.run or open_run(account, name, output, target.backend)
        if run.result() is None:
            _check_known(account, name)
        run.claim.take()
        if run.result() is not None:
            return Attached(run)
        return Attached(run, SageMakerJob(run, account, name, on_interrupt=run.job().backend.on_interrupt))

    def can_follow(self, target: Target) -> bool:
        try:
            name = _name(target)
        except InputError:  # the command ended before it was made
            return False
        try:
            describe(_account(target), name)
        except RefusedError:  # the same
            return False
        return True

    def status(self, target: Target) -> Status:
        account = _account(target)
        return status_of(describe(account, _name(target)), account, target)

    def logs(self, target: Target, source: str | None = None, follow: bool = False) -> Iterator[Line]:
        account, name = _account(target), _name(target)
        if source is not None:
            _check_host(describe(account, name), source)
        tail, last_error, ended = LogTail(account, name), "", False
        while not ended:
            try:
                over = describe(account, name)["TrainingJobStatus"] in OUTCOMES  # before the lines: none is missed
                with asking("read the training job's logs"):
                    for line in tail.new():
                        if source in (None, line.host):
                            yield Line(line.host, redacted(line.text), line.time_unix_s)
            except FacesimError as error:
                if not follow or isinstance(error, (DeniedError, RefusedError)):
                    raise
                if str(error) != last_error:
                    last_error = str(error)
                    yield Line("AWS", f"{last_error}; it is asked again", time.time())
                with suppress(FacesimError):  # the user may have signed in again
                    account.renew()
            else:
                ended, last_error = over or not follow, ""
            if not ended:
                time.sleep(_LOGS_EVERY_S)

    def cancel(self, target: Target) -> Cancelled:
        """Ask AWS to stop the job. It may save and upload for two minutes more, which is not waited for."""
        account, name = _account(target), _name(target)
        if tuning.is_name(name):
            going_on, state = tuning.cancel(account, name)
            return Cancelled(name, state, ended=not going_on)
        if cancel(account, name):
            return Cancelled(name, RunState.STOPPING.value, ended=False)  # which AWS may say only in a while
        state = describe(account, name)["SecondaryStatus"]
        return Cancelled(name, state_of_sagemaker(state).value, ended=True)

    def jobs(self, backend: BackendSpec) -> list[Status]:
        return [listed(summary, backend.name) for summary in newest(Account(backend.region))]


def _account(target: Target) -> Account:
    """The account in the region that was asked for, or that the run's training job was made in: the user's own may be
    another by now.
    """
    return Account(target.backend.region or (_made_in(target.run) if target.run else None))


def _check_known(account: Account, name: str) -> None:
    """Raise UnknownJobError where there is no such job. That AWS does not answer is waited out by who follows it."""
    try:
        describe(account, name)
    except UnknownJobError:
        raise
    except FacesimError:
        pass


def _made_in(run: Run) -> str | None:
    """The region of a run's newest training job, as far as is on record."""
    regions = [event.region for event in run.events() if isinstance(event, TrainingJobCreated)]
    return regions[-1] if regions else None


def _name(target: Target) -> str:
    """The training job's.

    Raises:
        InputError: the run has not become one.
    """
    if target.run is None:
        return target.name
    request = target.run.plan().get("CreateTrainingJob")
    name = request.get("TrainingJobName") if isinstance(request, dict) else None
    if not isinstance(name, str):
        raise InputError(f"{target.run.directory} did not become a training job: it ended before one was made")
    return name


def _check_host(description: dict[str, Any], source: str) -> None:
    """Raise InputError where a training job has no host `source`, as far as AWS says."""
    if "ResourceConfig" in description:
        count = sum(count for _, count in groups_of(description["ResourceConfig"]))
        hosts = [f"algo-{number}" for number in range(1, count + 1)]
        if source not in hosts:
            raise InputError(
                f"{description['TrainingJobName']} has no host {source!r}; there are {', '.join(hosts)}, which print "
                "what their tasks print"
            )


def _unseen_bytes(inputs: Inputs, input_mode: str) -> int:
    """What a host's volume holds of data that is not prepared here: a copy, unless it is streamed, and its images."""
    data = inputs.data
    if not isinstance(data, UnseenData):
        return 0
    return data.prepared_bytes + (data.bytes or 0 if input_mode == "File" else 0)


def _checkpoints_of(run: Run) -> str | None:
    """Where the training job that a run had before has its checkpoints; None if it had none."""
    request = run.plan().get("CreateTrainingJob")
    return request.get("CheckpointConfig", {}).get("S3Uri") if isinstance(request, dict) else None


def _checkpoints_in(bucket: str, run: Run) -> str | None:
    """The same in a bucket: what was to be kept in another never came to be there, for AWS took no such job."""
    uri = _checkpoints_of(run)
    return uri if uri and split(uri)[0] == bucket else None


def _check_same_place(run: Run, region: str, bucket: str) -> None:
    """Look whether a run goes on where it was a training job before: that may go on there, and its checkpoints are
    there.

    Raises:
        InputError: it would go on in another region, or with another bucket.
    """
    if not was_made(run):
        return
    made_in = _made_in(run) or run.job().backend.region
    kept_in, _ = split(_checkpoints_of(run) or "")
    for option, there, here in (("region", made_in, region), ("bucket", kept_in, bucket)):
        if there and there != here:
            raise InputError(
                f"{run.directory} was made with {flag(option)} {there}: its training job may go on there, and its "
                f"checkpoints are there, not in {here}; give {flag(option)} {there}, or start a new run",
                field=option,
                value=here,
                allowed=[there],
                remedy=f"give {flag(option)} {there}, or start a new run",
            )


def _check_ended(run: Run, account: Account) -> None:
    """Look whether the training job that a run had before is over, for two would train with the same checkpoints.

    Raises:
        InputError: it continues at AWS, or has completed there and its results are not downloaded.
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
            f"the training job {name} of {run.directory} continues at AWS: `facesim attach {run.directory}` follows "
            f"it, `facesim cancel {name}` ends it"
        )
    if status == "Completed" and run.result() is None:
        raise InputError(
            f"the training job {name} of {run.directory} has completed at AWS: `facesim attach {run.directory}` brings "
            "home what it left"
        )


BACKEND = SageMakerBackend()
