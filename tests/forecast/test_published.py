"""The benchmark against published measurements: how right it is, that it does not fit what it forecasts, and that no
file makes it stumble.
"""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from benchmarks.forecast import judge, main
from benchmarks.published.allreduce import step_at
from benchmarks.published.async_ps import model_key
from benchmarks.published.calibrate import SERVER, servers
from benchmarks.published.curves import Curve, Point, regrets, summary
from benchmarks.published.sizes import param_bytes
from benchmarks.published.transient import Cluster, cluster_of
from facesim.forecast.constants import constants


@pytest.fixture(scope="module")
def report(truth):
    return summary(judge(truth))


@pytest.mark.parametrize(
    ("study", "mean", "worst_curve"),
    [
        ("async ps", 0.045, 0.09),
        ("async ps, servers added", 0.05, 0.073),
        ("ps-sync", 0.03, 0.04),
        ("allreduce, Horovod over MPI", 0.03, 0.03),
        ("allreduce, PyTorch DDP", 0.12, 0.13),
        ("one host, several GPUs", 0.04, 0.08),
        ("job durations", 0.04, 0.04),
        ("job cost", 0.04, 0.04),
        ("job durations on spot", 0.04, 0.05),
        ("plans of mixed instances", 0.04, 0.04),
    ],
)
def test_forecasts_of_published_measurements_are_as_right_as_is_claimed(report, study, mean, worst_curve):
    figures = report["studies"][study]

    assert figures["mean_error"] <= mean
    assert figures["worst_curve"] <= worst_curve


def test_intervals_cover_what_they_promise(report):
    studies = [report["studies"][study] for study in ("async ps", "async ps, servers added", "allreduce, PyTorch DDP")]

    counted = [one["points_with_interval"] for one in studies]
    covered = sum(one["coverage"] * count for one, count in zip(studies, counted)) / sum(counted)
    assert 0.7 <= covered <= 0.95
    assert 0.75 <= studies[0]["coverage"] <= 0.9


def test_points_without_an_interval_are_not_among_those_that_are_covered():
    with_one = Curve("s", "time", (Point("a", 10.0, 10.5, 0.1), Point("b", 10.0, 12.0, 0.1)))
    without = Curve("s", "cost", (Point("a", 10.0, 10.5), Point("b", 10.0, 12.0)), note="the time is given")
    report = summary([with_one, without])

    (figures,) = report["studies"].values()
    assert (figures["points"], figures["points_with_interval"], figures["coverage"]) == (4, 2, 0.5)


def test_the_text_says_of_how_many_points_intervals_cover_and_what_was_given(truth):
    (shown,) = re.findall(
        r"plans of mixed instances\n(.*?)\n\n", CliRunner().invoke(main, ["--truth", truth]).output, re.S
    )

    assert "80 % intervals cover 100 % of 2 points; 4 more have none" in shown
    assert "the time is given, as it was measured" in shown


def test_the_shape_that_is_forecast_to_be_best_is_close_to_it(report):
    for name, lost in report["regret"].items():
        if "NCCL" not in name:  # whose measurements contradict each other: 32 GPUs slower than 16
            assert max(lost.values()) <= 0.05, name


def test_what_is_measured_of_a_shape_does_not_change_its_forecast(truth, tmp_path):
    """But for the inputs: one worker."""
    for file in truth.glob("cmdare*.json"):
        content = json.loads(file.read_text())
        for row in content.get("rows", []):
            if row["workers"] > 1:
                row["steps_per_s_median"] *= 2
        (tmp_path / file.name).write_text(json.dumps(content))

    before, after = ({curve.name: curve for curve in judge(folder)} for folder in (truth, tmp_path))

    for name, curve in after.items():
        assert [point.forecast for point in curve.judged] == [point.forecast for point in before[name].judged]


def test_a_model_is_forecast_with_constants_that_were_fitted_without_it(truth):
    known = constants("tf1_parameter_server")

    for model in ("ResNet-15", "ResNet-32", "ShakeShake-small", "ShakeShake-big"):
        assert known.for_model(model_key(model)) is known.without[model_key(model)]
        assert known.for_model(model_key(model)) != known.values
    assert known.for_model("another") is known.values


