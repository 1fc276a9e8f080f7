"""The bill in table, JSON and HTML: what a run on spot capacity shows, and that one on demand does not."""

from __future__ import annotations

import pytest
from rich.console import Console

from facesim.billing import make_bill
from facesim.report import compare, print_report, to_json, write_report
from tests.report.conftest import LAUNCHED_UNIX_S
from tests.support.events import course, restored

M5 = "ml.m5.2xlarge"
COURSE = [("Starting", 10.0), ("Downloading", 2.0), ("Training", 30.0), ("Interrupted", 60.0), ("Starting", 5.0)]
COURSE += [("Downloading", 2.0), ("Training", 25.0), ("Uploading", 1.0), ("Completed", 0.0)]


def bill(hosts: int, discount: float | None) -> dict:
    """`result.json`'s `billing` of a run that was interrupted once and lost four seconds of work."""
    events = course(*COURSE, began_unix_s=LAUNCHED_UNIX_S)
    events.insert(-1, restored(events[-2].time_unix_s, lost_s=4.0))
    return make_bill(events, [(M5, hosts)], discount).to_dict(0.6)


@pytest.fixture
def spot_run(make_run):
    return make_run("ps-async", spot=True, result={"billing": bill(2, 0.6)})


def measures(run) -> dict:
    (row,) = to_json(compare([run]))["rows"]
    return {name: estimate and estimate["mean"] for name, estimate in row["measures"].items()}


def test_a_run_on_spot_capacity_shows_what_it_is_billed_for(spot_run):
    shown = measures(spot_run)

    assert shown["instance_s"] == 2 * 60
    assert shown["interruptions"] == 1
    assert shown["waiting_s"] == 75
    assert shown["billable_s"] == 24
    assert shown["savings_percent"] == pytest.approx(60)
    assert shown["billed_usd"] == pytest.approx(2 * 0.461 * 24 / 3600)
    assert shown["lost_work_usd"] == pytest.approx(2 * 0.461 * 4 / 3600 * 0.4)


def test_the_cost_to_an_accuracy_leaves_out_what_was_not_billed_until_then(spot_run):
    comparison = compare([spot_run])
    record = comparison.records[0]
    curve = record.history.dropna(subset=["held_out_accuracy"])
    reached = curve[curve["held_out_accuracy"] >= comparison.target_accuracy].iloc[0]
    since_launch_s = reached["time_unix_s"] - LAUNCHED_UNIX_S
    assert 12 < since_launch_s < 102, "it is to be reached in the first training, or while waiting after it"

    cost_usd = measures(spot_run)["cost_to_accuracy_usd"]

    assert cost_usd == pytest.approx(min(since_launch_s - 10, 32) * 2 * 0.461 * 0.4 / 3600)


def test_a_run_on_demand_has_no_lines_of_spot_capacity(make_run):
    run = make_run(result={"billing": bill(1, None) | {"interruptions": 0, "lost_work_usd": 0.0}})
    console = Console(record=True, width=120)

    print_report(compare([run]), console)

    shown = console.export_text()
    assert "instance-seconds" in shown
    assert "cost to" in shown
    assert "interruptions" not in shown
    assert "lost work" not in shown


def test_runs_on_spot_capacity_and_on_demand_are_rows_of_their_own(make_run):
    runs = [make_run(name="a", result={"billing": bill(1, None)})]
    runs += [make_run(name="b", spot=True, result={"billing": bill(1, 0.6)})]

    assert {row["label"] for row in to_json(compare(runs))["rows"]} == {
        "single (capacity on demand)",
        "single (capacity spot)",
    }


def test_the_page_lists_every_state_with_its_seconds(spot_run, tmp_path):
    write_report([spot_run], tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    bills = page[page.index("<h2>Bills</h2>") :]
    for shown in ("<td>30.0 s</td><td>Training</td>", "<td>60.0 s</td><td>Interrupted</td>", "1 interruption<"):
        assert shown in bills
    assert "<td>60 s</td><td>billed in all</td>" in bills
    assert "on each of 2 hosts" in bills
    assert "60.0 % saved" in bills


def test_a_run_of_before_bills_were_kept_is_still_shown(make_run, tmp_path):
    write_report([make_run()], tmp_path / "report.html")

    assert "<h2>Bills</h2>" not in (tmp_path / "report.html").read_text()
