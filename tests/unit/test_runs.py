"""What a run leaves is read by the types that it is written by: old ones, later ones, damaged ones."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from facesim.api import load
from facesim.runs.accounting import recovery
from facesim.runs.directory import Run
from facesim.runs.evaluations import Evaluation
from facesim.runs.events import KINDS, Event, NodeEnded, Recovering, Restored, TaskEnded, event_of, parse_event
from facesim.runs.records import SCHEMA_VERSION, Result, TaskOutcome
from facesim.runs.states import Outcome, RunState, outcome_of_sagemaker, state_of_sagemaker
from facesim.util.errors import InputError
from tests.conftest import facesim_here

GOLDEN = Path(__file__).parents[1] / "golden" / "ps-async-killed"


@pytest.fixture
def golden(tmp_path: Path) -> Run:
    """A run of 26 November 2026, before its records had a version: a parameter server was killed in it."""
    return Run(Path(shutil.copytree(GOLDEN, tmp_path / "runs" / GOLDEN.name)))


def test_a_run_of_an_earlier_facesim_stays_readable(golden):
    result, outcome = golden.result(), golden.outcome()
    (evaluation,) = golden.evaluations().values()

    assert result.state is RunState.COMPLETED
    assert result.held_out_accuracy == outcome.held_out_accuracy == pytest.approx(4 / 87)
    assert result.counted == outcome.counted
    assert sum(outcome.counted.steps_by_worker.values()) == outcome.updates == 22
    assert result.billing.billable_s == 7
    assert result.resources["worker"].tasks == 2
    assert evaluation.closed_set.accuracy == result.held_out_accuracy
    assert golden.job().strategy.name == "ps-async"
    assert golden.plan()["leader"] == "chief-0"


def test_each_event_of_an_earlier_facesim_is_of_a_known_kind(golden):
    events = golden.events()

    assert len(events) == len(golden.events_file.read_text().splitlines())
    assert not [event for event in events if type(event) is Event]
    assert isinstance(events[-2], NodeEnded)
    assert events[-2].outcome is Outcome.COMPLETED
    (recovering,) = [event for event in events if isinstance(event, Recovering)]
    assert recovering.starting == ("ps-0", "worker-0", "worker-1", "chief-0")
    assert recovery(events) == golden.result().recovery


def test_a_run_of_an_earlier_facesim_is_reported(golden, tmp_path):
    from facesim.report import write_report

    comparison = write_report([golden], tmp_path / "report.html")

    assert comparison.rows[0].values("held_out_accuracy") == {0: pytest.approx(4 / 87)}
    assert "checkpoint-000000010.npz" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("name", "kind"), [("result_file", Result), ("outcome_file", TaskOutcome)])
def test_a_record_is_read_as_it_was_written(golden, name, kind):
    file = getattr(golden, name)
    before = kind.read(file)

    before.write(file)

    assert kind.read(file) == before
    assert json.loads(file.read_text())["schema_version"] == SCHEMA_VERSION


def test_evaluations_are_read_as_they_were_written_and_the_newest_is_last(golden):
    (evaluation,) = golden.evaluations().values()
    other = evaluation.model_copy(update={"data": "others", "closed_set": None})

    golden.keep_evaluation(other)
    golden.keep_evaluation(evaluation)

    assert list(golden.evaluations().values()) == [other, evaluation]
    assert isinstance(evaluation, Evaluation)


def test_data_and_lists_of_one_name_in_two_places_have_an_evaluation_each(golden):
    (own,) = golden.evaluations().values()
    of_others = own.model_copy(update={"closed_set": None, "data": "people"})
    places = [("/a/people",), ("/b/people",), ("/lfw", "/a/pairs.txt"), ("/lfw", "/b/pairs.txt")]
    others = [of_others.model_copy(update={"source": place}) for place in places]

    for one in [*others, others[0]]:
        golden.keep_evaluation(one)

    assert list(golden.evaluations().values()) == [own, *others[1:], others[0]]


def test_an_evaluation_that_is_made_again_replaces_that_of_an_earlier_facesim(golden):
    (own,) = golden.evaluations().values()
    earlier = own.model_copy(update={"closed_set": None, "data": "people"})
    other = earlier.model_copy(update={"pairs": "pairs.txt"})
    again = earlier.model_copy(update={"source": ("/a/people",)})
    assert earlier.source is None

    for one in (earlier, other, again):
        golden.keep_evaluation(one)

    assert list(golden.evaluations().values()) == [own, other, again]


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"data": "lfw", "source": ("/a/lfw", "/a/pairs.csv")}, "lfw, pairs.csv"),
        ({"data": ".", "source": ("/a/lfw", "/a/pairs.csv")}, "lfw, pairs.csv"),
        ({"data": "..", "source": ("/a/lfw", "/a/pairs.csv")}, "lfw, pairs.csv"),
        ({"data": "."}, "pairs.csv"),
    ],
)
def test_a_list_of_pairs_is_called_by_the_folder_of_its_images(golden, fields, title):
    (own,) = golden.evaluations().values()

    of_pairs = own.model_copy(update={"closed_set": None, "pairs": "pairs.csv", **fields})

    assert of_pairs.title == title


def test_the_run_s_own_images_have_one_evaluation_whoever_kept_it(golden):
    (own,) = golden.evaluations().values()
    assert own.tested is None, "it is of an earlier facesim"
    again = own.model_copy(update={"tested": "held-out"})

    golden.keep_evaluation(again)

    assert list(golden.evaluations().values()) == [again]


def test_evaluations_of_an_earlier_model_are_told_from_those_of_the_one_that_there_is(golden):
    (unknown,) = golden.evaluations().values()
    golden.model_file.write_bytes(b"a model")
    of_others = {"data": "a", "source": ("/a",), "closed_set": None, "model_sha256": golden.model_sha256()}
    first = unknown.model_copy(update=of_others)
    golden.keep_evaluation(first)
    assert golden.evaluations_by_model() == ([unknown, first], [])

    golden.model_file.write_bytes(b"trained on")

    assert golden.evaluations_by_model() == ([unknown], [first])
    golden.model_file.unlink()
    assert golden.evaluations_by_model() == ([unknown, first], [])


def test_events_are_read_as_they_were_written(golden):
    before = golden.events()
    golden.events_file.unlink()

    for event in before:
        golden.record(event)

    assert golden.events() == before


def test_events_that_were_joined_to_themselves_are_read_once(golden):
    before = golden.events()
    golden.events_file.write_text(2 * golden.events_file.read_text())

    assert golden.events() == before


def test_a_loss_that_is_no_number_stays_none(golden):
    diverged = golden.result().model_copy(update={"held_out_loss": math.nan})

    diverged.write(golden.result_file)

    assert math.isnan(golden.result().held_out_loss)


def test_a_kind_of_event_that_a_later_facesim_has_can_be_shown():
    event = parse_event({"time_unix_s": 5.0, "event": "moved", "to": "moon", "host": "algo-2"})

    assert type(event) is Event
    assert (event["to"], event.host, event.details()) == ("moon", "algo-2", {"to": "moon", "host": "algo-2"})


def test_an_event_without_what_its_kind_must_have_can_be_shown_and_has_no_effect():
    event = parse_event({"time_unix_s": 5.0, "event": "restored", "lost_examples": "many"})

    assert not isinstance(event, Restored)
    assert recovery([event])["lost_examples"] == 0
    assert event.details() == {"lost_examples": "many"}


@pytest.mark.parametrize("content", [None, [], 3, {}, {"event": "state"}, {"time_unix_s": "soon", "event": "state"}])
def test_what_is_no_event_is_left_out(golden, content):
    with golden.events_file.open("a") as file:
        file.write(json.dumps(content) + "\n")

    assert parse_event(content) is None
    assert isinstance(golden.events()[-2], NodeEnded)


def test_a_field_that_a_later_facesim_adds_to_an_event_is_kept():
    event = event_of({"time_unix_s": 5.0, "event": "task_ended", "task": "ps-0", "exit_code": 1, "cores": 4})

    assert isinstance(event, TaskEnded)
    assert event.details() == {"task": "ps-0", "exit_code": 1, "cores": 4}


def test_each_kind_of_event_has_a_name_of_its_own():
    assert len(KINDS) == len(Event.__subclasses__())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("state", "Lost"), ("seed", "many"), ("billing", {"hosts": 1})),
        *(("held_out_accuracy", 92.5), ("training_accuracy", -0.1), ("held_out_accuracy", math.nan)),
        *(("training_s", -3.0), ("total_s", math.inf), ("cost_usd", -1.0), ("updates", -1)),
    ],
)
def test_a_result_with_a_wrong_field_names_it(golden, field, value):
    golden.result_file.write_text(json.dumps(json.loads(golden.result_file.read_text()) | {field: value}))

    with pytest.raises(InputError, match=rf"result\.json is not what facesim writes: {field}"):
        golden.result()


def test_a_result_that_is_another_run_s_is_told(golden):
    """Folders that were merged, or files that were copied one by one."""
    result = json.loads(golden.result_file.read_text())
    result["job"]["experiment"] |= {"seed": 7, "epochs": 9}
    golden.result_file.write_text(json.dumps(result))

    with pytest.raises(
        InputError, match=r"result\.json is of another job than job\.json .*epochs 9, not 2, seed 7, not 0"
    ):
        golden.result()


@pytest.mark.parametrize("place", [".", "metrics/.."])
def test_a_run_is_called_as_its_folder_is_wherever_one_stands(golden, monkeypatch, place):
    monkeypatch.chdir(golden.directory)

    assert Run(Path(place)).id == golden.id


def test_a_job_that_is_not_understood_is_named(golden):
    golden.job_file.write_text(golden.job_file.read_text().replace('"paper"', '"etching"'))

    with pytest.raises(InputError, match=r"job\.json is not a job that this facesim understands: experiment\.recipe"):
        golden.job()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Training", RunState.TRAINING),
        ("Pending", RunState.STARTING),
        ("DownloadingTrainingImage", RunState.DOWNLOADING),
        ("MaxWaitTimeExceeded", RunState.MAX_WAIT_TIME_EXCEEDED),
        ("Levitating", RunState.TRAINING),
    ],
)
def test_sagemakers_words_are_translated(theirs, ours):
    assert state_of_sagemaker(theirs) is ours


def test_every_outcome_has_its_terminal_state_and_sagemaker_says_which():
    assert {outcome.state for outcome in Outcome} == {state for state in RunState if state.terminal}
    assert outcome_of_sagemaker("Stopped", "MaxRuntimeExceeded") is Outcome.MAX_RUNTIME_EXCEEDED
    assert outcome_of_sagemaker("Failed", "Failed") is Outcome.FAILED
    assert outcome_of_sagemaker("InProgress", "Training") is None


def test_a_run_that_goes_on_takes_faults_as_a_study_does(golden):
    command = facesim_here("run", "--resume", golden.directory, "--faults", "random:x")

    assert (command.code, "--faults 'random:x' is not allowed" in command.errors) == (2, True)
    with pytest.raises(InputError, match="^faults 'random:x' is not allowed"):
        load(golden.directory).resume(faults="random:x")
    with pytest.raises(InputError, match="has completed"):  # what was asked for is right
        load(golden.directory).resume(faults="random:7")
