"""A data set's own split, and `--test`: kept everywhere, told, and looked through for images that are in both parts."""

from __future__ import annotations

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from facesim.baselines.record import study_baselines
from facesim.data import PreparedData, describe, duplicates, prepare, render
from facesim.data.duplicates import cropped_pairs, hashes_of, near_across, near_pairs
from facesim.data.rendering import RenderSpec
from facesim.data.subsets import take_subset
from facesim.preflight.checks import preflight
from facesim.preflight.inputs import prepare_all, prepare_data
from facesim.spec.data import DataSpec
from facesim.spec.job import make_job
from facesim.spec.subset import Subset
from facesim.util.errors import InputError

OWN = DataSpec()
PEOPLE = ("Ana", "Bo", "Cy", "Di")


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    """Ten images of each of `PEOPLE`, (40, 64, 64, 3), one person's after the other's."""
    return render(RenderSpec(identities=4, images=10, size=64, difficulty=0.5))[0]


@pytest.fixture
def tree(tmp_path, faces):
    """A folder with images of those numbers in its sub-folders, each of which ends in a person's name."""

    def write(folders: dict[str, range], root: str = "faces"):
        for folder, numbers in folders.items():
            person = next(index for index, name in enumerate(PEOPLE) if name in folder)
            (tmp_path / root / folder).mkdir(parents=True, exist_ok=True)
            for number in numbers:
                file = tmp_path / root / folder / f"{folder.replace('/', '-')}{number}.png"
                Image.fromarray(faces[10 * person + number]).save(file)
        return tmp_path / root

    return write


@pytest.fixture
def ready(tmp_path):
    def run(source, **options) -> PreparedData:
        return prepare(str(source), **{"image_size": 32, "cache_dir": tmp_path / "cache", **options})

    return run


def folders(data: PreparedData, indices: np.ndarray) -> set[str]:
    return {data.origins[index].split("/")[0] for index in indices}


TRAINED = {"train/Ana": range(4), "train/Bo": range(3)}
VAL_PART = {"val/Ana": range(4, 6), "val/Bo": range(4, 6)}
TESTED = {"test/Ana": range(6, 9), "test/Bo": range(6, 7)}
THREE = TRAINED | VAL_PART | TESTED


@pytest.mark.parametrize("decoded", [True, False])
def test_folders_of_a_split_are_kept_and_val_is_left_aside(ready, tree, decoded):
    data = ready(tree(THREE), decoded=decoded)

    train, held_out = data.split(OWN)

    assert (folders(data, train), len(train)) == ({"train"}, 7)
    assert (folders(data, held_out), len(held_out)) == ({"test"}, 4)
    np.testing.assert_array_equal(PreparedData.load(data.directory).parts, data.parts)
    assert [len(one) for one in data.split(DataSpec(seed=7, held_out=0.5))] == [7, 4], "neither seed nor share counts"


@pytest.mark.parametrize("around", ["training_data", "dev", "Test Set", "faces/eval/all"])
def test_a_folder_around_the_whole_data_set_is_no_part_of_it(ready, tree, around):
    data = ready(tree({f"{around}/{folder}": numbers for folder, numbers in (TRAINED | TESTED).items()}))

    assert np.bincount(data.parts).tolist() == [7, 0, 4]


def test_val_can_be_tested_on_to_choose_settings(ready, tree):
    data = ready(tree(THREE))

    assert folders(data, data.split(DataSpec(test_part="val"))[1]) == {"val"}


