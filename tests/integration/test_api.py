"""facesim from Python: training, comparing and using models; and the examples in its documentation."""

from __future__ import annotations

import doctest
import json
import pkgutil
from importlib import import_module

import numpy as np
import pytest

import facesim
from facesim import api
from facesim.util.errors import InputError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded")]


def test_the_examples_of_the_documentation_are_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    modules = [api, *(import_module(f"{api.__name__}.{one.name}") for one in pkgutil.iter_modules(api.__path__))]

    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    results = [doctest.testmod(module, optionflags=flags) for module in modules]

    assert sum(result.attempted for result in results) > 10
    assert [result.failed for result in results] == [0] * len(modules)


class Failing(facesim.Observer):
    def started(self, run, position, jobs):
        raise RuntimeError("no such tracker")


class Listening(facesim.Observer):
    def __init__(self):
        self.notices, self.states = [], []

    def noticed(self, text):
        self.notices.append(text)

    def ended(self, run, result):
        self.states.append(str(result.state))


def test_a_study_is_run_compared_and_shown_while_an_observer_fails(tmp_path, faces):
    listening = Listening()
    study = facesim.Study(
        data=str(faces), model=["compact-cnn", "plain-cnn"], epochs=1, image_size=32, batch=8, sampling_s=0.2
    )

    comparison = study.run(
        tmp_path / "runs", observers=[Failing(), listening, facesim.JsonLines(tmp_path / "study.jsonl")]
    )

    assert listening.states == ["Completed", "Completed"]
    assert "Failing failed and is told nothing more: RuntimeError: no such tracker" in listening.notices
    assert [run.job.experiment.model for run in comparison] == ["compact-cnn", "plain-cnn"]
    assert len({run.directory for run in comparison}) == 2
    frame = comparison.frame
    assert list(frame["seeds"]) == [1, 1]
    assert (frame["training_s"] > 0).all() and frame["held_out_accuracy"].between(0, 1).all()
    assert frame.attrs == {} and "<table>" in comparison._repr_html_()
    assert comparison.verdict and comparison.report.baselines
    lines = [json.loads(line) for line in (tmp_path / "study.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines].count("ended") == 2
    assert comparison.write(tmp_path / "report.html").read_text().startswith("<!doctype html>")


@pytest.fixture(scope="module")
def run(study) -> facesim.Run:
    return facesim.load(study.runs["single"].directory)


def test_a_run_is_what_its_directory_says(run, study):
    assert (run.state, run.verdict, run.failure) == ("Completed", "single", None)
    assert run.held_out_accuracy == study.result("single")["held_out_accuracy"]
    assert {"psutil", "training"} <= set(run.frame["source"])
    assert "Completed" in run._repr_html_() and run.id in repr(run)


def test_a_model_is_used_as_on_the_command_line(run, faces, tmp_path):
    person = sorted(faces.iterdir())[0]
    one, other = sorted(person.iterdir())[:2]
    model = run.model()

    embeddings = model.embed(person)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(10), rel=1e-5)
    assert model.embed([one, other]) == pytest.approx(embeddings[:2], abs=1e-5)
    evaluation = model.evaluate()
    assert evaluation["closed_set"]["accuracy"] == pytest.approx(run.held_out_accuracy)
    assert [one.title for one in run.evaluations.values()] == [evaluation["data"]]
    answer = model.verify(one, one, threshold=0.5)
    assert (answer.same, answer.similarity) == (True, pytest.approx(1, abs=1e-5))
    (named,) = model.identify(faces, one)
    assert named.identity == person.name
    exported = model.export(tmp_path / "model.keras")
    assert (exported.path.is_file(), exported.image_shape, len(exported.names)) == (True, (32, 32, 3), 8)


def test_wrong_use_of_a_model_is_told_before_it_is_loaded(run, tmp_path):
    model = run.model()

    for wrong, field in (
        (lambda: model.evaluate(pairs="pairs.txt"), "pairs"),
        (lambda: model.export(tmp_path / "m.h5"), "output"),
        (lambda: model.export(tmp_path / "m.keras", format="onyx"), "format"),
        (lambda: model.embed([]), "images"),
    ):
        with pytest.raises(InputError) as refused:
            wrong()
        assert refused.value.field == field
        assert "_embedder" not in vars(model)


def test_images_of_another_size_are_refused(run):
    with pytest.raises(InputError, match=r"this model takes uint8 \(n, 32, 32, 3\)"):
        run.model().embed(np.zeros((1, 64, 64, 3), np.uint8))


def test_runs_are_compared_however_they_are_named(run, study):
    by_run, by_folder = facesim.compare([run, run]), facesim.compare(study.directory)

    assert (len(by_run), len(by_folder)) == (1, 2)
    assert set(by_folder.frame["strategy"]) == {"single", "ps-async"}
    assert by_folder.frame.loc["ps-async", "trained_together"] == "together"
