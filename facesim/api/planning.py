"""A plan: what training would take and cost on clusters that nobody has run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.api.values import options_of, value_of
from facesim.spec.options import as_in_python
from facesim.util.errors import InputError
from facesim.util.folders import RUNS, local_path
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.forecast.profile_data import Profile
    from facesim.planning import search


class Plan:
    """Every shape that was asked about, with its forecast, and which of them to take."""

    def __init__(self, plan: search.Plan):
        self._plan = plan

    @property
    def answer(self) -> str:
        """One machine or a cluster, which, for how long and how much, how sure: a sentence a line."""
        from facesim.planning.answer import answer

        return "\n".join(answer(self._plan))

    @property
    def rows(self) -> tuple[search.Row, ...]:
        """All shapes, the cheapest first: `forecast` has time and dollars with their intervals, `misses` what a shape
        does not keep.
        """
        return self._plan.rows

    @property
    def cheapest(self) -> search.Row | None:
        """The cheapest that keeps what is wanted; None if nothing does."""
        return self._plan.cheapest

    @property
    def fastest(self) -> search.Row | None:
        """The fastest that keeps what is wanted; None if nothing does."""
        return self._plan.fastest

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data for `json.dumps`."""
        from facesim.planning.answer import to_json

        return to_json(self._plan)

    def write(self, file: Path | str) -> Path:
        """Write the plan, with its plots, as one HTML file that needs nothing else.

        Raises:
            FacesimError: it cannot be written.
        """
        from facesim.planning.page import write_page

        file = local_path(file)
        write_page(self._plan, file)
        return file

    def __repr__(self) -> str:
        return f"<facesim.Plan of {count_text(len(self.rows), 'shape')}: {self.answer.splitlines()[0]}>"


def plan(
    strategy: str | Iterable[str] = (),
    *,
    instance_type: str | Iterable[str] = (),
    workers: int | str | Iterable[int] = "1..8",
    ps: int | str | Iterable[int] = "1..2",
    ps_instance_type: str | None = None,
    other_workers: Mapping[str, int] | None = None,
    backup_workers: int = 0,
    local_steps: int = 8,
    spot: bool = False,
    deadline: str | None = None,
    budget: float | str | None = None,
    min_accuracy: float | str | None = None,
    region: str | None = None,
    profile: Profile | Path | str | None = None,
    instances: Path | str | None = None,
    runs: Path | str = RUNS,
    replay: int = 0,
    **given: Any,
) -> Plan:
    """What training would take and cost on every shape that is asked about, without running any.

    Args:
        strategy, instance_type: one or several; left out, all whose speed is known.
        workers, ps: a number, several, or a range such as `"1..16"`.
        other_workers: how many of a cluster's workers are on other types, by type; servers then need
            `ps_instance_type`.
        spot: spot capacity, too, beside on demand.
        deadline, budget, min_accuracy: what a shape must keep at the bad end of its interval: `"2h"`, US dollars, a
            share or `"95 %"`.
        region: AWS region whose prices are meant.
        profile: what was measured on one machine, or the file that it is in; left out, that of this machine, which is
            measured now, in a few minutes, if there is none yet.
        instances: TOML file of instance types and prices of your own.
        runs: folder of runs whose accuracies are used.
        replay: seeds with which to train here what the recommended shapes would, for their accuracy.
        given: any option of an experiment, such as `data`, `model` and `epochs`, but for `scale_lr` and
            `warmup_epochs`.

    Raises:
        InputError: something that was given cannot be used, or cannot be forecast.
        FacesimError: a process that measures, or replays, failed.
    """
    from pydantic import ValidationError

    from facesim.forecast.profile_data import Profile
    from facesim.planning import quantities
    from facesim.planning.planner import plan_training
    from facesim.planning.search import Axes, Wanted

    with as_in_python():
        if not isinstance(other_workers, Mapping | None):
            raise InputError(
                f'other_workers {other_workers!r} must be how many workers by type, such as {{"ml.m5.xlarge": 4}}'
            )
        try:
            axes = Axes(
                strategies=_several(strategy),
                instance_types=_several(instance_type),
                workers=quantities.counts(_range(workers), "--workers", quantities.MOST_WORKERS),
                ps=quantities.counts(_range(ps), "--ps", quantities.MOST_SERVERS),
                spot=spot,
                ps_instance_type=ps_instance_type,
                backup_workers=backup_workers,
                local_steps=local_steps,
                other_workers=tuple((other_workers or {}).items()),
            )
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise InputError(f"{name} {first['input']!r}: {first['msg']}", field=name, value=first["input"]) from None
        wanted = Wanted(
            None if deadline is None else quantities.seconds(str(deadline), "--deadline"),
            None if budget is None else quantities.dollars(str(budget), "--budget"),
            None if min_accuracy is None else quantities.share(str(min_accuracy), "--min-accuracy"),
        )
        made = plan_training(
            axes,
            wanted,
            given=options_of(given, "options"),
            profile=profile if profile is None or isinstance(profile, Profile) else local_path(profile),
            own_instances=None if instances is None else local_path(instances),
            region=region,
            runs=local_path(runs),
            replays=value_of(replay),
        )
    return Plan(made)


def _several(names: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names)) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)


def _range(numbers: int | str | Iterable[int]) -> str:
    if isinstance(numbers, Iterable) and not isinstance(numbers, str):
        return ",".join(map(str, numbers))
    return str(numbers)