KEPT = "its own split is kept: "
ASIDE = " are neither trained on nor tested"
POOLED = ". --held-out does not apply; --split random pools all images."


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {},
            f"{KEPT}7 images are trained on and 4 (test) are tested, and the 4 of val{ASIDE} (--test-part val tests on "
            f"them){POOLED}",
        ),
        (
            {"test_part": "val"},
            f"{KEPT}7 images are trained on and 4 (val) are tested, and the 4 of test{ASIDE}{POOLED}",
        ),
        (
            {"validation": 0.4},
            f"{KEPT}4 images are trained on and 3 (--validation) are tested, and the 4 of val and the 4 of "
            f"test{ASIDE}{POOLED}",
        ),
    ],
)
def test_what_is_told_of_a_split_is_what_the_options_make_of_it(ready, tree, spec, told):
    data = ready(tree(THREE))
    trained, tested = data.split(DataSpec(**spec))

    assert data.notes_for(DataSpec(**spec)) == (told,)
    assert f"{len(trained)} images are trained on and {len(tested)} (" in told


def test_what_is_told_of_other_images_to_test_on_is_not_of_a_split_of_its_own(ready, tree):
    trained = tree({"Ana": range(4), "Bo": range(3)}, "here")
    other = str(tree({"Bo": range(6, 8), "Ana": range(5, 9)}, "there"))
    data = ready(trained, test=other)

    assert data.notes_for(DataSpec(test=other)) == (
        "--test names the images to test on: 7 images are trained on and 6 (--test) are tested. --held-out does not "
        "apply.",
    )
    assert "3 (--validation) are tested, and the 6 of --test" in data.notes_for(DataSpec(test=other, validation=0.4))[0]


@pytest.mark.parametrize("spec", [{"test_part": "val"}, {"validation": 0.4}])
def test_before_training_and_by_describe_the_split_of_the_job_is_told(tree, tmp_path, monkeypatch, spec):
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    job = make_job(data=str(tree(THREE)), image_size=32, **spec)

    cleared = preflight([job], [tmp_path / "runs/one"])

    data = cleared.planned[0].inputs.data
    (told,) = data.notes_for(job.experiment.data_spec)
    assert cleared.notices["data"] == [f"faces: {told}"]
    assert describe(data, job.experiment.data_spec).notes == (told,)


@pytest.mark.parametrize("part", [TRAINED | TESTED, {"Ana": range(4), "Bo": range(4)}])
def test_a_part_that_there_is_not_is_refused(ready, tree, part):
    data = ready(tree(part))

    with pytest.raises(InputError, match="--test-part val") as error:
        data.split(DataSpec(test_part="val"))
    assert error.value.field == "test_part"


def test_without_a_part_test_the_part_val_is_tested(ready, tree):
    data = ready(tree(TRAINED | VAL_PART))

    assert len(data.split(OWN)[1]) == 4 and "4 (val) are tested." in data.notes_for(OWN)[0]


def test_random_pools_all_of_it(ready, tree):
    data = ready(tree(THREE), split="random")

    assert data.parts is None and sum(map(len, data.split(OWN))) == 15
    assert data.notes[0] == "its own split (train 7, val 4, test 4) is not kept: all images are pooled."


def test_folders_of_parts_may_be_inside_those_of_people(ready, tree):
    data = ready(
        tree({"Ana/train": range(3), "Ana/Test Set": range(3, 5), "Bo/train": range(2), "Bo/Test Set": range(2, 3)})
    )

    assert (data.names, np.bincount(data.parts).tolist()) == (("Ana", "Bo"), [5, 0, 3])


def test_images_of_no_part_are_refused_unless_all_are_pooled(ready, tree):
    root = tree({"Ana": range(3), "Bo": range(3), "Ana/train": range(3, 5), "Ana/test": range(5, 7)})

    with pytest.raises(InputError, match=r"train 2, test 2.* 6 images that belong to none.*--split random") as error:
        ready(root)
    assert error.value.field == "split"
    assert ready(root, split="random").parts is None


def test_who_is_not_trained_on_is_left_out_and_told(ready, tree):
    data = ready(tree(TRAINED | TESTED | {"test/Di": range(3)}))

    assert data.names == ("Ana", "Bo")
    assert [str(one) for one in data.unused] == ["3 images: of an identity without an image to train on (Di)"]


