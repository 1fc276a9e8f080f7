"""What a report shows of `facesim evaluate`: the newest by protocol, of the model that there is; the rest is named."""

from __future__ import annotations

import pytest

from facesim.cli.recognition import _evaluation
from facesim.report import compare
from facesim.report.html import render
from facesim.report.plots.recognition import cmc, roc
from facesim.runs.evaluations import Evaluation
from tests.report.test_card import evaluation

ROC = {"eer": 0.07, "lowest_far": 0.1, "roc": {"far": [0.1, 0.5, 1.0], "tar": [0.6, 0.9, 1.0]}}


def evaluated(data, *, pairs=None, impostor_pairs=60, **more):
    """An evaluation with all that is drawn; of a list of `pairs` there is verification alone."""
    content = evaluation(data, source=[f"/data/{data}"], **more)
    content["verification"] |= ROC | {"impostor_pairs": impostor_pairs, "lowest_far": 10 / impostor_pairs}
    content["identification"]["cmc"] = [0.8, 0.9, 1.0]
    if pairs:
        content |= {"pairs": pairs, "identification": None, "groups": None}
    return Evaluation.model_validate(content)


@pytest.fixture
def run(make_run):
    run = make_run("single", metrics=False)
    run.model_file.write_bytes(b"a model")
    return run


def left_out(comparison):
    return [warning for warning in comparison.warnings if warning.startswith("left out: ")]


@pytest.mark.slow
def test_each_protocol_is_shown_by_the_newest_evaluation_that_has_it(run):
    for one in (evaluated("people"), evaluated("/data/lfw.bin", pairs="lfw.bin")):
        run.keep_evaluation(one)

    comparison = compare([run])

    assert "single, lfw.bin" in roc(comparison) and "single, people" in cmc(comparison)
    assert "<h3>single, seed 0, people</h3>" in render(comparison)
    newest = "in favour of the newest, on lfw.bin"
    assert left_out(comparison) == [f"left out: single, seed 0: verification on people, {newest}"]


@pytest.mark.slow
def test_what_was_found_of_an_earlier_model_is_not_shown_as_this_one_s(run):
    run.keep_evaluation(evaluated("people", model_sha256=run.model_sha256()))
    run.model_file.write_bytes(b"trained on")

    comparison = compare([run])

    assert (roc(comparison), cmc(comparison)) == (None, None)
    assert "<h2>Errors by group</h2>" not in render(comparison)
    of_earlier = "evaluations on people: they are of an earlier model of the run"
    assert left_out(comparison) == [f"left out: single, seed 0: {of_earlier}"]


@pytest.mark.slow
def test_the_newest_evaluation_that_has_a_curve_is_drawn(run):
    without = evaluated("before", pairs="before")
    without = without.model_copy(update={"verification": without.verification.model_copy(update={"roc": None})})
    for one in (evaluated("people"), evaluated("few", impostor_pairs=10), without):
        run.keep_evaluation(one)

    comparison = compare([run])

    assert "single, people" in roc(comparison) and "single, few" in cmc(comparison)
    assert [text.removeprefix("left out: single, seed 0: ") for text in left_out(comparison)] == [
        "the ROC on few: 10 pairs of different people are too few for any false accept rate",
        "the ROC on before: an earlier facesim did not keep what it is drawn from; evaluate again",
        "identification on people, in favour of the newest, on few",
        "errors by group on people, in favour of the newest, on few",
    ]


def test_so_few_pairs_that_they_tell_no_false_accept_rate_have_no_curve(run):
    run.keep_evaluation(evaluated("few", impostor_pairs=10))

    comparison = compare([run])

    assert roc(comparison) is None
    few = "10 pairs of different people are too few for any false accept rate"
    assert left_out(comparison) == [f"left out: single, seed 0: the ROC on few: {few}"]


def test_a_terminal_shows_which_pairs_and_what_of_them_is_left_out():
    listed = evaluation("/data/last20", pairs="pairs.csv, without 1 of an image with itself")
    listed["verification"] |= {"accuracy_se": 0.01, "folds": 10, "eer": 0.07}
    del listed["identification"]

    assert _evaluation(listed)[0] == "last20, pairs.csv, without 1 of an image with itself"


def test_a_kind_of_error_without_a_trial_within_a_group_says_so():
    content = {"data": "people", "groups": {"rates": {"false match within the group": []}, "threshold": 0.4}}

    assert _evaluation(content)[1:] == ["errors by group, false match within the group", "  no trial within a group"]
