"""What a report must not claim: prices of machines that did not run, times that were not the run's own, a course that
was never interrupted.
"""

from __future__ import annotations

import json
import re

import pytest

from facesim.report import compare, to_json
from facesim.report.html import render
from facesim.report.load import load, since_launch_s
from facesim.runs.events import StateEntered, Submitted
from facesim.runs.records import MAX_FOREIGN_CPU_PERCENT, MAX_STEAL_PERCENT
from tests.report.conftest import LAUNCHED_UNIX_S
from tests.report.test_bill import bill
from tests.report.test_comparison import texts
from tests.report.test_pages import printed


def priced(make_run, measurement, strategies=("single", "ps-async"), **options):
    """A run by each strategy, with a bill."""
    return [
        make_run(
            strategy,
            result={
                "measurement": measurement,
                "billing": bill(1 + (strategy != "single"), 0.6 if options.get("spot") else None),
            },
            **options,
        )
        for strategy in strategies
    ]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"spot": True}, {"backend": "docker"}, {"backend": "sagemaker"}])
def test_an_emulated_run_has_instance_seconds_and_no_dollars(make_run, options):
    comparison = compare(priced(make_run, "emulated", **options))

    shown = printed(comparison, width=200)
    assert "$" not in shown
    assert re.search(r"instance-seconds .*120 s, emulated", shown)
    page = render(comparison)
    before_bills, bills = page[: page.index("<h2>Bills</h2>")], page[page.index("<h2>Bills</h2>") :]
    assert "$" not in re.sub(r"<style>.*?</style>", "", before_bills, flags=re.S)
    assert "instance-seconds, emulated" in before_bills
    summaries = re.findall(r"<summary>.*?</summary>", bills, flags=re.S)
    assert all("$" not in summary for summary in summaries)
    assert len(re.findall(r"\$\d", bills)) == len(re.findall(r"hypothetical \$\d", bills)) > 0
    assert {row["dollars"].split(":")[0] for row in to_json(comparison)["rows"]} == {"hypothetical"}


@pytest.mark.slow
def test_a_run_on_real_instances_has_dollars(make_run):
    comparison = compare(priced(make_run, "measured", backend="sagemaker"))

    shown = printed(comparison, width=200)
    assert re.search(r"on demand +\|? +\$0\.00", shown)
    assert "emulated" not in shown
    assert "on demand $0.0" in texts(comparison.findings, "cost")
    assert "hypothetical" not in render(comparison)


def test_beside_a_measured_run_an_emulated_one_has_none(make_run):
    runs = priced(make_run, "measured", ["single"], backend="sagemaker")
    runs += priced(make_run, "emulated", ["ps-async"])

    comparison = compare(runs)

    (line,) = [line for line in printed(comparison, width=200).splitlines() if re.match(r"\W*on demand +\|", line)]
    assert line.count("$") == 1
    assert "$" not in texts(comparison.findings)


def loaded(foreign, steal=0.0):
    return {"load": {"foreign_cpu_percent": foreign, "steal_percent": steal}}


QUIET, BUSY = loaded(1.5), loaded(32.5)


@pytest.mark.slow
def test_runs_that_others_disturbed_are_in_no_statement_about_time(make_run):
    runs = [make_run("single", seed, result=QUIET) for seed in range(3)]
    runs += [make_run("ps-async", seed, result=BUSY, training_s=57 + seed) for seed in range(3)]

    comparison = compare(runs)

    (contrast,) = comparison.contrasts
    ratios = (contrast.training, contrast.total, contrast.time_to_accuracy, contrast.instance_s)
    assert ratios == (None, None, None, None)
    assert "no statement about time (other load disturbed ps-async)" in comparison.headlines[0].text
    assert "times as" not in comparison.headlines[0].text + texts(comparison.findings)
    assert "other programs used 32 % of the machine" in texts(comparison.findings, "disturbed")
    shown = printed(comparison, width=200)
    assert re.search(r"times disturbed +\|? +no +\|? +3 of 3 runs", shown)
    page = render(comparison)
    assert page.count("times disturbed</span>") == 1
    assert contrast.accuracy is not None