@pytest.mark.slow
def test_the_packaged_constants_are_what_fitting_gives(truth):
    contents = [json.loads(file.read_text()) for file in truth.glob("cmdare*.json")]
    rows = next(content["rows"] for content in contents if "rows" in content)

    fitted = servers(contents, rows)["values"]

    packaged = constants("tf1_parameter_server").values
    assert {name: fitted[name] for name in SERVER} == pytest.approx({name: packaged[name] for name in SERVER}, rel=0.02)


def spoilt(content: object, rng: random.Random) -> object:
    """The same with some rows' fields missing, or of another kind."""
    content = copy.deepcopy(content)
    rows = content.get("rows") if isinstance(content, dict) else None
    for row in rows or []:
        for name in list(row):
            if rng.random() < 0.1:
                del row[name]
            elif rng.random() < 0.05:
                row[name] = rng.choice([None, "many", -1, 0, 1e300, [], True, "9"])
    if isinstance(content, dict):
        for name in list(content):
            if name != "rows" and rng.random() < 0.1:
                del content[name]
    return content


@pytest.mark.parametrize("seed", range(6))
def test_rows_with_missing_or_odd_fields_are_listed_or_left_out_never_a_traceback(truth, tmp_path, seed):
    rng = random.Random(seed)
    for file in truth.glob("*.json"):
        content = json.loads(file.read_text())
        if "rows" in content and len(content["rows"]) > 150:
            content["rows"] = rng.sample(content["rows"], 150)
        (tmp_path / file.name).write_text(json.dumps(spoilt(content, rng)))

    figures = summary(judge(tmp_path))

    json.dumps(figures)
    assert figures["studies"]
    for study in figures["studies"].values():
        for curve in study["curves"]:
            assert ("reason" in curve) != ("points" in curve)


def test_files_of_no_known_form_are_listed_with_the_reason(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("3")
    (tmp_path / "c.json").write_text('{"rows": [{"colour": "red"}, 7]}')
    (tmp_path / "d.json").write_text('[{"workers": 2, "steps_per_s": 3.0, "model": "X", "gpu": "G"}]')

    reasons = {curve.name: curve.reason for curve in judge(tmp_path)}

    assert "cannot be read" in reasons["a.json"]
    assert reasons["b.json"] == "it is not an object or a list of rows"
    assert reasons["c.json"] == "its rows are of no known form"
    assert "variables of X" in reasons["G X, 1 ps"]


def test_files_are_read_as_editors_and_others_write_them(truth, tmp_path, report):
    for file in truth.glob("*.json"):
        content = json.loads(file.read_text())
        for number, row in enumerate(content.get("rows", [])):
            row["remark"] = {"number": number}
            if "model" in row:
                row["model"] = row["model"].upper()
        if "rows" in content:
            content["rows"].reverse()
        text = json.dumps(content, indent=1).replace("\n", "\r\n")
        (tmp_path / file.name).write_bytes(b"\xef\xbb\xbf" + text.encode())

    figures = summary(judge(tmp_path))["studies"]

    errors = {study: one["mean_error"] for study, one in report["studies"].items()}
    assert {study: one["mean_error"] for study, one in figures.items()} == pytest.approx(errors)


def test_a_file_that_gives_no_curve_is_listed(tmp_path):
    (tmp_path / "texts.json").write_text('[{"workers": "2", "steps_per_s": "3.0", "model": "X", "gpu": "G"}]')
    (tmp_path / "empty.json").write_text('{"rows": []}')

    reasons = {curve.name: curve.reason for curve in judge(tmp_path)}

    left_out = "1 of 1 rows left out: workers must be whole numbers above 0; steps_per_s must be numbers above 0"
    assert reasons == {"texts.json": left_out, "empty.json": "it has no rows"}


def test_what_is_left_out_of_a_file_is_said_and_what_is_there_twice_counts_once(tmp_path):
    row = {"gpu": "V100", "model": "ResNet-50", "mpi": "NCCL", "gpus": 4, "gpus_per_node": 4, "images_per_s": 1000.0}
    rows = [row, {**row, "gpus": 8, "images_per_s": 1900.0}, {**row, "gpus": 16, "images_per_s": "3700"}]
    content = {"rows": [*rows, rows[1], "a text"], "model_info": ["ResNet-50"], "table1": 5}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "a.csv").write_text("gpu,model\n")

    curves = judge(tmp_path)

    assert {curve.reason for curve in curves if curve.study == "files"} == {
        "its name does not end in .json",
        "1 of its rows are no objects: left out",
        "1 of its rows are there already: each counts once",
        "1 of its model_info are no objects: left out",
        "its table1 are no list",
        "1 of 3 rows left out: images_per_s must be numbers above 0",
    }
    assert [point.shape for curve in curves for point in curve.judged] == ["8 GPUs"]


