"""What forecasts learn from runs: how far off they were, how fast instances are and for how long their networks burst,
how long jobs take around training.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from facesim.forecast import laws
from facesim.forecast.intervals import Widths, save_residuals, widths_from_runs
from facesim.metrics.files import samples_in
from facesim.planning.jobs import shape_of
from facesim.planning.saved import (
    instances_file,
    outside_file,
    residuals_file,
    save_outside,
    save_speeds,
    save_types,
    saved_hosts,
)
from facesim.runs.directory import Run
from facesim.runs.forecasts import ForecastRecord
from facesim.runs.records import JobFields, Result
from facesim.runs.states import Measurement, RunState
from facesim.spec.strategies import known_strategy
from facesim.util.errors import InputError

#: Speeds of one type, of which the largest is more than so many times the smallest, are no better than what is assumed.
_CONTRADICTS = 1.25


class Lesson(NamedTuple):
    """One run against its forecast: forecast / measured - 1 of the seconds of an update, and of the whole. `bursts_s`
    are those of its hosts' networks that were seen to end.
    """

    run_id: str
    measurement: Measurement
    record: ForecastRecord
    result: Result
    update_s: float
    residual: float
    total_residual: float | None
    bursts_s: tuple[float, ...] = ()

    @property
    def within(self) -> bool:
        """Whether the update was as long as the forecast's 80 % interval says."""
        return 1 / (1 + self.record.half_width) <= 1 + self.residual <= 1 + self.record.half_width


class Learnt(NamedTuple):
    """What was kept, and why runs were left out."""

    lessons: tuple[Lesson, ...]
    widths: Widths
    speeds: dict[str, float]
    bursts_s: dict[str, float]
    outside_s: dict[str, float]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "runs": [
                {
                    "run_id": each.run_id,
                    "measurement": each.measurement,
                    "shape": each.record.shape,
                    "offered_load": each.record.offered_load,
                    "update_s": each.update_s,
                    "forecast_update_s": each.record.update_with_drain_s,
                    "residual": each.residual,
                    "total_residual": each.total_residual,
                    "within_interval": each.within,
                }
                for each in self.lessons
            ],
            "widths": self.widths._asdict(),
            "speeds": self.speeds,
            "bursts_s": self.bursts_s,
            "outside_s": self.outside_s,
            "left_out": list(self.left_out),
        }


def measured_update_s(result: Result) -> float | None:
    """Seconds of an update, without the first step, which compiles; None where that was not measured."""
    if result.training_s is None or not result.updates_after_first_step:
        return None
    first_step_s = result.phases.get("first_step_s") or 0.0
    seconds = result.training_s - first_step_s
    return seconds / result.updates_after_first_step if seconds > 0 else None


def learn(runs: Sequence[Run]) -> Learnt:
    """Compare runs with what was forecast of them, without keeping anything.

    Raises:
        InputError: none of them can be learnt from.
    """
    lessons, left_out = [], []
    first_of: dict[str, Run] = {}
    for run in runs:
        lesson = _lesson(run)
        if not isinstance(lesson, Lesson):
            left_out.append(f"{run.id}: {lesson}")
        elif (first := first_of.setdefault(lesson.result.model_dump_json(), run)) is not run:
            left_out.append(f"{run.id}: it is a copy of {first.directory}")
        else:
            lessons.append(lesson)
    if not lessons:
        raise InputError(
            "none of these runs can be learnt from: " + "; ".join(left_out) + ". A run has a forecast if this machine "
            "had a profile of its experiment when it began (facesim profile)"
        )
    widths = widths_from_runs([each.record.offered_load for each in lessons], [each.residual for each in lessons])
    measured = [each.result for each in lessons if each.measurement is Measurement.MEASURED]
    speeds = _speeds(lessons, left_out)
    return Learnt(tuple(lessons), widths, speeds, _bursts_s(lessons), outside_of(measured), tuple(left_out))


def keep(learnt: Learnt) -> list[str]:
    """Keep what was learnt for later forecasts: intervals in place of those of earlier runs, speeds and times beside
    what is kept already. Returns the files.
    """
    file = residuals_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    save_residuals(file, [(each.record.offered_load, each.residual) for each in learnt.lessons])
    files = [file]
    if learnt.speeds:
        save_speeds(learnt.speeds, "facesim calibrate, from runs at AWS")
    if learnt.bursts_s:
        save_types({name: {"network_burst_s": round(burst_s)} for name, burst_s in learnt.bursts_s.items()})
    if learnt.speeds or learnt.bursts_s:
        files.append(instances_file())
    if learnt.outside_s:
        save_outside(learnt.outside_s)
        files.append(outside_file())
    return [str(file) for file in files]


