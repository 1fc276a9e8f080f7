"""A run's saved model, evaluated and used from the command line."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from facesim.data import RenderSpec, render_folder
from facesim.runs.directory import Run
from tests.conftest import facesim_here, parse


@pytest.fixture(scope="module")
def run(study):
    return study.runs["single"].directory


def test_evaluation_on_the_run_s_own_held_out_images_agrees_with_training(run, study):
    evaluation = parse(facesim_here("evaluate", run, "--json"))

    assert evaluation["closed_set"]["accuracy"] == pytest.approx(study.result("single")["held_out_accuracy"])
    assert evaluation["closed_set"]["examples"] == evaluation["identification"]["probes"] == 16
    assert evaluation["identification"]["cmc"][-1] == 1.0
    assert evaluation["verification"]["folds"] == 4
    assert evaluation["verification"]["auc"] > 0.5
    kept = json.loads((run / "evaluation.json").read_text())
    assert list(kept.values()) == [evaluation]


def test_evaluation_on_other_people_needs_no_classifier(run, tmp_path):
    render_folder(RenderSpec(identities=6, images=6, size=32, difficulty=0.2, seed=9), tmp_path / "others")

    shown = facesim_here("evaluate", run, tmp_path / "others")

    assert shown.code == 0, shown.errors
    assert "closed set" not in shown.output
    assert "of 18 probes among 6 people" in shown.output
    assert "± " in shown.output and "people seen in training" not in shown.output


def test_people_who_were_trained_on_are_not_called_others_under_another_name(run, faces, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    for person in sorted(faces.iterdir())[:5]:
        shutil.copytree(person, tmp_path / "others" / f"new-{person.name}")

    shown = facesim_here("evaluate", run, tmp_path / "others")

    assert shown.code == 0 and "people seen in training" in shown.output
    assert "50 of the 50 images are in the run's own data: these are no new people" in shown.errors


def test_evaluation_on_a_verification_set_of_insightface_s(run, faces, tmp_path):
    people = [sorted(person.iterdir()) for person in sorted(faces.iterdir())]
    pairs = [(images[0], images[1], True) for images in people]
    pairs += [(person[2], other[2], False) for person, other in itertools.combinations(people, 2)][: len(people) * 2]
    images = [image.read_bytes() for *both, _ in pairs for image in both]
    (tmp_path / "faces.bin").write_bytes(pickle.dumps((images, [same for *_, same in pairs])))

    evaluation = parse(facesim_here("evaluate", run, tmp_path / "faces.bin", "--json"))

    assert evaluation["pairs"] == "faces.bin" and evaluation["verification"]["folds"] == 10
    assert evaluation["verification"]["genuine_pairs"] == len(people)
    assert evaluation["verification"]["auc"] > 0.6, "the run was trained on some of these images"


def test_a_false_accept_rate_that_cannot_be_told_ends_with_what_can(run):
    command = facesim_here("evaluate", run, "--far", 1e-6)

    assert command.code == 2
    assert "1e-06 cannot be told from" in command.errors


def test_embeddings_are_unit_vectors_and_the_same_image_is_the_same_person(run, faces, tmp_path):
    person = sorted(faces.iterdir())[0]
    one, other = sorted(person.iterdir())[:2]

    assert facesim_here("embed", run, person, "--output", tmp_path / "e.npz").code == 0
    written = np.load(tmp_path / "e.npz")
    np.testing.assert_allclose(np.linalg.norm(written["embeddings"], axis=1), 1, rtol=1e-5)
    assert len(written["paths"]) == 10

    shown = parse(facesim_here("verify", run, one, other, "--threshold", 0.5, "--json"))
    assert shown["similarity"] == pytest.approx(written["embeddings"][0] @ written["embeddings"][1], abs=1e-4)
    assert shown["same"] == (shown["similarity"] >= 0.5)
    assert parse(facesim_here("verify", run, one, one, "--json"))["similarity"] == pytest.approx(1, abs=1e-5)


def test_an_answer_names_where_its_threshold_is_from_and_how_often_it_errs(run, faces):
    one, other = sorted(sorted(faces.iterdir())[0].iterdir())[:2]
    (run / "evaluation.json").unlink(missing_ok=True)  # else that on people not seen in training would count
    evaluated = parse(facesim_here("evaluate", run, "--json"))

    shown = facesim_here("verify", run, one, other)
    answer = parse(facesim_here("verify", run, one, other, "--json"))

    pairs = evaluated["verification"]["genuine_pairs"]
    assert "the best on faces of 8 people, evaluated 20" in shown.output
    assert f"on {pairs} pairs of the same" in shown.output
    assert "of different people for the same one" in shown.output
    assert "trained on these people" in shown.output
    assert answer["threshold"] == evaluated["verification"]["threshold"]
    assert (answer["same"] is None) == bool(answer["cannot_tell"])
    assert answer["evaluation"]["same_model"] is True
    ranked = facesim_here("identify", run, faces, one)
    assert "the first name was right for" in ranked.output and "evaluated 20" in ranked.output


def test_a_probe_that_is_in_the_gallery_is_found(run, faces):
    people = sorted(faces.iterdir())
    probe = sorted(people[3].iterdir())[0]

    (answer,) = parse(facesim_here("identify", run, faces, probe, "--json"))

    assert answer["closest"][0]["identity"] == people[3].name
    assert answer["closest"][0]["similarity"] == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """An image folder of 25 easy people, none of them trained on."""
    out = tmp_path_factory.mktemp("strangers") / "people"
    render_folder(RenderSpec(identities=25, images=8, size=32, difficulty=0.1, seed=31), out)
    return out


@pytest.mark.slow
def test_photographs_are_sorted_by_person_with_a_threshold_for_strangers(run, strangers, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")  # the evaluation is this test's own
    evaluated = parse(facesim_here("evaluate", run, strangers, "--json"))
    pairs, looks = evaluated["verification"]["calibration"], evaluated["identification"]["open_set"]
    assert pairs["impostor_trials"] + pairs["genuine_trials"] == 200 * 199 // 2
    assert (looks["impostor_trials"], looks["genuine_trials"], looks["people"]) == (100, 100, 25)
    people = sorted(strangers.iterdir())
    for person in people[:5]:
        shutil.copytree(person, tmp_path / "gallery" / person.name)
    (tmp_path / "new").mkdir()
    shutil.copy(sorted(people[1].iterdir())[0], tmp_path / "new" / "known.png")  # an image of the gallery itself
    (tmp_path / "new" / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    for at, image in enumerate(sorted(people[20].iterdir())):
        shutil.copy(image, tmp_path / "new" / f"stranger{at}.png")
    sort = ("sort", run, tmp_path / "gallery", tmp_path / "new", "--far", 0.1, "--output", tmp_path / "out")

    planned = facesim_here(*sort, "--dry-run")
    assert (planned.code, (tmp_path / "out").exists()) == (0, False), planned.errors
    for decision in parse(facesim_here(*sort, "--dry-run", "--json")):
        assert "for a false accept rate of 0.1: it took" in " ".join(decision["notes"])
    command = facesim_here(*sort)

    assert command.code == 0, command.errors
    assert f"{tmp_path}/new/known.png: {people[1].name} ({people[1].name} 1.000)" in planned.output
    assert "broken.jpg: left out: " in command.output
    assert "for a false accept rate of 0.1: it took" in command.output
    assert (tmp_path / "out" / "people" / people[1].name / "known.png").is_file()
    sorted_files = [path for path in (tmp_path / "out").rglob("*.png")]
    assert len(sorted_files) == 9 and len((tmp_path / "out" / "decisions.csv").read_text().splitlines()) == 11
    again = facesim_here(*sort)
    assert (again.code, "already exists" in again.errors) == (2, True)

    shutil.copytree(people[1], tmp_path / "one" / people[1].name)
    of_one = facesim_here("sort", run, tmp_path / "one", tmp_path / "new", "--threshold", 0.999, "--dry-run")
    assert of_one.code == 0 and "how often the given threshold errs is not known" in of_one.output, of_one.errors
    assert f"     1  people/{people[1].name}" in of_one.output

    probes = sorted((tmp_path / "new").glob("*.png"))
    (known, *others) = parse(facesim_here("identify", run, tmp_path / "gallery", *probes, "--far", 0.1, "--json"))
    (threshold,) = [point["threshold"] for point in looks["points"] if point["far"] == 0.1]
    assert known["identity"] == people[1].name and known["threshold"] == threshold
    for one in others:
        assert (one["identity"] is None) == (one["closest"][0]["similarity"] < threshold)
    verified = facesim_here("verify", run, *probes[1:3], "--far", 0.01)
    assert "for a false accept rate of 0.01: it took" in verified.output
    refused = facesim_here("identify", run, tmp_path / "gallery", probes[0], "--far", 0.01)
    assert (refused.code, "cannot be told from 100 images of strangers" in refused.errors) == (2, True)


def test_what_cannot_be_used_is_told(run, study, faces, tmp_path):
    (tmp_path / "one" / "Ana").mkdir(parents=True)
    probe = sorted(faces.rglob("*.png"))[0]
    (tmp_path / "one" / "Ana" / "1.png").write_bytes(probe.read_bytes())
    broken = tmp_path / "broken.png"
    broken.write_text("no image")

    for arguments, message in {
        ("identify", run, tmp_path / "one", probe): "shows only Ana",
        ("verify", run, probe, broken): "broken.png cannot be read as an image: not an image",
        ("verify", run, probe, tmp_path / "none.png"): "none.png cannot be read as an image: no such file",
        ("verify", study.directory, probe, probe): "holds 2 runs",
        ("evaluate", run, "--pairs", probe): "needs DATA",
    }.items():
        command = facesim_here(*arguments)
        assert (command.code, message in command.errors) == (2, True), command.errors


def test_the_report_draws_what_was_evaluated(run, strangers, tmp_path):
    from facesim.report import write_report

    run = Run(Path(shutil.copytree(run, tmp_path / "run")))  # the evaluation is this test's own
    assert facesim_here("evaluate", run.directory, strangers).code == 0

    write_report([run], tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert "true against false accept rate" in page
    assert "identification against rank" in page


@pytest.fixture
def damaged(run, tmp_path):
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "damaged"))


def answers(run: Path, faces: Path, tmp_path: Path) -> list:
    one, *_, other = sorted(faces.rglob("*.png"))
    return [
        facesim_here("evaluate", run),
        facesim_here("verify", run, one, other),
        facesim_here("identify", run, faces, one),
        facesim_here("embed", run, one, "--output", tmp_path / "e.npz"),
        facesim_here("export", run, "--output", tmp_path / "model.keras"),
    ]


@pytest.mark.parametrize("kind", ["cut", "text", "pipe", "nothing"])
def test_a_model_that_is_damaged_is_told_as_such(damaged, faces, tmp_path, kind):
    model = damaged / "model.keras"
    content = model.read_bytes()
    model.unlink()
    if kind == "pipe":
        os.mkfifo(model)
    elif kind != "nothing":
        model.write_bytes(content[:5000] if kind == "cut" else b"a model")

    for command in answers(damaged, faces, tmp_path):
        assert command.code == 2
        assert "is not a model that facesim can load" in command.errors
        assert "File not found" not in command.errors


@pytest.mark.parametrize("changed", [{"image_size": 48}, {"channels": 1}, {"model": "plain-cnn"}])
def test_a_model_that_is_not_its_job_s_is_told_as_such(damaged, faces, tmp_path, changed):
    job = json.loads((damaged / "job.json").read_text())
    job["experiment"] |= changed
    (damaged / "job.json").write_text(json.dumps(job))

    for command in answers(damaged, faces, tmp_path):
        assert command.code == 2
        assert "its model is a compact-cnn for images of 32x32x3, and its job is a" in command.errors


def test_an_evaluation_that_cannot_be_kept_is_shown(run, small_disk):
    copy = shutil.copytree(run, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    command = facesim_here("evaluate", copy)

    assert command.code == 0
    assert "closed set" in command.output
    assert "the evaluation is not kept: " in command.errors


@pytest.mark.parametrize("kind", ["keras", "savedmodel"])
def test_an_export_that_finds_no_room_leaves_nothing(run, small_disk, kind):
    output = small_disk / ("model.keras" if kind == "keras" else "model")
    with (small_disk / "filler").open("wb") as filler, suppress(OSError):
        while True:
            filler.write(bytes(1 << 20))

    command = facesim_here("export", run, "--format", kind, "--output", output)

    assert command.code == 1
    assert "details are in" not in command.errors, command.errors
    assert str(output) in command.errors or str(small_disk) in command.errors
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
