"""The comparison: rows, verdict and warnings, from real run directories."""

import json

import pytest

from facesim.billing import make_bill
from facesim.report import compare, to_json
from facesim.report.cells import lines
from facesim.report.notebook import frame
from facesim.util.errors import InputError
from tests.support.events import course

ONE_FAULT = [{"kind": "kill", "targets": ["chief-0"], "at_s": 5.0}]
APART = {"verdict": "apart", "evidence": ["12,800 examples were counted, 6,400 were due", "0 bytes crossed the wire"]}


def texts(findings, topic=None):
    return " ".join(finding.text for finding in findings if topic in (None, finding.topic))


def test_seeds_of_a_strategy_are_one_row_and_single_comes_first(study):
    comparison = compare(reversed(study))

    assert [row.label for row in comparison.rows] == ["single", "ps-async"]
    assert [row.seeds for row in comparison.rows] == [[0, 1, 2], [0, 1, 2]]
    assert comparison.warnings == ()


def test_frameworks_stand_in_the_order_in_which_they_are_listed_and_others_are_compared_with_tensorflow(make_run):
    runs = [make_run(seed=seed, name=f"{name}-{seed}", framework=name)
            for name in ("jax", "torch", "tensorflow") for seed in range(3)]  # fmt: skip

    comparison = compare(runs)

    assert [row.label for row in comparison.rows] == [
        f"single (framework {name})" for name in ("tensorflow", "torch", "jax")
    ]
    assert "against single (framework tensorflow)" in comparison.headlines[0].text


def test_the_verdict_says_who_is_slower_what_it_costs_and_that_accuracy_was_not_told_apart(study):
    comparison = compare(study)

    assert comparison.headlines[0].text == (
        "ps-async against single (emulated): 1.43 times as long to train, 2.83 times the instance-seconds, "
        "no evidence of a difference in accuracy."
    )
    assert "remain possible" in texts(comparison.findings, "held-out accuracy")
    assert "a speed-up or a slow-down here is no forecast" in texts(comparison.findings, "emulated")


def test_a_place_is_called_by_its_last_part_where_that_tells_it_from_others(make_run):
    places = [None, "/far/away/runs/first", "/far/away/runs/second"]
    runs = [make_run("single", seed, name=f"{place}-{seed}".replace("/", "-"), pretrained=place)
            for place in places for seed in range(3)]  # fmt: skip

    comparison = compare(runs)

    labels = ["single (pretrained none)", "single (pretrained first)", "single (pretrained second)"]
    assert [row.label for row in comparison.rows] == labels
    assert [contrast.reference.label for contrast in comparison.contrasts] == [labels[0]] * 2
    assert f"not the same experiment: pretrained none for {labels[0]}; /far/away" in " ".join(comparison.warnings)


def test_places_with_the_same_last_part_are_told_whole(make_run):
    comparison = compare([make_run("single", name=one, pretrained=f"/{one}/run") for one in ("a", "b")])

    assert [row.label for row in comparison.rows] == ["single (pretrained /a/run)", "single (pretrained /b/run)"]


def test_a_faster_strategy_is_told_the_other_way_round(make_run):
    runs = [make_run("single", seed, training_s=60.0 + seed) for seed in range(3)]
    runs += [make_run("ps-async", seed, training_s=30.0 + 0.6 * seed) for seed in range(3)]

    comparison = compare(runs)

    assert "1.99 times as fast to train" in comparison.headlines[0].text
    assert "ps-async is 1.99 times as fast as single to train" in texts(comparison.findings, "training time")


def test_a_clear_loss_of_accuracy_is_told_with_interval_and_p(make_run):
    runs = [make_run("single", seed, accuracy=92.0 + 0.5 * seed) for seed in range(3)]
    runs += [make_run("ps-async", seed, accuracy=85.0 + 0.4 * seed) for seed in range(3)]

    comparison = compare(runs)

    assert "percentage points less accurate" in comparison.headlines[0].text
    assert "95 % interval −" in texts(comparison.findings, "held-out accuracy")
    assert "p = " in texts(comparison.findings, "held-out accuracy")


def test_one_seed_allows_no_accuracy_statement_but_has_wilsons_interval(make_run):
    comparison = compare([make_run("single", accuracy=92.5), make_run("ps-async", accuracy=80.0)])

    assert "No accuracy statement about ps-async and single is possible from 1 paired seed" in texts(
        comparison.findings, "held-out accuracy"
    )
    assert "it may be noise" in texts(comparison.findings, "training time")
    low, high = comparison.rows[0].accuracy_interval()
    assert 0.8 < low < 0.925 < high < 0.98


