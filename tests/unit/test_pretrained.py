"""Runs that start from the network of another: which is taken, and what its accuracy must not come from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from facesim.models import network_name
from facesim.preflight.inputs import prepare_all, prepare_inputs
from facesim.preflight.leakage import check_unseen
from facesim.preflight.pretrained import find_pretrained, keep_pretrained
from facesim.runs.directory import Run
from facesim.spec.job import Job, make_job
from facesim.util.errors import InputError

#: A network as small as its description: nothing here reads the numbers in it.
NETWORK = {"config": {"name": "compact_cnn", "layers": [{"config": {"batch_shape": [None, 32, 32, 3]}}]}}


def quiet(*_: object) -> None:
    pass


def job_on(data: Path, pretrained: Path | None = None, **options: object) -> Job:
    start = str(pretrained) if pretrained else None
    return make_job(data=str(data), pretrained=start, model="compact-cnn", image_size=32, **options)


def trained(directory: Path, job: Job, network: dict = NETWORK) -> Path:
    """What a run of `job` leaves of its network."""
    run = Run.create(directory, job)
    with zipfile.ZipFile(run.model_file, "w") as archive:
        archive.writestr("config.json", json.dumps(network))
    return directory


@pytest.fixture
def earlier(tmp_path, faces) -> Path:
    return trained(tmp_path / "earlier", job_on(faces))


def test_a_network_is_kept_by_its_content(earlier, faces, tmp_path):
    file = earlier / "model.keras"
    shutil.copy(file, tmp_path / "copy.keras")

    one, other = (
        prepare_inputs(job_on(faces, start), quiet).pretrained for start in (earlier, tmp_path / "copy.keras")
    )

    assert one == other
    assert one.name == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [path.name for path in one.iterdir()] == ["model.keras"]
    assert (one / "model.keras").read_bytes() == file.read_bytes()
    assert not [path for path in one.parent.iterdir() if path.name.startswith(".")]


def test_a_run_and_the_file_in_it_are_the_same_network(earlier):
    of_run, of_file = find_pretrained(str(earlier)), find_pretrained(str(earlier / "model.keras"))

    assert of_run.file == of_file.file
    assert of_run.run.id == of_file.run.id == "earlier"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (NETWORK | {"config": NETWORK["config"] | {"name": "resnet_small"}}, "is a resnet-small for images of 32x32x3"),
        ({"config": {"name": "compact_cnn", "layers": [{"config": {"batch_shape": [None, 64, 64, 3]}}]}}, "of 64x64x3"),
        ({"config": {"name": "compact_cnn", "layers": []}}, "is not a model that facesim saved"),
        ({}, "is not a model that facesim saved"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(faces, tmp_path, network, message):
    other = trained(tmp_path / "other", job_on(faces), network)

    with pytest.raises(InputError, match=message):
        prepare_inputs(job_on(faces, other), quiet)


def test_a_network_in_a_file_of_the_user_s_is_known_by_its_content(faces, tmp_path):
    for folder, name, source in (("a", "net", "A"), ("a", "renamed", "A"), ("b", "net", "B")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.py").write_text(f"def build(image_shape, identities): return '{source}'\n")
    first, renamed, other = (
        make_job(data=str(faces), model=f"{tmp_path / file}.py:build").experiment
        for file in ("a/net", "a/renamed", "b/net")
    )
    config = NETWORK["config"] | {"name": network_name(first.model)}
    start = trained(tmp_path / "start", job_on(faces), {"config": config})

    kept = [
        keep_pretrained(one.model_copy(update={"pretrained": str(start)}), (32, 32, 3), tmp_path / "cache")
        for one in (first, renamed)
    ]

    assert kept[0] == kept[1] is not None
    with pytest.raises(InputError, match="is a net-build-.* and this would train a .*b/net.py:build@"):
        keep_pretrained(other.model_copy(update={"pretrained": str(start)}), (32, 32, 3), tmp_path / "cache")


def test_what_is_no_network_is_refused(faces, tmp_path):
    (tmp_path / "text.keras").write_text("no archive")
    unfinished = Run.create(tmp_path / "unfinished", job_on(faces)).directory

    for start, message in {
        tmp_path / "nothing": "does not exist",
        tmp_path / "text.keras": "is not a model that facesim saved",
        unfinished: "name a run that has completed",
    }.items():
        with pytest.raises(InputError, match=message):
            prepare_inputs(job_on(faces, start), quiet)


def unseen(*jobs: Job) -> list[str]:
    return check_unseen(jobs, prepare_all(list(jobs), quiet))


def test_the_same_split_as_before_is_no_leak(earlier, faces):
    assert unseen(job_on(faces, earlier), job_on(faces)) == []


def test_images_that_the_network_was_trained_on_cannot_be_held_out(earlier, faces):
    with pytest.raises(InputError, match=r"was trained on \d+ of the 16 images that are held out here \(seed 1\)"):
        unseen(job_on(faces, earlier), job_on(faces, earlier, seed=1))


def test_nor_can_those_that_its_own_start_was_trained_on(earlier, faces, tmp_path):
    other = tmp_path / "others"
    people = sorted(faces.iterdir())
    for person in people[:3]:
        shutil.copytree(person, other / person.name)
    start = trained(tmp_path / "grandparent", job_on(faces, seed=3))
    between = trained(tmp_path / "between", job_on(other, start))

    with pytest.raises(InputError, match="held out here"):
        unseen(job_on(faces, between))


def test_another_network_under_the_same_name_is_looked_at_anew(earlier, faces, tmp_path):
    """In one process, as a notebook is."""
    with pytest.raises(InputError, match="held out here"):
        unseen(job_on(faces, earlier, seed=1))

    shutil.rmtree(earlier)
    trained(earlier, job_on(faces, seed=1))

    assert unseen(job_on(faces, earlier, seed=1)) == []
    with pytest.raises(InputError, match="held out here"):
        unseen(job_on(faces, earlier))


def test_other_forms_of_them_are_told(faces, tmp_path):
    others = tmp_path / "others"
    shutil.copytree(faces, others)
    for file in others.rglob("*.png"):
        image = Image.open(file).convert("RGB")
        image.save(file.with_suffix(".jpg"), quality=70)
        file.unlink()
    start = trained(tmp_path / "start", job_on(others, seed=1))

    (notice,) = unseen(job_on(faces, start))

    assert re.match(
        rf"\d+ of the 16 images .*looks? the same as images that --pretrained {start} was trained on", notice
    )


def test_what_cannot_be_known_of_a_network_is_told(earlier, faces, tmp_path):
    shutil.copy(earlier / "model.keras", tmp_path / "found.keras")
    gone = trained(tmp_path / "gone", job_on(tmp_path / "nowhere"))

    (alone,) = unseen(job_on(faces, tmp_path / "found.keras"), job_on(faces, tmp_path / "found.keras", seed=1))
    (lost,) = unseen(job_on(faces, gone))

    assert "found.keras was trained on is not known" in alone
    assert "gone was trained on cannot be looked at" in lost
    assert "the accuracy too high" in alone and "the accuracy too high" in lost


def test_images_that_are_not_told_apart_any_more_are_told_and_refuse_nothing(faces, tmp_path):
    """The earlier run was tested on a part of its data that has gone."""
    split = tmp_path / "split"
    for part, there in {"train": slice(4), "val": slice(4, 6), "test": slice(6, 8)}.items():
        for person in faces.iterdir():
            (split / part / person.name).mkdir(parents=True)
            for file in sorted(person.iterdir())[there]:
                shutil.copy(file, split / part / person.name)
    start = trained(tmp_path / "start", job_on(split, test_part="val"))
    shutil.rmtree(split / "val")

    (doubt,) = unseen(job_on(faces, start))

    assert f"which images of split {start} was trained on is not known (--test-part val: " in doubt
    assert "the accuracy too high" in doubt


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content[:-10],
        lambda content: content.replace(b"PK\x03\x04", b"PK\x03\x05"),
        lambda content: content.replace(b"\x00\x00config.json", b"\x00\x01config.json"),
    ],
)
def test_a_damaged_network_is_told(tmp_path, damage):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(NETWORK))
    content = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(damage(content))

    with pytest.raises(InputError, match="is not a model that facesim saved"):
        find_pretrained(str(tmp_path / "model.keras"))


def test_a_network_that_unpacks_to_more_than_the_memory_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(NETWORK))
        archive.getinfo("config.json").file_size = 1 << 50

    with pytest.raises(InputError, match="unpacks to 1,048,576.0 GiB and"):
        find_pretrained(str(tmp_path / "model.keras"))
