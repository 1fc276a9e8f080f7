"""What is named to a model and is not simply taken: one image twice, people who are known, files that are none."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import RenderSpec, render_folder
from facesim.models.own import ENVIRONMENT
from facesim.recognition.recognizer import Recognizer
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.util.errors import InputError
from tests.conftest import facesim_here, parse

OWN = """
import keras
def twice(x):
    return 2 * x
def build(image_shape, identities):
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(identities)]
    return keras.Sequential([keras.Input(image_shape), keras.layers.Activation(twice), *layers])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, faces, takes_long) -> Run:
    """A model of random weights."""
    keras = pytest.importorskip("keras")
    from facesim import models

    run = Run.create(tmp_path_factory.mktemp("random") / "run", make_job(data=str(faces), image_size=32))
    keras.utils.set_random_seed(0)
    models.build(run.job().experiment.model, (32, 32, 3), 8).save(run.model_file)
    return run


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def recognizer(run, notices) -> Recognizer:
    return Recognizer(run, notices.append)


@pytest.fixture
def gallery(faces, tmp_path):
    """Three images of each of two people."""
    for person in sorted(faces.iterdir())[:2]:
        for image in sorted(person.iterdir())[:3]:
            (tmp_path / "gallery" / person.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, tmp_path / "gallery" / person.name)
    return tmp_path / "gallery"


def test_one_image_twice_is_told(recognizer, faces, tmp_path):
    one, other = sorted(faces.rglob("*.png"))[:2]

    twice = recognizer.verify(one, shutil.copy(one, tmp_path / "copy.png"), threshold=0.5)

    assert twice.same and twice.notes[0] == "it is one image, twice: any model finds it the same person's"
    assert not [note for note in recognizer.verify(one, other, threshold=0.5).notes if "twice" in note]


def test_no_images_have_no_embeddings(recognizer):
    with pytest.raises(InputError, match=r"there are no images; this model takes uint8 \(n, 32, 32, 3\)"):
        recognizer.embed(np.zeros((0, 32, 32, 3), np.uint8))


