"""How far answers can be relied on: where a threshold is from, how often it errs, and when there is none to give."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facesim.recognition.pairs import disjoint_pairs
from facesim.recognition.protocols import verification
from facesim.recognition.reliance import basis, hanley_mcneil, mark, reliance
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.util.errors import InputError

SEEN, UNSEEN = {"identities_seen_in_training": True}, {"identities_seen_in_training": False}


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", make_job())
    run.model_file.write_bytes(b"a model")
    return run


def record(data, auc=0.95, **more):
    verified = {"threshold": len(data) / 10, "genuine_pairs": 300, "impostor_pairs": 290, "accuracy": 0.9, "auc": auc}
    verified |= {"false_accept_rate": 0.041, "false_reject_rate": 0.062, "auc_low": auc - 0.05, "auc_high": auc + 0.05}
    ranked = {"rank_1": 0.8, "probes": 100, "gallery_identities": 40}
    return {"data": data, "people": 40, "verification": verified, "identification": ranked, **UNSEEN, **more}


def evaluated(run, *evaluations):
    run.evaluation_file.write_text(json.dumps({each["data"]: each for each in evaluations}))
    return reliance(run)


def test_people_not_seen_in_training_count_before_what_was_evaluated_last(run):
    others, figures = mark(run, record("others")), mark(run, record("own", **SEEN))

    assert evaluated(run, others, figures).data == "others"
    assert evaluated(run, figures, others, mark(run, record("more"))).data == "more"
    assert evaluated(run, figures).data == "own"
    assert any("was trained on these people" in caution for caution in evaluated(run, figures).cautions)


def test_people_of_whom_that_is_not_known_come_between(run):
    others, figures = mark(run, record("others")), mark(run, record("own", **SEEN))
    pairs = mark(run, record("lfw.bin", identities_seen_in_training=None))

    assert evaluated(run, others, pairs, figures).data == "others"
    assert evaluated(run, pairs, figures).data == "lfw.bin"
    assert any("not known whether the model was trained on these" in one for one in evaluated(run, pairs).cautions)


def test_an_evaluation_without_pairs_of_images_has_no_threshold(run):
    few = mark(run, record("few", verification=None, left_out={"verification": "too few people"}))

    assert evaluated(run, few) is None
    assert evaluated(run, mark(run, record("others")), few).data == "others"
    evaluated(run, few)
    assert (
        "was evaluated on people of whom there are too few images for a threshold: run" in basis(run, None, None)[-1][0]
    )
    with pytest.raises(InputError, match="too few images for a threshold, so no threshold is known"):
        basis(run, None, 0.01)


def test_without_an_evaluation_there_is_nothing_to_rely_on(run):
    assert reliance(run) is None
    assert evaluated(run) is None


def test_the_origin_has_data_time_pairs_and_error_rates(run):
    origin = evaluated(run, mark(run, record("others"))).origin

    assert "threshold 0.600, the best on others of 40 people, evaluated 20" in origin
    assert " UTC on 300 pairs of the same and 290 of different people" in origin
    assert "4.1% of different people for the same one, and 6.2% of the same for different ones" in origin
    assert "AUC 0.95 (0.90 to 1.00)" in origin


@pytest.mark.parametrize(("auc", "tells"), [(0.49, False), (0.53, False), (0.62, False), (0.7, True), (0.95, True)])
def test_a_model_near_a_coin_cannot_tell(run, auc, tells):
    figures = evaluated(run, mark(run, record("others", auc)))

    assert (figures.cannot_tell is None) == tells
    assert tells or f"AUC {auc:.2f}, 95 % interval" in figures.cannot_tell
    assert tells or "a coin has 0.5" in figures.cannot_tell


def test_another_model_than_the_evaluated_one_has_no_threshold(run):
    kept = mark(run, record("others"))
    run.model_file.write_bytes(b"trained on")

    assert "is not the one any more" in evaluated(run, kept).cannot_tell


def test_what_was_found_of_the_model_as_it_is_counts_before_what_was_found_of_an_earlier_one(run):
    others = mark(run, record("others"))
    run.model_file.write_bytes(b"trained on")

    assert evaluated(run, others, mark(run, record("own", **SEEN))).data == "own"
    assert evaluated(run, mark(run, record("own", **SEEN)), others).cannot_tell is None
    of_earlier = evaluated(run, others)
    assert (of_earlier.same_model, of_earlier.right) == (False, None)


@pytest.mark.parametrize(("rank_1", "tells"), [(0.8, True), (0.05, False), (0.02, False)])
def test_naming_people_by_chance_is_no_identification(run, rank_1, tells):
    ranked = {"rank_1": rank_1, "probes": 100, "gallery_identities": 40}

    figures = evaluated(run, mark(run, record("others", identification=ranked)))

    assert (figures.cannot_identify is None) == tells
    assert tells or "not shown to be more than chance" in figures.cannot_identify


def test_what_an_earlier_facesim_evaluated_is_used_with_what_it_lacks_told(run):
    old = record("others", auc=0.49)
    for name in ("false_accept_rate", "false_reject_rate", "auc_low", "auc_high"):
        del old["verification"][name]
    del old["people"]

    figures = evaluated(run, old)

    assert "evaluated at an unknown time" in figures.origin
    assert "error rates are not on record" in figures.origin
    assert figures.auc_low == pytest.approx(hanley_mcneil(0.49, 300, 290)[0]) and figures.cannot_tell
    assert any("whether the model has changed" in caution for caution in figures.cautions)


def calibration(*fars, trials=20_000):
    point = {"false_accept_rate": 0.0099, "far_low": 0.006, "far_high": 0.015, "true_accept_rate": 0.7}
    points = [{"far": far, "threshold": 0.5 + far, **point} for far in fars]
    counts = {"genuine_trials": 900, "impostor_trials": trials, "lowest_far": 10 / trials}
    return {"people": 40, **counts, "points": points}


def calibrated_evaluation(data="others"):
    content = record(data)
    content["verification"]["calibration"] = calibration(0.1, 0.01)
    content["identification"]["open_set"] = calibration(0.1, trials=100)
    return content


def test_a_threshold_for_a_false_accept_rate_comes_with_its_origin(run):
    evaluated(run, mark(run, calibrated_evaluation()))

    pairs, strangers = basis(run, None, 0.01), basis(run, None, 0.1, gallery=60)

    assert (pairs.threshold, strangers.threshold) == (0.51, 0.6)
    origin = pairs.notes[0]
    assert "threshold 0.510 for a false accept rate of 0.01: it took 0.99 % (95 % interval 0.6 to 1.5 %)" in origin
    assert "of 20,000 pairs of different people on others of 40 people, evaluated 20" in origin
    assert "it lets 70.0% of 900 pairs of the same person pass" in origin
    assert "100 looks for a stranger among 40 people on others" in strangers.notes[0]
    assert "such as yours of 60 people, more strangers pass: about 14.6%" in strangers.notes[-1]


@pytest.mark.parametrize(
    ("threshold", "far", "gallery", "message"),
    [
        (0.4, 0.01, None, "cannot both be given"),
        (
            None,
            0.001,
            None,
            "no threshold is kept for a false accept rate of 0.001, but for 0.1, 0.01: run facesim eval",
        ),
        (None, 0.0001, None, "0.0001 cannot be told from 20,000 impostor pairs of others: allowed is 0.0005"),
        (None, 0.01, 40, "0.01 cannot be told from 100 images of strangers of others: allowed is 0.1"),
    ],
)
def test_a_false_accept_rate_without_a_threshold_is_refused(run, threshold, far, gallery, message):
    evaluated(run, mark(run, calibrated_evaluation()))

    with pytest.raises(InputError, match=message):
        basis(run, threshold, far, gallery=gallery)


def test_what_was_evaluated_without_thresholds_for_rates_is_told(run):
    with pytest.raises(InputError, match="was not evaluated, so no threshold is known"):
        basis(run, None, 0.01)
    evaluated(run, mark(run, record("others")))
    with pytest.raises(InputError, match="the evaluation on others has no threshold for a false accept rate"):
        basis(run, None, 0.01)


def test_who_is_looked_for_in_a_gallery_is_judged_by_an_evaluation_with_one(run):
    pairs_alone = record("lfw.bin", identification=None)  # of people who are known to be others

    evaluated(run, mark(run, calibrated_evaluation()), mark(run, pairs_alone))

    assert reliance(run).data == "lfw.bin"
    assert reliance(run, identifying=True).data == "others"


def test_few_people_are_a_caution(run):
    assert any("4 people are few" in caution for caution in evaluated(run, mark(run, record("o", people=4))).cautions)


def similarities(spread, seed=0):
    """Pairs of 40 people with 5 images each; the nearer `spread` is to 0, the more alike are one person's."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(40), 5)
    vectors = random.normal(size=(40, 16))[labels] + spread * random.normal(size=(200, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = disjoint_pairs(labels, seed=1)
    return np.einsum("nd,nd->n", vectors[pairs.first], vectors[pairs.second]), pairs


def test_error_rates_are_of_thresholds_chosen_on_other_people():
    similarity, pairs = similarities(1.5)

    figures = verification(similarity, pairs.same, pairs.fold)

    right = 1 - (figures.false_accept_rate + figures.false_reject_rate) / 2  # as many pairs of each kind
    assert right == pytest.approx(figures.accuracy, abs=0.005)
    assert figures.false_accept_rate > 0 and figures.false_reject_rate > 0
    assert figures.auc_low < figures.auc < figures.auc_high <= 1


def test_folds_that_are_all_alike_do_not_make_the_auc_certain():
    same, fold = np.tile([True, True, False, False], 2), np.repeat([0, 1], 4)

    few = verification(np.where(same, 0.9, 0.1), same, fold)
    many = verification(np.tile(np.where(same, 0.9, 0.1), 100), np.tile(same, 100), np.tile(fold, 100))

    assert few.auc == many.auc == few.auc_high == 1
    assert few.auc_low < 0.6 and 0.98 < many.auc_low < 1


def test_the_interval_of_the_auc_holds_a_half_where_similarity_says_nothing():
    _, pairs = similarities(1.0)
    held = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=len(pairs.same))
        figures = verification(noise, pairs.same, pairs.fold)
        held += figures.auc_low <= 0.5 <= figures.auc_high

    assert held >= 16
