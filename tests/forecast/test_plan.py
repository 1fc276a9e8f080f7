"""A plan: which shapes it tries, which it recommends, what it says, and that it is quick."""

from __future__ import annotations

import re
import time

import pytest

from facesim.forecast.hosts import hosts
from facesim.forecast.model import forecast_job
from facesim.forecast.shapes import ClusterShape
from facesim.forecast.speeds import Table
from facesim.planning.answer import _times, answer, notes, table, to_json
from facesim.planning.explain import explain, numbered_lines, read_shape, row_of
from facesim.planning.plots import speed_up, speed_ups
from facesim.planning.quantities import dollars_text
from facesim.planning.search import FLAT, Accuracy, Axes, Wanted, clustered, make_plan
from facesim.util.errors import InputError

TYPES = ("ml.m5.xlarge", "ml.c5.2xlarge")


ANYTHING = Wanted()


def plan_of(profile, wanted=ANYTHING, epochs=200, **options):
    axes = options.pop("axes", Axes(("single", "ps-async", "allreduce"), TYPES))
    return make_plan(profile, axes, wanted, epochs=epochs, known_hosts=hosts(), **options)


def test_shapes_are_every_combination_that_means_something():
    shapes = Axes(("single", "ps-async", "allreduce"), TYPES, (1, 2, 4), (1, 2), spot=True).shapes()

    assert len(shapes) == len(set(shapes)) == 2 * 2 * (1 + 2 * 2 + 2)
    assert {shape.workers for shape in shapes if shape.strategy == "single"} == {1}
    assert {shape.ps for shape in shapes if shape.strategy == "allreduce"} == {1}
    assert {shape.workers for shape in shapes if shape.strategy == "allreduce"} == {2, 4}


def test_one_worker_is_tried_where_no_single_process_is():
    assert [shape.workers for shape in Axes(("ps-async",), TYPES[:1], (1, 2), (1,)).shapes()] == [1, 2]


def test_no_shape_at_all_and_far_too_many_are_refused():
    with pytest.raises(InputError, match="--backup-workers 3"):
        Axes(("ps-sync",), TYPES, (1, 2), (1,), backup_workers=3).shapes()
    with pytest.raises(InputError, match="200,000 are allowed"):
        Axes(("ps-async",), TYPES, tuple(range(1, 1025)), tuple(range(1, 65)), spot=True).shapes()


def test_the_front_has_what_nothing_beats_and_nothing_else(profile):
    plan = plan_of(profile)

    points = {(row.forecast.time_s, row.forecast.cost_usd) for row in plan.front}
    for row in plan.rows:
        time_s, usd = row.forecast.time_s, row.forecast.cost_usd
        beaten = any(
            other_s <= time_s and other <= usd and (other_s, other) != (time_s, usd) for other_s, other in points
        )
        assert beaten != ((time_s, usd) in points)


def test_the_cheapest_keeps_deadline_and_budget_at_the_bad_end(profile):
    free = plan_of(profile)
    deadline_s = free.cheapest.forecast.time_s * 1.01  # kept by its middle, not by its bad end

    plan = plan_of(profile, Wanted(deadline_s=deadline_s, budget_usd=5))

    assert plan.cheapest.forecast.high_s <= deadline_s
    assert plan.cheapest.forecast.cost_usd > free.cheapest.forecast.cost_usd
    assert all(
        row.forecast.cost_usd >= plan.cheapest.forecast.cost_usd
        for row in plan.rows
        if row.forecast.high_s <= deadline_s
    )
    assert plan.fastest.forecast.time_s <= plan.cheapest.forecast.time_s


def test_where_nothing_keeps_it_the_answer_says_how_near_it_comes(profile):
    plan = plan_of(profile, Wanted(deadline_s=10))

    assert plan.cheapest is None
    first, *others = answer(plan)
    assert first == f"Nothing of {len(plan.rows)} shapes keeps --deadline 10 s at the bad end of its interval."
    assert others[0].startswith("The fastest of all:")
    assert to_json(plan)["cheapest"] is None


def test_an_accuracy_that_nobody_knows_is_not_kept(profile):
    shape = ClusterShape(strategy="single", instance_type=TYPES[0])
    known = {shape: Accuracy(0.97, 0.96, 0.98, "from 3 runs of one process")}

    unknown = plan_of(profile, Wanted(min_accuracy=0.95))
    plan = plan_of(profile, Wanted(min_accuracy=0.95), accuracies=known)
    short = plan_of(profile, Wanted(min_accuracy=0.965), accuracies=known)

    assert unknown.cheapest is None and "facesim run" in " ".join(answer(unknown))
    assert plan.cheapest.forecast.shape == shape and "accuracy 97.0 % (96.0 to 98.0)" in answer(plan)[0]
    assert short.cheapest is None and "accuracy" in short.rows[0].misses[0]


