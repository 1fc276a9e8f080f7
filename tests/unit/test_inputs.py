"""What the jobs of a study read: each its own data, whatever stands beside it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from facesim.data import stratified_split
from facesim.data.identity import identity_of
from facesim.preflight.inputs import prepare_all
from facesim.spec.data import DataSpec, images_sha256
from facesim.spec.job import make_job
from facesim.util.errors import InputError


def quiet(*_: object) -> None:
    pass


def shapes(*jobs) -> list[tuple[int, ...]]:
    return [one.data.image_shape for one in prepare_all(list(jobs), quiet)]


def test_jobs_of_other_sizes_and_channels_have_their_own_images(faces):
    jobs = [
        make_job(data=str(faces), image_size=size, channels=channels) for size, channels in ((32, 3), (48, 3), (32, 1))
    ]

    assert shapes(*jobs) == [(32, 32, 3), (48, 48, 3), (32, 32, 1)]


@pytest.mark.parametrize("place", [0, 1])
def test_a_folder_that_does_not_exist_is_told_wherever_its_job_stands(faces, place):
    jobs = [make_job(data=str(faces), image_size=32)]
    jobs.insert(place, make_job(data="/nowhere/faces", image_size=32))

    with pytest.raises(InputError, match="/nowhere/faces"):
        prepare_all(jobs, quiet)


def test_people_with_few_images_are_left_out_for_the_job_that_says_so(faces, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(faces, folder)
    for image in sorted(next(iter(sorted(folder.iterdir()))).iterdir())[3:]:
        image.unlink()
    everybody, fewer = (make_job(data=str(folder), image_size=32, min_images=least) for least in (None, 5))

    inputs = prepare_all([everybody, fewer], quiet)

    assert len(inputs[0].data.names) == len(inputs[1].data.names) + 1


def test_jobs_with_the_same_images_share_them(faces):
    jobs = [make_job(data=str(faces), image_size=32, **other) for other in ({"seed": 0}, {"seed": 1, "held_out": 0.5})]

    one, other = prepare_all(jobs, quiet)

    assert one.data is other.data


def test_a_subset_is_of_its_own_seed(faces):
    jobs = [make_job(data=str(faces), image_size=32, subset="images=4", seed=seed) for seed in (0, 1, 0)]

    first, other, again = prepare_all(jobs, quiet)

    assert first.data is again.data
    assert first.data.sha256 != other.data.sha256


def test_the_images_tested_are_known_by_their_content_and_not_by_their_place(faces, tmp_path):
    copied, changed = tmp_path / "copied", tmp_path / "changed"
    shutil.copytree(faces, copied)
    shutil.copytree(faces, changed)
    people = sorted(changed.iterdir())
    first, second = (sorted(person.iterdir()) for person in people[:2])
    for one, other in zip(first, second):  # an image of somebody else under this person's name
        shutil.copy(other, one)

    def tested(folder, **options):
        job = make_job(data=str(folder), **{"image_size": 32, **options})
        (inputs,) = prepare_all([job], quiet)
        return identity_of(
            inputs.data, stratified_split(inputs.data.labels, job.experiment.held_out, job.experiment.seed)[1]
        )

    assert tested(faces) == tested(copied)
    others = [tested(changed), tested(faces, held_out=0.5), tested(faces, seed=1), tested(faces, image_size=48)]
    assert len({tested(faces), *others}) == 5


def test_what_decides_the_images_is_frozen_and_hashable():
    spec = make_job(data="photos", min_images=5).experiment.data_spec

    assert spec == DataSpec(data="photos", min_images=5)
    assert len({spec, DataSpec(data="photos", min_images=5), DataSpec(data="photos")}) == 2
    assert spec.differences(DataSpec(data="photos", seed=3)) == {"min_images": (5, None)}
    with pytest.raises(ValueError, match="frozen"):
        spec.data = "others"


def test_identity_does_not_depend_on_order_or_names():
    random = np.random.default_rng(0)
    examples = [(label, random.bytes(32)) for label in (0, 0, 1, 1, 2)]
    renamed = [({0: 2, 1: 0, 2: 1}[label], digest) for label, digest in reversed(examples)]
    regrouped = [(1 - label if at == 1 else label, digest) for at, (label, digest) in enumerate(examples)]

    assert images_sha256(examples) == images_sha256(renamed)
    assert images_sha256(examples) != images_sha256(regrouped)
