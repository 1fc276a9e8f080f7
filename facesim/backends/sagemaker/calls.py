"""The calls to SageMaker about training jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from facesim.backends.sagemaker.advice import BusyError, QuotaError, RefusedError, UnknownJobError
from facesim.backends.sagemaker.session import AwsError, asking
from facesim.runs.states import outcome_of_sagemaker

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account

#: How a job ended, by its status; another status is that of a job that goes on.
OUTCOMES = {status: outcome_of_sagemaker(status) for status in ("Completed", "Failed", "Stopped")}


#: What DescribeTrainingJob says, beside an error code that may mean anything, where there is no such job.
_NOT_FOUND = "Requested resource not found"

#: Training jobs that this process has sent, or follows, and that have not ended as far as it knows.
AT_WORK: set[str] = set()


def create(account: Account, request: dict[str, Any]) -> None:
    """Send a CreateTrainingJob request as it stands.

    Raises:
        InputError: AWS does not allow it.
        AwsError: AWS refuses it.
    """
    # Not through SageMaker's package: it adds what the user's configuration of it has, and a dry run would not show it.
    name = request["TrainingJobName"]
    AT_WORK.add(name)  # before: another that is refused for lack of quota has to know of it
    try:
        with asking(f"create the training job {name}"):
            account.client("sagemaker").create_training_job(**request)
    except BaseException:
        AT_WORK.discard(name)
        raise


#: How often it is tried again whether the quota has room for a job.
_ROOM_EVERY_S = 30.0
_TICK_S = 0.5


def create_when_there_is_room(
    account: Account, request: dict[str, Any], may_wait: Callable[[], bool]
) -> Iterator[QuotaError | None]:
    """Send a CreateTrainingJob request; again and again, as long as it `may_wait`, where the account's quota has no
    room for it.

    Yields why there is none after each attempt, and None while time passes; to stop waiting, close the iterator.

    Raises:
        InputError: AWS does not allow it.
        AwsError: AWS refuses it, or there was no room in time.
    """
    while True:
        try:
            return create(account, request)
        except QuotaError as error:
            if not may_wait():
                raise
            yield error
        again_s = time.monotonic() + _ROOM_EVERY_S
        while time.monotonic() < again_s:
            time.sleep(min(_TICK_S, _ROOM_EVERY_S))
            yield None


def describe(account: Account, name: str) -> dict[str, Any]:
    """DescribeTrainingJob's answer.

    Raises:
        InputError: one may not ask.
        UnknownJobError: there is no such job.
        AwsError: the answer is not one.
    """
    try:
        with asking(f"describe the training job {name}"):
            answer = account.client("sagemaker").describe_training_job(TrainingJobName=name)
    except RefusedError as error:
        if _NOT_FOUND not in str(error):
            raise
        raise UnknownJobError(
            f"the AWS account {account.id} has no training job {name} in {account.region}: give the --region that the "
            "job was made in, or sign in to the account that made it (AWS_PROFILE names a profile of ~/.aws/config)"
        ) from None
    answer.pop("ResponseMetadata", None)
    if missing := sorted({"TrainingJobStatus", "SecondaryStatus"} - answer.keys()):
        raise BusyError(f"cannot describe the training job {name}: the answer has no {' and no '.join(missing)}")
    return answer


def cancel(account: Account, name: str) -> bool:
    """Ask AWS to stop the job; False if it had ended already. Harmless when repeated."""
    status = describe(account, name)["TrainingJobStatus"]
    if status in OUTCOMES:
        return False
    if status != "Stopping":
        try:
            with asking(f"stop the training job {name}"):
                account.client("sagemaker").stop_training_job(TrainingJobName=name)
        except AwsError:
            # It may have ended since it was looked at.
            return describe(account, name)["TrainingJobStatus"] not in OUTCOMES
    return True


def newest(account: Account, many: int = 20) -> list[dict[str, Any]]:
    """Summaries of facesim's training jobs, the newest first."""
    with asking("list training jobs"):
        pages = (
            account.client("sagemaker")
            .get_paginator("list_training_jobs")
            .paginate(
                NameContains="facesim-",
                SortBy="CreationTime",
                SortOrder="Descending",
                PaginationConfig={"MaxItems": many, "PageSize": many},
            )
        )
        return [summary for page in pages for summary in page["TrainingJobSummaries"]]
