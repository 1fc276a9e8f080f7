"""Spot capacity: when a job gets its hosts and when it loses them. Pure and seeded: no clock, no process.

Time is the market's, in seconds since the job was submitted. A job has capacity when it has all its hosts, and loses it
as soon as any one of them is reclaimed: SageMaker then interrupts the whole job.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import itertools
import json
import math
import os
import random
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from facesim.spec.spot import Spot
from facesim.util.errors import InputError
from facesim.util.files import read_text, why_unread
from facesim.util.words import count_text

#: What `--spot` alone plays: capacity as `facesim.billing.synthetic` makes it up.
PACKAGED_TRACE = Path(__file__).with_name("spot_trace.csv")

_WEIBULL = "weibull:"


class Capacity(NamedTuple):
    """When the job gets its hosts and when it loses them, in the market's seconds; `math.inf`: never."""

    granted_s: float
    reclaimed_s: float


class Market(Protocol):
    """What a job asks for its hosts, at its submission and after each interruption."""

    def grant(self, asked_s: float) -> Capacity:
        """The capacity that a job gets which asks for it at `asked_s`; never earlier than the time before."""


class OnDemand:
    """Hosts are there at once, and stay."""

    def grant(self, asked_s: float) -> Capacity:
        return Capacity(asked_s, math.inf)


class _Lifetimes:
    """Each host lives as long as `draw` says, in hours; after an interruption there are others in a while."""

    def __init__(self, draw: Callable[[random.Random], float], hosts: int, wait_s: float, rng: random.Random):
        self._draw, self._hosts, self._rng = draw, hosts, rng
        self._wait = _Wait(wait_s, rng)

    def grant(self, asked_s: float) -> Capacity:
        granted_s = asked_s + self._wait()
        return Capacity(granted_s, granted_s + 3600 * min(self._draw(self._rng) for _ in range(self._hosts)))


class _Wait:
    """How long it takes to have hosts: the first time no time, later an exponential one."""

    def __init__(self, mean_s: float, rng: random.Random):
        self._mean_s, self._rng = mean_s, rng
        self._first = True

    def __call__(self) -> float:
        wait_s = 0.0 if self._first else exponential(self._rng, self._mean_s)
        self._first = False
        return wait_s


class Stay(NamedTuple):
    """One host of a trace, from its coming to its going."""

    node: str
    begin_s: float
    end_s: float


class _Record:
    """The hosts of a trace, `stays` in the order of their beginning."""

    def __init__(self, stays: list[Stay]):
        self.stays = stays
        self._begins_s = [stay.begin_s for stay in stays]
        self._ends_s = sorted(stay.end_s for stay in stays)
        self.period_s = self._ends_s[-1]
        self.most = max(map(self.count, self._begins_s))

    def count(self, at_s: float) -> int:
        """How many hosts there are at a time."""
        return bisect_right(self._begins_s, at_s) - bisect_right(self._ends_s, at_s)

    def first_s(self, hosts: int, since_s: float) -> float | None:
        """When there are so many hosts from a time on; None: not before the record ends."""
        later_s = itertools.islice(self._begins_s, bisect_right(self._begins_s, since_s), None)
        return next((at_s for at_s in itertools.chain([since_s], later_s) if self.count(at_s) >= hosts), None)


class _Trace:
    """Hosts come and go as recorded; at its end the record begins again, without the hosts that there were."""

    def __init__(self, record: _Record, hosts: int, wait_s: float, rng: random.Random):
        self._record, self._hosts, self._rng = record, hosts, rng
        self._wait = _Wait(wait_s, rng)

    def grant(self, asked_s: float) -> Capacity:
        wanted_s = asked_s + self._wait()
        period_s = self._record.period_s
        rounds, since_s = divmod(wanted_s, period_s) if math.isfinite(period_s) else (0.0, wanted_s)
        # To the microsecond, so that who asks at the moment at which a host goes does not get it.
        since_s, base_s = round(since_s, 6), rounds * period_s if rounds else 0.0
        while (at_s := self._record.first_s(self._hosts, since_s)) is None:
            base_s, since_s = base_s + period_s, 0.0
        there = [stay for stay in self._record.stays if stay.begin_s <= at_s < stay.end_s]
        chosen = self._rng.sample(there, self._hosts)
        return Capacity(max(wanted_s, base_s + at_s), base_s + min(stay.end_s for stay in chosen))


def market(spot: Spot | None, hosts: int, seed: int) -> Market:
    """The market on which a job of so many hosts asks. The same seed gives the same answers to the same questions.

    Raises:
        InputError: a file of `spot` is missing or not what it should be, or never has so many hosts at once.
    """
    if spot is None:
        return OnDemand()
    rng = random.Random(f"spot capacity {seed}")
    if spot.rate is not None:
        return _Lifetimes(_from_rate(spot.rate), hosts, spot.wait_s, rng)
    if spot.lifetimes is not None:
        return _Lifetimes(_from_lifetimes(spot.lifetimes), hosts, spot.wait_s, rng)
    file = Path(spot.trace) if spot.trace is not None else PACKAGED_TRACE
    record = _trace(file, file.stat().st_mtime_ns if os.path.exists(file) else None)
    if record.most < hosts:
        raise InputError(
            f"the trace of spot capacity, {spot.trace or 'the packaged one'}, never has the "
            f"{count_text(hosts, 'host')} that the job needs at once: {record.most} at most; take fewer --workers, or "
            "another --spot-trace"
        )
    return _Trace(record, hosts, spot.wait_s, rng)