def test_a_gallery_s_image_that_cannot_be_read_is_left_out_and_told_unless_nobody_is_left(
    recognizer, notices, faces, gallery
):
    first, second = sorted(gallery.iterdir())
    probe = sorted(faces.rglob("*.png"))[-1]
    (whole,) = recognizer.identify(gallery, probe)

    (first / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (answer,) = recognizer.identify(gallery, probe)

    assert answer == whole
    assert "of the gallery cannot be used and is left out: 1 of 7 images" in notices[-1]
    assert "broken.jpg: not an image that Pillow can read" in notices[-1]
    for image in second.iterdir():
        image.write_bytes(b"")
    with pytest.raises(InputError, match=f"no image of {second.name} in the gallery can be used .*: empty file"):
        recognizer.identify(gallery, probe)


def test_a_photograph_that_is_named_twice_is_sorted_once(recognizer, gallery, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(gallery, "photos")
    photo = next(path.relative_to(tmp_path) for path in (tmp_path / "photos").rglob("*.png"))
    (tmp_path / "link.png").symlink_to(photo)

    sorting = recognizer.sort(gallery, ["photos", photo, "link.png"], tmp_path / "out", threshold=-1)

    assert len(sorting.decisions) == len(list((tmp_path / "out").rglob("*.png"))) == 6


def test_an_image_of_one_colour_shows_nobody(recognizer, notices, gallery, tmp_path):
    flat, photo = tmp_path / "flat.png", next(gallery.rglob("*.png"))
    Image.new("RGB", (40, 30), (9, 9, 9)).save(flat)

    recognizer.verify(flat, photo, threshold=0.5)
    told = f"1 of 2 images is of one colour, or nearly, and shows nobody ({flat})"
    assert notices == [told]
    recognizer.identify(gallery, [photo, flat])
    assert told in notices
    (left_out,) = recognizer.sort(gallery, [photo, flat], None, threshold=-1).left_out
    assert (left_out.photo, left_out.problem) == (flat, "of one colour, or nearly, so it shows nobody")


def test_people_who_are_called_as_those_trained_on_are_not_called_new(run, recognizer, notices, faces, tmp_path):
    """By pixels nobody is found: photographs are others."""
    numbered = tmp_path / "others"
    render_folder(RenderSpec(identities=6, images=6, size=32, difficulty=0.2, seed=9), numbered)

    (numbered / "person-001" / "notes.txt").touch()
    (tmp_path / "groups.csv").write_text("label,group\nperson-001,east\nPerson-002,west\n")

    evaluation = recognizer.evaluate(numbered, groups=tmp_path / "groups.csv")

    assert "others: not used: 1 file: no image (.txt) (person-001/notes.txt)" in notices
    assert evaluation["identities_seen_in_training"] is False
    assert (
        f"groups.csv has no group of 5 of the 6 people ({', '.join(f'person-00{k}' for k in range(2, 7))})"
        in notices[0]
    )
    assert "6 of the 6 people are called as people of the run's own data" in notices[-1]
    assert "if they are the same ones, these are no new people" in notices[-1]

    named = shutil.copytree(faces, tmp_path / "named")
    sorted(named.iterdir())[0].rename(named / "Ana")
    own = Run.create(tmp_path / "run", make_job(data=str(named), image_size=32))
    shutil.copy(run.model_file, own.model_file)
    sorted(numbered.iterdir())[0].rename(numbered / "Ana")

    assert Recognizer(own, notices.append).evaluate(numbered)["identities_seen_in_training"] is True
    assert "6 of the 6 people are called as people of the run's own data (Ana): these are no new people" in notices[-1]


def test_what_the_data_does_not_allow_is_said_and_the_rest_is_evaluated(run, recognizer, notices, faces, tmp_path):
    """One of five images is held out of each person, so there are no two to compare."""
    for person in sorted(faces.iterdir()):
        for image in sorted(person.iterdir())[:5]:
            (tmp_path / "five" / person.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, tmp_path / "five" / person.name)
    own = Run.create(tmp_path / "run", make_job(data=str(tmp_path / "five"), image_size=32))
    shutil.copy(run.model_file, own.model_file)
    few = tmp_path / "few"
    for person in sorted(faces.iterdir())[:3]:
        shutil.copytree(person, few / person.name)

    of_own, of_few = Recognizer(own, notices.append).evaluate(), recognizer.evaluate(few)

    assert (of_own["closed_set"]["examples"], of_own["identification"]["probes"], "verification" in of_own) == (8, 8, 0)
    assert "0 of the 8 identities here have two; give other people's images" in of_own["left_out"]["verification"]
    assert (of_few["identification"]["gallery_identities"], "verification" in of_few) == (3, False)
    assert "there are 3; give data of more people" in of_few["left_out"]["verification"]
    shown = facesim_here("evaluate", own.directory)
    assert shown.code == 0 and "verification     not measured: verification needs two images" in shown.output
    with pytest.raises(InputError, match="no false accept rate can be told: verification needs 4 identities"):
        recognizer.evaluate(few, fars=[0.1])


def test_groups_of_enough_people_have_no_warning(run, tmp_path):
    render_folder(RenderSpec(identities=30, images=4, size=32, seed=9), tmp_path / "others")
    names = [person.name for person in (tmp_path / "others").iterdir()]
    (tmp_path / "groups.csv").write_text("\n".join(["label,group", *(f"{name},east" for name in names)]))

    shown = facesim_here("evaluate", run.directory, tmp_path / "others", "--groups", tmp_path / "groups.csv")

    assert shown.code == 0, shown.errors
    assert "errors by group, identification, rank 1" in shown.output and "Too few people" not in shown.output


def test_people_of_one_image_are_left_out_and_told(recognizer, notices, tmp_path):
    others = tmp_path / "others"
    render_folder(RenderSpec(identities=6, images=4, size=32, difficulty=0.2, seed=9), others)
    for image in sorted((others / "person-001").iterdir())[1:]:
        image.unlink()

    assert recognizer.evaluate(others)["people"] == 5
    assert "others: not used: 1 image: of an identity with fewer than 2 images (person-001)" in notices


def test_of_data_that_has_changed_nobody_knows_who_is_who(run, notices, tmp_path):
    changed = Run(shutil.copytree(run.directory, tmp_path / "changed"))
    changed.evaluation_file.unlink(missing_ok=True)  # what other tests evaluated
    Recognizer(changed, notices.append).evaluate()
    result = {"strategy": "single", "backend": "local", "seed": 0, "state": "Completed"}
    changed.result_file.write_text(json.dumps({**result, "data": {"content_sha256": "0" * 64}}))

    evaluated = Recognizer(changed, notices.append).evaluate()

    assert "whom each output of the model stands for" in evaluated["left_out"]["closed set"]
    assert "closed_set" not in evaluated
    assert evaluated["identification"] and evaluated["verification"]
    assert list(json.loads(changed.evaluation_file.read_text())) == ["the run's own images"]


def test_pairs_of_images_that_were_trained_on_are_told(recognizer, notices, faces, tmp_path, monkeypatch):
    images = [sorted(person.iterdir()) for person in sorted(faces.iterdir())]
    same = [f"{one[0]},{one[1]},1" for one in images]
    different = [f"{one[2]},{other[2]},0" for one, other in zip(images, images[1:] + images[:1])]
    (tmp_path / "pairs.csv").write_text("\n".join(["first,second,same", *same, *different]))
    encoded = [file.read_bytes() for one in [*same, *different] for file in map(Path, one.split(",")[:2])]
    (tmp_path / "pairs.bin").write_bytes(pickle.dumps((encoded * 2, [1] * 8 + [0] * 8 + [1] * 8 + [0] * 8)))
    monkeypatch.chdir(faces)

    of_list = recognizer.evaluate(".", pairs=tmp_path / "pairs.csv")
    of_set = recognizer.evaluate(tmp_path / "pairs.bin")

    assert of_list["data"] == str(faces.resolve()), "`.` says not which folder"
    assert of_list["identities_seen_in_training"] is of_set["identities_seen_in_training"] is True
    assert notices == [
        "24 of the 24 images are in the run's own data: these are no new people",
        "64 of the 64 images are in the run's own data: these are no new people",
    ]


def test_people_of_two_folders_of_one_name_have_an_evaluation_each(run, recognizer, tmp_path, monkeypatch):
    for seed, team in enumerate("ab"):
        render_folder(RenderSpec(identities=6, images=4, size=32, seed=seed + 9), tmp_path / team / "people")
    monkeypatch.chdir(tmp_path)

    evaluations = [recognizer.evaluate(place) for place in ("a/people", "b/people", tmp_path / "a" / "people")]

    kept = [one for one in run.evaluations().values() if one.title == "people"]
    assert [one.source for one in kept] == [(str(tmp_path / team / "people"),) for team in "ba"]
    assert kept[-1].evaluated_unix_s == evaluations[-1]["evaluated_unix_s"]


def test_other_people_s_data_is_read_whatever_the_run_s_own_is_like(run, notices, faces, tmp_path):
    """Its own are files that are not kept decoded, of people with five images or more; others are arrays, two each."""
    own = {"cache": "none", "min_images": 5, "image_feature": "picture", "label_feature": "subject"}
    strict = Run.create(tmp_path / "run", make_job(data=str(faces), image_size=32, **own))
    shutil.copy(run.model_file, strict.model_file)
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "others.npz", images=images, labels=np.repeat(np.arange(6), 2))

    assert Recognizer(strict, notices.append).evaluate(tmp_path / "others.npz")["people"] == 6


def test_as_many_files_of_other_people_may_be_bad_as_usual_whatever_the_run_allowed(run, notices, faces, tmp_path):
    strict = Run.create(tmp_path / "run", make_job(data=str(faces), image_size=32, max_bad_files=0.0))
    shutil.copy(run.model_file, strict.model_file)
    person = sorted(shutil.copytree(faces, tmp_path / "others").iterdir())[0]
    (person / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")

    recognizer = Recognizer(strict, notices.append)
    assert recognizer.evaluate(tmp_path / "others")["people"] == 8
    with pytest.raises(InputError, match="--max-bad-files"):
        recognizer.evaluate(tmp_path / "others", max_bad_files=0.0)


def test_parts_of_other_people_s_data_are_pooled_and_no_option_is_named(recognizer, notices, tmp_path):
    for part, seed in {"train": 9, "test": 10}.items():
        render_folder(RenderSpec(identities=3, images=4, size=32, seed=seed), tmp_path / "others" / part)

    assert recognizer.evaluate(tmp_path / "others")["people"] == 3
    assert "others: its own split (train 12, test 12) is not kept: all images are pooled." in notices
    assert not [told for told in notices if "--split" in told]


def test_what_other_people_s_data_calls_them_is_an_option(run, recognizer, faces, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    images = [image.read_bytes() for person in sorted(faces.iterdir()) for image in sorted(person.iterdir())[:3]]
    columns = {"image": images, "label": [at // 3 for at in range(24)], "who": [f"w{at // 6}" for at in range(24)]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "others.parquet")

    assert recognizer.evaluate(tmp_path / "others.parquet")["people"] == 8
    shown = facesim_here("evaluate", run.directory, tmp_path / "others.parquet", "--label-feature", "who", "--json")
    assert parse(shown)["people"] == 4
    with pytest.raises(InputError, match="label_feature who does not go with the run's own data"):
        recognizer.evaluate(label_feature="who")


def test_an_evaluation_on_a_validation_part_is_not_called_held_out(run, faces, tmp_path):
    validated = Run.create(tmp_path / "run", make_job(data=str(faces), image_size=32, validation=0.25))
    shutil.copy(run.model_file, validated.model_file)

    shown = facesim_here("evaluate", validated.directory)

    assert "of 16 validation images" in shown.output and "held-out" not in shown.output, shown.errors


@pytest.mark.parametrize("registers", [False, True])
def test_an_export_that_needs_the_user_s_file_says_so(run, recognizer, notices, tmp_path, monkeypatch, registers):
    """Also where the file registers its layers: that was done in this process, and not where the export is loaded."""
    from facesim import models

    registered = "@keras.saving.register_keras_serializable('own')\ndef twice"
    (tmp_path / "net.py").write_text(OWN.replace("def twice", registered) if registers else OWN)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    job = make_job(data=run.job().experiment.data, image_size=32, model=f"{tmp_path / 'net.py'}:build")
    own = Run.create(tmp_path / "run", job)
    models.build(job.experiment.model, (32, 32, 3), 8).save(own.model_file)

    Recognizer(own, notices.append).export(tmp_path / "own.keras")
    assert f"has layers or functions of {tmp_path / 'net.py'} in it: to load it, give Keras these" in notices[-1]
    recognizer.export(tmp_path / "facesim.keras")
    assert "custom_objects" not in notices[-1]


def test_embeddings_are_not_written_over_anything(run, faces, tmp_path):
    np.savez(tmp_path / "mine.npz", mine=1)

    command = facesim_here("embed", run.directory, faces, "--output", tmp_path / "mine.npz")

    assert (command.code, "mine.npz already exists; name another" in command.errors) == (2, True)
    assert np.load(tmp_path / "mine.npz").files == ["mine"]
