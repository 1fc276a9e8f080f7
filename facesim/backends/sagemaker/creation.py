"""From a request to a training job that exists: its inputs go up, then it is sent, with patience for what passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from facesim.backends.due import Due
from facesim.backends.sagemaker.advice import AwsError, BusyError, ExpiredError, RefusedError
from facesim.backends.sagemaker.calls import AT_WORK, create_when_there_is_room, describe
from facesim.backends.sagemaker.session import asking
from facesim.backends.sagemaker.storage import Sent, have_bucket, upload
from facesim.backends.training_job import job_name
from facesim.runs.events import Event, Submitted, TrainingJobCreated, Uploaded, Uploading
from facesim.util.errors import FacesimError, InputError

if TYPE_CHECKING:
    from facesim.backends.reach import Reach
    from facesim.backends.sagemaker.session import Account
    from facesim.backends.training_job import TrainingJob
    from facesim.runs.directory import Run

_UPLOAD_EVERY_S = 5.0
#: What fails for a reason that passes is tried again so often, and for so long; where credentials have expired, for so
#: long that a user who sleeps can sign in again.
_TRY_AGAIN_S, _PATIENCE_S, _SIGN_IN_S = 5.0, 900.0, 12 * 3600.0
#: How often a job is made again for which AWS had no instances.
_CAPACITY_EVERY_S = 60.0
_TICK_S = 0.25

#: How FailureReason begins where there were none.
_NO_CAPACITY = "CapacityError"


class Creation:
    """Makes the training job of a run; `is_ending` says that the user does not want it any more.

    Attributes:
        made: the request, under the name that it has now.
        exists: whether AWS has taken it; None where it was sent, and nobody knows whether it arrived.
    """

    def __init__(self, run: Run, account: Account, made: TrainingJob, reach: Reach, is_ending: Callable[[], bool]):
        self._run, self._account, self._reach, self._is_ending = run, account, reach, is_ending
        self.made = made
        self.exists: bool | None = False
        self._until_s = time.monotonic() + run.job().backend.quota_wait_s
        self._attempt = 0
        self._failing_since_s: float | None = None

    def events(self) -> Iterator[Event | None]:
        """`uploaded` for each file, and `training_job` once it exists; nothing more where an interrupt comes before."""
        if self._attempt:
            yield from self._wait(_CAPACITY_EVERY_S)
        yield from self._patiently("upload", self._upload)
        yield from self._patiently("create", self._send)

    def had_no_capacity(self, description: dict[str, Any]) -> bool:
        """Whether AWS had no instances for the job, and may have some in the time that there is."""
        had_none = str(description.get("FailureReason", "")).startswith(_NO_CAPACITY)
        return had_none and time.monotonic() < self._until_s and not self._is_ending()

    def again(self) -> None:
        """The same job once more: AWS asks for another name."""
        self._attempt += 1
        lives = sum(isinstance(event, Submitted) for event in self._run.events())
        name = job_name(self._run.directory, lives - 1, self._attempt)
        self.made = replace(self.made, request={**self.made.request, "TrainingJobName": name})
        self._run.plan_file.write_text(self.made.to_json(), encoding="utf-8")
        self.exists = False

    def _patiently(self, what: str, attempt: Callable[[], Iterator[Event | None]]) -> Iterator[Event | None]:
        """What an attempt yields; it is made again while it fails for a reason that passes."""
        self._failing_since_s = None
        while not self._is_ending():
            try:
                yield from attempt()
                return self._reach.reached(what)
            except (BusyError, ExpiredError) as error:
                patience_s = _PATIENCE_S if isinstance(error, BusyError) else _SIGN_IN_S
                self._failing_since_s = self._failing_since_s or time.monotonic()
                if time.monotonic() - self._failing_since_s > patience_s:
                    raise
                yield from self._reach.failed(what, error)
            yield from self._wait(_TRY_AGAIN_S)

    def _wait(self, seconds: float) -> Iterator[None]:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._is_ending():
            yield None
            time.sleep(min(_TICK_S, seconds))

    def _upload(self) -> Iterator[Event | None]:
        due = Due()
        due("upload", _UPLOAD_EVERY_S)  # what is done sooner needs no event before
        for uri, sent in send_inputs(self._account, self.made, self._run.job().backend.bucket_owner):
            if sent.done:
                self._failing_since_s = None
                yield Uploaded(file=sent.file.name, to=uri, bytes=sent.bytes)
            elif due("upload", _UPLOAD_EVERY_S):
                yield Uploading(file=sent.file.name, sent_bytes=sent.sent_bytes, bytes=sent.bytes)
            else:
                yield None
            if self._is_ending():
                return

    def _send(self) -> Iterator[Event | None]:
        try:
            for full in create_when_there_is_room(self._account, self.made.request, self._may_wait):
                self._failing_since_s = None  # AWS answers: it may go on waiting for hours
                yield from self._reach.failed("quota", full) if full else [None]
                if self._is_ending():
                    return
        except RefusedError:
            raise
        except AwsError as error:
            # The answer may have been lost on the way, and the request sent again: then it was AWS that took the first.
            try:
                yield from self.found()
            except FacesimError:
                raise error from None
            if not self.exists:
                raise
        else:
            self.exists = True
            yield self._created()

    def found(self) -> Iterator[Event]:
        """Look whether AWS has taken the request after all; `training_job` if it has.

        Raises:
            FacesimError: nobody knows.
        """
        self.exists = None
        try:
            description = describe(self._account, self.made.name)
        except RefusedError:
            self.exists = False
            return
        self.exists = description.get("HyperParameters") == self.made.request["HyperParameters"]
        if self.exists:
            yield self._created()

    def _created(self) -> Event:
        return TrainingJobCreated(name=self.made.name, region=self._account.region)

    def _may_wait(self) -> bool:
        """Whether the quota may have room in a while: other jobs of this process, which have some of it, will end."""
        return time.monotonic() < self._until_s or bool(AT_WORK)


def send_inputs(account: Account, made: TrainingJob, bucket_owner: str | None) -> Iterator[tuple[str, Sent]]:
    """Put what a request needs at its addresses, in a bucket that is made where it is missing; tell how far each is.

    Raises:
        InputError: the request has placeholders; the bucket may not be used, or is not that of `bucket_owner`, by
            default the account itself.
        AwsError: S3 does not take it.
    """
    if made.placeholders:
        raise InputError(f"{made.name} cannot be sent: {'; '.join(made.placeholders)}")
    owner = bucket_owner or account.id
    s3, key = account.client("s3"), made.kms_key
    with asking(f"use the S3 bucket {made.bucket}"):
        have_bucket(s3, made.bucket, account.region, owner)
    for uri, folder in made.uploads.items():
        with asking(f"upload to {uri}"):
            for sent in upload(s3, folder, uri, key, owner):
                yield uri, sent
