"""Scaling: speed-up against workers, what bounds it, and the pictures that belong to it."""

from __future__ import annotations

import pytest

from facesim.report import compare
from facesim.report.answer import answer
from facesim.report.html import render
from facesim.report.plots import plots
from facesim.report.plots.overview import time_and_cost


@pytest.fixture
def grid(make_run):
    runs = [make_run("single", seed, training_s=40.0 + seed) for seed in range(3)]
    for workers, training_s in ((1, 50.0), (2, 26.0), (4, 16.0)):
        runs += [
            make_run("ps-async", seed, training_s=training_s + seed, workers=workers, name=f"ps-{workers}-{seed}")
            for seed in range(3)
        ]
    return runs


def test_workers_are_held_against_one_process(grid):
    (scale,) = compare(grid).scales

    assert (scale.label, scale.reference.label) == ("ps-async", "single")
    assert [point.workers for point in scale.points] == [1, 2, 4]
    # The geometric mean over seeds of 40/26, 41/27 and 42/28.
    assert scale.points[1].speed_up.ratio == pytest.approx(1.519, abs=1e-3)
    assert scale.points[1].efficiency == pytest.approx(0.7594, abs=1e-3)
    assert [point.disturbed for point in scale.points] == [False] * 3
    low, high = scale.points[1].interval
    assert low < 1.519 < high


def test_without_one_process_the_fewest_workers_are_the_reference(grid):
    (scale,) = compare(grid[3:]).scales

    assert scale.reference.label == "ps-async (1 worker)"
    assert scale.points[0].speed_up.ratio == 1.0


def test_more_workers_than_one_may_be_the_reference_of_others(grid):
    (scale,) = compare(grid[6:]).scales

    fewest, most = scale.points
    assert (fewest.workers, fewest.efficiency) == (2, 1.0)
    assert most.ideal == 2.0
    assert most.efficiency == pytest.approx(most.speed_up.ratio / 2) and 0.7 < most.efficiency < 0.9


@pytest.mark.parametrize("varied", [{"threads": (1, 2)}, {"instance_type": ("ml.m5.large", "ml.c5.xlarge")}])
def test_the_one_process_of_a_scaling_is_like_it_in_all_else(make_run, varied):
    ((name, values),) = varied.items()
    runs = []
    for place, value in enumerate(values):
        runs.append(make_run("single", name=f"one-{place}", training_s=40.0 + place, **{name: value}))
        for workers in (1, 2):
            ran = {"name": f"{workers}-{place}", "workers": workers, name: value}
            runs.append(make_run("allreduce", training_s=60.0 / workers, **ran))

    found = compare(runs).scales

    used = [
        [row.records[0].job.shape[name] for row in (one.reference, *(each.row for each in one.points))] for one in found
    ]
    assert sorted(used) == sorted([value] * 3 for value in values)
    assert [scale.reference.records[0].job.strategy for scale in found] == ["single"] * 2


def played(make_run, factors, *, seeds=1):
    """A process, and clusters of 1, 2 and 4 workers, whose hosts a machine played with these shares."""
    shapes = [("single", 2), ("allreduce", 1), ("allreduce", 2), ("allreduce", 4)]
    runs = []
    for (strategy, workers), factor in zip(shapes, factors, strict=True):
        for seed in range(seeds):
            name = f"{strategy}-{workers}-{seed}"
            run = make_run(strategy, seed, name=name, workers=workers, backend="docker", training_s=60.0 / workers)
            run.record("emulation", cpu_factor=factor)
            runs.append(run)
    return runs


def test_hosts_with_different_shares_of_a_machine_have_no_speed_up(make_run):
    comparison = compare(played(make_run, (0.1125, 0.225, 0.1125, 0.05625)))

    assert comparison.scales == ()
    assert [contrast.training is None for contrast in comparison.contrasts] == [True, False, True]
    assert [contrast.instance_s is None for contrast in comparison.contrasts] == [True, False, True]
    (warning,) = (text for text in comparison.warnings if "share of hosts' processors" in text)
    assert "0.225 for allreduce (1 worker); " in warning and "0.113 for single; " in warning.replace("0.112", "0.113")
    assert "no statement about time (hosts were given different shares" in comparison.headlines[0].text
    told = " ".join(finding.text for finding in answer(comparison))
    assert "No statement about time is possible: hosts were given different shares" in told