def test_the_answer_says_what_how_long_how_much_and_how_sure(profile):
    plan = plan_of(profile)

    text = answer(plan)

    best = plan.cheapest.forecast
    nearly = plan.nearly_fastest.forecast
    assert nearly.cost_usd <= plan.fastest.forecast.cost_usd
    assert nearly.time_s <= plan.fastest.forecast.time_s * (1 + FLAT)
    assert text[0].startswith("A cluster: " if clustered(best.shape) else "One machine: ")
    assert str(best.shape) in text[0] and "$" in text[0]
    assert text[-1].startswith(f"How sure: {100 * best.half_width:.0f} % either way holds 8 times in 10")
    assert "facesim calibrate --instance-type" in text[-1]


def test_more_workers_that_gain_nothing_are_told(profile):
    many = profile.model_copy(update={"examples": 8_700})
    plan = plan_of(many, axes=Axes(("single", "ps-async"), ("ml.c5.xlarge",), tuple(range(1, 17)), (1,)), epochs=20)

    (flat,) = plan.flats
    by_workers = {row.forecast.shape.workers: row.forecast.time_s for row in plan.rows}
    best_s = min(by_workers.values())
    assert by_workers[flat.enough] <= best_s * (1 + FLAT) < by_workers[flat.enough - 1]
    assert f"{flat.enough} workers are within 5 % of {flat.most}" in str(flat)
    assert plan.flats_of(plan.rows) == plan.flats


def test_causes_of_doubt_make_up_the_interval(profile):
    plan = plan_of(profile)

    for row in plan.rows[::7]:
        doubts = plan.doubts(row)
        assert sum(doubt.half_width**2 for doubt in doubts) ** 0.5 == pytest.approx(row.forecast.half_width, rel=0.01)
        assert [doubt.half_width for doubt in doubts] == sorted((d.half_width for d in doubts), reverse=True)
        assert all(doubt.remedy for doubt in doubts)


def test_backup_workers_have_no_part_of_a_batch(profile):
    plan = plan_of(profile, axes=Axes(("ps-sync",), TYPES[:1], (4,), (1,), backup_workers=1))

    computing = explain(plan, plan.rows[0])[0]

    assert computing.lines[0] == "batch of an update 32, divided among 3 workers that are waited for, of 4: 11 each"


@pytest.mark.parametrize(("ratio", "words"), [(1.234, "1.2 times"), (9.96, "10 times"), (123.4, "123 times")])
def test_ratios_are_numbers_that_one_reads(ratio, words):
    assert _times(ratio) == words


@pytest.mark.parametrize("strategy", ["single", "ps-async", "ps-sync", "allreduce", "local-sgd", "mirrored"])
def test_the_arithmetic_ends_with_the_numbers_of_the_forecast(profile, strategy):
    axes = Axes((strategy,), TYPES[:1], (4,), (2,))
    plan = plan_of(profile, axes=axes)
    (row,) = plan.rows

    steps = {step.title: step for step in explain(plan, row)}

    assert f"= {row.forecast.updates:,}" in steps["Updates"].lines[0]
    assert f"= {dollars_text(row.forecast.cost_usd)}" in steps["The bill"].lines[-1]
    assert f"± {100 * row.forecast.half_width:.1f} %" in steps["How sure"].lines[-1]
    update_ms = float(re.search(r"an update takes ([\d.]+) ms", " ".join(steps["One update"].lines))[1])
    assert update_ms == pytest.approx(1000 * row.forecast.update_s, rel=0.05)
    assert all(step.title and step.lines for step in steps.values())
    assert numbered_lines(list(steps.values()))[0].startswith("1. Computing one step")


def test_the_arithmetic_of_servers_that_multiply_gradients_adds_up(profile):
    variables = [each.model_copy(update={"factor_rows": 1.0 * (len(each.shape) == 2)}) for each in profile.variables]
    plan = plan_of(
        profile.model_copy(update={"variables": tuple(variables)}), axes=Axes(("ps-async",), TYPES[:1], (4,), (1,))
    )

    steps = {step.title: step for step in explain(plan, plan.rows[0])}

    sent, processor, *_ = steps["The servers"].lines
    assert "7 messages and 20.6 MB" in sent
    assert "0.1 ms x 7 + 0.5 ns x 20.6 MB + 0.302 GFLOP / 75 GFLOP/s" in processor
    assert f"= {0.1 * 7 + 0.5 * 20.6 + 302 / 75:.3g} ms" in processor


@pytest.mark.parametrize("others", [(), ("single",)])
@pytest.mark.parametrize("workers", [(1, 2, 4), (2, 4)])
@pytest.mark.parametrize("strategy", ["allreduce", "ps-async", "local-sgd", "mirrored"])
def test_speed_ups_are_against_one_process_whatever_was_tried(profile, strategy, workers, others):
    plan = plan_of(profile, axes=Axes((*others, strategy), TYPES[:1], workers, (1,)))

    (curve,) = speed_ups(plan).values()

    alone = forecast_job(profile, ClusterShape(instance_type=TYPES[0])).images_per_s
    tried = workers if not others else tuple(count for count in workers if count > 1)
    assert tuple(row.forecast.shape.workers for row, _ in curve) == tried
    assert [speed for _, speed in curve] == pytest.approx([row.forecast.images_per_s / alone for row, _ in curve])
    assert dict(zip(tried, curve))[2][1] < 1.99
    assert "<svg" in (speed_up(plan) or "")