def test_a_single_strategy_is_described_and_not_compared(make_run):
    comparison = compare([make_run("single", seed) for seed in range(3)])

    assert comparison.contrasts == ()
    assert "nothing to compare it with" in comparison.headlines[0].text


def test_replicas_that_trained_apart_are_an_alarm_before_everything_else(make_run):
    comparison = compare([make_run("single"), make_run("ps-async", audit=APART)])

    assert comparison.headlines[0].tone == "alarm"
    assert comparison.findings[0].tone == "alarm"
    assert "0 bytes crossed the wire" in comparison.findings[0].text


def test_one_run_apart_makes_the_row_apart(make_run):
    comparison = compare([make_run("ps-async", 0), make_run("ps-async", 1, audit=APART), make_run("ps-async", 2)])

    assert comparison.rows[0].audit == "apart"
    assert "apart in 1 of 3 runs" in comparison.findings[0].text


def test_a_failed_run_is_left_out_and_named_with_its_cause(make_run):
    lost = {"state": "Failed", "failure": "worker-1 was killed by SIGKILL\nlast lines", "held_out_accuracy": None}
    runs = [make_run("single", seed) for seed in range(3)]
    runs += [make_run("ps-async", 0), make_run("ps-async", 1, result=lost), make_run("ps-async", 2)]

    comparison = compare(runs)

    assert comparison.rows[1].seeds == [0, 2]
    assert "left out: ps-async, seed 1: Failed (worker-1 was killed by SIGKILL)" in comparison.warnings
    assert any(warning.startswith("not the same seeds") for warning in comparison.warnings)


def test_when_nothing_completed_the_verdict_says_so(make_run):
    comparison = compare([make_run("single", finished=False), make_run("ps-async", result={"state": "Stopped"})])

    assert "No run completed" in comparison.headlines[0].text
    assert comparison.target_accuracy is None


def test_differing_experiments_are_named_field_by_field(make_run):
    comparison = compare([make_run("single", batch=32), make_run("ps-async", batch=64, learning_rate=0.001)])

    assert "(emulated, not the same experiment)" in comparison.headlines[0].text
    assert "not the same experiment: batch 32 for single; 64 for ps-async" in comparison.warnings
    assert "not the same experiment: learning rate 0.0001 for single; 0.001 for ps-async" in comparison.warnings
    assert any(warning.startswith("not the same work: updates") for warning in comparison.warnings)


def test_accuracies_on_different_test_images_are_not_compared(make_run):
    runs = [make_run("single", seed) for seed in range(3)]
    runs += [make_run("ps-async", seed, held_out=0.5, accuracy=50.0) for seed in range(3)]

    comparison = compare(runs)

    assert comparison.contrasts[0].accuracy is None
    assert "Not compared" in texts(comparison.findings, "held-out accuracy")


def test_runs_of_one_strategy_that_differ_do_not_share_a_row(make_run):
    comparison = compare(
        [make_run("ps-async", workers=2, name="a"), make_run("ps-async", workers=4, name="b"), make_run("single")]
    )

    assert [row.label for row in comparison.rows] == ["single", "ps-async (2 workers)", "ps-async (4 workers)"]


def test_workers_mean_nothing_to_single(make_run):
    comparison = compare([make_run("single", 0, workers=2), make_run("single", 1, workers=8)])

    assert len(comparison.rows) == 1


def test_of_a_seed_that_was_run_twice_the_newer_counts(make_run):
    runs = [make_run("single", 0, accuracy=50.0), make_run("single", 0, accuracy=90.0, name="again", launched=1.8e9)]

    comparison = compare(runs)

    assert comparison.rows[0].estimate("held_out_accuracy").mean == 0.9
    assert "left out: single, seed 0: the same seed was run again later" in comparison.warnings


def test_the_target_is_95_percent_of_the_lower_mean_unless_chosen(make_run):
    runs = [make_run("single", accuracy=90.0), make_run("ps-async", accuracy=80.0)]

    assert compare(runs).target_accuracy == pytest.approx(0.76)
    assert "95 % of the lowest" in compare(runs).target_origin
    assert compare(runs, target_accuracy=0.85).target_accuracy == 0.85


@pytest.mark.parametrize("target", [85.0, 0.0, -0.1, float("nan")])
def test_a_target_that_is_no_share_is_refused(make_run, target):
    with pytest.raises(InputError, match="such as 0.9 for 90 %") as refused:
        compare([make_run("single")], target_accuracy=target)

    assert refused.value.field == "target_accuracy"