def _lesson(run: Run) -> Lesson | str:
    """What a run teaches, or why it teaches nothing."""
    try:
        result, record, job, events = run.result(), run.forecast(), JobFields.read(run.job_file), run.events()
    except InputError as error:
        return str(error)
    update_s = measured_update_s(result) if result else None
    why = None
    if result is None or result.state is not RunState.COMPLETED:
        why = "it did not complete"
    elif result.measurement is Measurement.FORECAST:
        why = "it is a forecast itself"
    elif record is None:
        why = "nothing was forecast of it"
    elif record.shape != (shape := _shape(run)):
        why = f"its forecast is of {record.shape}, and it ran as {shape}"
    elif unlike := record.why_not_judged_by(job, events, result):
        why = unlike
    elif update_s is None:
        why = "how long its updates took was not measured"
    if why or result is None or record is None or update_s is None:
        return why or ""
    residual = record.update_with_drain_s / update_s - 1
    total = None if not result.total_s else record.total_s / result.total_s - 1
    measurement = result.measurement or Measurement.EMULATED
    bursts_s = tuple(_bursts_seen_s(run, record)) if measurement is Measurement.MEASURED else ()
    return Lesson(run.id, measurement, record, result, update_s, residual, total, bursts_s)


def _shape(run: Run) -> str:
    try:
        return str(shape_of(run.job()))
    except InputError as error:
        return f"something else: {error}"


def _bursts_seen_s(run: Run, record: ForecastRecord) -> Iterator[float]:
    """For how long the bucket of each host's network would last at peak, where a run of one type of hosts spent it."""
    kind = saved_hosts().get(record.instance_type)
    if kind is None or not kind.network_burst_s or {name for name, _ in run.job().groups} != {record.instance_type}:
        return
    base, peak = (1e9 / 8 * gbps for gbps in (kind.network_base_gbps, kind.network_peak_gbps))
    samples = samples_in(run.metrics)
    for _, of_host in samples[(samples["source"] == "psutil") & (samples["role"] == "host")].groupby("host"):
        spent = []
        for name in ("net_sent_bytes", "net_received_bytes"):
            counted = of_host[of_host["name"] == name].sort_values("time_unix_s")
            if len(counted) > 1:
                spent.append(laws.bucket_spent_bytes(counted["time_unix_s"], counted["value"], base))
        # Each direction has a bucket; one that is spent keeps the other from sending more than its base rate, too.
        if seen := [each for each in spent if each]:
            yield max(seen) / (peak - base)


def _speeds(lessons: Sequence[Lesson], left_out: list[str]) -> dict[str, float]:
    """Speeds of instance types, from measured runs of one process each: nothing but computing sets their pace. Those
    that are not sure, and those of which runs contradict each other, come into `left_out`.
    """
    speeds_of: dict[str, list[float]] = {}
    for each in lessons:
        strategy = known_strategy(each.result.strategy)
        if each.measurement is not Measurement.MEASURED or strategy is None or strategy.replicated:
            continue
        if each.record.profile_disturbed:
            left_out.append(f"the speed that {each.run_id} shows: the machine was disturbed while it was profiled")
            continue
        # The forecast was by that speed: what it was off by, the speed was.
        speed = each.record.relative_speed * (1 + each.residual)
        speeds_of.setdefault(each.record.instance_type, []).append(speed)
    known = {}
    for name, speeds in speeds_of.items():
        if max(speeds) > _CONTRADICTS * min(speeds):
            span = f"{min(speeds):.3g} to {max(speeds):.3g} reference cores"
            left_out.append(f"the speed of {name}: its runs contradict each other, {span}; name those that are right")
        else:
            known[name] = statistics.median(speeds)
    return known


def _bursts_s(lessons: Sequence[Lesson]) -> dict[str, float]:
    bursts_of: dict[str, list[float]] = {}
    for each in lessons:
        bursts_of.setdefault(each.record.instance_type, []).extend(each.bursts_s)
    return {name: statistics.median(bursts_s) for name, bursts_s in bursts_of.items() if bursts_s}


def outside_of(results: Sequence[Result]) -> dict[str, float]:
    """Seconds outside of the script of runs at AWS that were submitted once and not interrupted: until instances start,
    download, upload.
    """
    states = {"starting_s": RunState.STARTING, "download_s": RunState.DOWNLOADING, "upload_s": RunState.UPLOADING}
    seconds_of: dict[str, list[float]] = {name: [] for name in states}
    for result in results:
        if result.billing is None or result.billing.interruptions or len(result.billing.lives) > 1:
            continue
        for name, state in states.items():
            spans_s = [span.seconds for span in result.billing.transitions if span.state == state]
            if spans_s:
                seconds_of[name].append(sum(spans_s))
    return {name: statistics.median(seconds) for name, seconds in seconds_of.items() if seconds}