@pytest.mark.parametrize(
    ("how", "told"), [("folders", "people of its parts are others"), ("--test", r"nobody of whom test \(--test\) has")]
)
def test_one_person_under_two_spellings_is_told_though_one_is_left_out(ready, tree, how, told):
    source = tree({"train/Ana": range(4), "train/Bo": range(4), "test/Ana": range(4, 6), "test/Bo": range(4, 6)})
    (source / "test/Ana").rename(source / "test/a\u0301na")
    given = {"source": source} if how == "folders" else {"source": source / "train", "test": str(source / "test")}

    data = ready(**given)

    assert "2 images: of an identity without an image to train on (\u00e1na)" in map(str, data.unused)
    assert any(note.startswith("'Ana' and '\u00e1na': names that differ in capitals") for note in data.notes)
    (source / "test/Bo").rename(source / "test/bo_")
    with pytest.raises(InputError, match=f"{told}.*'Ana' and '\u00e1na', 'Bo' and 'bo_': names"):
        ready(**given)


@pytest.mark.parametrize(
    "names", [("Training Set", "Test Set"), ("train_data", "held-out"), ("TRAIN-Images", "Holdout")]
)
def test_parts_are_called_in_many_ways(ready, tree, names):
    source = tree({f"{name}/{person}": range(2) for name in names for person in ("Ana", "Bo")})

    assert np.bincount(ready(source).parts).tolist() == [4, 0, 4]


def test_a_person_needs_one_image_to_train_on_and_none_to_test_on(ready, tree):
    data = ready(tree({"train/Ana": range(1), "train/Bo": range(1), "test/Ana": range(1, 3)}))

    assert [len(one) for one in data.split(OWN)] == [2, 2]


def test_a_split_of_other_people_is_refused_with_what_to_do(ready, tree):
    with pytest.raises(InputError, match=r"the people of its parts are others.*facesim evaluate RUN DATA"):
        ready(tree(TRAINED | {"test/Cy": range(3), "test/Di": range(3)}))


def test_other_people_to_test_on_are_refused_with_what_helps(ready, tree):
    trained, tested = tree({"Ana": range(4), "Bo": range(3)}, "here"), tree({"Cy": range(3), "Di": range(3)}, "there")

    with pytest.raises(InputError, match=r"whom there \(--test\) has .* Compare what people are called") as refused:
        ready(trained, test=str(tested))

    assert "--split" not in str(refused.value)


def test_another_data_set_is_tested_on(ready, tree):
    trained = tree({"Ana": range(4), "Bo": range(3)}, "here")
    tested = tree({"Bo": range(6, 8), "Ana": range(5, 9), "Cy": range(2)}, "there")

    data = ready(trained, test=str(tested))

    train, held_out = data.split(OWN)
    assert [data.names[label] for label in data.labels[train]] == ["Ana"] * 4 + ["Bo"] * 3
    assert [data.names[label] for label in data.labels[held_out]] == ["Ana"] * 4 + ["Bo"] * 2
    assert data.origins[held_out[0]] == "there: Ana/Ana5.png"
    assert str(data.unused[0]) == "2 images: of an identity without an image to train on (Cy)"
    assert ready(trained, test=str(tested)).directory == data.directory
    assert ready(trained).directory != data.directory


def test_a_data_set_with_a_part_to_test_on_takes_no_other_unless_pooled(ready, tree):
    data, other = tree(TRAINED | TESTED), tree({"Ana": range(9, 10)}, "other")

    with pytest.raises(InputError, match="leave out --test"):
        ready(data, test=str(other))
    assert [len(one) for one in ready(data, test=str(other), split="random").split(OWN)] == [11, 1]


def test_a_subset_chooses_among_what_is_trained_on_and_keeps_what_is_tested(ready, tree):
    data = ready(tree(THREE))

    part = take_subset(data, Subset.parse("images=2"), seed=0)

    train, held_out = part.split(OWN)
    assert np.bincount(part.labels[train]).tolist() == [2, 2]
    assert [part.origins[index] for index in held_out] == [data.origins[index] for index in data.split(OWN)[1]]