def test_accuracies_are_shares_under_one_name_wherever_programs_read_them(study):
    comparison = compare(study)
    shown = frame(comparison)
    accuracies = [name for name in shown if name.endswith("_accuracy") and "_to_" not in name]

    assert accuracies == ["target_accuracy", "held_out_accuracy", "training_accuracy", "chance_accuracy"]
    assert ((shown[accuracies] > 0) & (shown[accuracies] <= 1)).all(axis=None)
    (row, *_), (contrast, *_) = to_json(comparison)["rows"], to_json(comparison)["contrasts"]
    assert row["measures"]["held_out_accuracy"]["mean"] == shown["held_out_accuracy"].iloc[0]
    assert 0 < row["held_out_accuracy_interval"][0] < row["held_out_accuracy_interval"][1] <= 1
    assert abs(contrast["accuracy"]["mean"]) < 1


def test_a_target_that_was_not_reached_has_no_time_and_is_said(make_run):
    comparison = compare([make_run("single", accuracy=90.0), make_run("ps-async", accuracy=80.0)], target_accuracy=0.85)

    assert comparison.rows[1].estimate("time_to_accuracy_s") is None
    assert "ps-async reached 85.0 % held-out in 0 of 1 run" in texts(comparison.findings)


def test_of_one_reference_it_is_said_once_what_it_did_not_reach(make_run):
    runs = [make_run(name, accuracy=80.0) for name in ("single", "ps-async", "allreduce")]

    found = [finding.text for finding in compare(runs, target_accuracy=0.85).findings]

    assert [text for text in found if "reached" in text] == [
        f"{name} reached 85.0 % held-out in 0 of 1 run." for name in ("single", "ps-async", "allreduce")
    ]


def test_without_a_curve_nothing_is_said_of_a_target(make_run):
    found = compare([make_run("single", metrics=False), make_run("ps-async", metrics=False)]).findings

    assert "reached" not in texts(found)


def test_means_of_times_are_of_the_runs_that_nothing_disturbed(make_run):
    runs = [make_run("single", seed, training_s=40 + seed) for seed in range(3)]
    runs += [make_run("ps-async", seed, training_s=60 + seed) for seed in range(2)]
    runs += [make_run("ps-async", 2, training_s=900, result={"load": {"steal_percent": 33.0}})]

    assert "to train: 60.5 s against 40.5 s" in texts(compare(runs).findings, "training time")


def test_a_forecast_was_tested_on_no_images(make_run):
    runs = [make_run(name, result={"data": {"tested_sha256": "a"}}) for name in ("single", "ps-async")]
    computed = {"measurement": "forecast", "held_out_accuracy": None, "total_s": 20.0}
    runs += [make_run("allreduce", metrics=False, result=computed)]

    comparison = compare(runs)

    assert [[row.label for row in test] for test in comparison.tests] == [["single", "ps-async"]]
    assert comparison.target_accuracy and "each row" not in (comparison.target_in_words or "")
    assert "Not compared: allreduce is a forecast, of time and cost." in texts(comparison.findings)


def test_a_diverged_run_is_warned_of_and_leaves_valid_json(make_run):
    comparison = compare([make_run("single", result={"held_out_loss": float("nan")})])

    assert any("training diverged" in warning for warning in comparison.warnings)
    assert json.dumps(to_json(comparison), allow_nan=False)


def test_accuracy_no_better_than_chance_is_said(make_run):
    comparison = compare([make_run("single", accuracy=3.0)])

    assert "not shown to be better than chance" in texts(comparison.findings)


def test_a_collector_that_failed_is_named(make_run):
    comparison = compare([make_run("single", result={"collector_errors": {"psutil": 3.0, "sockets": 0.0}})])

    assert comparison.warnings == ("measurements have gaps: single, seed 0: collector psutil failed 3 times",)


def test_json_has_every_measure_by_seed_and_the_verdict(study):
    content = json.loads(json.dumps(to_json(compare(study)), allow_nan=False))

    cluster = content["rows"][1]
    assert cluster["measures"]["training_s"]["by_seed"] == {"0": 57.0, "1": 58.5, "2": 60.0}
    assert cluster["sync_audit"] == "together"
    assert content["contrasts"][0]["accuracy"]["outcome"] == "no evidence of a difference"
    assert content["contrasts"][0]["ratios"]["instance_s"]["ratio"] == pytest.approx(2.83, abs=0.01)