def test_seeds_that_were_not_disturbed_are_still_compared(make_run):
    runs = [make_run("single", seed, result=BUSY if seed == 1 else QUIET, training_s=40.0) for seed in range(3)]
    runs += [make_run("ps-async", seed, result=BUSY if seed == 2 else QUIET, training_s=60.0) for seed in range(3)]

    (contrast,) = compare(runs).contrasts

    assert (contrast.training.n, contrast.training.ratio) == (1, pytest.approx(1.5))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (loaded(MAX_FOREIGN_CPU_PERCENT), None),
        (loaded(MAX_FOREIGN_CPU_PERCENT + 1), "other programs used 11 %"),
        (loaded(0.0, MAX_STEAL_PERCENT), None),
        (loaded(0.0, MAX_STEAL_PERCENT + 1), "the hypervisor took 4 %"),
        (loaded(None, None), None),
        # of before the load was recorded: all tasks 64 %, the host 96.5 %
        ({"resources": {"host": {"cpu_percent_mean": 96.5}, "chief": {"cpu_percent_mean": 64.0}}}, "used 32 %"),
        ({"resources": {"host": {"cpu_percent_mean": 66.5}, "chief": {"cpu_percent_mean": 64.0}}}, None),
        ({"resources": {"chief": {"cpu_percent_mean": 64.0}}}, None),
    ],
)
def test_from_which_share_on_a_run_is_disturbed(make_run, result, message):
    (row,) = compare([make_run(result=result)]).rows

    assert bool(row.disturbed) == bool(message)
    assert (message or "") in " ".join(row.disturbed.get(0, ()))


def resumed(make_run, workers_before=2, **options):
    """A run that was stopped after its first 10 s, lay for an hour, and went on with four workers."""
    run = make_run("ps-async", workers=4, **options)
    events = [json.loads(line) for line in run.events_file.read_text().splitlines()]
    shapes = [{"workers": workers_before, "ps": 1}, {"workers": 4, "ps": 1}]
    at = LAUNCHED_UNIX_S
    first = [
        {"time_unix_s": at, "event": "submitted", "shape": shapes[0]},
        {"time_unix_s": at + 10, "event": "state", "state": "Stopped"},
    ]
    later = [{**event, "time_unix_s": event["time_unix_s"] + 3600} for event in events[1:]]
    again = {"time_unix_s": at + 3600, "event": "submitted", "shape": shapes[1]}
    run.events_file.write_text("".join(json.dumps(event) + "\n" for event in [*first, again, *later]))
    for file in run.metrics.glob("*.jsonl"):
        samples = [json.loads(line) for line in file.read_text().splitlines()]
        moved = [{**each, "time_unix_s": each["time_unix_s"] + 3600} for each in samples]
        file.write_text("".join(json.dumps(each) + "\n" for each in moved))
    return run


def test_the_time_between_two_lives_is_not_the_run_s(make_run):
    record = load(resumed(make_run))
    spent_s = 10 + (record.lives[1].end_unix_s - record.lives[1].begin_unix_s)

    assert record.resumed == 1
    assert 0 < record.history["since_launch_s"].min() < record.history["since_launch_s"].max() <= spent_s < 200
    assert since_launch_s(record.lives, LAUNCHED_UNIX_S + 1800) == 10
    (row,) = compare([record.run], target_accuracy=0.5).rows
    assert row.estimate("time_to_accuracy_since_launch_s").mean <= spent_s


def test_a_resume_with_the_same_shape_is_told_without_it(make_run):
    (warning,) = (one for one in compare([resumed(make_run, workers_before=4)]).warnings if "resumed" in one)

    assert "ps-async, seed 0 was resumed once; what lies between" in warning


@pytest.mark.slow
def test_a_resume_and_the_shape_before_it_are_shown(make_run):
    comparison = compare([resumed(make_run), make_run("ps-async", workers=4, name="whole"), make_run("single")])

    labels = ["single", "ps-async", "ps-async (began with 2 workers, 1 ps)"]
    assert sorted(row.label for row in comparison.rows) == sorted(labels)
    assert any("was resumed once, the last time as 4 workers, 1 ps, before that as 2 workers, 1 ps" in warning
               for warning in comparison.warnings)  # fmt: skip
    shown = printed(comparison, width=200)
    assert "2 workers, 1 ps, then 4 workers, 1 ps" in shown
    assert "1 of 1 run" in shown
    page = render(comparison)
    assert 'caution">resumed</span>' in page
    assert "shape 2 workers, 1 ps" in page


