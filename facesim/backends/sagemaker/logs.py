"""What a training job's hosts print, read from CloudWatch Logs as it comes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account

GROUP = "/aws/sagemaker/TrainingJobs"

#: So many pages without an event, one after the other, are read at a time: the next time goes on behind them.
_EMPTY_PAGES = 10

_HOST = re.compile(r"/(algo-\d+)-\d+$")


class Line(NamedTuple):
    """A line that `host` printed."""

    host: str
    time_unix_s: float
    text: str


class LogTail:
    """Reads the streams of one job, `JOB/algo-N-EPOCH`; each time what is new."""

    def __init__(self, account: Account, job: str):
        self._account = account
        self._job = job
        self._tokens: dict[str, str] = {}  # by stream: where to go on
        self._known: dict[str, int] = {}  # by stream that has no such: how many events have been read

    def new(self) -> Iterator[Line]:
        """What every host printed since the last time, host by host, in order."""
        for stream in self._streams():
            yield from self._lines(stream)

    def _streams(self) -> list[str]:
        # Asked each time: a job that was interrupted prints to new streams.
        logs = self._account.client("logs")  # each time, for the account may have been renewed
        try:
            pages = list(
                logs.get_paginator("describe_log_streams").paginate(
                    logGroupName=GROUP, logStreamNamePrefix=f"{self._job}/"
                )
            )
        except logs.exceptions.ResourceNotFoundException:
            return []  # the account's first job has not printed yet
        return sorted(stream["logStreamName"] for page in pages for stream in page.get("logStreams", []))

    def _lines(self, stream: str) -> Iterator[Line]:
        match = _HOST.search(stream)
        host = match[1] if match else stream.rpartition("/")[2]
        logs, empty = self._account.client("logs"), 0
        while empty < _EMPTY_PAGES:
            known = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            try:
                page = logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True, **known)
            except logs.exceptions.ResourceNotFoundException:
                return  # it has been listed, and cannot be read yet
            events, token = page.get("events", []), page.get("nextForwardToken")
            for event in events[self._known.get(stream, 0) :]:
                yield Line(host, event["timestamp"] / 1000, event["message"].rstrip("\n"))
            if token is None:
                self._known[stream] = len(events)
                return
            empty = 0 if events else empty + 1
            # At the end of a stream comes the same token again; an empty page alone does not mean the end.
            if token == self._tokens.get(stream):
                return
            self._tokens[stream] = token
