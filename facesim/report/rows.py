"""A row of the comparison: the runs of one strategy on one backend and shape, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from facesim.report.load import RunRecord
from facesim.report.measures import Measure
from facesim.report.statistics import Estimate, better_than_chance, mean_interval, wilson_interval
from facesim.runs.states import Measurement
from facesim.spec.backends import BACKENDS
from facesim.spec.data import DataSpec
from facesim.spec.experiment import with_defaults
from facesim.spec.strategies import Layout, known_strategy
from facesim.util.words import count_text

#: The audit's verdicts from worst to best: a row is as good as its worst run.
VERDICTS = ("apart", "unknown", "together", "single")


@dataclass(frozen=True, eq=False)
class Row:
    """`records` are all runs of the row, `counted` those that completed, one a seed, by seed.

    `target_accuracy` is that of time-to-accuracy, 0-1; None where no run completed.
    """

    label: str
    records: tuple[RunRecord, ...]
    counted: tuple[RunRecord, ...]
    measures: Mapping[str, Measure]
    target_accuracy: float | None = None

    def values(self, name: str) -> dict[int, float]:
        """Measure `name` by seed; seeds that lack it are left out."""
        if name not in self._values:
            measured = {record.result.seed: self.measures[name].of(record) for record in self.counted}
            self._values[name] = {seed: value for seed, value in measured.items() if value is not None}
        return self._values[name]

    def undisturbed(self, name: str) -> dict[int, float]:
        """The same without the runs whose times were disturbed."""
        return {seed: value for seed, value in self.values(name).items() if seed not in self.disturbed}

    @cached_property
    def _values(self) -> dict[str, dict[int, float]]:
        """The measures that were asked for."""
        return {}

    def estimate(self, name: str) -> Estimate | None:
        """Measure `name` over the seeds, or None if no run has it."""
        values = list(self.values(name).values())
        return mean_interval(values) if values else None

    def accuracy_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the held-out accuracy, 0-1.

        Over seeds if there are several that differ, else that of one model tested on so many examples (Wilson): of
        seeds without spread nobody knows how much others would differ.
        """
        estimate = self.estimate("held_out_accuracy")
        if estimate is None:
            return None
        if estimate.low is not None and estimate.high is not None and estimate.low < estimate.high:
            return max(0.0, estimate.low), min(1.0, estimate.high)
        examples = self.counted[0].result.data.held_out_examples
        return wilson_interval(estimate.mean, examples) if examples else None

    def p_of_chance(self) -> float | None:
        """The p-value of the test whether its models recognise better than by always naming the commonest person; None
        if nothing is known of that.
        """
        accuracies, chances = (self.values(f"{name}_accuracy") for name in ("held_out", "chance"))
        both = [record for record in self.counted if record.result.seed in accuracies.keys() & chances.keys()]
        seeds = [record.result.seed for record in both]
        examples = [record.result.data.held_out_examples for record in both]
        return better_than_chance([accuracies[s] for s in seeds], [chances[s] for s in seeds], examples)

    @property
    def all_reached(self) -> bool:
        """Whether every counted run reached the target accuracy."""
        return bool(self.counted) and len(self.values("time_to_accuracy_s")) == len(self.counted)

    @property
    def evaluated(self) -> list[RunRecord]:
        """The counted runs whose accuracy was measured while they trained: only these show when it reached a target."""
        return [record for record in self.counted if "held_out_accuracy" in record.history]

    @property
    def audit(self) -> str | None:
        """The worst verdict of the counted runs: whether the replicas trained together; None without such a run, which
        a forecast is not.
        """
        verdicts = [record.result.sync_audit.verdict for record in self.counted if not record.is_forecast]
        return min(
            verdicts, key=lambda v: VERDICTS.index(v) if v in VERDICTS else VERDICTS.index("unknown"), default=None
        )

    @property
    def idle_accelerators(self) -> str | None:
        """What the first of the counted runs says that paid for accelerators and did not compute on them."""
        findings = (record.result.sync_audit.idle_accelerators for record in self.counted if not record.is_forecast)
        return next(filter(None, findings), None)

    @property
    def audited_apart(self) -> int:
        """How many of the counted runs trained apart."""
        return sum(record.result.sync_audit.verdict == "apart" for record in self.counted)

    @property
    def experiment(self) -> dict[str, Any]:
        """The experiment's fields, the same for every run of the row but for the seed."""
        return {name: value for name, value in with_defaults(self.records[0].job.experiment).items() if name != "seed"}

    @property
    def data_spec(self) -> DataSpec:
        """What decides which images were trained on and tested; the seed in it is that of one run."""
        return self.records[0].job.data_spec

    @property
    def tested(self) -> dict[int, str | None]:
        """The identity of the held-out images by seed, None where it was not recorded."""
        return {record.result.seed: record.result.data.tested_sha256 for record in self.counted}

    @property
    def priced(self) -> bool:
        """Whether its seconds are those of the instances whose price it names: only then do they make dollars."""
        if not self.measurements or Measurement.EMULATED in self.measurements:
            return False
        return not self.is_forecast or self.backend not in BACKENDS or BACKENDS[self.backend].costs_money

    @property
    def on_one_machine(self) -> bool:
        """Whether all its tasks shared the processors of one machine, with nothing that stands for hosts."""
        return self.backend in BACKENDS and not BACKENDS[self.backend].own_hosts

    @property
    def cpu_factors(self) -> tuple[str, ...]:
        """What the hosts of its counted runs were given of their processors and network, in figures; nothing where no
        machine played them.
        """
        return tuple(sorted({factor for record in self.counted for factor in record.cpu_factors}))

    @property
    def is_forecast(self) -> bool:
        """Whether nobody ran it: its numbers were computed."""
        return any(record.is_forecast for record in self.records)

    @property
    def disturbed(self) -> dict[int, tuple[str, ...]]:
        """What disturbed the times of counted runs, by seed; seeds of which nothing is known to have are left out."""
        causes = {record.result.seed: record.result.disturbances for record in self.counted}
        return {seed: why for seed, why in causes.items() if why}

    @property
    def resumed(self) -> int:
        """How many of its runs were resumed."""
        return sum(record.resumed > 0 for record in self.records)

    @property
    def seeds(self) -> list[int]:
        return [record.result.seed for record in self.counted]

    @property
    def backend(self) -> str:
        return self.records[0].job.backend

    @property
    def distributed(self) -> bool:
        strategy = known_strategy(self.records[0].job.strategy)
        return strategy is None or strategy.layout is not Layout.SINGLE_PROCESS

    @property
    def replicated(self) -> bool:
        """Whether it had several replicas, so that it can be asked whether they trained together."""
        strategy = known_strategy(self.records[0].job.strategy)
        return strategy is None or strategy.replicated

    @property
    def measurements(self) -> list[Measurement]:
        """What the numbers of its runs are of, each once."""
        return sorted({record.result.measurement for record in self.records if record.result.measurement})

    @property
    def measurement(self) -> str | None:
        """The same in words: several joined if the runs differ; None if no run says."""
        return ", ".join(self.measurements) or None

    @property
    def shape(self) -> str:
        """The shape in words: `1 process`, or `2 workers, 1 ps`."""
        first = self.records[0]
        shapes = [*first.earlier_shapes, first.job.shape]
        return ", then ".join(dict.fromkeys(shape_in_words(first.job.strategy, shape) for shape in shapes))

    @property
    def states(self) -> str:
        """How many runs ended how: `3 Completed`, or `2 Completed, 1 Failed`."""
        if self.is_forecast:
            return f"{len(self.records)} forecast"
        states = [record.result.state for record in self.records]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))


def unlike_hosts(rows: Iterable[Row]) -> bool:
    """Whether hosts that a machine played had another share of their processors and network in one row than in another:
    then the times of these rows do not compare.
    """
    return len({row.cpu_factors for row in rows if row.cpu_factors}) > 1


def shape_in_words(strategy: str, shape: Mapping[str, Any]) -> str:
    """A shape as its strategy uses it: `1 process`, or `2 workers, 1 ps`."""
    known = known_strategy(strategy)
    workers, ps = shape.get("workers"), shape.get("ps")
    if known is not None and known.layout is Layout.SINGLE_PROCESS:
        return "1 process" + (f", {count_text(workers, 'replica')}" if known.replicated else "")
    served = known is not None and known.layout is Layout.PARAMETER_SERVER
    return count_text(workers, "worker") + (f", {ps} ps" if served else "")
