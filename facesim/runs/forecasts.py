"""`forecast.json`: what was forecast of a run before it began, to be held against what it then took.

A run directory whose numbers are all forecast has one, too, beside a result that is marked so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from facesim.runs.events import Event, FaultDone, Submitted
from facesim.runs.record import Record
from facesim.runs.records import SCHEMA_VERSION, Amount, Count, JobFields, Result
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.strategies import known_strategy, options_without_meaning

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ForecastRecord(Record):
    """What was forecast. Seconds, dollars, bytes; `low_s` to `high_s` and the dollars so called are 80 % intervals.

    `phases` are seconds by phase: waiting_s, download_s, start_s (to the first step, that included), training_s
    (without the first step), evaluation_s, checkpoint_s, interrupted_s, upload_s. `offered_load` says how busy the
    servers or links would be, `relative_speed` which speed of the hosts the forecast took, in cores of the catalogue's
    reference. `framework` is what computed when the `profile` was measured, and `profile_disturbed` says that something
    else used the machine meanwhile.

    `update_s` and `images_per_s` are while all workers have something to do. What runs measure includes the drain, in
    which asynchronous workers wait for the last of them wherever all pause: `update_with_drain_s` does, too.
    """

    schema_version: int = SCHEMA_VERSION
    made: str
    shape: str
    profile: str = ""
    framework: str = TENSORFLOW
    profile_disturbed: bool = False
    phases: dict[str, Amount]
    updates: Count
    update_s: Positive
    images_per_s: Amount
    total_s: Amount
    low_s: Amount
    high_s: Amount
    cost_usd: Amount
    low_usd: Amount
    high_usd: Amount
    half_width: Amount
    offered_load: Amount
    wire_bytes_per_update: Amount
    staleness: Amount
    bound: str
    instance_type: str
    relative_speed: Positive
    assumptions: tuple[str, ...] = ()
    extrapolated: bool = False

    @property
    def update_with_drain_s(self) -> float:
        """Seconds of training for each update, which is what a run measures."""
        training_s = self.phases.get("training_s")
        return training_s / self.updates if training_s and self.updates else self.update_s

    @property
    def images_with_drain_per_s(self) -> float:
        """The same in images a second."""
        return self.images_per_s * self.update_s / self.update_with_drain_s

    def why_not_judged_by(self, job: JobFields, events: Sequence[Event], result: Result) -> str | None:
        """Why a run, in the end of `job`, does not show how right the forecast is, as a clause; None where it does."""
        begun = [event for event in events if isinstance(event, Submitted)]
        frameworks = dict.fromkeys([*(each.framework for each in begun if each.framework), job.framework])
        if [*frameworks] != [self.framework]:
            return f"its forecast is of {self.framework}, and {' and '.join(frameworks)} trained it"
        kind = known_strategy(job.strategy)
        unused = options_without_meaning(job.strategy) if kind else set()
        for shape in (each.shape for each in begun if each.shape):
            changed = [name for name in shape if name in job.shape.keys() - unused and shape[name] != job.shape[name]]
            if changed:
                parts = (
                    ", ".join(f"{name.replace('_', ' ')} {values[name]}" for name in changed)
                    for values in (shape, job.shape)
                )
                return f"part of it ran with {', and part with '.join(parts)}"
        if result.sync_audit.verdict == "apart" and kind and kind.trains_together():
            return "its replicas did not train together"
        if job.faults or any(isinstance(event, FaultDone) for event in events):
            return "its faults disturbed it (--faults)"
        if result.disturbances:
            return f"it was disturbed: {' and '.join(result.disturbances)}"
        return None
