"""What makes the rows of a comparison unlike each other apart from their strategy, and what was left out of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from facesim.report.load import RunRecord
from facesim.report.measures import chance_accuracy
from facesim.report.rows import Row, shape_in_words
from facesim.report.settings import settings
from facesim.report.words import percent
from facesim.runs.evaluations import Evaluation
from facesim.spec.frameworks import TENSORFLOW

#: Two rows that differ by more than this share in the examples they saw did not do the same work.
WORK_TOLERANCE = 0.01

#: What a report shows of evaluations, each by the newest of which it can: how it is called, and what is shown.
_EVALUATED = {
    "verification": ("verification", "the ROC"),
    "identification": ("identification", "the CMC"),
    "groups": ("errors by group", "errors by group"),
}


def warnings(rows: Sequence[Row]) -> tuple[str, ...]:
    """Every reason not to take the comparison at face value, the gravest first."""
    with_runs = [row for row in rows if row.counted]
    return (
        *_experiments(rows),
        *_validated(rows),
        *_work(with_runs),
        *_circumstances(with_runs),
        *_resumed(rows),
        *_left_out(rows),
        *_evaluated(rows),
        *_learning(with_runs),
        *_gaps(with_runs),
    )


def _experiments(rows: Sequence[Row]) -> Iterator[str]:
    for name in dict.fromkeys(name for row in rows for name in row.experiment):
        yield from _differing(
            f"not the same experiment: {name.replace('_', ' ')}", {row.label: row.experiment.get(name) for row in rows}
        )
    counted = [row for row in rows if row.counted]
    for name, words in (("identities", "identities"), ("training_examples", "training examples")):
        seen = {row.label: getattr(row.counted[0].result.data, name) for row in counted}
        yield from _differing(
            f"not the same data: {words}", {label: value for label, value in seen.items() if value is not None}
        )
    sizes = {
        row.label: row.counted[0].result.parameters for row in counted if row.counted[0].result.parameters is not None
    }
    yield from _differing("not the same network: parameters", sizes)


def _work(rows: Sequence[Row]) -> Iterator[str]:
    for name, words in (("examples_seen", "examples seen"), ("updates", "updates")):
        means = {row.label: estimate.mean for row in rows if (estimate := row.estimate(name))}
        if means and max(means.values()) > min(means.values()) * (1 + WORK_TOLERANCE):
            yield from _differing(
                f"not the same work: {words}", {label: f"{mean:,.0f}" for label, mean in means.items()}
            )


def _circumstances(rows: Sequence[Row]) -> Iterator[str]:
    yield from _differing("not measured in the same way: numbers are", {row.label: row.measurement for row in rows})
    yield from _differing(
        "not the same instances: priced as",
        {row.label: _together({" and ".join(r.result.instances) for r in row.counted}) for row in rows},
    )
    shares = {row.label: ", ".join(row.cpu_factors) for row in rows if row.cpu_factors}
    yield from _differing(
        "not the same share of hosts' processors and network, so times do not compare: they had", shares
    )
    threads = {row.label: row.records[0].job.shape.get("threads") or "automatic" for row in rows}
    yield from _differing("not the same threads a task:", threads)
    made_with = {row.label: settings(row.records[0].job) for row in rows}
    for name in dict.fromkeys(name for given in made_with.values() for name in given):
        values = {label: given[name] for label, given in made_with.items() if name in given}
        shown = {label: "none" if value is None else value for label, value in values.items()}
        yield from _differing(f"not the same circumstances: {name.replace('_', ' ')}", shown)
    computed = [row for row in rows if row.records[0].frameworks == [TENSORFLOW] and not row.is_forecast]
    kernels = {row.label: _together({r.result.machine.get("kernels") for r in row.counted}) for row in computed}
    if any(kernels.values()):  # which runs of earlier versions do not say
        kernel_names = {label: names or "unknown" for label, names in kernels.items()}
        yield from _differing("not the same kernels, so times compare these, too:", kernel_names)
    for name, words in (
        ("cpu_count", "CPUs"),
        ("cpu_model", "CPU"),
        ("python", "Python"),
        ("tensorflow", "TensorFlow"),
        ("torch", "PyTorch"),
        ("jax", "JAX"),
        ("keras", "Keras"),
        ("facesim", "facesim"),
    ):
        seen = {row.label: _together({r.result.machine.get(name) for r in row.counted}) for row in rows}
        yield from _differing(
            f"not the same machine: {words}", {label: value for label, value in seen.items() if value}
        )
    yield from _differing("not the same seeds:", {row.label: _together(set(row.seeds)) for row in rows})


def _validated(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        spec = row.data_spec
        if spec.tested_in_words == "validation":
            part, option = "the part val of the data's own split", "--test-part val"
            if spec.validation:
                part, option = f"a validation part, {spec.validation:.0%} of the training images", "--validation"
            yield (
                f"not the held-out images: {row.label} was tested on {part}, to choose settings by; how well it "
                f"recognises is shown by a run without {option}"
            )


def _evaluated(rows: Sequence[Row]) -> Iterator[str]:
    """Which evaluations are not shown, and why."""
    for row in rows:
        for record in row.counted:
            left_out = f"left out: {row.label}, {_name(record)}"
            if record.outdated:
                yield f"{left_out}: evaluations on {_titles(record.outdated)}: they are of an earlier model of the run"
            for part, (words, shown) in _EVALUATED.items():
                newest = record.evaluation_with(part)
                older = [one for one in record.evaluations if one.shows(part) and one is not newest]
                if newest and older:
                    newest_on = f"in favour of the newest, on {newest.title}"
                    yield f"{left_out}: {words} on {_titles(older)}, {newest_on}"
                for one in record.evaluations:
                    if (found := one.get(part)) and found.why_not_shown:
                        yield f"{left_out}: {shown} on {one.title}: {found.why_not_shown}"


def _titles(evaluations: Sequence[Evaluation]) -> str:
    return ", ".join(dict.fromkeys(one.title for one in evaluations))


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for record in row.records:
            if not record.completed:
                why = f" ({_first_line(record.result.failure)})" if record.result.failure else ""
                yield f"left out: {row.label}, {_name(record)}: {record.result.state.value}{why}"
            elif record not in row.counted:
                newer = next(other for other in row.counted if other.result.seed == record.result.seed)
                before, after = record.job.recovery, newer.job.recovery
                changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
                others = f", with other {', '.join(sorted(changed)).replace('_', ' ')}" if changed else ""
                yield f"left out: {row.label}, {_name(record)}: the same seed was run again later{others}"


def _resumed(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for record in row.records:
            if record.resumed:
                often = "once" if record.resumed == 1 else f"{record.resumed} times"
                shapes = dict.fromkeys(shape_in_words(record.job.strategy, shape) for shape in record.earlier_shapes)
                now = shape_in_words(record.job.strategy, record.job.shape)
                before = f", before that as {', then '.join(shapes)}" if shapes else ""
                changed = f", the last time as {now}{before}" if set(shapes) != {now} else ""
                yield (
                    f"resumed: {row.label}, {_name(record)} was resumed {often}{changed}; what lies between is in none "
                    "of its times"
                )


def _gaps(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for record in row.counted:
            for collector, failures in record.result.collector_errors.items():
                if failures:
                    often = "once" if failures == 1 else f"{failures:,.0f} times"
                    yield f"measurements have gaps: {row.label}, {_name(record)}: collector {collector} failed {often}"


def _learning(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for record in row.counted:
            if record.result.held_out_loss is not None and not math.isfinite(record.result.held_out_loss):
                yield f"{row.label}, {_name(record)}: training diverged, its held-out loss is not a finite number"
    for row in rows:
        chance, target = chance_accuracy(row.counted[0]), row.target_accuracy
        if target is not None and chance is not None and target <= chance:
            beside = f"{percent(target)}, is not above chance {percent(chance)}"
            yield f"time-to-accuracy means nothing: its target, {beside}"


def _differing(what: str, values: dict[str, Any]) -> Iterator[str]:
    """`<what> 32 for single; 64 for ps-async` if the values are not all the same."""
    if len({str(value) for value in values.values()}) > 1:
        yield f"{what} " + "; ".join(
            f"{'none' if value is None else value} for {label}" for label, value in values.items()
        )


def _together(values: set[Any]) -> str:
    return ", ".join(str(value) for value in sorted((v for v in values if v is not None), key=str))


def _name(record: RunRecord) -> str:
    return f"seed {record.result.seed}"


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= 160 else line[:159] + "…"