@pytest.mark.parametrize(
    ("options", "values", "words"),
    [
        ({"backend": "docker"}, {"host_gbps": (0.1, 1.0)}, "host gbps"),
        ({"spot": True}, {"spot_rate": (0.5, 2.0)}, "spot rate"),
        ({}, {"checkpoint_s": (5.0, 60.0)}, "checkpoint s"),
        ({}, {"faults": ([{"kind": "kill", "targets": ["worker-0"], "at_s": 3.0}], [])}, "faults"),
    ],
)
def test_runs_with_other_settings_are_no_runs_of_one_row(make_run, options, values, words):
    ((name, (one, other)),) = values.items()
    runs = []
    for place, value in enumerate((one, other)):
        for seed in range(2):
            given = options | {name: value, "name": f"{place}-{seed}", "launched": 1.79e9 + 100 * place}
            runs.append(make_run("ps-async", seed, **given))

    comparison = compare(runs)

    assert [row.seeds for row in comparison.rows] == [[0, 1], [0, 1]]
    assert len({row.label for row in comparison.rows}) == 2
    assert all(words in row.label for row in comparison.rows)
    assert not [warning for warning in comparison.warnings if "run again later" in warning]
    assert any(f"not the same circumstances: {words}" in warning for warning in comparison.warnings)


def test_a_setting_that_a_backend_or_capacity_does_not_have_tells_nothing(make_run):
    runs = [make_run(name="local"), make_run(name="docker", backend="docker"), make_run(name="spot", spot=True)]

    labels = {row.label for row in compare(runs).rows}

    assert labels == {
        "single (backend local, capacity on demand)",
        "single (backend docker, capacity on demand)",
        "single (backend local, capacity spot)",
    }


def test_what_an_earlier_version_did_not_record_has_its_default(make_run):
    runs = [make_run("single", seed, backend="docker") for seed in range(2)]
    job = json.loads(runs[0].job_file.read_text())
    job["backend"] = {"name": "docker"}
    del job["recovery"], job["sampling_s"]
    runs[0].job_file.write_text(json.dumps(job))

    (row,) = compare(runs).rows

    assert row.seeds == [0, 1]


def test_what_is_done_about_failures_makes_no_other_row_and_is_told(make_run):
    twice = [
        make_run("single", 0, max_restarts=restarts, name=f"{place}", launched=1.79e9 + 100 * place)
        for place, restarts in enumerate((0, 3))
    ]

    comparison = compare([make_run("single", 1), *twice])

    (row,) = comparison.rows
    assert row.seeds == [0, 1]
    assert any("the same seed was run again later, with other max restarts" in text for text in comparison.warnings)


def test_faults_that_strike_anybody_are_the_same_for_any_number_of_workers(make_run):
    anybody = [{"kind": "kill", "per_minute": 3.0}]
    runs = [
        make_run("allreduce", workers=workers, training_s=60.0 / workers, faults=anybody, name=str(workers))
        for workers in (1, 2, 4)
    ]

    comparison = compare([make_run("single", faults=anybody), *runs])

    assert [len(scale.points) for scale in comparison.scales] == [3]
    assert comparison.scales[0].reference.label == "single"
    assert not [text for text in comparison.warnings if "faults" in text]
    named = [make_run("single", faults=given, name=f"named-{len(given)}") for given in (ONE_FAULT, [])]
    assert {row.label for row in compare(named).rows} == {"single (faults none)", "single (faults kill, at s 5.0)"}


def test_where_files_lie_makes_no_other_row(make_run, tmp_path):
    runs = [make_run("single", seed, checkpoint_dir=str(tmp_path / f"{seed}")) for seed in range(2)]

    (row,) = compare(runs).rows

    assert row.seeds == [0, 1]


def test_costs_to_an_accuracy_say_how_many_runs_reached_it(make_run):
    events = course(("Starting", 10.0), ("Training", 60.0), ("Completed", 0.0))
    ran = {"billing": make_bill(events, [("ml.m5.2xlarge", 1)]).to_dict(0.57)}
    runs = [make_run("single", seed, accuracy=95.0 if seed else 60.0, result=ran) for seed in range(3)]
    comparison = compare(runs, target_accuracy=0.9)

    shown = {line.label: line.cells[0].text for line in lines(comparison)}

    assert "(2 of 3 runs)" in shown["time to 90.0 % held-out"]
    assert "(2 of 3 runs, emulated)" in shown["cost to 90.0 %, instance-s"]
    never = {line.label: line.cells[0].text for line in lines(compare(runs[:1], target_accuracy=0.9))}
    assert never["cost to 90.0 %, instance-s"] == "not reached"
