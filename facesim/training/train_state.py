"""How far a training has come, beside its variables: what a checkpoint keeps of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from facesim.training.protocols import StepResult


class Counts:
    """Sums over steps. A step is what one worker did for one update."""

    def __init__(self) -> None:
        self.loss_sum, self.correct, self.examples = 0.0, 0, 0
        self.examples_by_worker: Counter[int] = Counter()
        self.steps_by_worker: Counter[int] = Counter()
        self.versions: set[int] = set()
        self.staleness: Counter[int] = Counter()

    def add(self, result: StepResult) -> None:
        self.loss_sum += result.loss_sum
        self.correct += result.correct
        self.examples += result.examples
        self.examples_by_worker[result.worker] += result.examples
        self.steps_by_worker[result.worker] += 1
        self.versions.add(result.version)
        self.staleness[result.staleness] += 1

    @property
    def updates(self) -> int:
        """Updates of the parameters, to which one worker contributed or all of them."""
        return len(self.versions)

    @property
    def last_version(self) -> int:
        """How many versions the parameters have had, by the highest number seen."""
        return max(self.versions, default=-1) + 1

    @property
    def staleness_mean(self) -> float:
        return sum(staleness * steps for staleness, steps in self.staleness.items()) / self.staleness.total()

    def to_json(self) -> dict[str, Any]:
        return {
            "loss_sum": self.loss_sum,
            "correct": self.correct,
            "examples": self.examples,
            "examples_by_worker": list(self.examples_by_worker.items()),
            "steps_by_worker": list(self.steps_by_worker.items()),
            "staleness": list(self.staleness.items()),
            "versions": _runs(self.versions),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Counts:
        counts = cls()
        counts.loss_sum, counts.correct, counts.examples = fields["loss_sum"], fields["correct"], fields["examples"]
        for name in ("examples_by_worker", "steps_by_worker", "staleness"):
            setattr(counts, name, Counter(dict(fields[name])))
        counts.versions = {version for first, end in fields["versions"] for version in range(first, end)}
        return counts


def _runs(numbers: set[int]) -> list[tuple[int, int]]:
    """Numbers as half-open ranges: most versions follow one another."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


@dataclass
class TrainState:
    """How far a training has come.

    Attributes:
        epoch: the epoch that is being trained, from 1.
        done: training examples of that epoch whose gradients have been applied; while steps are under way, examples
            that have been handed out, of the next epochs too.
        counts, of_epoch: of the whole training and of that epoch.
        epoch_s: seconds that the epoch's steps have taken.
        found: the last accuracies and losses.
        phases: seconds by phase.
        history: what was recorded of each epoch, with its time.
        workers: how many workers there are; `resized` counts from when their number changed, None if it never did.
        first_updates, first_examples: updates that were known, and their examples, when the first step of a process was
            done, of all processes that trained: their time is the phase `first_step_s`.
    """

    epoch: int = 1
    done: int = 0
    counts: Counts = field(default_factory=Counts)
    of_epoch: Counts = field(default_factory=Counts)
    epoch_s: float = 0.0
    found: dict[str, float] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    history: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    workers: int = 0
    resized: Counts | None = None
    first_updates: int = 0
    first_examples: int = 0

    def add(self, result: StepResult, of_epoch: Counts | None = None) -> None:
        """Count a result, of this epoch or of the one that `of_epoch` counts."""
        for counts in (self.counts, of_epoch or self.of_epoch, self.resized):
            if counts:
                counts.add(result)

    def to_json(self) -> dict[str, Any]:
        return {name: value.to_json() if isinstance(value, Counts) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> TrainState:
        counts = {name: Counts.from_json(fields[name]) for name in ("counts", "of_epoch", "resized") if fields[name]}
        known = {**fields, **counts}
        # Earlier versions kept how often a process had begun, and took an update for each.
        if starts := known.pop("starts", 0):
            known["first_updates"] = starts
            known["first_examples"] = starts * counts["counts"].examples // counts["counts"].updates
        return cls(**known)
