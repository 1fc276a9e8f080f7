"""The packaged trace of spot capacity, `spot_trace.csv`, made up: `python -m facesim.billing.synthetic > FILE`.

Nothing in it was observed. Each of `HOSTS` places has a host for a Weibull time and then none for an exponential one;
at random times part of them go at once, as they do when a zone runs short.
"""

from __future__ import annotations

import random

from facesim.billing.market import exponential, weibull

SEED, HOSTS, HOURS = 20261123, 80, 24.0
_LIFETIME_SHAPE, _LIFETIME_SCALE_H = 0.9, 5.0
_ABSENCE_H = 0.4
_SHORTAGE_EVERY_H, _SHORTAGE_SHARE, _SHORTAGE_H = 3.0, 0.3, 0.5


def trace_lines() -> list[str]:
    """The trace, line by line: what it is, then `milliseconds,add or remove,node` in order of time."""
    rng = random.Random(SEED)
    shortages, at_h = [], exponential(rng, _SHORTAGE_EVERY_H)
    while at_h < HOURS:
        shortages.append(at_h)
        at_h += exponential(rng, _SHORTAGE_EVERY_H)
    events: list[tuple[int, str, int]] = []
    nodes = 0
    for _ in range(HOSTS):
        hit = [at_h for at_h in shortages if rng.random() < _SHORTAGE_SHARE]
        begin_h = 0.0
        while begin_h < HOURS:
            nodes += 1
            end_h = begin_h + weibull(rng, _LIFETIME_SHAPE, _LIFETIME_SCALE_H)
            absent_h = exponential(rng, _ABSENCE_H)
            short = next((at_h for at_h in hit if begin_h <= at_h < end_h), None)
            if short is not None:
                end_h, absent_h = short, exponential(rng, _SHORTAGE_H)
            events.append((_ms(begin_h), "add", nodes))
            if end_h < HOURS:
                events.append((_ms(end_h), "remove", nodes))
            begin_h = end_h + absent_h
    return [
        "# Made up by facesim.billing.synthetic, not observed: spot hosts that come and go over a day.",
        f"# Seed {SEED}; lifetimes Weibull({_LIFETIME_SHAPE:g}, {_LIFETIME_SCALE_H:g} h); shortages on top.",
        "# milliseconds,add or remove,node",
        *(f"{at_ms},{event},node{node}" for at_ms, event, node in sorted(events)),
    ]


def _ms(hours: float) -> int:
    return round(hours * 3_600) * 1000


if __name__ == "__main__":
    print("\n".join(trace_lines()))
