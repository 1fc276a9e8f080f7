"""`forecast.json`: what was forecast of a run before it began, to be held against what it then took.

A run directory whose numbers are all forecast has one, too, beside a result that is marked so.
"""

from __future__ import annotations

from facesim.runs.record import Record
from facesim.runs.records import SCHEMA_VERSION
from facesim.spec.frameworks import TENSORFLOW


class ForecastRecord(Record):
    """What was forecast. Seconds, dollars, bytes; `low_s` to `high_s` and the dollars so called are 80 % intervals.

    `phases` are seconds by phase: waiting_s, download_s, start_s (to the first step, that included), training_s
    (without the first step), evaluation_s, interrupted_s, upload_s. `offered_load` says how busy the servers or links
    would be, `relative_speed` which speed of the hosts the forecast took, in cores of the catalogue's reference.
    `framework` is what computed when the `profile` was measured.
    """

    schema_version: int = SCHEMA_VERSION
    made: str
    shape: str
    profile: str = ""
    framework: str = TENSORFLOW
    phases: dict[str, float]
    updates: int
    update_s: float
    images_per_s: float
    total_s: float
    low_s: float
    high_s: float
    cost_usd: float
    low_usd: float
    high_usd: float
    half_width: float
    offered_load: float
    wire_bytes_per_update: float
    staleness: float
    bound: str
    instance_type: str
    relative_speed: float
    assumptions: tuple[str, ...] = ()
    extrapolated: bool = False