def rows_of(truth, name, **wanted):
    rows = json.loads((truth / name).read_text())["rows"]
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_rows_of_another_batch_are_a_curve_of_their_own(truth, tmp_path):
    served = rows_of(truth, "cmdare_async_ps.json", gpu="K80", model="ResNet-32")
    faster = [{**row, "batch_per_worker": 64, "steps_per_s_median": 1.8 * row["steps_per_s_median"]} for row in served]
    summed = rows_of(truth, "batchai_horovod_allreduce.json", gpu="k80", model="resnet50", mpi="IntelMPI")
    batches = [{**row, "batch_per_gpu": batch, "images_per_s": speed * row["images_per_s"]}
               for row in summed for batch, speed in ((32, 1.0), (128, 1.2))]  # fmt: skip
    (tmp_path / "served.json").write_text(json.dumps([*served, *faster]))
    (tmp_path / "summed.json").write_text(json.dumps(batches))

    curves = {curve.name: curve for curve in judge(tmp_path)}

    assert {*curves} == {
        "K80 ResNet-32, batch 128, 1 ps", "K80 ResNet-32, batch 64, 1 ps",
        "k80 resnet50, IntelMPI, batch 32", "k80 resnet50, IntelMPI, batch 128",
    }  # fmt: skip
    assert not any(re.search(r"batch \d", curve.note) for curve in curves.values())  # of none it is assumed


def test_servers_that_cannot_be_counted_are_left_out_and_are_not_taken_for_one(truth, tmp_path):
    shutil.copy(truth / "cmdare_variables.json", tmp_path)
    rows = rows_of(truth, "cmdare_async_ps.json", gpu="K80", model="ResNet-32")
    (tmp_path / "a.json").write_text(json.dumps([*rows, *({**row, "ps": "2"} for row in rows)]))

    curves = judge(tmp_path)

    assert f"{len(rows)} of {2 * len(rows)} rows left out: ps must be whole numbers above 0" in [
        curve.reason for curve in curves
    ]
    assert [curve.note for curve in curves if curve.judged] == [""]  # no mean of one server and two


def test_the_mean_of_several_rows_is_said_to_be_one(truth, tmp_path):
    shutil.copy(truth / "cmdare_variables.json", tmp_path)
    rows = rows_of(truth, "cmdare_async_ps.json", gpu="K80", model="ResNet-32")
    again = [{**row, "steps_per_s_median": 2.0} for row in rows if row["workers"] in (1, 4)]
    (tmp_path / "a.json").write_text(json.dumps(rows + again))

    assert [curve.note for curve in judge(tmp_path)] == ["the mean of several rows, of 1, 4 workers"]


def test_hosts_with_another_number_of_gpus_are_a_curve_of_their_own(truth, tmp_path):
    rows = [row for row in rows_of(truth, "tf_benchmarks_2017.json", batch_per_gpu=64) if "ps_sync" in row["strategy"]]
    halves = [{**row, "gpus": row["gpus"] // 2, "gpus_per_worker": 4, "images_per_s": row["images_per_s"] / 2}
              for row in rows if row["gpus"] > 1]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows + halves))

    judged = {curve.name.rpartition(", ")[2]: len(curve.judged) for curve in judge(tmp_path)}

    assert judged == {"8 GPUs a host": 3, "4 GPUs a host": 3}


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("cmdare_async_ps.json", "workers", 2.5),
        ("batchai_horovod_allreduce.json", "gpus", 8.5),
        ("pollux_ddp_cifar10.json", "nodes", 2.5),
        ("tf_benchmarks_2017.json", "workers", 2.5),
    ],
)
def test_a_number_of_things_that_is_not_whole_is_said(truth, tmp_path, file, name, value):
    rows = rows_of(truth, file)[:60]
    changed = next(row for row in reversed(rows) if row[name] > 1)
    changed[name] = value
    (tmp_path / "a.json").write_text(json.dumps(rows))

    reasons = [curve.reason for curve in judge(tmp_path) if curve.study == "files"]

    assert reasons == [f"1 of {len(rows)} rows left out: {name} must be whole numbers above 0"]


