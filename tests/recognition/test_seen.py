"""Whether people were trained on: by the images and names of all that a run's network comes from, or else not known."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facesim.data import RenderSpec, prepare, render_folder
from facesim.data.identity import image_digests
from facesim.preflight.inputs import prepare_data
from facesim.recognition.seen import seen_in_training
from facesim.runs.directory import Run
from facesim.spec.job import make_job

#: A network as small as its description: nothing here reads the numbers in it.
NETWORK = {"config": {"name": "compact_cnn", "layers": [{"config": {"batch_shape": [None, 32, 32, 3]}}]}}


@pytest.fixture
def trained(tmp_path):
    """A run on some data, maybe from the network of another."""

    def make(name: str, data: Path | str, pretrained: Run | None = None) -> Run:
        start = str(pretrained.directory) if pretrained else None
        run = Run.create(tmp_path / name, make_job(data=str(data), pretrained=start, image_size=32))
        with zipfile.ZipFile(run.model_file, "w") as archive:
            archive.writestr("config.json", json.dumps(NETWORK))
        return run

    return make


@pytest.fixture
def others(tmp_path) -> Path:
    """People without numbers in their names."""
    folder = tmp_path / "others"
    render_folder(RenderSpec(identities=4, images=2, size=32, seed=9), folder)
    for person, name in zip(sorted(folder.iterdir()), ("Ana", "Bo", "Cy", "Di"), strict=True):
        person.rename(folder / name)
    return folder


@pytest.fixture
def asked(cache):
    """Whether the images of a folder were trained on, and what is told."""

    def ask(run: Run, folder: Path, named: bool = True) -> tuple[bool | None, str]:
        notices: list[str] = []
        data = prepare(str(folder), image_size=32, cache_dir=cache)
        digests = image_digests(data, np.arange(len(data.labels)))
        return seen_in_training(run, digests, data.names if named else None, notices.append), "; ".join(notices)

    return ask


def test_the_run_s_own_images_were_trained_on_under_whatever_name(trained, asked, faces, others, tmp_path):
    run = trained("run", faces)
    shutil.copytree(sorted(faces.iterdir())[0], others / "Eve")

    assert asked(run, others) == (True, "10 of the 18 images are in the run's own data: these are no new people")
    shutil.rmtree(others / "Eve")
    assert asked(run, others) == (False, "")


def test_of_pairs_the_images_are_known_and_not_the_people(trained, asked, faces, others):
    run = trained("run", faces)

    assert asked(run, faces, named=False)[0] is True
    assert asked(run, others, named=False) == (None, "")


def test_rendered_people_are_known_when_they_are_in_a_folder(trained, asked, tmp_path):
    run = trained("run", "rendered")
    rendered = prepare_data(run.job(), lambda *_: None)
    np.savez(tmp_path / "same.npz", images=rendered.images, labels=rendered.labels)

    assert asked(run, tmp_path / "same.npz")[0] is True


def test_a_folder_is_found_from_the_home_folder_on(trained, asked, others, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    assert asked(trained("run", "~/others"), others)[0] is True


def test_what_is_not_at_hand_any_more_is_not_known(trained, asked, faces, others, tmp_path, monkeypatch):
    monkeypatch.chdir(others.parent)
    run = trained("run", others.name)
    monkeypatch.chdir("/")

    seen, told = asked(run, others)

    assert seen is None
    assert "whether these people were trained on is not known: what " in told and "cannot be looked at (no data" in told


@pytest.mark.parametrize("data", ["hf:organisation/faces", "olivetti"])
def test_nothing_is_fetched_for_it(trained, asked, others, tmp_path, data, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "nothing"))

    seen, told = asked(trained("run", data), others)

    assert (seen, f"({data} would have to be fetched)" in told) == (None, True)


def test_data_that_has_changed_since_then_says_only_who_is_in_it(trained, asked, faces, others):
    run = trained("run", others)
    result = {"strategy": "single", "backend": "local", "seed": 0, "state": "Completed"}
    run.result_file.write_text(json.dumps({**result, "data": {"content_sha256": "0" * 64}}))

    assert asked(run, others)[0] is True
    seen, told = asked(run, faces)
    assert (seen, "others has changed since " in told) == (None, True)


def test_a_run_in_the_place_of_the_one_that_it_started_from_ends_the_search(trained, asked, faces, others):
    first = trained("first", others)
    trained("last", faces, first).directory.rename(first.directory.with_name("moved"))
    shutil.rmtree(first.directory)
    first.directory.with_name("moved").rename(first.directory)

    seen, told = asked(first, others)

    assert (seen, f"what {first.directory} was trained on is not known" in told) == (None, True)


def test_what_the_network_started_from_counts(trained, asked, faces, others):
    middle = trained("middle", "rendered", trained("first", others))
    last = trained("last", faces, middle)

    seen, told = asked(last, others)

    assert seen is True
    assert "8 of the 8 images are in the run's own data, or that of the network that it started from" in told
    shutil.rmtree(middle.directory)
    seen, told = asked(last, others)
    assert (seen, f"what {middle.directory} was trained on cannot be looked at" in told) == (None, True)


def test_a_network_that_was_made_of_rendered_people_has_seen_nobody(trained, asked, faces, others, tmp_path):
    start = trained("start", faces).model_file.rename(tmp_path / "start.keras")
    record = {"sha256": hashlib.sha256(start.read_bytes()).hexdigest(), "rendered": {"identities": 100}}
    run = Run.create(tmp_path / "run", make_job(data=str(faces), pretrained=str(start), image_size=32))

    assert asked(run, others)[0] is None, "nobody knows what it was trained on"
    (tmp_path / "start.keras.json").write_text(json.dumps(record))
    assert asked(run, others) == (False, "")
    (tmp_path / "start.keras.json").write_text(json.dumps(record | {"sha256": "0" * 64}))
    assert asked(run, others)[0] is None, "the record is of another network"