def test_a_subset_is_not_tested_on_another_part_than_all_of_the_data(ready, tree):
    source = tree(TRAINED | VAL_PART | {"train/Cy": range(3), "train/Di": range(3), "test/Cy": range(4, 6)})
    data, subset = ready(source), Subset.parse("identities=2")
    by_seed = {}

    for seed in range(20):
        try:
            by_seed[seed] = set(take_subset(data, subset, seed).names)
        except InputError as error:
            assert "its identities have none in the part test; take more of them" in str(error)

    assert 0 < len(by_seed) < 20
    assert all("Cy" in names for names in by_seed.values())


@pytest.mark.parametrize("spec", [{"test_part": "val"}, {"validation": 0.4}])
def test_people_of_whom_none_is_in_the_part_test_can_be_validated(tree, tmp_path, monkeypatch, spec):
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    source = str(tree(TRAINED | VAL_PART | {"train/Cy": range(3), "test/Cy": range(4, 6)}))
    subsets = [{"data": source, "image_size": 32, "subset": "identities=2", "seed": seed} for seed in range(20)]
    without_cy = next(one for one in subsets if prepare_data(make_job(**one, **spec), quiet).names == ("Ana", "Bo"))
    job, validated = make_job(**without_cy), make_job(**without_cy, **spec)

    cleared = preflight([validated], [tmp_path / "runs/one"])

    data = cleared.planned[0].inputs.data
    assert len(data.split(validated.experiment.data_spec)[1]) == {"test_part": 4, "validation": 3}[next(iter(spec))]
    with pytest.raises(InputError, match="its identities have none in the part test"):
        prepare_all([validated, job], quiet)


def test_what_is_told_of_a_subset_is_of_its_own_images(ready, tree):
    source = tree(
        {"train/Ana": range(4), "train/Bo": range(4), "train/Cy": range(4)} | TESTED | {"test/Cy": range(6, 8)}
    )
    shutil.copy(source / "train/Cy/train-Cy0.png", source / "test/Cy/again.png")
    data = ready(source)

    part = next(
        part
        for seed in range(20)
        if (part := take_subset(data, Subset.parse("identities=2,images=2"), seed)).names == ("Ana", "Bo")
    )

    assert any("the same as images to train on" in note for note in data.notes)
    (told,) = part.notes_for(OWN)
    assert "4 images are trained on and 4 (test) are tested" in told


def test_a_repair_is_told_once_and_not_kept_with_a_subset(ready, tree):
    source, subset = tree(TRAINED | TESTED), Subset.parse("images=2")
    data = ready(source)
    (data.directory / "origins.json").write_text("[]")

    again = ready(source)

    assert "prepared again" in take_subset(again, subset, 0).notes[-1]
    assert not any("prepared again" in note for note in take_subset(data, subset, 0).notes)


def test_baselines_and_checks_keep_the_split(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    job = make_job(data=str(tree(THREE)), image_size=32)

    cleared = preflight([job], [tmp_path / "runs/one"])
    scores, _ = study_baselines([job], tmp_path / "runs")

    assert any("its own split is kept" in notice for notice in cleared.notices["data"])
    assert {round(4 * score.accuracy, 6).is_integer() for score in scores} == {True}, "of four images"
    wrong = make_job(data=str(tmp_path / "faces"), image_size=32, split="random", test_part="val")
    with pytest.raises(InputError, match="--test-part val: the data has no split of its own"):
        preflight([wrong], [tmp_path / "runs/two"])


def test_which_images_are_tested_is_a_part_of_the_specification():
    assert OWN.differences(DataSpec(test="more", test_part="val", split="random")).keys() == {
        "test", "test_part", "split",
    }  # fmt: skip
    assert OWN.images == DataSpec(test_part="val").images != DataSpec(split="random").images


def jpeg(image: Image.Image) -> Image.Image:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=30)
    return Image.open(encoded)