def capacity_sha256(spot: Spot | None) -> str | None:
    """The SHA-256 of the user's own file that says how capacity behaves; None where there is none, or it cannot be
    read, of which `market` says why.
    """
    if spot is not None and spot.trace is not None:
        file = spot.trace
    elif spot is not None and spot.lifetimes is not None and not spot.lifetimes.startswith(_WEIBULL):
        file = spot.lifetimes
    else:
        return None
    try:
        return hashlib.sha256(read_text(Path(file)).encode()).hexdigest()
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=4)
def _trace(file: Path, written_ns: int | None) -> _Record:
    """The trace in a file that was `written_ns`."""
    return _Record(read_trace(file))


def read_trace(file: Path) -> list[Stay]:
    """A trace of spot capacity: a CSV of `milliseconds, add or remove, node`, in order of time; `#` begins a comment.

    A host that is never removed stays until the last line's time; if all are there from one time on, for ever.

    Raises:
        InputError: the file is missing or not such a trace.
    """
    since: dict[str, float] = {}
    stays: list[Stay] = []
    now_s = first_s = None
    for number, row in _csv(file, "--spot-trace"):
        try:
            time_ms, event, node = row
            at_s = float(time_ms) / 1000
            known = event in ("add", "remove") and (event == "remove") == (node in since)
            ordered = math.isfinite(at_s) and at_s >= (now_s or 0.0)
        except ValueError:
            known = ordered = False
        if not (known and ordered):
            raise InputError(
                f"--spot-trace {file}, line {number}: {','.join(row)!r} is not `milliseconds,add,node` or, for a node "
                "that is there, `milliseconds,remove,node`, in order of time"
            )
        now_s = at_s
        first_s = at_s if first_s is None else first_s
        if event == "add":
            since[node] = at_s
        elif at_s > since[node]:
            stays.append(Stay(node, since.pop(node), at_s))
        else:
            del since[node]
    last_s = math.inf if now_s == first_s else now_s
    stays += [Stay(node, begin_s, last_s) for node, begin_s in since.items() if begin_s < last_s]
    if not stays:
        raise InputError(f"--spot-trace {file} has no host in it; it is lines of `milliseconds,add,node`")
    return sorted(stays, key=lambda stay: (stay.begin_s, stay.node))


def _from_rate(per_hour: float) -> Callable[[random.Random], float]:
    return lambda rng: exponential(rng, 1 / per_hour) if per_hour else math.inf


def _from_lifetimes(text: str) -> Callable[[random.Random], float]:
    """From `weibull:SHAPE,SCALE_HOURS`, or a file of lifetimes in hours, each as likely as the others.

    The file is a CSV with a column `hours` or nothing but one column, a JSON list of hours, or JSON with a list `rows`
    of objects with `hours`.
    """
    if text.startswith(_WEIBULL):
        try:
            shape, scale_h = (float(part) for part in text.removeprefix(_WEIBULL).split(","))
            if not (0 < shape < math.inf and 0 < scale_h < math.inf):
                raise ValueError
        except ValueError:
            raise InputError(
                f"--spot-lifetimes {text!r} is not allowed: weibull:SHAPE,SCALE_HOURS takes two positive numbers, such "
                "as weibull:0.9,4"
            ) from None
        return lambda rng: weibull(rng, shape, scale_h)
    hours = _read_hours(Path(text))
    return lambda rng: hours[int(rng.random() * len(hours))]


def _read_hours(file: Path) -> list[float]:
    try:
        if file.suffix == ".json":
            content: Any = json.loads(_text(file, "--spot-lifetimes"))
            rows = content["rows"] if isinstance(content, dict) else content
            hours = [float(row["hours"] if isinstance(row, dict) else row) for row in rows]
        else:
            rows = [row for _, row in _csv(file, "--spot-lifetimes")]
            column = rows[0].index("hours") if rows and "hours" in rows[0] else None
            hours = [float(row[column or 0]) for row in (rows if column is None else rows[1:])]
        usable = all(0 <= each < math.inf for each in hours) and any(hours)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        usable = False
    if not usable:
        raise InputError(
            f"--spot-lifetimes {file} does not hold lifetimes: it is a CSV with a column `hours`, or JSON, a list of "
            "hours or {rows: [{hours: ...}, ...]}; none is negative, and not all are zero"
        )
    return hours


def _csv(file: Path, option: str) -> list[tuple[int, list[str]]]:
    """The lines of a CSV that say something, with their numbers.

    Raises:
        InputError: the file is missing or no CSV.
    """
    try:
        rows = [*enumerate(csv.reader(_text(file, option).splitlines()), 1)]
    except csv.Error as error:
        raise InputError(f"{option} {file} is not a CSV: {error}; name a file that is") from None
    return [
        (number, [part.strip() for part in row]) for number, row in rows if row and not row[0].lstrip().startswith("#")
    ]


def _text(file: Path, option: str) -> str:
    try:
        return read_text(file)
    except (OSError, ValueError) as error:
        why = "it is not text" if isinstance(error, UnicodeDecodeError) else why_unread(error)
        raise InputError(f"{option} {file} cannot be read: {why}; name a file that can") from None


# Drawn by inversion, so that a seed means the same whatever Python's own distributions do.


def exponential(rng: random.Random, mean: float) -> float:
    return -mean * math.log(1 - rng.random())


def weibull(rng: random.Random, shape: float, scale: float) -> float:
    return scale * (-math.log(1 - rng.random())) ** (1 / shape)