def test_a_shape_that_is_no_row_is_forecast_as_the_rows_are(profile):
    everything = {"evaluations": 3, "outside": {"starting_s": 500.0, "download_s": 60.0, "upload_s": 30.0}}
    one, both = (
        plan_of(profile, axes=Axes(("ps-async",), TYPES[:1], workers, (1,)), **everything) for workers in ((2,), (2, 4))
    )
    (other,) = (row for row in both.rows if row.forecast.shape.workers == 4)

    assert row_of(one, "ps-async:4w").forecast == other.forecast


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ps-async:ml.m5.xlarge:4w:2ps:spot", {"strategy": "ps-async", "workers": 4, "ps": 2, "spot": True}),
        ("workers=3, ps=1 ps-sync", {"strategy": "ps-sync", "workers": 3, "ps": 1}),
        ("8 workers", None),
        ("allreduce:2w", {"strategy": "allreduce", "workers": 2}),
        ("ml.c5.2xlarge", {"instance_type": "ml.c5.2xlarge"}),
        ("ps-asink:4w", None),
        ("ml.m5.huge", None),
    ],
)
def test_a_shape_is_read_from_words(text, expected):
    usual, axes = ClusterShape(instance_type="ml.m5.xlarge"), Axes(("single",), TYPES)

    if expected is None:
        with pytest.raises(InputError, match="--explain"):
            read_shape(text, hosts(), usual, axes)
        return
    assert read_shape(text, hosts(), usual, axes) == usual.model_copy(update=expected)


def test_what_a_text_cannot_say_of_a_shape_is_as_in_the_plan(profile):
    fixed = {"ps_instance_type": "ml.c5.2xlarge", "backup_workers": 1, "local_steps": 2}
    plan = plan_of(profile, axes=Axes(("single", "ps-sync", "local-sgd"), TYPES[:1], (4,), (1,), **fixed))

    served, averaged = (row_of(plan, f"{name}:8w").forecast.shape for name in ("ps-sync", "local-sgd"))

    assert (served.ps_instance_type, served.backup_workers) == ("ml.c5.2xlarge", 1)
    assert averaged.local_steps == 2
    assert row_of(plan, "single").forecast.shape == ClusterShape(instance_type=TYPES[0])


@pytest.mark.slow
def test_ten_thousand_shapes_are_planned_in_seconds(profile):
    types = tuple(name for name, kind in hosts().items() if kind.relative_speed)
    strategies = ("single", "ps-async", "ps-sync", "allreduce")
    axes = Axes(strategies, types, tuple(range(1, 65)), (1, 2, 3, 4, 5, 6), spot=True)
    begin = time.process_time()

    plan = plan_of(profile, Wanted(deadline_s=7200, budget_usd=5), axes=axes)
    answer(plan), table(plan), list(notes(plan)), to_json(plan)

    assert len(plan.rows) >= 10_000
    assert time.process_time() - begin < 5


def test_a_plan_is_the_forecast_of_each_shape_alone(profile):
    plan = plan_of(profile)

    for row in plan.rows[::11]:
        alone = forecast_job(profile, row.forecast.shape, epochs=200)
        assert row.forecast.time_s == pytest.approx(alone.time_s)
        assert row.forecast.cost_usd == pytest.approx(alone.cost_usd)


@pytest.mark.parametrize(
    "shape",
    [
        {"strategy": "ps-sync", "ps": 2},
        {"strategy": "ps-sync", "ps": 2, "backup_workers": 1},
        {"strategy": "allreduce"},
        {"strategy": "local-sgd", "local_steps": 4},
    ],
)
def test_an_update_that_is_explained_adds_up(profile, shape):
    plan = plan_of(profile)

    (update,) = [
        step for step in explain(plan, plan.row(ClusterShape(workers=4, **shape))) if step.title == "One update"
    ]

    (parts,) = [re.findall(r"([\d.]+) ms", line) for line in update.lines if " of 4" in line]
    (whole,) = re.findall(r"an update takes ([\d.]+) ms", "\n".join(update.lines))
    assert sum(map(float, parts)) == pytest.approx(float(whole), rel=2e-3)


def test_an_explained_step_of_a_worker_with_servers_is_what_its_formula_takes(profile):
    plan, shape = plan_of(profile), ClusterShape(strategy="ps-async", workers=4, instance_type="ml.m5.xlarge")

    (update,) = [step for step in explain(plan, plan.row(shape)) if step.title == "One update"]

    table = Table(profile, [shape], hosts(), plan.batch)
    assert f"C = {1000 * (table.served_s[0] + table.dispatch_s[0]):.4g} ms, spread" in "\n".join(update.lines)
