"""The classical methods, and how a study keeps and shows what they reach."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facesim.baselines import BASELINES, Score, means
from facesim.baselines.record import FILE, read_baselines, record_baselines
from facesim.data import prepare
from facesim.report import compare, to_json, write_report
from facesim.spec.job import make_job
from tests.conftest import ORL, facesim_here, parse


@pytest.fixture(scope="module")
def easy(faces, cache):
    return prepare(str(faces), image_size=32, cache_dir=cache)


def test_every_method_recognises_easy_faces_and_tells_its_time(easy, faces, tmp_path):
    scores = record_baselines(easy, make_job(data=str(faces), image_size=32).experiment.model_dump(), [0], tmp_path)

    assert [score.method for score in scores] == list(BASELINES)
    assert all(score.accuracy > 0.6 and score.seconds > 0 for score in scores), scores
    # As many test images of each identity: balanced accuracy is accuracy.
    assert [score.balanced_accuracy for score in scores] == pytest.approx([score.accuracy for score in scores])


@pytest.mark.skipif(not ORL.exists(), reason="the ORL faces are not here")
@pytest.mark.slow
def test_on_orl_the_methods_reach_what_is_known_of_them(cache, tmp_path):
    data = prepare(str(ORL), image_size=64, cache_dir=cache)

    scores = record_baselines(data, make_job(data=str(ORL), held_out=0.5).experiment.model_dump(), range(2), tmp_path)

    reached = {name: scores_of["accuracy"] for name, scores_of in means(scores).items()}
    assert reached["lbp-svm"] > 0.95
    assert reached["hog-svm"] > 0.92
    assert reached["eigenfaces"] > 0.87
    assert reached["fisherfaces"] > 0.82


def test_with_one_training_image_each_what_needs_two_is_left_out(easy, tmp_path):
    experiment = make_job(image_size=32, held_out=0.9).experiment.model_dump()

    scores = record_baselines(easy, experiment, [0], tmp_path)

    assert [score.method for score in scores] == ["eigenfaces", "lbp-svm", "hog-svm"]


def test_scores_are_computed_once_and_told_apart_by_split(easy, tmp_path):
    experiment = make_job(image_size=32).experiment.model_dump()
    first = record_baselines(easy, experiment, [0], tmp_path)

    again = record_baselines(easy, experiment, range(2), tmp_path)

    assert again[: len(first)] == first  # to the last digit of the seconds
    assert {score.seed for score in again} == {0, 1}
    assert read_baselines(tmp_path, experiment, [0]) == first
    assert read_baselines(tmp_path, experiment | {"held_out": 0.5}, [0]) == []
    assert read_baselines(tmp_path / "elsewhere", experiment, [0]) == []


def test_of_more_images_than_the_methods_take_that_is_the_reason(faces, tmp_path, monkeypatch):
    monkeypatch.setattr("facesim.baselines.record.MAX_IMAGES", 20)

    command = facesim_here("baselines", faces, "--image-size", 32, "--output", tmp_path)

    assert (command.code, command.output) == (0, "")
    assert command.errors == "no classical baselines: faces has 80 images, and they take too long on more than 20\n"


def test_a_method_that_cannot_learn_is_named_with_the_reason(faces, tmp_path):
    command = facesim_here("baselines", faces, "--image-size", 32, "--held-out", 0.9, "--output", tmp_path)

    assert command.code == 0 and "fisherfaces" not in command.output
    assert command.errors == (
        "no fisherfaces: it needs more than one training image of somebody, and faces leaves one of each\n"
    )


def test_of_the_methods_those_that_the_file_lacks_are_computed_and_those_that_are_gone_are_kept(easy, faces, tmp_path):
    experiment = make_job(data=str(faces), image_size=32).experiment.model_dump()
    first = {score.method: score for score in record_baselines(easy, experiment, [0], tmp_path)}
    content = json.loads((tmp_path / FILE).read_text())
    (entry,) = content["entries"]
    of_method = {score["method"]: score for score in entry["scores"]}
    del of_method["hog-svm"]
    of_method["lbp-svm"] |= {"accuracy": 0.0, "package": "my-methods 1.0"}
    of_method["mine"] = {**of_method["lbp-svm"], "method": "mine"}
    (tmp_path / FILE).write_text(json.dumps({"entries": [{**entry, "scores": list(of_method.values())}]}))

    command = facesim_here("baselines", faces, "--image-size", 32, "--output", tmp_path, "--json")

    table = parse(command)
    assert {name: score["accuracy"] for name, score in table.items()} == {
        name: score.accuracy for name, score in first.items()
    }
    assert table["eigenfaces"]["seconds"] == first["eigenfaces"].seconds, "it is not computed again"
    (entry,) = json.loads((tmp_path / FILE).read_text())["entries"]
    assert {score["method"]: score["package"] for score in entry["scores"]} == {
        **dict.fromkeys(BASELINES),
        "mine": "my-methods 1.0",
    }


def test_means_are_over_seeds():
    scores = [Score("hog-svm", seed, accuracy, accuracy, 2.0) for seed, accuracy in enumerate((0.8, 0.9))]

    assert means(scores)["hog-svm"] == {
        "seeds": 2,
        "accuracy": pytest.approx(0.85),
        "accuracy_sd": pytest.approx(np.sqrt(0.005)),
        "balanced_accuracy": pytest.approx(0.85),
        "seconds": pytest.approx(2.0),
    }


def test_the_command_prints_and_keeps_them(faces, tmp_path):
    table = parse(facesim_here("baselines", faces, "--image-size", 32, "--output", tmp_path, "--json"))

    assert list(table) == list(BASELINES)
    (entry,) = json.loads((tmp_path / FILE).read_text())["entries"]
    assert entry["split"]["data"] == str(faces)


def test_a_study_s_report_shows_them_and_says_who_is_below(study, tmp_path):
    runs = list(study.runs.values())

    comparison = compare(runs)
    write_report(runs, tmp_path / "report.html")

    assert [method.method for method in comparison.baselines] == list(BASELINES)
    assert [method["method"] for method in to_json(comparison)["baselines"]] == list(BASELINES)
    (finding,) = [finding for finding in comparison.findings if finding.topic == "baselines"]
    assert "Without a network" in finding.text
    assert "lbp-svm" in (tmp_path / "report.html").read_text()
