"""What is named to a model and is not simply taken: one image twice, people who are known, files that are none."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from facesim.data import RenderSpec, render_folder
from facesim.models.own import ENVIRONMENT
from facesim.recognition.recognizer import Recognizer
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.util.errors import InputError
from tests.conftest import facesim_here

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
    told = f"1 of 2 images are of one colour, or nearly, and show nobody ({flat})"
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


def test_an_export_that_needs_the_user_s_file_says_so(run, recognizer, notices, tmp_path, monkeypatch):
    from facesim import models

    (tmp_path / "net.py").write_text(OWN)
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