def test_rows_that_are_neither_an_input_nor_forecast_are_counted(report):
    def notes(study):
        return {curve["name"]: curve.get("note", "") for curve in report["studies"][study]["curves"]}

    assert (
        "rows of a part of a host are not forecast (3)"
        in notes("allreduce, Horovod over MPI")["k80 resnet50, IntelMPI"]
    )
    assert notes("ps-sync")["NVIDIA K80 ResNet-50, batch 64"] == "rows of one host with other GPUs are not forecast (1)"
    assert "runs that lost their cluster are not forecast (1)" in notes("job durations on spot")["k80_spot 2-spot"]


SUMMED = {"gpu": "k80", "model": "resnet50", "mpi": "IntelMPI"}


@pytest.mark.parametrize(
    ("file", "wanted", "measured"),
    [
        ("batchai_horovod_allreduce.json", SUMMED, "images_per_s"),
        ("tf_benchmarks_2017.json", {"hardware": "K80 GCE", "model": "VGG16"}, "images_per_s"),
        ("tf_benchmarks_2017.json", {"hardware": "NVIDIA K80", "batch_per_gpu": 64}, "images_per_s"),
        ("pollux_ddp_cifar10.json", {"max_gpus_per_node": 1}, "step_ms"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_an_input_that_was_measured_more_than_once_is_the_mean(truth, tmp_path, file, wanted, measured, order):
    rows = rows_of(truth, file, **wanted)
    twice = [{**row, measured: factor * row[measured]} for row in rows for factor in (0.9, 1.1)]
    for name, content in (("once", rows), ("twice", twice[::order])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(json.dumps(content))

    (once,), (again,) = ([curve for curve in judge(tmp_path / name) if curve.judged] for name in ("once", "twice"))

    assert "from the mean of 2 rows" in again.note
    forecasts = [{point.shape: point.forecast for point in curve.judged} for curve in (once, again)]
    assert forecasts[1] == pytest.approx(forecasts[0])


@pytest.mark.parametrize(
    ("file", "wanted", "name", "others"),
    [
        ("tf_benchmarks_2017.json", {"hardware": "NVIDIA K80", "batch_per_gpu": 64}, "instance", "p3.16xlarge"),
        ("tf_benchmarks_2017.json", {"hardware": "NVIDIA K80", "batch_per_gpu": 64}, "strategy", "ps_sync another"),
        ("tf_benchmarks_2017.json", {"hardware": "K80 GCE", "model": "VGG16"}, "instance", "p3.16xlarge"),
        ("batchai_horovod_allreduce.json", SUMMED, "vm", "NC24"),
        ("batchai_horovod_allreduce.json", SUMMED, "gpus_per_node", 8),
        ("pollux_ddp_cifar10.json", {"max_gpus_per_node": 1}, "gpu", "V100"),
    ],
)
def test_rows_of_other_hosts_are_a_curve_of_their_own_and_a_blank_cell_is_as_the_others(
    truth, tmp_path, file, wanted, name, others
):
    rows = rows_of(truth, file, **wanted)
    if name == "gpu":
        rows = [{**row, "gpu": "T4"} for row in rows]
    slower = {"images_per_s": 0.5, "step_ms": 2.0}
    theirs = [{**row, name: others, **{k: factor * row[k] for k, factor in slower.items() if k in row}} for row in rows]
    (tmp_path / "a.json").write_text(json.dumps(rows + theirs))
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "a.json").write_text(json.dumps([{**rows[0], name: None}, *rows[1:]]))

    told_apart, blank = ([curve for curve in judge(each) if curve.judged] for each in (tmp_path, tmp_path / "blank"))

    assert len({curve.name for curve in told_apart}) == 2
    assert str(others) in told_apart[1].name
    assert told_apart[0].judged == blank[0].judged and len(blank) == 1


def test_rows_of_one_source_are_one_study_in_however_many_files(truth, tmp_path, report):
    shutil.copy(truth / "cmdare_variables.json", tmp_path)
    content = json.loads((truth / "cmdare_async_ps.json").read_text())
    for name, chosen in (("a", (1, 2, 3)), ("b", (3, 4, 5, 6, 7, 8))):
        rows = [row for row in content["rows"] if row["workers"] in chosen]
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "rows": rows}))

    curves = judge(tmp_path)

    (again,) = [curve for curve in curves if curve.study == "files" and "rows" in str(curve.reason)]
    assert (again.name, again.reason) == ("a.json, b.json", "8 of its rows are there already: each counts once")
    assert summary(curves)["studies"]["async ps"] == report["studies"]["async ps"]


