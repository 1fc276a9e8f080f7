"""Runs against what was forecast of them, phase by phase."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from facesim.report.load import RunRecord
from facesim.report.rows import Row
from facesim.report.settings import UNFORESEEN, settings
from facesim.report.words import quantity
from facesim.runs.forecasts import ForecastRecord
from facesim.runs.states import Measurement, RunState

#: What is left of training, which the comparison counts with its first step: that is in the start-up here.
_LATER = "training after the first step"


class Phase(NamedTuple):
    """A part of a run: what was forecast, what it was, and their unit as in `facesim.report.measures`."""

    label: str
    forecast: float
    measured: float
    unit: str

    @property
    def off(self) -> float | None:
        """forecast / measured - 1; None where there is nothing to divide by."""
        return self.forecast / self.measured - 1 if self.measured else None

    @property
    def in_words(self) -> str:
        if self.off is None or not math.isfinite(self.off):
            return "–"
        if abs(self.off) < 0.0005:
            return "right"
        return f"{100 * abs(self.off):.1f} % too {'high' if self.off > 0 else 'low'}"


@dataclass(frozen=True)
class ForecastCheck:
    """One run against its forecast. `within`: its total time lies in the 80 % interval; None where the run does not
    show how right the forecast is, for the reason `not_judged`. `before`: the forecast was made before the run
    began. `phases` are those that both have.
    """

    label: str
    seed: int
    measurement: str
    shape: str
    made: str
    bound: str
    low_s: float
    high_s: float
    within: bool | None
    not_judged: str | None
    before: bool
    phases: tuple[Phase, ...]

    def off_in_words(self, phase: Phase) -> str:
        """How far off the forecast of a phase is; nothing where the forecast is not judged by it."""
        return "–" if self.not_judged else phase.in_words

    def __str__(self) -> str:
        named = {phase.label: phase for phase in self.phases}
        parts = [
            f"{label} {quantity(phase.measured, phase.unit)}, forecast {quantity(phase.forecast, phase.unit)}"
            f"{'' if self.not_judged else f' ({phase.in_words})'}"
            for label in (_LATER, "an update", "total")
            if (phase := named.get(label))
        ]
        if self.not_judged:
            verdict = f"{self.not_judged}, so this says nothing about the forecast"
        else:
            side = "within" if self.within else "outside of"
            ends = " to ".join(quantity(end_s, "s") for end_s in (self.low_s, self.high_s))
            verdict = f"{side} its 80 % interval, {ends} in all"
        return f"{self.label}, seed {self.seed}, {self.measurement}: {'; '.join([*parts, verdict])}."

    def to_dict(self) -> dict[str, Any]:
        """As plain data; `off` is None where the forecast is not judged."""
        phases = [{**phase._asdict(), "off": None if self.not_judged else phase.off} for phase in self.phases]
        return {**asdict(self), "phases": phases}


def check_forecasts(rows: Sequence[Row]) -> tuple[ForecastCheck, ...]:
    """Each counted run against the forecast that was made before it began; where there was none, against a forecast of
    the same job that is among the rows.
    """
    computed = {_job_of(row.records[0]): row.records[0].forecast for row in rows if row.is_forecast}
    forecast_checks = []
    for row in rows:
        if row.is_forecast:
            continue
        for record in row.counted:
            forecast = record.forecast or computed.get(_job_of(record))
            if forecast is not None:
                forecast_checks.append(_check(row.label, record, forecast))
    return tuple(forecast_checks)


def _check(label: str, record: RunRecord, forecast: ForecastRecord) -> ForecastCheck:
    phases = tuple(
        Phase(name, float(expected), float(was), unit)
        for name, expected, was, unit in _phases(record, forecast)
        if was is not None and math.isfinite(was) and (expected or was)
    )
    total_s = record.result.total_s
    not_judged = forecast.why_not_judged_by(record.job, record.events, record.result)
    within = total_s is not None and forecast.low_s <= total_s <= forecast.high_s
    return ForecastCheck(
        label=label,
        seed=record.result.seed,
        measurement=record.result.measurement or "run",
        shape=forecast.shape,
        made=forecast.made,
        bound=forecast.bound,
        low_s=forecast.low_s,
        high_s=forecast.high_s,
        within=None if not_judged else within,
        not_judged=not_judged,
        before=record.forecast is not None,
        phases=phases,
    )


def _phases(record: RunRecord, forecast: ForecastRecord) -> Iterator[tuple[str, float, float | None, str]]:
    result, seen = record.result, record.phases
    expected = forecast.phases
    if result.measurement is Measurement.MEASURED and result.billing is not None:
        for label, name, state in (
            ("waiting for instances", "waiting_s", RunState.STARTING),
            ("download", "download_s", RunState.DOWNLOADING),
        ):
            spans = [span.seconds for span in result.billing.transitions if span.state == state]
            yield label, expected.get(name, 0.0), sum(spans) if spans else None, "s"
    yield "start-up, to first step", expected.get("start_s", 0.0), seen.get("launch_to_first_step_s"), "s"
    first_step_s = seen.get("first_step_s", 0.0)
    training_s = None if result.training_s is None else result.training_s - first_step_s
    yield _LATER, expected.get("training_s", 0.0), training_s, "s"
    updates = result.updates or 0
    later = result.updates_after_first_step
    update_s = training_s / later if training_s and later else None
    yield "an update", forecast.update_with_drain_s, update_s, "s"
    yield "images/s", forecast.images_with_drain_per_s, result.images_per_s, "1/s"
    if "checkpoint_s" in expected:  # forecasts of earlier versions do not have it
        yield "checkpoints", expected["checkpoint_s"], seen.get("checkpoint_s", 0.0), "s"
    last_s = expected.get("evaluation_s", 0.0) + expected.get("upload_s", 0.0)
    yield "evaluation, and what comes last", last_s, _last_s(record), "s"
    yield "total", forecast.total_s, result.total_s, "s"
    if result.measurement is Measurement.MEASURED and result.billing is not None:
        yield "billed", forecast.cost_usd, result.billing.cost_usd, "USD"
    wire = result.wire_bytes / updates if result.wire_bytes is not None and updates else None
    yield "bytes on the wire, an update", forecast.wire_bytes_per_update, wire, "B"
    yield "staleness, mean", forecast.staleness, _staleness(record), "x"


def _last_s(record: RunRecord) -> float | None:
    """Evaluations, writing the model and, at AWS, uploading: the last of these is only there."""
    evaluation_s = record.phases.get("evaluation_s")
    if evaluation_s is None:
        return None
    billing = record.result.billing
    spans = billing.transitions if billing and record.result.measurement is Measurement.MEASURED else ()
    uploading_s = sum(span.seconds for span in spans if span.state == RunState.UPLOADING)
    return evaluation_s + record.phases.get("save_s", 0.0) + uploading_s


def _staleness(record: RunRecord) -> float | None:
    counted = record.result.counted
    if counted is None or not counted.staleness:
        return None
    updates = sum(counted.staleness.values())
    return sum(stale * number for stale, number in counted.staleness.items()) / updates if updates else None


def _job_of(record: RunRecord) -> str:
    """What was asked for, seed apart."""
    job = record.job
    experiment = {name: value for name, value in job.experiment.items() if name != "seed"}
    heeded = {name: value for name, value in settings(job).items() if name not in UNFORESEEN}
    asked = [job.strategy, record.frameworks, job.shape, job.backend, bool(job.spot), experiment, heeded]
    return json.dumps(asked, sort_keys=True)
