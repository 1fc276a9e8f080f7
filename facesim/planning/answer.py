"""A plan in words: the answer first, then the rows, what bounds them, what was assumed, what would make it surer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from facesim.backends.training_job import USUAL_RUN_S
from facesim.planning.explain import bound_in_words
from facesim.planning.notes import usual_limit
from facesim.planning.quantities import dollars_text, time_text
from facesim.planning.search import FLAT, Plan, Row, Wanted, clustered
from facesim.spec.shape import MOST_WORKERS
from facesim.spec.strategies import STRATEGIES
from facesim.util.words import count_text

#: More rows than these are for `--all` and for JSON.
SHOWN = 12

#: How rows are marked that are extrapolated.
_BEYOND = "beyond"


class TableRow(NamedTuple):
    """A row of the table, as text."""

    marks: str
    strategy: str
    shape: str
    time: str
    cost: str
    accuracy: str
    bound: str


def answer(plan: Plan) -> list[str]:
    """One machine or a cluster, which, how long, how much, how sure: a few sentences."""
    best = plan.cheapest
    if best is None:
        return _nothing_keeps_it(plan)
    what = "A cluster" if clustered(best.forecast.shape) else "One machine"
    sentences = [f"{what}: {figures(best)}."]
    wanted = str(plan.wanted)
    if wanted:
        sentences.append(f"It is the cheapest that keeps {wanted} also at the bad end of its interval.")
    else:
        sentences.append("It is the cheapest.")
    fastest = plan.fastest
    if fastest is not None and fastest is not best:
        sentences.append(f"The fastest{' that does' if wanted else ''}: {figures(fastest)}: {_against(fastest, best)}.")
        nearly = plan.nearly_fastest
        if nearly is not fastest and nearly is not best:
            sentences.append(f"The cheapest within {100 * FLAT:.0f} % of that: {figures(nearly)}.")
    elif len(plan.rows) > 1:
        sentences.append(f"Nothing {'that keeps it ' if wanted else ''}is faster.")
    alone = plan.one_machine
    if alone is not None and clustered(best.forecast.shape):
        why = f", which does not keep {' and '.join(alone.misses)}" if alone.misses else ""
        sentences.append(f"One machine alone: {figures(alone)}{why}.")
    sentences += _sure(plan, best)
    return sentences


def named_rows(plan: Plan) -> list[Row]:
    """The rows that the answer speaks of, each once, the first to take first."""
    rows = (plan.cheapest, plan.fastest, plan.nearly_fastest, plan.one_machine)
    if plan.cheapest is None:
        rows = tuple(row for _, row in _nearest(plan))
    return list({id(row): row for row in rows if row is not None}.values())


def figures(row: Row) -> str:
    """A shape with its time, dollars and accuracy, each with the 80 % interval."""
    forecast = row.forecast
    return (
        f"{forecast.shape}, {time_text(forecast.time_s)} ({time_text(forecast.low_s)} to "
        f"{time_text(forecast.high_s)}), {dollars_text(forecast.cost_usd)} ({dollars_text(forecast.low_usd)} to "
        f"{dollars_text(forecast.high_usd)})" + (f", accuracy {accuracy_text(row)}" if row.accuracy else "")
    )


def accuracy_text(row: Row) -> str:
    """`91.3 % (89.0 to 93.1)`, or that it is not known."""
    if row.accuracy is None:
        return "not known"
    value, low, high, _ = row.accuracy
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def table(plan: Plan, everything: bool = False) -> list[TableRow]:
    """The rows worth looking at: those of the answer, the steps of the front, and then the cheapest; or all."""
    chosen = {id(row): row for row in (*named_rows(plan), *plan.steps)}
    for row in plan.rows:
        if not everything and len(chosen) >= SHOWN:
            break
        chosen.setdefault(id(row), row)
    on_front = {id(row) for row in plan.front}
    return [
        TableRow(
            _marks(plan, row, id(row) in on_front),
            row.forecast.shape.strategy,
            str(row.forecast.shape),
            f"{time_text(row.forecast.time_s)} ({time_text(row.forecast.low_s)} to {time_text(row.forecast.high_s)})",
            f"{dollars_text(row.forecast.cost_usd)} ({dollars_text(row.forecast.low_usd)} to "
            f"{dollars_text(row.forecast.high_usd)})",
            accuracy_text(row),
            row.forecast.bound,
        )
        for row in sorted(chosen.values(), key=lambda row: row.forecast.time_s)
    ]


def words(rows: Sequence[TableRow]) -> Iterator[tuple[str, str]]:
    """(word, meaning) of what the table's `rows` say in a word: strategies, what bounds them, the front."""
    for name in dict.fromkeys(row.strategy for row in rows):
        yield name, STRATEGIES[name].summary
    for bound in dict.fromkeys(row.bound for row in rows):
        yield bound, bound_in_words(bound)
    if any("front" in row.marks for row in rows):
        yield "front", "no other shape is both faster and cheaper"
    if any(_BEYOND in row.marks for row in rows):
        yield _BEYOND, "beyond what the profile measured: less sure than its interval says"