def test_what_is_assumed_of_a_model_is_said_where_its_variables_are_in_no_file(truth, tmp_path):
    shutil.copy(truth / "cmdare_async_ps.json", tmp_path)

    notes = {curve.name: curve.note for curve in judge(tmp_path) if curve.judged}
    assert all("only their number is known" in note for note in notes.values())
    assert {name: "lie evenly on the servers" in note for name, note in notes.items()} == {
        name: "2 ps" in name for name in notes
    }


def test_hosts_are_counted_by_their_gpus_where_the_rows_do_not_count_them(truth, tmp_path, report):
    rows = [row for row in rows_of(truth, "tf_benchmarks_2017.json") if "ps_sync" in row["strategy"]]
    (tmp_path / "a.json").write_text(json.dumps([{**row, "workers": None} for row in rows]))

    assert summary(judge(tmp_path))["studies"]["ps-sync"]["mean_error"] == report["studies"]["ps-sync"]["mean_error"]


def test_what_a_forecast_of_jobs_assumes_is_said(truth, tmp_path):
    content = json.loads((truth / "transient_time_accuracy_cost.json").read_text())
    rows = [{**row, "experiment": "p100_spot"} for row in content["rows"] if row["config"] == "4-spot"]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_bytes((truth / "gce_preemptible_lifetimes.json").read_bytes())

    (curve,) = judge(tmp_path)

    assert "64000 steps assumed" in curve.note and "from the speed of one P100, as packaged" in curve.note


def test_jobs_shorter_than_what_is_assumed_beside_training_are_not_forecast(truth, tmp_path):
    content = json.loads((truth / "transient_time_accuracy_cost.json").read_text())
    rows = [{**row, "duration_s": row["duration_s"] / 100} for row in content["rows"] if row["config"] != "k80-demand"]
    (tmp_path / "a.json").write_text(json.dumps({**content, "rows": rows}))

    assert {curve.reason for curve in judge(tmp_path)} == {
        "it took less than the 80 s that a job is assumed to take beside training"
    }