class TestTwins:
    """Images of which another form is in the other part."""

    @pytest.fixture
    def photograph(self, faces):
        return Image.fromarray(faces[0])

    @pytest.mark.parametrize(
        "form",
        {
            "encoded anew": jpeg,
            "another size": lambda image: image.resize((41, 41)),
            "lighter": lambda image: image.point(lambda value: min(255, int(value * 1.2))),
            "cropped": lambda image: image.crop((3, 6, 61, 64)),
            "cropped to another shape": lambda image: image.crop((2, 4, 54, 63)),
        }.items(),
        ids=lambda form: form[0],
    )
    def test_are_told_whatever_form_they_have(self, ready, tree, photograph, form):
        root = tree(TRAINED | TESTED)
        form[1](photograph).save(root / "test/Ana/again.png")

        data = ready(root, image_size=64)

        note = next(note for note in data.notes if "the same as images to train on" in note)
        assert note.startswith("1 of the 5 images") and "again.png" in note and "train-Ana0.png" in note
        assert describe(data).near_duplicate_pairs_across_split == 1

    def test_are_told_with_a_word_on_names_where_they_are_two_people_s(self, ready, tree):
        source = tree({"train/Ana": range(4), "train/Bo": range(4), "test/Ana": range(4, 5)})
        (source / "test/Bo").mkdir()
        shutil.copy(source / "train/Ana/train-Ana2.png", source / "test/Bo/wrong.png")

        (told,) = [note for note in ready(source).notes if "of two people" in note]
        assert told.startswith("of these pairs 1 is of two people (") and "test/Bo/wrong.png" in told

    def test_are_not_seen_where_there_are_none(self, ready, tree):
        assert not any("the same as images to train on" in note for note in ready(tree(THREE), image_size=64).notes)

    def test_crops_are_looked_for_between_the_parts_and_within_a_person_only(self, faces):
        crop = Image.fromarray(faces[0]).crop((4, 4, 60, 60)).resize((64, 64))
        images = np.concatenate([faces[:3], np.asarray(crop)[None]])

        def crops(labels, part):
            return [pair[:2] for pair in cropped_pairs(images, np.array(labels), np.array(part))]

        assert crops([0, 0, 0, 0], [1, 1, 1, -1]) == [(0, 3)]
        assert crops([0, 0, 0, 0], [1, 1, 1, 0]) == crops([0, 0, 0, 1], [1, 1, 1, -1]) == []

    def test_of_very_many_images_the_same_pairs_are_found(self, faces, monkeypatch):
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 6, (2, *faces.shape))
        images = np.concatenate([faces, *(faces + noise).clip(0, 255)]).astype(np.uint8)
        exact = {pair[:2] for pair in near_pairs(images)}

        monkeypatch.setattr(duplicates, "_ALL_PAIRS", 0)

        pairs = [pair[:2] for pair in near_pairs(images)]
        assert len(pairs) == len(set(pairs)) and set(pairs) <= exact
        assert len(pairs) >= 0.97 * len(exact) > 40
        everything = np.arange(len(images))
        assert near_across(hashes_of(faces, everything[:40]), hashes_of(images, everything[40:])).all()


def test_copies_are_found_among_a_hundred_thousand():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (100_000, 32), np.uint8)
    copies = random.choice(60_000, 200, replace=False)
    hashes[-200:] = hashes[copies] ^ np.packbits(random.random((200, 256)) < 0.02, axis=1)

    close = near_across(hashes[:60_000], hashes[60_000:])

    assert set(np.flatnonzero(close)) == set(copies)


def test_many_copies_take_no_longer_than_few():
    hashes = np.random.default_rng(0).integers(0, 256, (3, 32), np.uint8)
    begin = time.process_time()

    close = near_across(np.repeat(hashes[:2], 6000, axis=0), np.repeat(hashes[1:], 6000, axis=0))

    assert close.tolist() == [False] * 6000 + [True] * 6000
    assert time.process_time() - begin < 10  # of the processor: far less than a second; 12,000 pairs squared, minutes
