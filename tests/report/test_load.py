"""From run directories to records: whole ones, torn ones, killed ones, damaged ones."""

import json

import pytest

from facesim.report import compare
from facesim.report.load import load
from facesim.report.measures import by_role, measures
from facesim.runs.directory import find_runs
from facesim.runs.states import Measurement, RunState
from facesim.study.result import finish
from facesim.util.errors import InputError


def test_the_clock_starts_at_launch_and_at_the_first_step(make_run):
    record = load(make_run("ps-async", epochs=4, training_s=8.0))

    first = record.history.dropna(subset=["held_out_accuracy"]).iloc[0]

    assert record.phases["launch_to_first_step_s"] == pytest.approx(record.first_step_s + 2.5)
    assert first["since_first_step_s"] == pytest.approx(8.0 / 4 + 0.1, abs=1e-3)
    assert first["since_launch_s"] == pytest.approx(record.first_step_s + 2.1, abs=1e-3)


def test_history_has_the_metrics_as_columns_one_row_an_epoch(make_run):
    history = load(make_run(epochs=5, accuracy=90.0)).history

    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history["held_out_accuracy"].iloc[-1] == pytest.approx(0.9)


def test_a_torn_last_line_loses_that_line_only(make_run):
    run = make_run(epochs=5)
    whole = load(run)
    for file in (run.metrics / "psutil.jsonl", run.metrics / "chief-0.jsonl", run.events_file):
        file.write_bytes(file.read_bytes()[:-9])

    torn = load(run)

    assert len(torn.history) == len(whole.history)
    assert len(torn.events) == len(whole.events) - 1
    assert torn.history["held_out_loss"].isna().sum() == 1


def test_a_run_that_was_killed_is_unfinished_and_keeps_what_it_left(make_run):
    record = load(make_run("ps-async", seed=3, epochs=5, finished=False))

    assert record.result.state == "Unfinished"
    assert (record.result.strategy, record.result.seed, record.completed) == ("ps-async", 3, False)
    assert len(record.history) == 5


def test_a_run_without_metrics_has_its_result(make_run):
    record = load(make_run(metrics=False, accuracy=88.0))

    assert record.history.empty
    assert not record.utilisation
    assert record.result.held_out_accuracy == 0.88


def test_phases_of_an_unfinished_run_come_from_its_samples(make_run):
    from facesim.metrics.files import SampleWriter

    run = make_run(finished=False, epochs=3)
    writer = SampleWriter(run.metrics / "phases.jsonl", run_id=run.id, host="h", source="training")
    for total in (3.0, 6.0):  # a phase that comes again is recorded as its sum so far
        writer.write(1_790_000_000.0 + total, "chief", 0, {"training_s": total})
    writer.close()

    assert load(run).phases["training_s"] == 6.0


def test_what_a_later_facesim_adds_is_ignored_and_null_is_missing(make_run):
    run = make_run(result={"colour": "green", "phases": None, "images_per_s": None, "sync_audit": None})

    record = load(run)

    assert record.result.images_per_s is None
    assert record.result.sync_audit.verdict == "unknown"


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"state": "Completed"}'])
def test_a_damaged_result_is_named_with_what_to_do(make_run, content):
    run = make_run()
    run.result_file.write_text(content)

    with pytest.raises(InputError, match=r"result\.json.*leave this run out of the report"):
        load(run)


def test_a_damaged_job_is_named(make_run):
    run = make_run()
    run.job_file.write_text("")

    with pytest.raises(InputError, match=r"job\.json"):
        load(run)


