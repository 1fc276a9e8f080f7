"""The comparison in words: who is faster, what it costs, whether accuracy differs, whether replicas trained together.

A sentence claims no more than the runs show: without enough seeds it says so, and "no evidence of a difference" is a
result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from facesim.report.rows import Row, unlike_hosts
from facesim.report.statistics import ALPHA, MIN_SEEDS, Difference, Outcome, Ratio, holm
from facesim.report.words import (
    confidence,
    hosts_text,
    p_value,
    percent,
    percent_interval,
    points_text,
    quantity,
    signed_points,
    times,
)
from facesim.runs.states import Measurement
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.report.classical import Classical
    from facesim.report.comparison import Contrast
    from facesim.report.curves import Curve
    from facesim.report.forecast_check import ForecastCheck
    from facesim.runs.forecasts import ForecastRecord

ALARM, CAUTION, PLAIN = "alarm", "caution", "plain"


class Finding(NamedTuple):
    """One statement. `tone` says how to show it: an alarm in red, a caution marked, the rest plainly."""

    topic: str
    text: str
    tone: str = PLAIN


def headlines(rows: Sequence[Row], contrasts: Sequence[Contrast], curves: Sequence[Curve] = ()) -> tuple[Finding, ...]:
    """The verdict: one sentence a row that is compared and a learning curve of a network, alarms first."""
    if not any(row.counted for row in rows):
        return (Finding("runs", "No run completed: there is nothing to compare.", ALARM),)
    apart = tuple(
        Finding(row.label, f"{row.label} did not train together: its replicas trained apart.", ALARM)
        for row in rows
        if row.audit == "apart"
    )
    apart += tuple(
        Finding(row.label, f"{row.label} did not use what it paid for: {row.idle_accelerators}", ALARM)
        for row in rows
        if row.idle_accelerators
    )
    grown = tuple(_growth(curve) for curve in curves if curve.network and len(curve.points) > 1)
    if not contrasts and not grown:
        alone = next(row for row in rows if row.counted)
        return (
            *apart,
            Finding(alone.label, f"{alone.label} alone: {_figures(alone)}. There is nothing to compare it with."),
        )
    return (*apart, *grown, *(Finding(c.row.label, _headline(c)) for c in contrasts))


def findings(
    rows: Sequence[Row],
    contrasts: Sequence[Contrast],
    baselines: Sequence[Classical] = (),
    beside_baselines: Sequence[Row] = (),
    forecast_checks: Sequence[ForecastCheck] = (),
) -> tuple[Finding, ...]:
    """Every statement at length, alarms first and caveats last; `baselines` are of `beside_baselines`' images,
    `forecast_checks` runs against their forecasts.
    """
    stated = [*_audits(rows)]
    joint = f", corrected by Holm for {len(contrasts)} comparisons" if len(contrasts) > 1 else ""
    for contrast in contrasts:
        stated += _times(contrast, joint)
        stated += _cost(contrast)
        stated.append(_accuracy(contrast, joint))
    stated += _not_reached(contrasts)
    stated += [Finding("forecast", str(each), PLAIN if each.within else CAUTION) for each in forecast_checks]
    stated += _disturbed(rows)
    stated += _chance(rows)
    stated += _baselines(beside_baselines, baselines)
    stated += _caveats(rows)
    return tuple(sorted(stated, key=lambda finding: (ALARM, PLAIN, CAUTION).index(finding.tone)))


def _figures(row: Row) -> str:
    """How long a row takes, and how well it recognises, as far as that is known."""
    if row.is_forecast and (record := row.records[0].forecast):
        return f"{forecast_time(record)}, as forecast"
    trained = [f"{_mean(row, 'training_s', 's')} of training"] if row.values("training_s") else []
    accuracy = f"held-out accuracy {accuracy_of(row)}" if row.estimate("held_out_accuracy") else accuracy_of(row)
    return ", ".join([*trained, accuracy])


def forecast_time(record: ForecastRecord) -> str:
    """`163 s (128 s to 208 s, 8 times in 10)`."""
    ends = " to ".join(quantity(end_s, "s") for end_s in (record.low_s, record.high_s))
    return f"{quantity(record.total_s, 's')} ({ends}, 8 times in 10)"


def _headline(contrast: Contrast) -> str:
    parts = []
    if contrast.training:
        if contrast.training.undecided:
            parts.append("no evidence of a difference in training time")
        else:
            parts.append(f"{_as_long_or_fast(contrast.training)} to train")
    elif why := why_untimed(contrast):
        parts.append(f"no statement about time ({why})")
    if contrast.instance_s:
        parts.append(f"{times(contrast.instance_s.ratio)} times the instance-seconds")
    forecast = contrast.row.is_forecast or contrast.reference.is_forecast
    parts.append("no forecast of accuracy" if forecast else accuracy_in_short(contrast.accuracy))
    kinds = dict.fromkeys(kind for side in (contrast.row, contrast.reference) if (kind := side.measurement))
    alike = contrast.row.experiment == contrast.reference.experiment
    marks = [*kinds, *([] if alike else ["not the same experiment"])]
    marked = f" ({', '.join(marks)})" if marks else ""
    return f"{contrast.row.label} against {contrast.reference.label}{marked}: {', '.join(parts)}."


def as_long_or_fast(training: Ratio, reference: str) -> str:
    """`takes 1.43 times as long to train as single`, or `is 1.20 times as fast to train as single`."""
    return f"{_verb(training)} {_as_long_or_fast(training)} to train as {reference}"


def _verb(ratio: Ratio) -> str:
    return "is" if _as_long_or_fast(ratio).endswith("fast") else "takes"


def _as_long_or_fast(ratio: Ratio) -> str:
    """`1.43 times as long`, `1.20 times as fast`, `as long` where the factor is shown as 1."""
    factor = _at_least_one(ratio)
    if factor == times(1):
        return "as long"
    return f"{factor} times as {'long' if ratio.ratio >= 1 else 'fast'}"


def _growth(curve: Curve) -> Finding:
    first, last = curve.points[0], curve.points[-1]
    ends = [f"{percent(point.accuracy.mean)} with {point.training_examples:,.0f}" for point in (first, last)]
    return Finding(curve.label, f"{curve.label}: held-out accuracy {ends[0]} training images, {ends[1]}.")


def accuracy_in_short(accuracy: Difference | None) -> str:
    """What a paired comparison of accuracies allows one to say, as a clause."""
    if accuracy is None:
        return "accuracies not compared (not the same test images)"  # `_accuracy` says why
    if not accuracy.n:
        return "accuracies not compared (no seed has both)"
    if accuracy.outcome is Outcome.TOO_FEW_SEEDS:
        return f"no accuracy statement from {count_text(accuracy.n, 'paired seed')}"
    if accuracy.outcome in (Outcome.DIFFERENT, Outcome.NEGLIGIBLE):
        return f"{points_text(abs(accuracy.mean or 0))} {'more' if (accuracy.mean or 0) > 0 else 'less'} accurate"
    if accuracy.outcome is Outcome.EQUIVALENT:
        return f"equally accurate within {points_text(accuracy.margin)}"
    return "no evidence of a difference in accuracy"


def _audits(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        if row.idle_accelerators:
            yield Finding(
                "computed on what was paid for?",
                f"{row.label}: {row.idle_accelerators} Its time and cost say nothing about these instances. Look "
                "whether the image has CUDA: `facesim image build --cuda` makes one, --image aws is one.",
                ALARM,
            )
        if row.audit == "apart":
            evidence = next(r for r in row.counted if r.result.sync_audit.verdict == "apart").result.sync_audit.evidence
            yield Finding(
                "trained together?",
                f"{row.label}: the replicas trained apart in {row.audited_apart} of "
                f"{count_text(len(row.counted), 'run')}. Each trained a model of its own: this is not distributed "
                "training, and its time, cost and accuracy say nothing about that. Evidence: "
                f"{' '.join(evidence) or 'none recorded.'}",
                ALARM,
            )
        elif row.audit == "unknown" and row.replicated:
            yield Finding(
                "trained together?", f"{row.label}: it is not known whether the replicas trained together.", CAUTION
            )
        elif row.audit == "together":
            yield Finding(
                "trained together?", f"{row.label}: the replicas trained together in {_all(len(row.counted))}."
            )


#: Why the times of hosts that a machine played may not be compared.
UNLIKE_HOSTS = "hosts were given different shares of their processors and network"


def why_untimed(contrast: Contrast) -> str | None:
    """Why there are no times to compare, as a clause; None where they are compared, or were not recorded."""
    sides = (contrast.row, contrast.reference)
    if unlike_hosts(sides):
        return UNLIKE_HOSTS
    seeds = set(contrast.row.seeds) & set(contrast.reference.seeds)
    if not seeds:
        return f"{contrast.row.label} and {contrast.reference.label} have no seed in common"
    if seeds - {seed for side in sides for seed in side.disturbed}:
        return None
    disturbed = max(sides, key=lambda side: len(side.disturbed))
    return f"other load disturbed {disturbed.label}"


def _disturbed(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        seeds: dict[str, list[str]] = {}
        for seed, why in row.disturbed.items():
            seeds.setdefault(" and ".join(why), []).append(str(seed))
        causes = [
            f"seed{'' if len(numbers) == 1 else 's'} {', '.join(numbers)}: {why}" for why, numbers in seeds.items()
        ]
        if causes:
            yield Finding(
                "disturbed",
                f"{row.label}: other load disturbed the times of {len(row.disturbed)} of "
                f"{count_text(len(row.counted), 'run')} ({'; '.join(causes)}). They are in no statement about time; "
                "run again on a machine with nothing else to do.",
                CAUTION,
            )


def _times(contrast: Contrast, joint: str) -> Iterator[Finding]:
    row, reference, target_accuracy = contrast.row, contrast.reference, contrast.row.target_accuracy
    for topic, ratio, name, verb in (
        ("training time", contrast.training, "training_s", "to train"),
        ("total time", contrast.total, "total_s", "from launch to end"),
        (
            "time to accuracy",
            contrast.time_to_accuracy,
            "time_to_accuracy_s",
            f"to reach {percent(target_accuracy or 0)} held-out",
        ),
    ):
        if ratio is None:
            continue
        forecast = row.is_forecast or reference.is_forecast
        which = "both" if row.is_forecast and reference.is_forecast else "one of them"
        known = f"{which} forecast" if forecast else _interval(ratio, joint)
        both = f"{' against '.join(_paired_means(row, reference, name))}, {known}"
        if ratio.undecided:
            yield Finding(
                topic, f"No evidence that {row.label} and {reference.label} differ in the time {verb}: {both}."
            )
        else:
            how = f"{_verb(ratio)} {_as_long_or_fast(ratio)}"
            yield Finding(topic, f"{row.label} {how} as {reference.label} {verb}: {both}.")


def _not_reached(contrasts: Sequence[Contrast]) -> Iterator[Finding]:
    """Rows of which not every run reached the target, each once: one row is the reference of many."""
    for row in dict.fromkeys(side for contrast in contrasts for side in (contrast.reference, contrast.row)):
        reached, evaluated = len(row.values("time_to_accuracy_s")), len(row.evaluated)
        if reached < evaluated and row.target_accuracy is not None:
            yield Finding(
                "time to accuracy",
                f"{row.label} reached {percent(row.target_accuracy)} held-out in {reached} of "
                f"{count_text(evaluated, 'run')}.",
                CAUTION,
            )


def _cost(contrast: Contrast) -> Iterator[Finding]:
    row, reference, ratio = contrast.row, contrast.reference, contrast.instance_s
    if ratio is None:
        return
    instances = [side.counted[0].result.instances for side in (row, reference)]
    counts = [[count for count in kinds.values() if count is not None] for kinds in instances]
    hosts = [sum(each) if each else None for each in counts]
    text = (
        f"{row.label} uses {times(ratio.ratio)} times the instance-seconds of {reference.label}: "
        + " against ".join(
            f"{mean} on {hosts_text(number)}"
            for mean, number in zip(_paired_means(row, reference, "instance_s"), hosts, strict=True)
        )
    )
    if emulated := [side.label for side in (row, reference) if not side.priced]:
        whose = f" of {emulated[0]}" if len(emulated) == 1 else ""
        text += f";{whose} as emulated here, which is no forecast of what instances would take, and so of no price"
    elif row.values("cost_usd") and reference.values("cost_usd"):
        types = dict.fromkeys(name for kinds in instances for name in kinds or ["its instances"])
        text += (
            f"; on demand {_mean(row, 'cost_usd', 'USD')} against {_mean(reference, 'cost_usd', 'USD')} "
            f"at the price of {' and '.join(types)}"
        )
    yield Finding("cost", text + ".")


def _accuracy(contrast: Contrast, joint: str) -> Finding:
    row, reference, accuracy = contrast.row.label, contrast.reference.label, contrast.accuracy
    topic = "held-out accuracy"
    if contrast.row.is_forecast or contrast.reference.is_forecast:
        computed = [side.label for side in (contrast.row, contrast.reference) if side.is_forecast]
        what = f"{computed[0]} is a forecast" if len(computed) == 1 else f"{row} and {reference} are forecasts"
        return Finding(topic, f"Not compared: {what}, of time and cost.")
    if accuracy is None:
        return Finding(
            topic,
            f"Not compared: {row} and {reference} were not tested on the same images ({contrast.other_images}).",
            CAUTION,
        )
    if not accuracy.n:
        return Finding(topic, f"Not compared: {_without_pair(contrast)}.", CAUTION)
    means = f"{accuracy_of(contrast.row)} against {accuracy_of(contrast.reference)}"
    if accuracy.outcome is Outcome.TOO_FEW_SEEDS:
        return Finding(
            topic,
            f"No accuracy statement about {row} and {reference} is possible from "
            f"{count_text(accuracy.n, 'paired seed')}: at least {MIN_SEEDS} are needed (--seeds {MIN_SEEDS}). What was "
            f"seen: {means}.",
            CAUTION,
        )
    mean = accuracy.mean or 0.0
    if accuracy.outcome is Outcome.NO_SPREAD:
        seen = "the same accuracy" if abs(mean) < 1e-9 else f"the same difference, {signed_points(mean)} points,"
        return Finding(
            topic,
            f"No evidence of a difference between {row} and {reference}: {seen} in each of "
            f"{count_text(accuracy.n, 'paired seed')}; without spread there is neither interval nor test.",
        )
    low, high = accuracy.low or 0.0, accuracy.high or 0.0
    interval = (
        f"difference {signed_points(mean)} points, {confidence(accuracy.confidence)} interval {signed_points(low)} to "
        f"{signed_points(high)}{joint}, paired t test {p_value(accuracy.p)}, {count_text(accuracy.n, 'paired seed')}"
    )
    same = f"two one-sided t tests against {points_text(accuracy.margin)}, {p_value(accuracy.p_equivalent)}"
    if accuracy.outcome is Outcome.EQUIVALENT:
        text = f"{row} and {reference} are equally accurate within {points_text(accuracy.margin)} ({same}; {interval})."
    elif accuracy.outcome is Outcome.NO_EVIDENCE:
        text = (
            f"No evidence of a difference between {row} and {reference} ({interval}). That does not show that they are "
            f"the same: differences of up to {points_text(max(abs(low), abs(high)))} remain possible."
        )
    else:
        direction = "more" if mean > 0 else "less"
        text = f"{row} is {points_text(abs(mean))} {direction} accurate than {reference} ({interval})."
        if accuracy.outcome is Outcome.NEGLIGIBLE:
            text += f" It is less than {points_text(accuracy.margin)} ({same}): a real difference of little weight."
    if not contrast.images_recorded:
        text += " That both were tested on the same images is taken from their options: no run has them on record."
    return Finding(topic, text)


def _without_pair(contrast: Contrast) -> str:
    """Why there is no seed of which both have an accuracy, as a clause."""
    sides = (contrast.row, contrast.reference)
    if lacking := [side.label for side in sides if not side.values("held_out_accuracy")]:
        return f"{' and '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no held-out accuracy"
    return f"{' and '.join(side.label for side in sides)} have no seed in common"


def _chance(rows: Sequence[Row]) -> Iterator[Finding]:
    tested = [(row, p) for row in rows if (p := row.p_of_chance()) is not None]
    for (row, _), corrected in zip(tested, holm([p for _, p in tested]), strict=True):
        chance = row.estimate("chance_accuracy")
        if corrected.p >= ALPHA and chance:
            yield Finding(
                "held-out accuracy",
                f"{row.label} is not shown to be better than chance, {percent(chance.mean)}: {accuracy_of(row)}, "
                f"one-sided test {p_value(corrected.p)}.",
                CAUTION,
            )


def _baselines(rows: Sequence[Row], baselines: Sequence[Classical]) -> Iterator[Finding]:
    """The best of the classical methods, and the rows below it, each over the seeds that both have."""
    if not baselines:
        return
    best = max(baselines, key=lambda method: method.accuracy.mean)
    below = []
    for row in rows:
        accuracies = row.values("held_out_accuracy")
        both = accuracies.keys() & best.by_seed.keys()
        if both and (accuracy := fmean(accuracies[s] for s in both)) < fmean(best.by_seed[s] for s in both):
            below.append(f"{row.label} with {percent(accuracy)}")
    text = (
        f"Without a network, {best.method} recognises {percent(best.accuracy.mean)} of the same images in "
        f"{quantity(best.seconds, 's')}."
    )
    if best.lacking:
        text += f" There is {best.lacking}: rows are held against it over the others."
    if below:
        text += f" Below that: {', '.join(below)}."
    yield Finding("baselines", text, CAUTION if below else PLAIN)


def _caveats(rows: Sequence[Row]) -> Iterator[Finding]:
    kinds = {kind for row in rows for kind in row.measurements}
    if any(row.counted and row.on_one_machine and row.distributed for row in rows):
        cpus = sorted(
            {str(r.result.machine["cpu_count"]) for row in rows for r in row.counted if "cpu_count" in r.result.machine}
        )
        yield Finding(
            "emulated",
            f"All tasks of a local run share one machine{_cpus(cpus)}: these times show what a strategy costs, and not "
            "what a cluster gains. A cluster adds CPUs with every host, and its network is slower than loopback: a "
            "speed-up or a slow-down here is no forecast of one.",
            CAUTION,
        )
    elif Measurement.EMULATED in kinds:
        yield Finding(
            "emulated", "Emulated on this machine: not a measurement of the instances that are named.", CAUTION
        )
    if Measurement.FORECAST in kinds:
        yield Finding("forecast", "Rows marked forecast were computed, not run.", CAUTION)


def _at_least_one(ratio: Ratio) -> str:
    """The factor the way round that makes it at least 1."""
    return times(max(ratio.ratio, 1 / ratio.ratio))


def _interval(ratio: Ratio, joint: str) -> str:
    """What is known about the factor as `_at_least_one` tells it: its interval, or why there is none."""
    if ratio.n == 1:
        return "one seed, so it may be noise"
    if ratio.low is None or ratio.high is None:
        return f"the same in each of {count_text(ratio.n, 'paired seed')}"
    level, end = f"{confidence(ratio.confidence)} interval of the", f"{joint}, {count_text(ratio.n, 'paired seed')}"
    if ratio.undecided:
        return f"{level} ratio {times(ratio.low)} to {times(ratio.high)}{end}"
    low, high = (ratio.low, ratio.high) if ratio.ratio >= 1 else (1 / ratio.high, 1 / ratio.low)
    return f"{level} factor {times(low)} to {times(high)}{end}"


def accuracy_of(row: Row) -> str:
    """A row's held-out accuracy with its interval: `92.5 % (89.4 to 95.6)`."""
    estimate, interval = row.estimate("held_out_accuracy"), row.accuracy_interval()
    if estimate is None:
        return "no held-out accuracy"
    bounds = f" ({percent_interval(interval)})" if interval else ""
    return f"{percent(estimate.mean)}{bounds}"


def _mean(row: Row, name: str, unit: str) -> str:
    estimate = row.estimate(name)
    return "unknown" if estimate is None else quantity(estimate.mean, unit)


def _paired_means(row: Row, reference: Row, name: str) -> list[str]:
    """The mean times of both over the seeds by which they are compared: those of which nothing disturbed either."""
    both = [side.undisturbed(name) for side in (row, reference)]
    seeds = both[0].keys() & both[1].keys()
    return [quantity(fmean(times_s[seed] for seed in seeds), "s") for times_s in both]


def _all(n: int) -> str:
    return "its run" if n == 1 else f"all {n} runs"


def _cpus(counts: list[str]) -> str:
    return f" and its {' or '.join(counts)} CPUs" if counts else ""
