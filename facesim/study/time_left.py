"""How long a study goes on, from what its runs took and from forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from facesim.spec.job import job_sha256
from facesim.study.plan import Due, Fate


class TimeLeft:
    """The seconds that the jobs which are still to be run take.

    A job takes what the same job took with other seeds; else what is forecast of it; else what all others took in the
    mean. While nothing of that is known, the time left is not.
    """

    def __init__(self, dues: Sequence[Due]):
        self._waiting = {due.directory.name: due for due in dues if due.fate is not Fate.COMPLETE}
        self._kinds = {name: _kind(due) for name, due in self._waiting.items()}
        self._took_s: dict[str, list[float]] = {}

    def ended(self, name: str, seconds: float | None) -> None:
        """The run of this name has ended, after so long."""
        due = self._waiting.pop(name, None)
        if due is not None and seconds is not None and due.fate is Fate.NEW:
            self._took_s.setdefault(self._kinds[name], []).append(seconds)

    def seconds(self, going_on: Mapping[str, tuple[float, float | None]]) -> float | None:
        """Seconds until the last job ends, those that go on shared among as many as go on at the same time.

        `going_on` has, by run, how long it has gone on, and how long its training will, None where that is not known.
        """
        left_s = 0.0
        for name in self._waiting:
            whole_s = self._whole_s(name)
            gone_s, training_left_s = going_on.get(name, (0.0, None))
            if training_left_s is not None:
                left_s += training_left_s
            elif whole_s is None:
                return None
            else:
                left_s += max(0.0, whole_s - gone_s)
        return left_s / max(1, len(going_on))

    def _whole_s(self, name: str) -> float | None:
        if took_s := self._took_s.get(self._kinds[name]):
            return fmean(took_s)
        if expectation := self._waiting[name].expected:
            return expectation.time_s
        every_s = [seconds for took_s in self._took_s.values() for seconds in took_s]
        return fmean(every_s) if every_s else None


def _kind(due: Due) -> str:
    """What jobs have in common that differ in their seeds alone."""
    return job_sha256(due.job.model_copy(update={"experiment": due.job.experiment.model_copy(update={"seed": 0})}))