@pytest.mark.slow
@pytest.mark.parametrize(("factors", "joined"), [((0.1125, 0.225, 0.1125, 0.05625), False), ((0.5,) * 4, True)])
def test_a_line_joins_times_of_hosts_with_the_same_share_of_a_machine_alone(make_run, factors, joined):
    assert ("no other row beats these" in time_and_cost(compare(played(make_run, factors)))) is joined


def test_hosts_with_the_same_share_of_a_machine_have_one(make_run):
    comparison = compare(played(make_run, (0.5, 0.5, 0.5, 0.5)))

    (scale,) = comparison.scales
    assert scale.reference.label.startswith("single")
    assert [point.workers for point in scale.points] == [1, 2, 4]
    assert not [text for text in comparison.warnings if "share of hosts' processors" in text]


def test_a_process_whose_host_had_another_share_is_no_reference(make_run):
    (scale,) = compare(played(make_run, (0.1125, 0.5, 0.5, 0.5))).scales

    assert scale.reference.label == "allreduce (1 worker)"


@pytest.mark.slow
def test_one_number_of_workers_is_no_scaling(study):
    comparison = compare(study)

    assert comparison.scales == ()
    assert "scaling" not in plots(comparison)


def bound(make_run, **result):
    runs = [make_run("ps-async", workers=2, name="two", result=result), make_run("ps-async", workers=1, name="one")]
    return compare(runs).scales[0].points[1].bound


def test_what_bounds_a_training_follows_from_what_was_measured(make_run):
    used = {role: {"tasks": 1, "memory_peak_bytes": 1.0} for role in ("host", "worker", "ps")}
    used["host"]["cpu_percent_mean"] = 95.0
    used["worker"]["cpu_percent_mean"], used["ps"]["cpu_percent_mean"] = 60.0, 30.0

    assert bound(make_run, resources=used) == "compute"


def test_a_busy_server_bounds(make_run):
    used = {
        role: {"tasks": 1, "cpu_percent_mean": share} for role, share in (("host", 95.0), ("worker", 30), ("ps", 60))
    }

    assert bound(make_run, resources=used) == "server"


def test_idle_processors_wait(make_run):
    assert bound(make_run, resources={"host": {"cpu_percent_mean": 40.0}}) == (
        "waiting for the network or input (CPUs 40 % busy)"
    )


def test_a_disturbed_run_says_so_and_its_point_is_hollow(make_run):
    runs = [make_run("ps-async", workers=2, name="two", result={"load": {"foreign_cpu_percent": 50.0}})]
    runs.append(make_run("ps-async", workers=1, name="one"))

    point = compare(runs).scales[0].points[1]

    assert (point.bound, point.disturbed) == ("disturbed", True)


@pytest.mark.slow
def test_the_report_has_the_scaling_and_its_pictures(grid):
    run = next(run for run in grid if run.id == "ps-2-0")
    lines = ["epoch,batch,worker,version_read,version", "1,0,0,0,0", "1,1,1,0,1", "1,2,0,1,2"]
    run.order_file.write_text("\n".join(lines) + "\n")
    comparison = compare(grid)

    drawn, page = plots(comparison), render(comparison)

    assert {"scaling", "pareto", "staleness", "tasks"} <= drawn.keys()
    assert "ideal" in drawn["scaling"]
    assert "worker-1" in drawn["staleness"] and "updates by others" in drawn["staleness"]
    assert "received" in drawn["tasks"] and "ps-0" in drawn["tasks"]
    assert "<h2>Scaling</h2>" in page and "76 %" in page
    efficiency = "divided by how many times as many workers there are as in the row that it is against"
    assert efficiency in " ".join(page.split())


@pytest.mark.slow
def test_interruptions_are_drawn_on_the_clock_with_gaps(make_run):
    run = make_run("single")
    interrupted = '{"time_unix_s": 1790000020.0, "event": "interruption", "number": 1, "notice_s": 0.0}\n'
    waiting = '{"time_unix_s": 1790000021.0, "event": "state", "state": "Interrupted"}\n'
    with run.events_file.open("a") as events:
        events.write(interrupted + waiting)

    drawn = plots(compare([run]))

    assert "since it was first submitted" in drawn["interruptions"]
    assert "interruptions" not in plots(compare([make_run("single", 1)]))