@pytest.mark.parametrize(
    "odd",
    [
        {"resnet110_profile": [1, 2]},
        {"resnet110_profile": {"instance_type": ["g3.8xlarge"], "images_per_s": [None]}},
        {"resnet110_profile": {"instance_type": "g3.8xlarge", "images_per_s": 5}},
        {"prices": {"g3.8xlarge": 1}},
        {"prices": ["a", None]},
        {"table1": [{"plan": 3}, {"strategy": None, "plan": None}]},
    ],
)
def test_odd_prices_and_speeds_of_plans_are_no_traceback(truth, tmp_path, odd):
    content = json.loads((truth / "spotdnn_ec2.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(content | odd))

    assert any(curve.reason and not curve.judged for curve in judge(tmp_path))


@pytest.mark.parametrize("where", ["nowhere/figures.json", "."])
def test_figures_that_cannot_be_written_are_an_error_in_words(truth, tmp_path, where):
    answer = CliRunner().invoke(main, ["--truth", str(truth), "--json", str(tmp_path / where)])

    assert answer.exit_code == 1 and isinstance(answer.exception, SystemExit)
    assert f"cannot write {tmp_path / where}: " in answer.output and "name another file" in answer.output


def test_a_list_that_is_left_blank_is_no_list(truth, tmp_path):
    shutil.copy(truth / "cmdare_variables.json", tmp_path)
    content = json.loads((truth / "cmdare_async_ps.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**content, "model_info": None, "prices": None}))

    assert len([curve for curve in judge(tmp_path) if curve.judged]) == 10


def test_constants_are_not_fitted_to_no_files(tmp_path, monkeypatch):
    constants_file = tmp_path / "constants.json"
    constants_file.write_text("{}")
    monkeypatch.setattr("benchmarks.forecast.FILE", constants_file)
    (tmp_path / "truth").mkdir()

    answer = CliRunner().invoke(main, ["--truth", str(tmp_path / "truth"), "--calibrate"])

    assert answer.exit_code == 1 and "no file of" in answer.output and constants_file.read_text() == "{}"


def test_a_folder_without_files_is_an_error(tmp_path):
    answer = CliRunner().invoke(main, ["--truth", str(tmp_path)])

    assert answer.exit_code == 1
    assert "no file of" in answer.output


def test_jobs_are_forecast_where_no_other_file_is_there(truth, tmp_path):
    (tmp_path / "jobs.json").write_bytes((truth / "transient_time_accuracy_cost.json").read_bytes())

    assert summary(judge(tmp_path))["studies"]["job durations"]["mean_error"] < 0.04


def test_a_batch_outside_of_those_of_one_host_is_on_the_line_through_them():
    assert step_at({32: 50.0, 64: 80.0}, 48) == pytest.approx(65)
    assert step_at({32: 50.0, 64: 80.0}, 256) == pytest.approx(260)


def test_a_curve_without_its_input_says_so(truth, tmp_path):
    for file in truth.glob("cmdare*.json"):
        content = json.loads(file.read_text())
        if "rows" in content:
            content["rows"] = [row for row in content["rows"] if row["workers"] > 1]
        (tmp_path / file.name).write_text(json.dumps(content))

    assert {curve.reason for curve in judge(tmp_path)} == {
        "its study has no row of one worker, with these servers or with one"
    }


@pytest.mark.parametrize(
    ("experiment", "config", "cluster"),
    [
        ("experiment_1ps_vs_2ps", "2ps8v", Cluster((("V100", 8),), 2)),
        ("heterogeneous", "2v1p0k", Cluster((("V100", 2), ("P100", 1)), 1)),
        ("k80_on_demand", "4-demand", Cluster((("K80", 4),), 1)),
        ("k80_on_demand", "k80-demand", Cluster((("K80", 1),), 1)),
        ("p100_spot", "p100-spot", Cluster((("P100", 1),), 1)),
    ],
)
def test_configurations_are_understood(experiment, config, cluster):
    assert cluster_of(experiment, config) == cluster


@pytest.mark.parametrize("config", ["4e2c2w", "?", "", "0k", "0ps2v", "0-demand"])
def test_others_are_told(config):
    assert isinstance(cluster_of("x", config), str)


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        ("ResNet-50", 25.6),
        ("resnet50_v1.5", 25.6),
        ("InceptionV3", 23.9),
        ("ResNet-18, CIFAR-10", 11.2),
        ("VGG16", 138.4),
    ],
)
def test_a_network_is_known_by_its_names(model, millions):
    assert param_bytes({"model": model}) == pytest.approx(4e6 * millions)
    assert param_bytes({"model": model, "params_millions": 2}) == 8e6
    assert param_bytes({"model": "unheard of"}) is None


def test_regret_is_what_the_choice_loses():
    points = (
        Point("1", 10, 10, usd_per_h=1, given=True),
        Point("2", 30, 12, usd_per_h=2),
        Point("3", 20, 24, usd_per_h=3),
    )

    lost = regrets([Curve("s", "c", points, choice="c")])["s: c"]

    assert lost["fastest"] == pytest.approx(24 / 12 - 1)
    assert lost["cheapest"] == pytest.approx((2 / 12) / (1 / 10) - 1)


def test_the_command_prints_json_alone(truth):
    command = [sys.executable, "-m", "benchmarks.forecast", "--truth", str(truth), "--json"]

    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert set(answer) == {"studies", "regret"}
