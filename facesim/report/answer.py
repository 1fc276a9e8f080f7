"""The first lines of a report: the question that its rows answer, and the answer in at most three sentences, each with
what it holds for.

A sentence claims no more than `verdict` does, which says the same at length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from facesim.report.rows import Row, unlike_hosts
from facesim.report.statistics import Difference, Outcome
from facesim.report.verdict import (
    ALARM,
    UNLIKE_HOSTS,
    Finding,
    accuracy_in_short,
    accuracy_of,
    as_long_or_fast,
    forecast_time,
    headlines,
    why_untimed,
)
from facesim.report.words import percent, points_text, quantity, times
from facesim.runs.states import Measurement

if TYPE_CHECKING:
    from facesim.report.comparison import Comparison, Contrast

#: So many sentences at the most.
_SENTENCES = 3


def question(comparison: Comparison) -> str:
    """What a reader wants to know of these rows."""
    rows = [row for row in comparison.rows if row.counted]
    if not rows:
        return "What happened?"
    if len(rows) == 1:
        return "How long does this training take, and how well does the network recognise?"
    if comparison.curves:
        return "How many images are enough?"
    if len({row.distributed for row in rows}) == 2:
        return "One machine or a cluster?"
    if comparison.scales and len({row.records[0].job.strategy for row in rows}) == 1:
        return "How many workers?"
    best = "fastest, cheapest and most accurate" if len(comparison.tests) == 1 else "fastest and cheapest"
    return f"Which of these {len(rows)} is {best}?"


def answer(comparison: Comparison) -> tuple[Finding, ...]:
    """At most three sentences; alarms first."""
    rows, contrasts = comparison.rows, comparison.contrasts
    if not contrasts:
        return headlines(rows, contrasts, comparison.curves)[:_SENTENCES]
    calm = [contrast for contrast in contrasts if "apart" not in (contrast.row.audit, contrast.reference.audit)]
    ran = [contrast for contrast in calm if not (contrast.row.is_forecast or contrast.reference.is_forecast)] or calm
    if comparison.curves:
        grown = headlines(rows, (), comparison.curves)
        stated = [sentence for sentence in grown if sentence.tone != ALARM][:1]
    elif len(ran) == 1:
        stated = [*map(_time, ran), *map(_accuracy, ran)]
    else:
        stated = [*_fastest(rows), *_accuracies(comparison, ran)]
    sentences = [
        *_alarms(rows),
        *stated,
        *_cluster(rows),
    ]
    return tuple(sentences[:_SENTENCES])


def _alarms(rows: Sequence[Row]) -> Iterator[Finding]:
    apart = [row.label for row in rows if row.audit == "apart"]
    if apart:
        whose = "its" if len(apart) == 1 else "their"
        text = f"{_listed(apart)} did not train together: {whose} replicas trained apart."
        yield Finding("trained together?", text, ALARM)
    idle = [row.label for row in rows if row.idle_accelerators]
    if idle:
        yield Finding("computed on what was paid for?", f"{_listed(idle)} did not use what was paid for.", ALARM)


def _time(contrast: Contrast) -> Finding:
    row, reference = contrast.row, contrast.reference
    if contrast.training is None:
        why = why_untimed(contrast) or "it was not recorded"
        return Finding("training time", f"No statement about the time of {row.label} is possible: {why}.")
    if contrast.training.undecided:
        took = f"there is no evidence that {row.label} and {reference.label} differ in training time"
    else:
        took = f"{row.label} {as_long_or_fast(contrast.training, reference.label)}"
    if contrast.training.n == 1:
        took += " (one seed)"
    if contrast.instance_s:
        took += f", with {times(contrast.instance_s.ratio)} times the instance-seconds"
    if row.experiment != reference.experiment:
        took += " (not the same experiment)"
    scope, meaning = _scope([row, reference])
    return Finding("training time", f"{scope}, {took}{meaning}.")


def _scope(rows: Sequence[Row]) -> tuple[str, str]:
    """What times of these rows hold for: the begin of a sentence, and its end."""
    kinds = {kind for row in rows for kind in row.measurements}
    if len(kinds) > 1:
        if len(rows) > 2:
            return f"As {' for some, and '.join(sorted(kinds))} for others", ""
        return f"As {' and '.join(f'{row.measurement} for {row.label}' for row in rows if row.measurement)}", ""
    if Measurement.FORECAST in kinds:
        return "As forecast", ""
    if Measurement.EMULATED in kinds:
        cost = ": that is what the strategy costs here, not how long a cluster would take"
        on_one = any(row.on_one_machine and row.distributed for row in rows)
        return "Emulated on one machine", cost if on_one else ": not a measurement of instances"
    types = dict.fromkeys(name for row in rows if row.counted for name in row.counted[0].result.instances)
    return f"Measured on {_listed([*types] or ['instances'])}", ""


def _fastest(rows: Sequence[Row]) -> Iterator[Finding]:
    """The ends of many rows' training times: those of runs that nothing disturbed. What was only forecast has a
    sentence of its own, where anything ran.
    """
    timed = [row for row in rows if row.values("training_s") and row.audit != "apart"]
    timed = [row for row in timed if not row.is_forecast] or timed
    mean_s = {row: fmean(times_s.values()) for row in timed if (times_s := row.undisturbed("training_s"))}
    if len(mean_s) < 2:
        if len(timed) > 1:
            yield Finding("training time", "No statement about time is possible: other load disturbed these runs.")
        return
    if unlike_hosts(mean_s):
        yield Finding("training time", f"No statement about time is possible: {UNLIKE_HOSTS}.")
        return
    fastest, slowest = (pick(mean_s, key=mean_s.__getitem__) for pick in (min, max))
    scope, meaning = _scope(list(mean_s))
    texts = [f"{row.label} ({quantity(mean_s[row], 's')})" for row in (fastest, slowest)]
    if quantity(mean_s[fastest], "s") == quantity(mean_s[slowest], "s"):
        ends = f"{'both' if len(mean_s) == 2 else f'all {len(mean_s)}'} trained for {quantity(mean_s[fastest], 's')}"
    elif len(mean_s) == 2:
        ends = f"{texts[0]} trained faster than {texts[1]}"
    else:
        ends = f"{texts[0]} trained fastest and {texts[1]} slowest of {len(mean_s)}"
    yield Finding("training time", f"{scope}, {ends}{meaning}.")


def _accuracy(contrast: Contrast) -> Finding:
    row, reference = contrast.row, contrast.reference
    if row.is_forecast or reference.is_forecast:
        return Finding("held-out accuracy", "A forecast is of time and cost: it says nothing about accuracy.")
    if contrast.accuracy is None:
        return Finding("held-out accuracy", f"{_capital(accuracy_in_short(None))}.")
    if lacking := [side.label for side in (row, reference) if not side.values("held_out_accuracy")]:
        return Finding("held-out accuracy", f"The held-out accuracy of {_listed(lacking)} was not measured.")
    both = f"{row.label} {accuracy_of(row)}, {reference.label} {accuracy_of(reference)}"
    return Finding("held-out accuracy", f"Held-out accuracy: {both}; {accuracy_in_short(contrast.accuracy)}.")


def _accuracies(comparison: Comparison, contrasts: Sequence[Contrast]) -> Iterator[Finding]:
    """The ends of many rows' accuracies, of those together that were tested on the same images, which have one
    reference.
    """
    compared_with: dict[Row, list[tuple[Row, Difference]]] = {}
    for contrast in contrasts:
        if contrast.accuracy is not None:
            compared_with.setdefault(contrast.reference, []).append((contrast.row, contrast.accuracy))
    stated = []
    for reference, compared in compared_with.items():
        if ends := _ends([reference, *(row for row, _ in compared)]):
            letter = comparison.test_of(reference)
            stated.append(f"{ends}{f' on images {letter}' if letter else ''}: {_differences(reference, compared)}")
    if stated and len(comparison.tests) > 1:
        stated.append("those on different images are not compared")
    every = dict.fromkeys(side for contrast in contrasts for side in (contrast.reference, contrast.row))
    if not stated and (ends := _ends([*every])):
        stated = [f"{ends}: not compared, the test images differ"]
    if stated:
        yield Finding("held-out accuracy", f"Held-out accuracies are {'; '.join(stated)}.")


def _ends(rows: Sequence[Row]) -> str | None:
    """The lowest and the highest of the rows' mean accuracies; None where fewer than two have one."""
    means = [estimate.mean for row in rows if (estimate := row.estimate("held_out_accuracy"))]
    if len(means) < 2:
        return None
    ends = dict.fromkeys(percent(end) for end in (min(means), max(means)))
    return f"{'all ' if len(ends) == 1 else ''}{' to '.join(ends)}"


