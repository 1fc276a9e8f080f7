"""The command `plan` from a saved profile."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import facesim
from facesim.cli import main
from facesim.forecast.shapes import ClusterShape
from facesim.planning import TRIED
from facesim.planning.accuracy import accuracies
from facesim.planning.answer import to_json
from facesim.planning.planner import plan_training
from facesim.planning.search import Accuracy, Axes, Wanted
from facesim.runs.directory import Run
from facesim.runs.records import Data
from facesim.spec.job import make_job
from facesim.util.errors import InputError
from tests.forecast.test_forecast_commands import forecast_for, ran

#: Each test begins as a user who has calibrated nothing.
pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_plan_answers_first_and_leaves_a_page(plan, tmp_path):
    code, output, _ = plan("--deadline", "2h", "--budget", "$5")

    assert code == 0
    first = output.splitlines()[0]
    assert re.match(r"(One machine|A cluster): .+ on ml\.\w+\.\w+, .+ \(.+ to .+\), \$", first)
    assert "also at the bad end of its interval" in output and "How sure: " in output
    assert "All numbers are forecast" in output and "not known" in output and "assumed " in output
    # A newcomer reads what the table's words mean.
    assert "single      one process" in output and "front       no other shape is both faster and cheaper" in output
    (page,) = (tmp_path / "runs").glob("plan-*.html")
    html = page.read_text()
    assert (
        html.count("<svg") == 2 and "forecast: nothing of this was run" in html and first in html.replace("&#39;", "'")
    )
    assert "://" not in re.sub(r'xmlns[^ ]*="[^"]*"|http://www\.w3\.org[^"]*', "", html)


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_is_named_and_holds_no_run_is_said(file, tmp_path, monkeypatch, capsys, there):
    monkeypatch.chdir(tmp_path)
    if there:
        Path("mine").mkdir()

    def noted(*options: str) -> str:
        assert main(["plan", "--profile", str(file), "--min-accuracy", "0.9", *options]) == 0
        return capsys.readouterr().out

    why = "mine holds no run" if there else "mine does not exist"
    assert f"no accuracy of a run: {why}" in noted("--runs", "mine")
    assert "no accuracy of a run" not in noted()  # nobody named the usual folder


@pytest.mark.parametrize("workers", ['"2..3"', "[2, 3]", '[2, "3..3"]'])
def test_the_options_of_a_plan_may_stand_in_a_file(plan, tmp_path, workers):
    file = tmp_path / "plan.toml"
    file.write_text(
        f'strategy = ["single", "ps-async"]\ninstance-type = "ml.c5.xlarge"\nworkers = {workers}\nps = 1\n'
        'deadline = "2h"\nbudget = 5\nmin-accuracy = 0.5\n'
    )

    code, output, errors = plan("--config", str(file), "--json")

    assert code == 0, errors
    content = json.loads(output)
    assert len(content["rows"]) == 3 and content["wanted"] == {"deadline_s": 7200, "budget_usd": 5, "min_accuracy": 0.5}


def test_the_plan_as_json_has_every_row_and_marks_them(plan):
    code, output, _ = plan("--json", "--workers", "1..4", "--instance-type", "ml.m5.xlarge", "--strategy", "ps-async",
                         "--strategy", "single")  # fmt: skip

    content = json.loads(output)
    assert code == 0 and content["measurement"] == "forecast"
    assert len(content["rows"]) == 1 + 3 * 2
    cheapest = content["rows"][content["cheapest"]]
    assert cheapest["cost_usd"] == min(row["cost_usd"] for row in content["rows"]) and cheapest["front"]
    assert all(row["low_s"] < row["time_s"] < row["high_s"] for row in content["rows"])


def test_the_plan_from_python_is_the_same(plan, file, tmp_path):
    axes = Axes(TRIED, ("ml.m5.xlarge",), workers=(1, 2), ps=(1,))
    made = plan_training(
        axes, Wanted(budget_usd=5), given={"epochs": 20}, profile=file, region="eu-west-1", runs=tmp_path / "runs"
    )

    _, output, _ = plan("--instance-type", "ml.m5.xlarge", "--workers", "1,2", "--ps", "1", "--budget", "5",
                      "--epochs", "20", "--region", "eu-west-1", "--json")  # fmt: skip

    assert json.loads(json.dumps(to_json(made))) == json.loads(output)


def test_workers_may_be_on_several_types(plan, tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text('strategy = "ps-async"\ninstance-type = "ml.c5.4xlarge"\nother-workers = ["ml.m5.xlarge:2"]\n')

    code, output, errors = plan("--config", str(file), "--workers", "1..4", "--ps", "1",
                                "--ps-instance-type", "ml.m5.large", "--json")  # fmt: skip

    assert code == 0, errors
    shapes = [row["shape"] for row in json.loads(output)["rows"]]
    assert sorted(shape["workers"] for shape in shapes) == [3, 4]
    assert all(shape["other_workers"] == [["ml.m5.xlarge", 2]] for shape in shapes)


def test_conditions_that_no_shape_keeps_together_are_said_with_what_keeps_each(plan):
    code, output, _ = plan("--instance-type", "ml.m5.large", "--instance-type", "ml.c5.9xlarge", "--epochs", "200",
                           "--strategy", "single", "--deadline", "10m", "--budget", "0.04")  # fmt: skip

    nothing, in_time, paid_for, *_ = output.splitlines()
    assert code == 0
    assert nothing == "Nothing of 2 shapes keeps --deadline 10 min and --budget $0.04 at the bad end of its interval."
    assert in_time.startswith("The cheapest that keeps --deadline 10 min: single on ml.c5.9xlarge")
    assert paid_for.startswith("The fastest that keeps --budget $0.04: single on ml.m5.large")


def test_conditions_are_told_as_they_were_given(plan):
    conditions = ("--deadline", "11m30s", "--budget", "0.125", "--min-accuracy", "0.98765")

    _, output, _ = plan("--instance-type", "ml.m5.large", "--strategy", "single", *conditions)

    assert "keeps --deadline 11 min 30 s and --budget $0.125 and --min-accuracy 0.98765 at the bad end" in output


def test_what_is_assumed_of_each_shape_that_the_answer_names_is_said(plan):
    impossible = ("--strategy", "single", "--deadline", "1s")

    _, output, _ = plan("--instance-type", "ml.m5.large", "--instance-type", "ml.c5.9xlarge", *impossible)

    assert "The fastest of all: single on ml.c5.9xlarge" in output and "The cheapest of all: single on ml.m5." in output
    for name in ("ml.m5.large", "ml.c5.9xlarge"):
        assert f"assumed     the speed of {name} is assumed" in output


def test_rows_beyond_what_was_measured_are_marked(plan):
    _, output, _ = plan("--strategy", "allreduce", "--workers", "2,64", "--instance-type", "ml.m5.large")

    (within,) = re.findall("^allreduce, 2 workers.*", output, re.M)
    (outside,) = re.findall("^allreduce, 64 workers.*", output, re.M)
    assert "beyond" in outside and "beyond" not in within and "beyond      beyond what the profile measured" in output


def test_more_workers_than_a_job_may_have_are_said(plan):
    _, output, _ = plan("--strategy", "ps-async", "--workers", "65", "--ps", "1", "--instance-type", "ml.m5.large")

    assert "a job of facesim has 64 workers at the most, so it cannot run ps-async, 65 workers" in output


@pytest.mark.parametrize("option", ["--instance-type", "--ps-instance-type", "--other-workers"])
def test_an_unknown_type_is_told_with_the_option_that_names_it(plan, option):
    code, _, errors = plan(
        "--strategy", "ps-async", option, "nonsense:1" if option == "--other-workers" else "nonsense"
    )

    assert code == 2 and f"{option}: instance type 'nonsense' is not known" in errors


def test_the_doubts_in_json_are_those_of_the_text(plan):
    content = json.loads(plan("--instance-type", "ml.m5.large", "--instance-type", "ml.c5.9xlarge", "--deadline", "1s",
                              "--json")[1])  # fmt: skip

    surer = [note["text"] for note in content["notes"] if note["topic"] == "surer with"]
    assert content["doubts"] and all(any(doubt["cause"] in text for text in surer) for doubt in content["doubts"])


def test_what_is_explained_is_of_the_plan(plan):
    _, output, _ = plan("--instance-type", "ml.c5.xlarge", "--ps-instance-type", "ml.m5.large", "--other-workers",
                        "ml.m5.xlarge:2", "--explain", "ps-async:3w:1ps")  # fmt: skip

    assert "2 of 3 workers on ml.m5.xlarge" in output and "1 x ml.m5.large at" in output


@pytest.mark.parametrize("also", [[], ["--min-accuracy", "0.9"]])
def test_a_replay_is_advised_only_where_there_can_be_one(plan, also):
    shapes = ["--strategy", "ps-async", "--instance-type", "ml.c5.xlarge", "--ps-instance-type", "ml.m5.large", *also]

    assert "--replay 3" in plan(*shapes)[1]
    output = plan(*shapes, "--other-workers", "ml.m5.xlarge:2")[1]
    assert "--replay" not in output and "--runs" in output


def test_a_shape_that_comes_nearest_in_two_ways_is_named_once(plan):
    _, output, _ = plan("--instance-type", "ml.m5.large", "--strategy", "single", "--deadline", "1s", "--budget", "1c")

    assert output.splitlines()[1].startswith("The fastest of all and the cheapest of all: single on ml.m5.large, ")


def test_one_machine_is_explained_without_a_network(plan):
    _, output, _ = plan("--explain", "single:ml.m5.xlarge", "--epochs", "1")

    assert "network" not in output and "times 1 epoch = 28" in output


def test_a_shape_that_is_none_is_refused_with_what_can_be_explained(plan):
    code, _, errors = plan("--explain", "nonsense")

    assert code == 2 and "or cheapest, fastest; strategies are single, " in errors


def test_one_shape_is_explained_in_words(plan):
    code, output, _ = plan("--explain", "ps-async:ml.m5.xlarge:4w:2ps")

    assert code == 0
    assert output.startswith("forecast of ps-async, 4 workers, 2 ps on ml.m5.xlarge, step by step:\n1. Computing")
    assert "Reiser and Lavenberg" in output and "The bill" in output and "8 times in 10" in output


@pytest.fixture
def told_of(profile, file):
    """Has the saved profile say what it was measured with."""
    options = {"head": "softmax", "image_size": 32, "channels": 3, "clip_norm": None}
    another = profile.machine.model_copy(update={"processor": "Another Processor"})
    profile.model_copy(update={"identities": 40, "options": options, "machine": another}).save(file)


@pytest.mark.parametrize("also", [["--json"], ["--explain", "cheapest"]])
def test_a_page_that_is_asked_for_is_written(plan, tmp_path, also):
    code, output, _ = plan("--instance-type", "ml.m5.large", "--output", str(tmp_path / "plan.html"), *also)

    assert code == 0 and (tmp_path / "plan.html").exists() and "plan.html" not in output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "nonsense"}, "there is no forecast of strategy nonsense"),
        ({"strategy": 5}, "strategies 5"),
        ({"strategy": "local-sgd", "local_steps": 0}, "local_steps 0"),
        ({"backup_workers": -1}, "backup_workers -1"),
        ({"spot": "no"}, "spot 'no'"),
        ({"workers": 2.5}, "workers '2.5' is no range"),
        ({"other_workers": {"ml.m5.large": 0}}, "other_workers 0"),
        ({"other_workers": "ml.m5.large:2"}, "other_workers 'ml.m5.large:2' must be how many workers by type"),
        ({"replay": -1}, "replay -1 is not allowed: it must be 0 to 20 seeds"),
        ({"model": "compact-cnn"}, "facesim profile --model compact-cnn"),
        ({"scale_lr": "linear"}, "scale_lr 'linear' means nothing to a plan"),
        ({"warmup_epochs": 3}, "warmup_epochs 3 means nothing to a plan"),
        ({"spot": True, "spot_discount": 0.3}, "spot_discount 0.3 means nothing to a plan"),
        ({"checkpoint_s": 5}, "checkpoint_s 5 means nothing to a plan"),
        ({"backend": "local"}, "backend 'local' means nothing to a plan"),
        ({"threads": 2}, "threads 2 means nothing to a plan"),
        ({"epoch": 2}, "unknown option epoch; did you mean epochs?"),
    ],
)
def test_what_cannot_be_planned_is_told_in_python(file, given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        facesim.plan(profile=file, **given)


def test_a_profile_of_other_images_or_another_head_is_refused(told_of, plan):
    assert plan("--json")[0] == 0  # what the profile is of is the default
    for options, message in (
        (("--image-size", "64"), "--image-size 64: the profile"),
        (("--head", "arcface"), "is of softmax, and nothing about arcface follows"),
        (("--recipe", "modern"), "follows from it; give --"),
    ):
        code, _, errors = plan(*options)
        assert code == 2 and message in errors, errors


def test_a_plan_says_what_its_profile_was_measured_with(told_of, plan, file, capsys):
    code, output, _ = plan("--clip-norm", "1", "--data", "olivetti", "--held-out", "0.5")

    assert code == 0
    flat = " ".join(output.split())
    assert "another machine, Another Processor" in flat
    assert "with clip_norm = None, not 1.0" in flat
    assert "--data and --held-out are not looked at: 870 training examples of 40 identities are taken from" in flat


def test_a_forecast_keeps_what_its_profile_was_measured_with(told_of, file, tmp_path, capsys):
    run = facesim.forecast(profile=file, output=tmp_path / "runs", clip_norm=1.0)

    assert f"the profile {file} was measured with clip_norm = None, not 1.0" in " ".join(run.forecast.assumptions)
    with pytest.raises(InputError, match="a forecast is of one job: give one value of epochs"):
        facesim.forecast(profile=file, output=tmp_path / "runs", epochs=[1, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"epochs": 3}}, "options.epochs is none of a profile's"),
        ({"options": {"optimizer": "nonsense"}}, "--optimizer 'nonsense' is not allowed"),
        ({"model": "nonsense"}, "--model 'nonsense' is not allowed"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "forecast"])
def test_a_profile_of_no_experiment_is_told_as_such(profile, file, capsys, command, changes, message):
    profile.model_copy(update=changes).save(file)

    assert main([command, "--profile", str(file)]) == 2

    errors = capsys.readouterr().err
    assert "the profile" in errors and f"cannot be used: {message}" in errors


def test_a_batch_above_the_size_of_the_data_is_said_with_what_is_used(plan):
    options = ("--strategy", "single", "--instance-type", "ml.m5.xlarge", "--epochs", "2", "--batch")

    above, whole = (plan(*options, batch)[1] for batch in ("5000", "870"))

    assert "batch 5000:" in above and "5,000 is more than there is: an update is made of all 870" in above
    assert "batch 870:" in whole and "is more than there is" not in whole
    as_json = json.loads(plan(*options, "5000", "--json")[1])
    assert (as_json["batch"], as_json["update_batch"]) == (5000, 870)


@pytest.mark.parametrize("given", ["file", "profile"])
def test_a_profile_says_the_same_as_an_object_and_as_a_file(profile, file, tmp_path, given):
    changed = profile.model_copy(update={"batch": 8, "versions": {"pytest": "0.1"}})
    changed.save(file)

    plan = facesim.plan(profile=file if given == "file" else changed, data="photos", runs=tmp_path).to_json()

    assert plan["batch"] == 8
    notes = " ".join(note["text"] for note in plan["notes"])
    assert "--data is not looked at: 870 training examples" in notes and "with pytest 0.1, not" in notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--deadline", "2"], "--deadline '2' is no duration without a unit"),
        (["--budget", "5 EUR"], "--budget '5 EUR' is no amount of money"),
        (["--workers", "16..1"], "nothing in it"),
        (["--instance-type", "ml.m5.xlrge"], "did you mean ml.m5.xlarge?; a type of your own goes in a file"),
        (["--instance-type", "ml.g5.xlarge"], "nobody knows how fast ml.g5.xlarge trains"),
        (["--model", "compact-cnn"], "is of paper-cnn, and nothing about compact-cnn follows"),
        (["--precision", "bfloat16"], "is of float32, and nothing about bfloat16 follows"),
        (["--region", "mars"], "--region 'mars' is not allowed"),
        (["--other-workers", "ml.m5.xlarge"], "such as ml.m5.xlarge:4"),
        (
            ["--other-workers", "ml.m5.xlarge:2", "--other-workers", "ml.m5.xlarge:1"],
            "--other-workers names ml.m5.xlarge twice, with 2 and with 1: name it once",
        ),
        (["--other-workers", "ml.m5.xlarge:2"], "need hosts of their own beside workers of several types"),
        (["--explain", "somewhere/else"], "--explain"),
        (["--explain", "single:4w"], "single has no 4 workers; leave that out"),
        (["--explain", "allreduce:2w:2ps"], "allreduce has no 2 ps; leave that out"),
        (["--explain", "ps-async:4w:8w"], "says twice what workers is, 4 and 8"),
        (["--strategy", "single", "--backup-workers", "2"], "--backup-workers means nothing to single"),
        (["--strategy", "single", "--strategy", "ps-async", "--local-steps", "4"], "--local-steps means nothing to"),
        (["--strategy", "allreduce", "--ps-instance-type", "ml.m5.large"], "--ps-instance-type means nothing to"),
        (["--strategy", "single", "--other-workers", "ml.m5.large:1"], "--other-workers means nothing to single"),
        (["--explain", "ps-async:4000000w"], "workers 4000000: Input should be less than or equal to 10000"),
        (["--output", f"{__file__}/plan.html"], "cannot write"),
        (["--strategy", "ps-asnc"], "did you mean ps-async?"),
        (["--strategy", "ps-async", "--workers", "65", "--replay", "1"], "no job can be that: --workers 65 is not"),
    ],
)
def test_what_cannot_be_planned_is_told(plan, options, message):
    code, _, errors = plan(*options)

    assert code == 2
    assert message in errors and "Traceback" not in errors


def test_no_profile_file_and_a_damaged_one_are_told(tmp_path, capsys):
    assert main(["plan", "--profile", str(tmp_path / "none.json")]) == 2
    assert "make one with facesim profile" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{")
    assert main(["plan", "--profile", str(tmp_path / "bad.json")]) == 2
    assert "make one with facesim profile" in capsys.readouterr().err


def test_other_batches_than_were_measured_are_said_to_be(plan):
    _, output, _ = plan("--batch", "1024", "--strategy", "single")

    assert "It goes beyond what was measured." in output
    assert "outside of what was measured, 8 to 128" in output


def test_prices_of_another_region_are_said_to_be(plan, file, tmp_path):
    _, output, _ = plan("--region", "eu-west-1")
    run = facesim.forecast(profile=file, output=tmp_path / "runs", region="eu-west-1")

    assert any("not of eu-west-1: facesim prices refresh" in text for text in run.forecast.assumptions)
    assert "not of eu-west-1: facesim prices refresh --region eu-west-1" in output


def test_own_instance_types_and_prices_come_from_a_file(plan, tmp_path):
    definitions = tmp_path / "own.toml"
    definitions.write_text(
        '[instances."lab"]\nvcpu = 16\ncores = 8\nmemory_gib = 64\nrelative_speed = 9\nnetwork_base_gbps = 1\n'
        "network_peak_gbps = 1\nprice_usd_per_hour = 0.05\n"
    )

    code, output, errors = plan(
        "--instances", str(definitions), "--instance-type", "lab", "--instance-type", "ml.m5.xlarge"
    )

    assert code == 0, errors
    assert output.splitlines()[0].startswith("One machine: single on lab, ")


def test_a_shape_that_costs_nothing_is_on_the_plot(plan, tmp_path, recwarn):
    (tmp_path / "own.toml").write_text('[instances."ml.m5.large"]\nprice_usd_per_hour = 0\n')

    code, output, _ = plan("--instances", str(tmp_path / "own.toml"), "--instance-type", "ml.m5.large")

    assert code == 0 and "$0.00" in output.splitlines()[0] and not recwarn.list


def test_backup_workers_and_local_steps_are_in_the_name_of_a_shape(plan):
    shapes = ("--workers", "4", "--ps", "1", "--instance-type", "ml.m5.large", "--explain", "cheapest")

    assert (
        "ps-sync, 4 workers (1 backup), 1 ps on" in plan("--strategy", "ps-sync", "--backup-workers", "1", *shapes)[1]
    )
    assert "local-sgd, 4 workers, 2 local steps on" in plan("--strategy", "local-sgd", "--local-steps", "2", *shapes)[1]


def test_a_run_of_a_network_that_normalises_batches_counts_for_as_many_workers(plan, profile, file, tmp_path):
    job = make_job(strategy="ps-sync", workers=2, epochs=20)
    ran(tmp_path / "runs" / "one", job, forecast_for(job, profile), 1.0, "emulated")
    shapes = (
        "--epochs",
        "20",
        "--strategy",
        "allreduce",
        "--instance-type",
        "ml.m5.large",
        "--workers",
        "2,4",
        "--json",
    )

    def known() -> dict[int, bool]:
        return {row["shape"]["workers"]: row["accuracy"] is not None for row in json.loads(plan(*shapes)[1])["rows"]}

    assert known() == {2: True, 4: True}
    moving = profile.variables[-1].model_copy(update={"name": "normalise/moving_mean", "trainable": False})
    profile.model_copy(update={"variables": (*profile.variables, moving)}).save(file)
    assert known() == {2: True, 4: False}


def test_a_run_with_backup_workers_counts_for_as_many_of_them(profile, tmp_path):
    job = make_job(strategy="ps-sync", workers=4, backup_workers=1, epochs=20)
    run = ran(tmp_path / "one", job, forecast_for(job, profile), 1.0, "emulated")
    one, two = (ClusterShape(strategy="ps-sync", workers=4, backup_workers=count) for count in (1, 2))

    shown = accuracies([run], job, profile, [one, two])

    assert shown.keys() == {one} and shown[one].origin == "from 1 run of ps-sync, 4 workers (1 backup)"


def test_copies_replicas_apart_and_runs_of_other_images_show_no_accuracy(plan, profile, tmp_path):
    job, runs = make_job(epochs=20), tmp_path / "runs"
    together = make_job(strategy="allreduce", workers=2, epochs=20)
    ran(runs / "one", job, forecast_for(job, profile), 1.0, "emulated")
    shutil.copytree(runs / "one", runs / "two")
    apart = {"sync_audit": {"verdict": "apart"}, "held_out_accuracy": 0.1}
    ran(runs / "apart", together, forecast_for(together, profile), 1.0, "emulated", **apart)
    damaged = ran(runs / "damaged", job, forecast_for(job, profile), 1.0, "emulated").result_file
    damaged.write_text("{")

    _, output, _ = plan("--epochs", "20", "--strategy", "single")

    assert f"no accuracy of a run: cannot read {damaged}" in output
    for examples, known in ((870, True), (100, False)):  # it had 870
        shape = ClusterShape()
        shown = accuracies([Run(runs / "one")], job, profile, [shape], images=Data(training_examples=examples))
        assert (shape in shown) is known
    assert "accuracy 90.0 % (8" in output.splitlines()[0] and "from 1 run of one process" in output


def test_what_a_run_was_trained_on_is_known_by_its_content_or_else_by_its_place(profile, tmp_path):
    job, data = make_job(epochs=20, data="photos"), {"training_examples": 870, "content_sha256": "a" * 64}
    run = ran(tmp_path / "one", job, forecast_for(job, profile), 1.0, "emulated", data=data)

    def known(data: str = "photos", content: str | None = None) -> bool:
        images = Data(content_sha256=content and content * 64)
        return bool(accuracies([run], make_job(epochs=20, data=data), profile, [ClusterShape()], images=images))

    assert known(content="a") and not known(content="b")
    assert known("elsewhere/photos", content="a") and not known("elsewhere/photos")
    assert known() and known("photos/") and known(str(Path("photos").absolute()))


def test_a_run_of_before_an_option_existed_had_its_default(profile, tmp_path):
    job = make_job(epochs=20)
    run = ran(tmp_path / "one", job, forecast_for(job, profile), 1.0, "emulated")
    recorded = json.loads(run.job_file.read_text())
    assert recorded["experiment"].pop("validation") == 0
    run.job_file.write_text(json.dumps(recorded))

    def known(**options) -> bool:
        return bool(accuracies([run], make_job(epochs=20, **options), profile, [ClusterShape()]))

    assert known() and not known(validation=0.5)


def test_runs_of_one_seed_are_one_trial_and_three_seeds_say_what_a_further_one_may_have(profile, tmp_path):
    job, shape = make_job(epochs=20), ClusterShape()
    named = {"single": job, "mirrored": make_job(strategy="mirrored", workers=2, epochs=20)}

    def known(*trained: tuple[str, int, float]) -> Accuracy:
        runs = []
        for number, (strategy, seed, accuracy) in enumerate(trained):
            its = named[strategy].model_copy(
                update={"experiment": named[strategy].experiment.model_copy(update={"seed": seed})}
            )
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}-{number}"
            forecast = forecast_for(its, profile)
            runs.append(ran(folder, its, forecast, 1.0, "emulated", seed=seed, held_out_accuracy=accuracy))
        return accuracies(runs, job, profile, [shape])[shape]

    one, alike = known(("single", 0, 0.8)), known(("single", 0, 0.8), ("mirrored", 0, 0.8))
    assert (alike.low, alike.high) == pytest.approx((one.low, one.high))
    assert alike.origin.endswith("with 1 seed")

    several = known(*(("single", seed, accuracy) for seed, accuracy in enumerate((0.6, 0.7, 0.8))))
    # t(2) of 80 % is 1.886, the standard deviation 0.1.
    assert several.high - several.low == pytest.approx(2 * 1.886 * 0.1 * (4 / 3) ** 0.5, rel=1e-3)


def test_a_runs_accuracy_stands_in_the_plan(plan, profile, tmp_path):
    job = make_job(epochs=20)
    forecast = forecast_for(job, profile)
    ran(tmp_path / "runs" / "one", job, forecast, 1.0, "emulated")

    _, output, _ = plan("--epochs", "20", "--min-accuracy", "0.8", "--strategy", "single", "--strategy", "ps-async")
    _, other, _ = plan("--epochs", "21", "--min-accuracy", "0.8")

    assert "accuracy 90.0 % (8" in output.splitlines()[0]
    assert "from 1 run of one process" in output
    assert other.startswith("Nothing of ")


@pytest.mark.parametrize(("backend", "said"), [("local", True), ("docker", False)])
def test_workers_that_shared_cores_are_said_to_be_less_stale(plan, profile, tmp_path, backend, said):
    job = make_job(strategy="ps-async", workers=3, epochs=20, backend=backend)
    ran(tmp_path / "runs" / "one", job, forecast_for(job, profile), 1.0, "emulated")

    _, output, _ = plan("--epochs", "20", "--strategy", "ps-async", "--workers", "3", "--ps", "1")

    assert "from 1 run of ps-async, 3 workers" in output
    assert ("1 with workers that shared one machine's cores" in output) == said