def test_training_began_with_the_first_of_several_starts(make_run):
    from facesim.metrics.files import SampleWriter

    run = make_run(metrics=False, result={"phases": {"launch_to_first_step_s": 30.0, "first_step_s": 5.0}})
    writer = SampleWriter(run.metrics / "chief-0.jsonl", run_id=run.id, host="h", source="training")
    writer.write(LAUNCHED_UNIX_S + 12, "chief", 0, {"first_step_s": 2.0})
    writer.write(LAUNCHED_UNIX_S + 40, "chief", 0, {"first_step_s": 5.0})  # the sum so far
    writer.close()

    assert load(run).first_step_s == pytest.approx(10.0)


def test_the_bill_of_a_resumed_run_has_the_instances_of_each_time(make_run):
    from facesim.billing import make_bill

    run = resumed(make_run)
    hosts = iter((2, 4))
    events = [
        event.model_copy(update={"groups": (("ml.m5.2xlarge", next(hosts)),)})
        if isinstance(event, Submitted)
        else event
        for event in run.events()
    ]
    events.insert(1, StateEntered(time_unix_s=LAUNCHED_UNIX_S + 1, state="Training"))
    billed = make_bill(events, [("ml.m5.2xlarge", 4)]).to_dict(0.6)
    result = json.loads(run.result_file.read_text())
    run.result_file.write_text(json.dumps({**result, "measurement": "measured", "billing": billed}))

    comparison = compare([run], target_accuracy=0.5)

    (row,) = comparison.rows
    (record,) = row.records
    reached = record.history[record.history["held_out_accuracy"] >= 0.5]["time_unix_s"].iloc[0]
    began = next(each["begin_unix_s"] for each in billed["transitions"] if each["begin_unix_s"] > LAUNCHED_UNIX_S + 3600
                 and each["billable"])  # fmt: skip
    spent_s = 2 * 9 + 4 * (reached - began)
    assert row.estimate("instance_s_to_accuracy").mean == pytest.approx(spent_s, abs=4)
    assert row.estimate("cost_to_accuracy_usd").mean == pytest.approx(0.461 * spent_s / 3600, rel=0.02)
    page = render(comparison)
    assert "billed before it was resumed" in page and "2 × ml.m5.2xlarge" in page and "4 × ml.m5.2xlarge" in page


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("single", "1 process"),
        ("mirrored", "1 process, 2 replicas"),
        ("ps-async", "2 workers, 1 ps"),
        ("allreduce", "2 workers"),
        ("of a plugin that is gone", "2 workers"),
    ],
)
def test_a_shape_is_told_as_its_strategy_uses_it(strategy, message):
    from facesim.report.rows import shape_in_words

    assert shape_in_words(strategy, {"workers": 2, "ps": 1}) == message


def test_rows_that_were_computed_with_different_kernels_are_told(make_run):
    machine = {"cpu_count": 2}
    onednn = make_run("single", result={"machine": machine | {"kernels": "onednn"}})
    eigen = make_run("ps-async", result={"machine": machine | {"kernels": "eigen"}})
    before = make_run("allreduce", result={"machine": machine})

    (warning,) = [one for one in compare([onednn, eigen, before]).warnings if "kernels" in one]

    assert warning.startswith("not the same kernels, so times compare these, too: ")
    assert warning.endswith("onednn for single; eigen for ps-async; unknown for allreduce")
    assert not any("kernels" in one for one in compare([before]).warnings)


@pytest.mark.parametrize(
    ("options", "part", "without"),
    [
        ({"validation": 0.2}, "a validation part, 20% of the training images", "--validation"),
        ({"test_part": "val"}, "the part val of the data's own split", "--test-part val"),
    ],
)
def test_accuracy_on_validation_images_is_said_to_be_that(make_run, options, part, without):
    (told,) = (text for text in compare([make_run(**options)]).warnings if "not the held-out images" in text)

    assert f"single was tested on {part}, to choose settings by" in told and told.endswith(f"a run without {without}")