def notes(plan: Plan) -> Iterator[tuple[str, str]]:
    """(topic, sentence) of everything else that a reader should know."""
    named = named_rows(plan)
    for flat in plan.flats_of((*named, *plan.steps)):
        yield "enough", str(flat)
    if plan.update_batch < plan.batch:
        yield "batch", f"{plan.batch:,} is more than there is: an update is made of all {plan.update_batch:,} images"
    assumed = dict.fromkeys(text for row in named for text in row.forecast.assumptions)
    for text in (*plan.notes, *assumed):
        yield "assumed", text
    if long := [str(row.forecast.shape) for row in named if row.forecast.phases.billed_s > USUAL_RUN_S]:
        yield "limit", f"{usual_limit('max_run', USUAL_RUN_S)}: give it to run {'; '.join(long)}"
    if large := [str(row.forecast.shape) for row in named if row.forecast.shape.workers > MOST_WORKERS]:
        yield "limit", f"a job of facesim has {MOST_WORKERS} workers at the most, so it cannot run {'; '.join(large)}"
    if all(row.accuracy is None for row in plan.rows):
        here = ", and --replay 3 trains here, in one process, as the recommended cluster would"
        yield (
            "accuracy",
            "not known: a forecast of time says nothing about it; runs of the job do (--runs names where they are)"
            + (here if plan.replayable else ""),
        )
    else:
        for text in dict.fromkeys(row.accuracy.origin for row in plan.rows if row.accuracy):
            yield "accuracy", text
    causes: dict[str, list[str]] = {}
    for doubt in plan.doubts(named[0]):
        causes.setdefault(doubt.remedy, []).append(f"± {100 * doubt.half_width:.0f} % for {doubt.cause}")
    for remedy, doubted in causes.items():
        yield "surer with", f"{remedy} (now {', '.join(doubted)})"


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain data; every row, the cheapest first."""
    on_front = {id(row) for row in plan.front}
    places = {id(row): place for place, row in enumerate(plan.rows)}

    def place(row: Row | None) -> int | None:
        return None if row is None else places[id(row)]

    return {
        "answer": answer(plan),
        "measurement": "forecast",
        "profile": {name: getattr(plan.profile, name) for name in ("model", "framework", "batch", "created")},
        "epochs": plan.epochs,
        "batch": plan.batch,
        "update_batch": plan.update_batch,
        "wanted": {name: value for name, value in vars(plan.wanted).items() if value is not None},
        "cheapest": place(plan.cheapest),
        "fastest": place(plan.fastest),
        "one_machine": place(plan.one_machine),
        "rows": [_row_json(row, id(row) in on_front) for row in plan.rows],
        "enough_workers": [
            {"shape": flat.shape.model_dump(), "enough": flat.enough, "most": flat.most} for flat in plan.flats
        ],
        "notes": [{"topic": topic, "text": text} for topic, text in notes(plan)],
        "doubts": [doubt._asdict() for doubt in plan.doubts(named_rows(plan)[0])],
    }


def _row_json(row: Row, on_front: bool) -> dict[str, Any]:
    forecast = row.forecast
    return {
        "shape": forecast.shape.model_dump(),
        "told": str(forecast.shape),
        "time_s": forecast.time_s,
        "low_s": forecast.low_s,
        "high_s": forecast.high_s,
        "cost_usd": forecast.cost_usd,
        "low_usd": forecast.low_usd,
        "high_usd": forecast.high_usd,
        "half_width": forecast.half_width,
        "update_s": forecast.update_s,
        "images_per_s": forecast.images_per_s,
        "phases": dict(vars(forecast.phases)),
        "offered_load": forecast.offered_load,
        "staleness": forecast.staleness,
        "wire_bytes_per_update": forecast.wire_bytes_per_update,
        "accuracy": row.accuracy and row.accuracy._asdict(),
        "bound": forecast.bound,
        "training_bound": forecast.training_bound,
        "front": on_front,
        "meets": row.meets,
        "misses": list(row.misses),
        "extrapolated": forecast.extrapolated,
        "assumptions": list(forecast.assumptions),
    }


def _nothing_keeps_it(plan: Plan) -> list[str]:
    sentences = [
        f"Nothing of {count_text(len(plan.rows), 'shape')} keeps {plan.wanted} at the bad end of its interval."
    ]
    if plan.wanted.min_accuracy is not None and all(row.accuracy is None for row in plan.rows):
        here = "--replay 3 finds it here, in one process; or " if plan.replayable else ""
        sentences.append(
            f"The accuracy of none is known: {here}run the job (facesim run) and name its folder with --runs."
        )
    return [*sentences, *(f"T{' and '.join(names)[1:]}: {figures(row)}." for names, row in _nearest(plan))]


def _nearest(plan: Plan) -> list[tuple[list[str], Row]]:
    """What keeps one of the conditions, or comes nearest to it; a shape that is several of these is there once."""
    in_time = [row for row in plan.rows if "deadline" not in row.misses]  # the cheapest first
    paid_for = [row for row in plan.rows if "budget" not in row.misses]
    near = [("the fastest of all", plan.fastest_of_all), ("the cheapest of all", plan.cheapest_of_all)]
    if plan.wanted.deadline_s is not None and in_time:
        near[0] = (f"the cheapest that keeps {Wanted(deadline_s=plan.wanted.deadline_s)}", in_time[0])
    if plan.wanted.budget_usd is not None and paid_for:
        fastest = min(paid_for, key=lambda row: row.forecast.time_s)
        near[1] = (f"the fastest that keeps {Wanted(budget_usd=plan.wanted.budget_usd)}", fastest)
    if plan.wanted.min_accuracy is not None and (known := [row for row in plan.rows if row.accuracy]):
        near.append(("the most accurate, as far as known", max(known, key=lambda row: row.accuracy or ())))
    named: dict[int, tuple[list[str], Row]] = {}
    for name, row in near:
        named.setdefault(id(row), ([], row))[0].append(name)
    return list(named.values())


def _against(row: Row, other: Row) -> str:
    faster = other.forecast.time_s / row.forecast.time_s
    money = ""
    if other.forecast.cost_usd:
        ratio = row.forecast.cost_usd / other.forecast.cost_usd
        money = f"{_times(ratio)} the money" if ratio >= 1 + FLAT else "nearly the same money"
    surely = "" if row.forecast.high_s < other.forecast.low_s else ", though the intervals overlap"
    much = f"{_times(faster)} as fast" if faster >= 1 + FLAT else f"less than {100 * FLAT:.0f} % faster"
    return much + (f", for {money}" if money else "") + surely


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio < 9.95 else f"{ratio:,.0f} times"


def _sure(plan: Plan, row: Row) -> list[str]:
    doubts = plan.doubts(row)
    sentence = f"How sure: {100 * row.forecast.half_width:.0f} % either way holds 8 times in 10"
    beyond = " It goes beyond what was measured." if row.forecast.extrapolated else ""
    if not doubts:
        return [f"{sentence}.{beyond}"]
    sentence += f"; most of it is {doubts[0].cause} (± {100 * doubts[0].half_width:.0f} %). Surer: {doubts[0].remedy}."
    return [sentence + beyond]


def _marks(plan: Plan, row: Row, on_front: bool) -> str:
    marks = [
        name
        for name, one in (("cheapest", plan.cheapest), ("fastest", plan.fastest), ("one machine", plan.one_machine))
        if one is row
    ]
    if on_front and not marks:
        marks.append("front")
    if row.misses:
        marks.append("misses " + ", ".join(row.misses))
    if row.forecast.extrapolated:
        marks.append(_BEYOND)
    return ", ".join(marks)
