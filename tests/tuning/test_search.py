"""What is searched, how trials are kept and ended early, and what is said of them; nothing is trained here."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from facesim import api
from facesim.backends import local
from facesim.cli.tune import show_tuning
from facesim.runs.directory import Run
from facesim.runs.records import Audit, Result
from facesim.runs.states import Measurement
from facesim.study.observers import EndRun, Observer
from facesim.tuning import TUNING_JOB
from facesim.tuning.findings import Findings, find, importance_of
from facesim.tuning.page import row, write_page
from facesim.tuning.sagemaker import _facts
from facesim.tuning.search import DATABASE, Search, Trial, Tuner, _Follower, _left_s, open_study, with_own_parts
from facesim.tuning.space import read_space, read_texts
from facesim.util.errors import InputError
from tests.conftest import facesim_here
from tests.support.events import course
from tests.support.executions import Completes, Played, interrupt
from tests.tracking.conftest import Growing

optuna = pytest.importorskip("optuna", reason="the extra tune is not installed")

SPACE = {"learning_rate": "1e-4..1e-2", "batch": "8,16", "augment": "yes,no", "warmup_epochs": "1..9"}

#: Of ml.m5.2xlarge, one host.
USD_PER_S = 0.461 / 3600


def test_the_space_is_read_with_the_types_of_the_options():
    space = read_space(read_texts(["learning-rate=1e-4..1e-2", "batch=8, 16", "augment=yes,no", "warmup-epochs=1..9"]))

    assert space == read_space({**SPACE, "batch": [8, 16]})
    assert space["learning_rate"].logarithmic and not space["warmup_epochs"].logarithmic
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask({name: axis.distribution() for name, axis in space.items()})
        values = trial.params
        assert 1e-4 <= values["learning_rate"] <= 1e-2 and values["batch"] in (8, 16)
        assert values["augment"] in (True, False) and type(values["warmup_epochs"]) is int
        study.tell(trial, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning-rate", "says no values"),
        ("held-out=0.1..0.5", "held-out cannot be searched"),
        ("lerning-rate=1e-4..1e-2", "cannot be searched"),
        ("learning-rate=0.1..0.001", "is empty"),
        ("learning-rate=1e-4..inf", "'inf' is no value"),
        ("learning-rate=-1..1", "greater than 0"),
        ("batch=8,x", "'x' is no value"),
        ("batch=8", "one value is nothing to search"),
        ("model=paper-cnn,papercnn", "did you mean paper-cnn"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_starts(text, message, tmp_path):
    command = facesim_here("tune", "--search", text, "--output", tmp_path / "tune")

    assert command.code == 2 and message in command.errors
    assert not (tmp_path / "tune").exists()


def search(**options) -> Search:
    return Search({"epochs": 8}, read_space({"learning_rate": "1e-4..1e-2"}), **options)


def test_the_part_val_of_the_data_is_what_trials_are_tested_on(faces, tmp_path, cache):
    for part in ("train", "val", "test"):
        shutil.copytree(faces, tmp_path / "faces" / part)
    alone, pooled = ({"data": str(data), "image_size": 32} for data in (tmp_path / "faces", faces))

    def own(**given) -> tuple[bool, bool]:
        found = with_own_parts(Search(given, search().space))
        return found.own_val, found.own_test

    assert (own(**alone), own(**pooled), own(**alone, split="random")) == ((True, True), (False, False), (False, False))
    shutil.rmtree(tmp_path / "faces" / "val")
    assert own(**alone) == (False, True)
    spec = Search(alone, search().space, own_val=True).job({}).experiment.data_spec
    assert (spec.test_part, spec.validation, spec.tested_in_words) == ("val", 0, "validation")


def test_a_folder_holds_one_search(tmp_path):
    open_study(search(), tmp_path)
    open_study(search(trials=99, budget_s=5.0), tmp_path)  # more of the same

    with pytest.raises(InputError, match="holds a search of something else"):
        open_study(Search({"epochs": 9}, search().space), tmp_path)


def test_what_a_search_may_cost_is_no_part_of_it(tmp_path):
    capped = {"backend": "sagemaker", "max_cost": 5}
    study = open_study(Search(capped, search().space), tmp_path)
    definition = json.loads(study.user_attrs["definition"])
    definition["base"]["backend"]["max_cost"] = 5.0
    study.set_user_attr("definition", json.dumps(definition))  # as earlier versions wrote it

    open_study(Search({**capped, "max_cost": 9}, search().space), tmp_path)

    with pytest.raises(InputError, match="holds a search of something else"):
        open_study(Search({**capped, "region": "eu-west-1"}, search().space), tmp_path)


def test_what_lies_at_aws_has_no_parts_that_are_known_here():
    wanted = Search({"backend": "sagemaker", "data": "s3://of-the-user/faces"}, search().space)

    assert with_own_parts(wanted) is wanted


def test_a_trial_below_the_others_is_ended_early(tmp_path: Path):
    study = open_study(search(), tmp_path)
    for _ in range(4):
        trial = study.ask()
        for epoch in range(1, 9):
            trial.report(0.9, epoch)
        study.tell(trial, 0.9)
    growing = Growing(tmp_path / "run")
    growing.run.job_file.write_text(search().job({}).model_dump_json())
    growing.begin()
    follower = _Follower(study.ask())
    follower.started(growing.run, 1, 1)

    follower.tick()
    growing.epoch(1)  # 0.4; the first quarter of the epochs is no reason
    follower.tick()
    growing.epoch(2)  # 0.8
    with pytest.raises(EndRun):
        follower.tick()

    assert follower.pruned


def test_an_accuracy_is_that_of_the_epoch_which_ended_with_the_test(tmp_path: Path):
    study = open_study(search(), tmp_path)
    growing = Growing(tmp_path / "run")
    growing.begin()
    follower = _Follower(study.ask())
    follower.started(growing.run, 1, 1)

    growing.epoch(1)
    follower.tick()
    growing.epoch(2, tested=False)
    follower.tick()

    assert study.trials[0].intermediate_values == {1: 0.4}


def trial(number: int, value: float | None, total_s: float, **params) -> Trial:
    content = {"strategy": "single", "backend": "local", "seed": 0, "state": "Completed", "total_s": total_s,
               "cost_usd": total_s / 1000, "data": {"held_out_examples": 100}}  # fmt: skip
    state = "pruned" if value is None else "complete"
    return Trial(number, state, params, value, {1: 0.1}, None, Result.model_validate(content))


def test_the_budget_is_what_all_trials_may_take():
    done = [trial(0, 0.5, 60.0), trial(1, None, 30.0)]

    assert _left_s(search(), done) is None
    assert _left_s(search(budget_s=100.0), done) == pytest.approx(10.0)
    assert _left_s(search(budget_usd=0.1), done) == pytest.approx((0.1 - 0.09) / USD_PER_S, rel=0.2)
    assert search().job({}, 12.5).max_run_s == 12.5
    assert Search({"max_run": 5.0}, search().space).job({}, 12.5).max_run_s == 5.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"budget_s": math.nan}, "budget_s nan must be a number above 0"),
        ({"budget_usd": -1}, "budget_usd -1 must be a number above 0"),
        ({"trials": 2.5}, "--trials 2.5 must be a whole number from 1 on"),
        ({"validation": "x"}, "--validation 'x' must be between 0 and 1"),
        ({"tuner": Tuner(parallel=0), "given": {"backend": "sagemaker"}}, "--parallel 0 must be a whole number"),
        ({"space": {"batch": [16.7, 3.2]}}, "--search batch: 16.7 is no value of it"),
        ({"space": {"batch": [16, True]}}, "--search batch: True is no value of it"),
        ({"space": {"batch": 16}}, "--search batch is 16; it has to be a range"),
    ],
)
def test_a_search_from_python_is_looked_at_as_one_of_the_command_line(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Search(**{"given": {}, **given, "space": read_space(given.get("space", SPACE))})


def test_trials_that_have_not_ended_runs_that_are_gone_and_replicas_apart_are_said():
    best = trial(0, 0.90, 50.0, learning_rate=0.001)
    apart = replace(best, result=best.result.model_copy(update={"sync_audit": Audit(verdict="apart")}))
    gone, going_on = replace(best, number=1, value=0.5, result=None, run=None), replace(best, number=2, value=None)

    text = " ".join(Findings(search(), (apart, gone, replace(going_on, state="running")), {}).sentences())

    assert "3 trials (2 complete, 0 ended early, 0 failed, 1 not ended)" in text
    assert "What trial 2 took is not in that: the run is not there any more." in text
    assert "Its replicas did not train together" in text


@pytest.mark.parametrize(("measurement", "cost"), [("emulated", "$0.0500, hypothetical"), ("measured", "$0.0500")])
def test_dollars_of_emulated_trials_are_called_hypothetical(measurement, cost):
    ended = trial(0, 0.90, 50.0, learning_rate=0.001)
    found = replace(ended, result=ended.result.model_copy(update={"measurement": Measurement(measurement)}))

    findings = Findings(search(), (found,), {})

    assert ("took 50 s and $0.0500 (hypothetical" in findings.sentences()[0]) is (measurement == "emulated")
    assert row(found, findings)["cost"] == cost


def test_a_trial_of_one_replica_that_was_stopped_is_called_neither_running_nor_single():
    ended = trial(0, None, 50.0, learning_rate=0.001)
    alone = ended.result.model_copy(update={"sync_audit": Audit(verdict="single")})

    cells = row(replace(ended, state="running", result=alone), Findings(search(), (), {}))

    assert (cells["marks"], cells["together"]) == ("not ended", "one replica")


def test_what_was_found_is_said_with_the_front_and_how_sure_it_is(tmp_path):
    trials = (
        trial(0, 0.90, 50.0, learning_rate=0.001),
        trial(1, 0.60, 10.0, learning_rate=0.01),
        trial(2, 0.88, 60.0, learning_rate=0.002),
        trial(3, None, 5.0, learning_rate=0.0001),
    )
    findings = Findings(search(), trials, {"learning_rate": 1.0})

    assert findings.best is trials[0]
    assert findings.front == [trials[1], trials[0]]
    text = " ".join(findings.sentences())
    assert "4 trials (3 complete, 1 ended early, 0 failed) took 2 min 5 s and $0.12" in text
    assert "90.0% on validation images: --learning-rate 0.001" in text
    assert "1 other trial cannot be told apart" in text  # 88 of 100 beside 90 of 100
    usual = "facesim run --strategy single --backend local --recipe paper"
    assert findings.command == f"{usual} --epochs 8 --learning-rate 0.001"
    json.dumps(findings.to_json(), allow_nan=False)
    write_page(findings, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Accuracy against time, and the front" in page and "What mattered" in page and page.count("<svg") == 3


def test_the_command_that_trains_with_what_was_found_says_what_is_not_its_recipe_s():
    given = {"recipe": "modern", "epochs": 50, "image_size": 64, "augment": False, "data": "my faces/", "spot": True}
    found = Findings(Search(given, search().space), (trial(0, 0.9, 50.0, learning_rate=0.0001),), {})

    assert found.command == (
        "facesim run --strategy single --backend local --recipe modern --spot --data 'my faces/' --image-size 64 "
        "--epochs 50 --learning-rate 0.0001 --no-augment"
    )


@pytest.mark.parametrize(
    ("given", "own_test", "seeds"),
    [
        ({}, False, ""),
        ({"seed": 5}, False, " --seeds 5,"),
        ({"test": "others/"}, False, " --test others/ --seeds 3"),
        ({}, True, " --seeds 3"),
    ],
)
def test_the_command_tests_on_no_image_that_a_trial_had(given, own_test, seeds):
    searched = Search(given, search().space, own_test=own_test)

    found = Findings(searched, (trial(0, 0.9, 50.0, learning_rate=0.0001),), {})

    assert found.command.endswith(f"{seeds}") and found.command.count("--seeds") == seeds.count("--seeds")


def test_importance_is_of_the_option_that_matters(tmp_path):
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    assert importance_of(study) == {}
    for _ in range(30):
        one = study.ask()
        rate, _ = one.suggest_float("learning_rate", 0, 1), one.suggest_float("warmup", 0, 1)
        study.tell(one, rate)

    importance = importance_of(study)

    assert list(importance) == ["learning_rate", "warmup"] and importance["learning_rate"] > 0.9


@pytest.mark.parametrize("name", ["a?b", "a%41b", "a{b}", "a#b", "a b"])
def test_the_database_is_in_the_folder_whatever_that_is_called(tmp_path, name):
    open_study(search(), tmp_path / name).ask()

    assert (tmp_path / name / DATABASE).is_file()
    assert len(open_study(search(), tmp_path / name).trials) == 1


class Listening(Observer):
    def __init__(self):
        self.notices = []

    def noticed(self, text):
        self.notices.append(text)


def begun(wanted: Search, output: Path, state: str | None, total_s: float) -> Run:
    """The run of a trial that has not ended, because its command was stopped or, without a state, killed."""
    one = open_study(wanted, output).ask({name: axis.distribution() for name, axis in wanted.space.items()})
    one.set_user_attr("run", "one")
    run = Run.create(output / "one", wanted.job(one.params, 55.0))
    for event in course(("Training", total_s), (state or "Uploading", 0.0)):
        run.record(event)
    if state:
        found = {"strategy": "single", "backend": "local", "seed": 0, "state": state}
        Result.model_validate({**found, "total_s": total_s, "cost_usd": total_s * USD_PER_S}).write(run.result_file)
    run.claim.release()
    return run


@pytest.fixture
def given(faces):
    return {"data": str(faces), "image_size": 32, "held_out": 0.3}


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(local, "BACKEND", played := Played())
    return played


@pytest.mark.parametrize("state", ["Stopped", None])
def test_a_trial_goes_on_within_what_is_left_of_the_budget(given, played, tmp_path, state):
    wanted = Search(given, search().space, trials=1, budget_s=60.0)
    run = begun(wanted, tmp_path, state, 50.0)

    find(wanted, tmp_path)

    assert [one.directory for one in played.submitted] == [run.directory]
    assert run.job().max_run_s == pytest.approx(10.0)


def test_a_trial_goes_on_for_as_long_as_it_likes_without_a_budget(given, played, tmp_path):
    wanted = Search(given, search().space, trials=1)
    run = begun(wanted, tmp_path, "Stopped", 50.0)

    find(wanted, tmp_path)

    assert len(played.submitted) == 1 and run.job().max_run_s is None


@pytest.mark.parametrize("state", ["Stopped", None])
@pytest.mark.parametrize("budget", [{"budget_s": 50.5}, {"budget_usd": 50 * USD_PER_S}], ids=["time", "dollars"])
def test_a_trial_for_which_the_budget_has_no_room_has_ended_early(given, played, tmp_path, budget, state):
    wanted, heard = Search(given, search().space, trials=2, **budget), Listening()
    begun(wanted, tmp_path, state, 50.0)

    found = find(wanted, tmp_path, [heard])

    assert [one.state for one in found.trials] == ["pruned"]
    assert played.submitted == [] and not found.stopped
    assert "the budget has no room to go on with trial 1: 50 s and" in heard.notices[-2]
    assert "no room for another trial" in heard.notices[-1]


def test_trials_on_other_images_than_those_before_are_refused(given, faces, played, tmp_path):
    data = shutil.copytree(faces, tmp_path / "faces")
    wanted = Search({**given, "data": str(data)}, search().space, trials=1)
    find(wanted, tmp_path / "tune")
    shutil.rmtree(next(person for person in data.iterdir() if person.is_dir()))

    find(wanted, tmp_path / "tune")  # nothing is left to be done
    with pytest.raises(InputError, match="holds a search of something else: what --data .* holds was another when it"):
        find(replace(wanted, trials=2), tmp_path / "tune")

    assert len(played.submitted) == 1


def test_an_interrupt_that_comes_too_late_for_a_trial_ends_the_search(given, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "BACKEND", played := Played(lambda run: Completes(meanwhile=interrupt)))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]

    command = facesim_here("tune", *options, "--search", "batch=4,8", "--trials", 3, "--output", tmp_path / "tune")

    assert command.code == 130, command.errors
    assert len(played.submitted) == 1


def test_a_database_that_is_none_is_told(tmp_path):
    (tmp_path / "tune.db").write_text("no database, but long enough to be taken for one " * 9)

    with pytest.raises(InputError, match=r"tune.db cannot be used for the search: .*file is not a database"):
        open_study(Search({}, read_space({"batch": [8, 16]})), tmp_path)


@pytest.mark.parametrize(
    ("states", "stopped", "code"),
    [
        (["complete", "pruned"], False, 0),
        (["complete", "running"], False, 1),  # it was lost sight of
        (["complete", "running"], True, 130),
        (["pruned"], False, 1),
    ],
)
def test_the_exit_code_says_whether_the_user_stopped_the_search_or_a_trial_has_not_ended(
    tmp_path, states, stopped, code
):
    trials = [replace(trial(0, 0.9 if state == "complete" else None, 5.0), state=state) for state in states]
    findings = Findings(search(), tuple(trials), {}, stopped)

    assert show_tuning(api.Tuning(findings), tmp_path, as_json=True) == code


def test_a_region_is_refused_for_the_search_of_a_tuner_which_has_its_own(tmp_path):
    wanted = Search({"backend": "sagemaker"}, search().space, tuner=Tuner())
    (tmp_path / TUNING_JOB).write_text(json.dumps({"name": "one", "region": "us-east-1", "search": _facts(wanted)}))

    command = facesim_here("attach", tmp_path, "--region", "eu-west-1")

    assert command.code == 2
    assert f"--region has no meaning with {tmp_path}, a search, whose options say where its jobs run" in command.errors
