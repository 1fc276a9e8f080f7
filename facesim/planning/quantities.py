"""Durations, dollars and ranges as people write them, `2h`, `$5`, `1..16`, and as they like to read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from facesim.util.errors import InputError

_UNITS = {
    1: "s sec secs second seconds",
    60: "m min mins minute minutes",
    3600: "h hr hrs hour hours",
    86400: "d day days",
}
_SECONDS = {name: seconds for seconds, names in _UNITS.items() for name in names.split()}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)")
_DOLLARS = re.compile(r"\s*(?:\$|usd)?\s*(\d+(?:\.\d+)?)\s*(?:\$|usd|dollars?)?\s*", re.IGNORECASE)
_CENTS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:c|ct|cents?)\s*", re.IGNORECASE)
_RANGE = re.compile(r"(\d+)(?:\s*\.\.\s*(\d+))?")

#: More than that of one axis is a slip of the finger.
MOST_WORKERS, MOST_SERVERS = 1024, 64

#: More seeds to replay are, too.
MOST_REPLAYS = 20


def seconds(text: str, option: str) -> float:
    """`2h`, `90m`, `1h30m`, `45 s`, `1.5 h`, `2 d` in seconds.

    Raises:
        InputError: it is none, has no unit, or is not positive.
    """
    allowed = "it must be a duration with units, such as 2h, 90m, 1h30m or 45s"
    place, total, given = 0, 0.0, text.strip().lower()
    while place < len(given):
        part = _PART.match(given, place)
        if part is None or part[2] not in _SECONDS:
            unit = " without a unit" if re.fullmatch(r"\d+(\.\d+)?", given) else ""
            raise InputError(f"{option} {text!r} is no duration{unit}: {allowed}")
        total += float(part[1]) * _SECONDS[part[2]]
        place = part.end()
    if not 0 < total < math.inf:
        raise InputError(f"{option} {text!r} is no time at all: {allowed}")
    return total


def dollars(text: str, option: str) -> float:
    """`5`, `$5`, `5.50 USD`, `80 cents` in dollars.

    Raises:
        InputError: it is none, or is not positive.
    """
    if cents := _CENTS.fullmatch(text):
        amount = float(cents[1]) / 100
    elif usd := _DOLLARS.fullmatch(text):
        amount = float(usd[1])
    else:
        raise InputError(f"{option} {text!r} is no amount of money: it must be US dollars, such as 5, $5 or 0.80")
    if not 0 < amount < math.inf:
        raise InputError(f"{option} {text!r} is nothing to spend: it must be more than 0 dollars")
    return amount


def share(text: str, option: str) -> float:
    """`0.95` or `95 %` as a share, 0-1.

    Raises:
        InputError: it is none.
    """
    given = text.strip()
    try:
        value = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise InputError(f"{option} {text!r} is no accuracy: it must be a share above 0 and up to 1, or 1 to 100 %")
    return value


def workers_on(texts: Iterable[str], option: str) -> tuple[tuple[str, int], ...]:
    """Texts such as `ml.m5.xlarge:4` as instance types and how many workers are on each.

    Raises:
        InputError: one is none, or two are of one type.
    """
    workers: dict[str, int] = {}
    for text in texts:
        name, _, count = text.strip().rpartition(":")
        if not name or not re.fullmatch(r"[1-9]\d{0,3}", count):
            raise InputError(f"{option} {text!r} must be an instance type and how many workers, such as ml.m5.xlarge:4")
        if name in workers:
            raise InputError(
                f"{option} names {name} twice, with {workers[name]} and with {count}: name it once, with how many "
                "workers are on it in all"
            )
        workers[name] = int(count)
    return tuple(workers.items())


def counts(text: str, option: str, most: int = MOST_WORKERS) -> tuple[int, ...]:
    """`1..16`, `4` or `1,2,4..8` as numbers in their order, each once.

    Raises:
        InputError: it is none, or one of them is below 1 or above `most`.
    """
    allowed = f"it must be a number, a list or a range such as 4, 1,2,4 or 1..16, from 1 to {most}"
    numbers: set[int] = set()
    for part in text.split(","):
        bounds = _RANGE.fullmatch(part.strip())
        if bounds is None or len(part) > 20:
            raise InputError(f"{option} {text!r} is no range: {allowed}")
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if first < 1 or last > most:
            raise InputError(f"{option} {text!r} is out of bounds: {allowed}")
        if first > last:
            raise InputError(f"{option} {text!r} has nothing in it, for {first} is above {last}: {allowed}")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def time_text(value_s: float) -> str:
    """`45 s`, `12 min`, `1 h 32 min`, `3 d 4 h`."""
    if value_s < 10:
        return f"{value_s:.1f} s"
    if value_s < 90:
        return f"{value_s:.0f} s"
    minutes = round(value_s / 60)
    if minutes < 10:
        whole_s = round(value_s)
        return f"{whole_s // 60} min" + (f" {whole_s % 60} s" if whole_s % 60 else "")
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    days, hours = divmod(round(value_s / 3600), 24)
    return f"{days} d" + (f" {hours} h" if hours else "")


def exact_time_text(value_s: float) -> str:
    """`11 min 30 s`, `1 d 12 h`: a duration that was asked for, as it was."""
    parts, left_s = [], round(value_s, 6)
    for size_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        count, left_s = divmod(left_s, size_s)
        if count:
            parts.append(f"{count:.0f} {unit}")
    return " ".join(parts + ([f"{round(left_s, 6):g} s"] if left_s or not parts else []))


def dollars_text(value_usd: float) -> str:
    """`$0.0042`, `$0.26`, `$12.40`, `$1,240`."""
    if value_usd >= 100:
        return f"${value_usd:,.0f}"
    if value_usd >= 0.1 or value_usd == 0:
        return f"${value_usd:.2f}"
    return f"${value_usd:.2g}" if value_usd < 0.001 else f"${value_usd:.4f}"


def exact_dollars_text(value_usd: float) -> str:
    """`$5.00`, `$0.125`: money that was asked for, as it was."""
    return f"${value_usd:,.2f}" if round(value_usd, 2) == value_usd else f"${value_usd:,.10g}"
