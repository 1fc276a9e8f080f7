"""The bill in table, JSON and HTML: what a run on spot capacity shows, and that one on demand does not."""

from __future__ import annotations

import pytest
from rich.console import Console

from facesim.billing import make_bill
from facesim.report import compare, print_report, to_json, write_report
from facesim.report.plots.bars import cost_bars
from facesim.report.plots.overview import _cost
from facesim.runs.events import Billed
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


@pytest.fixture
def measured_spot_run(make_run):
    """One at AWS, which billed another share than was assumed."""
    events = course(("Starting", 60.0), ("Training", 292.0), ("Completed", 0.0), began_unix_s=LAUNCHED_UNIX_S)
    events.append(Billed(time_unix_s=LAUNCHED_UNIX_S + 360, training_s=292, billable_s=119, cost_usd=0.0152))
    billing = make_bill(events, [(M5, 1)], 0.57).to_dict(0.57)
    ran = {"billing": billing, "measurement": "measured", "cost_usd": billing["on_demand_usd"]}
    return make_run("single", spot=True, backend="sagemaker", result=ran)


def test_where_aws_says_what_it_billed_this_is_what_the_report_shows(measured_spot_run, tmp_path):
    billed_usd = 0.461 * 119 / 3600
    comparison = compare([measured_spot_run])

    write_report([measured_spot_run], tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert f"59.2 % saved: ${billed_usd:.4f}" in " ".join(page.split())
    assert _cost(comparison.rows[0], priced=True).value == pytest.approx(billed_usd)
    drawn = cost_bars(comparison)
    assert f"${billed_usd:.4f} spot, billed" in drawn and "assumed" not in drawn


def test_the_hosts_and_types_of_servers_are_among_those_that_are_named(make_run):
    shape = {"workers": 2, "ps": 1, "ps_instance_type": "ml.m5.large", "backend": "sagemaker"}
    groups = [(M5, 2), ("ml.m5.large", 1)]
    events = course(("Starting", 10.0), ("Training", 100.0), ("Completed", 0.0), began_unix_s=LAUNCHED_UNIX_S)
    runs = []
    for seed in range(3):
        for name, options, hosts in (("single", {"backend": "sagemaker"}, groups[:1]), ("ps-async", shape, groups)):
            ran = {"measurement": "measured", "billing": make_bill(events, hosts).to_dict(0.57), "cost_usd": 0.1}
            runs.append(make_run(name, seed, training_s=40.0 + seed, result=ran, **options))

    comparison = compare(runs)

    (cost,) = (finding.text for finding in comparison.findings if finding.topic == "cost")
    assert "on 3 hosts" in cost
    assert f"at the price of {M5} and ml.m5.large" in cost
    assert any("ml.m5.2xlarge and ml.m5.large" in warning for warning in comparison.warnings)


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
    assert "Spot capacity is counted as 60.0 % cheaper, unless AWS said what it billed" in bills


def test_a_run_of_before_bills_were_kept_is_still_shown(make_run, tmp_path):
    write_report([make_run()], tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert "<h2>Bills</h2>" not in page and "Spot " not in page