def _differences(reference: Row, compared: Sequence[tuple[Row, Difference]]) -> str:
    """Which rows' accuracies differ from their reference's, as a clause."""
    if all(accuracy.outcome is Outcome.TOO_FEW_SEEDS for _, accuracy in compared):
        return "too few seeds to tell them apart"
    differ = [
        (row, accuracy.mean or 0.0)
        for row, accuracy in compared
        if accuracy.outcome in (Outcome.DIFFERENT, Outcome.NEGLIGIBLE)
    ]
    if not differ:
        return f"no evidence of a difference from {reference.label}"
    row, mean = max(differ, key=lambda pair: abs(pair[1]))
    return (
        f"{len(differ)} of {len(compared)} differ from {reference.label}, most of all {row.label}, "
        f"{points_text(abs(mean))} {'more' if mean > 0 else 'less'}"
    )


def _cluster(rows: Sequence[Row]) -> Iterator[Finding]:
    """The fastest of the forecast rows, beside what ran."""
    forecasts = [(row, record) for row in rows if row.is_forecast and (record := row.records[0].forecast)]
    if not forecasts or len(forecasts) == len(rows):
        return
    row, record = min(forecasts, key=lambda pair: pair[1].total_s)
    yield Finding(
        "forecast",
        f"As forecast, {row.label} takes {forecast_time(record)}"
        + (f" and costs {quantity(record.cost_usd, 'USD')}" if row.priced else "")
        + ".",
    )


def _capital(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
