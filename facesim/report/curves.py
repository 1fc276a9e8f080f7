"""Learning curves: held-out accuracy against the size of the data, where a study has runs on several subsets of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from facesim.report.classical import classical
from facesim.report.rows import Row
from facesim.report.statistics import Estimate
from facesim.spec.subset import EVERYTHING, Subset
from facesim.util.words import count_text


class Point(NamedTuple):
    """One size: how many images were trained on, accuracy, 0-1, the bounds of its 95 % interval if there is one.

    `size` is the subset as it was asked for; the smaller of two sizes comes first.
    """

    size: str
    identities: int
    training_examples: float
    accuracy: Estimate
    interval: tuple[float, float] | None


class Curve(NamedTuple):
    """Accuracy by size of what `label` names: rows that differ in nothing else, or a method without a network."""

    label: str
    points: tuple[Point, ...]
    network: bool


def subset_of(row: Row) -> Subset:
    return parse(row.experiment.get("subset"))


def parse(text: str | None) -> Subset:
    return Subset.parse(text or EVERYTHING)


def by_size(subset: Subset) -> tuple[float, float]:
    """A sort key: small before large, everything last."""
    return tuple(float("inf") if number is None else number for number in subset)  # type: ignore[return-value]


def learning_curves(rows: Sequence[Row], labels: Mapping[Row, str]) -> tuple[Curve, ...]:
    """The curves of rows with several subsets, then those of the classical methods; none where nothing has two sizes.

    `labels` names each row without its subset: rows with the same name are one curve.
    """
    subsets = {subset_of(row) for row in rows}
    # Sizes can be put in one line while only people or only images become more: else a line for each number of people.
    both = all(len({subset[part] for subset in subsets}) > 1 for part in (0, 1))
    splits = {row.data_spec.model_copy(update={"subset": None, "seed": 0}) for row in rows}
    lines: dict[tuple[str, bool], dict[Subset, Point]] = {}
    for row in sorted(rows, key=lambda row: by_size(subset_of(row))):
        accuracy = row.estimate("held_out_accuracy")
        sizes = [r.result.data.training_examples for r in row.counted if r.result.data.training_examples]
        if accuracy is None or not sizes:
            continue
        subset, identities = subset_of(row), row.counted[0].result.data.identities or 0
        estimates = [(labels[row], True, accuracy, row.accuracy_interval())]
        # Its own split of the data, where rows of one size have several: a method then has a curve for each.
        beside = "" if len(splits) == 1 else f" on the images of {labels[row]}"
        estimates += [(f"{m.method}{beside}", False, m.accuracy, _bounds(m.accuracy)) for m in classical([row])]
        for name, network, estimate, interval in estimates:
            label = f"{name}, {count_text(identities, 'identity')}" if both else name
            point = Point(str(subset), identities, fmean(sizes), estimate, interval)
            lines.setdefault((label, network), {}).setdefault(subset, point)
    curves = [Curve(label, tuple(points.values()), network) for (label, network), points in lines.items()]
    if not any(len(curve.points) > 1 for curve in curves if curve.network):
        return ()
    return tuple(sorted(curves, key=lambda curve: not curve.network))


def _bounds(of: Estimate) -> tuple[float, float] | None:
    return None if of.low is None or of.high is None else (max(0.0, of.low), min(1.0, of.high))
