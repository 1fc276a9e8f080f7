"""What there is to measure. A suite is a module of this package with `--json FILE`, and one line here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suite:
    """A benchmark, run as `python -m benchmarks.NAME` with the arguments `full`, or `short` for about a minute.

    What it writes to `--json` is a list of summaries, as `common.show` returns them.
    """

    measures: str
    short: str = ""
    full: str = ""


SUITES: dict[str, Suite] = {
    "throughput": Suite("images/s against plain model.fit", "--rounds 3 --epochs 3", "--rounds 5"),
    "startup": Suite("seconds to the first step", "--rounds 2", "--rounds 5"),
    "scaling": Suite("images/s by workers", "--rounds 2 --epochs 3 --strategy ps-async --workers 2"),
    "ps_step": Suite("milliseconds of the parts of a step", "--rounds 2", "--rounds 3"),
    "input": Suite("images/s by where images are kept", "--rounds 2 --identities 20 --images 10 --model compact-cnn"),
    "overhead": Suite("images/s while measuring", "--rounds 2 --epochs 6", "--rounds 5"),
    "reports": Suite("CPU time of reports", "--rounds 2", "--rounds 3"),
    "frameworks": Suite(
        "speed, memory, start-up by framework", "--rounds 2 --epochs 3 --strategy single", "--rounds 5"
    ),
    "forecast_speed": Suite("CPU time of forecasts and plans", "--rounds 2", "--rounds 5"),
}