def test_a_roles_tasks_add_up_though_they_were_sampled_at_different_instants(make_run):
    from facesim.metrics.files import SampleWriter

    run = make_run(metrics=False)
    writer = SampleWriter(run.metrics / "psutil.jsonl", run_id=run.id, host="h", source="psutil")
    for at, index, memory in ((1, 0, 10.0), (2, 1, 5.0), (3, 0, 20.0), (4, 1, 5.0)):
        writer.write(1_790_000_000.0 + at, "worker", index, {"memory_bytes": memory})
    writer.close()

    memory = by_role(load(run).utilisation, "memory_bytes").roles["worker"]

    # at 4 s worker 0 was not seen any more
    assert memory.tolist() == [10.0, 15.0, 25.0, 5.0]
    assert measures(None)["memory_peak_all_bytes"].of(load(run)) == 25.0


def test_a_counter_keeps_what_an_ended_task_sent(make_run):
    from facesim.metrics.files import SampleWriter

    run = make_run(metrics=False)
    writer = SampleWriter(run.metrics / "sockets.jsonl", run_id=run.id, host="h", source="sockets")
    for at, index, received in ((1, 0, 10.0), (2, 1, 5.0), (3, 1, 7.0)):
        writer.write(1_790_000_000.0 + at, "worker", index, {"net_received_bytes": received})
    writer.close()

    assert by_role(load(run).utilisation, "net_received_bytes").roles["worker"].tolist() == [10.0, 15.0, 17.0]


def test_a_counter_goes_on_where_a_task_was_started_again(make_run):
    """10 MB in each of two lives, each of which counts from 0."""
    from facesim.metrics.files import SampleWriter

    run = make_run("ps-async", metrics=False)
    writer = SampleWriter(run.metrics / "sockets.jsonl", run_id=run.id, host="h", source="sockets")
    for at, received in ((1, 4e6), (2, 10e6), (11, 0.0), (12, 3e6), (13, 10e6)):
        writer.write(1_790_000_000.0 + at, "worker", 0, {"net_received_bytes": received, "memory_bytes": received})
    writer.close()
    with run.events_file.open("a") as events:
        events.write(json.dumps({"time_unix_s": 1_790_000_010.0, "event": "task_started", "task": "worker-0"}) + "\n")

    record = load(run)

    received = by_role(record.utilisation, "net_received_bytes").roles["worker"]
    assert received.tolist() == [4e6, 10e6, 10e6, 13e6, 20e6]
    assert by_role(record.utilisation, "memory_bytes").roles["worker"].tolist() == [4e6, 10e6, 0.0, 3e6, 10e6]
    result = finish(run, RunState.COMPLETED, None, Measurement.EMULATED, 20.0)
    assert (result.wire_bytes, result.resources["worker"].net_received_bytes) == (20e6, 20e6)


def test_samples_of_work_that_was_done_again_are_left_out(make_run):
    from facesim.metrics.files import SampleWriter

    run = make_run(metrics=False)
    writer = SampleWriter(run.metrics / "chief-0.jsonl", run_id=run.id, host="h", source="training")
    for at, examples in ((1, 100), (2, 200), (3, 300), (11, 200), (12, 300)):
        writer.write(1_790_000_000.0 + at, "chief", 0, {"examples": examples, "loss": 1.0 / at})
    writer.close()
    restored = {"time_unix_s": 1_790_000_010.0, "event": "restored", "examples": 100, "step": 4, "epoch": 1}
    with run.events_file.open("a") as events:
        events.write(json.dumps(restored) + "\n")

    assert load(run).history["examples"].tolist() == [100, 200, 300]
    assert load(run).history["time_unix_s"].tolist() == [1_790_000_000.0 + at for at in (1, 11, 12)]


def test_a_run_that_lost_its_job_is_told(make_run):
    whole = make_run()
    lost = make_run(seed=1)
    lost.job_file.unlink()
    for run in (whole, lost):
        host = run.directory / "hosts" / "algo-1"
        host.mkdir(parents=True)
        (host / "events.jsonl").write_text("{}")

    comparison = compare(find_runs([lost.directory.parent]))

    assert len(comparison.records) == 1
    assert [text for text in comparison.warnings if text.startswith("left out: ")] == [comparison.warnings[0]]
    assert "left out: single-1: cannot read" in comparison.warnings[0]
