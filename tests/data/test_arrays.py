"""NumPy archives as people have them: what is clear is read, with a word on what was assumed; the rest is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data.arrays import read_npz
from facesim.data.content import from_arrays
from facesim.data.decode import Wanted, fit
from facesim.data.parts import NO_PART, TEST, TRAIN, VAL
from facesim.data.rendering import RenderSpec
from facesim.util.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), np.uint8)
PIXELS[0, 0, 0] = (0, 255, 0)
GREY = PIXELS[..., 0]
COMPOSED, DECOMPOSED = "Jos\u00e9", "Jose\u0301"
LABELS = np.array([1, 1, 0, 0, 2, 2])


@pytest.fixture
def saved(tmp_path):
    def save(*arrays, **named) -> Path:
        np.savez(tmp_path / "faces.npz", *arrays, **named)
        return tmp_path / "faces.npz"

    return save


def pixels_of(npz) -> np.ndarray:
    return np.array([npz.image(index) for index in range(len(npz.labels))])


@pytest.mark.parametrize(
    ("named", "expected", "note"),
    [
        ({"x": PIXELS, "y": LABELS}, PIXELS, "Read x as images with y as labels."),
        ({"X": PIXELS, "Y": LABELS}, PIXELS, "Read X as images with Y as labels."),
        ({"data": GREY, "target": LABELS}, GREY, "Read data as images with target as labels."),
        ({"images": PIXELS / 255, "labels": LABELS}, PIXELS, "images runs from 0 to 1: 0 is taken as black and 1 as"),
        ({"images": PIXELS.astype(np.float32), "labels": LABELS}, PIXELS, "runs from 0 to 255: 0 is taken as black"),
        ({"images": PIXELS.astype(np.int64), "labels": LABELS}, PIXELS, None),
        ({"images": PIXELS.transpose(0, 3, 1, 2), "labels": LABELS}, PIXELS, "channels come first"),
        ({"images": GREY[:, None], "labels": LABELS}, GREY[..., None], "channels come first"),
        ({"images": GREY[..., None], "labels": LABELS}, GREY[..., None], None),
        ({"images": PIXELS, "labels": LABELS[:, None]}, PIXELS, None),
        ({"images": PIXELS, "labels": LABELS.astype(float)}, PIXELS, None),
        ({"images": PIXELS, "labels": np.eye(3)[LABELS]}, PIXELS, "one-hot vectors of 3"),
        ({"images": PIXELS, "labels": np.eye(3, dtype=int)[LABELS]}, PIXELS, "one-hot vectors of 3"),
        ({"images": PIXELS, "labels": LABELS, "filenames": LABELS.astype(str)}, PIXELS, None),
        ({"X": PIXELS, "y": LABELS, "age": LABELS}, PIXELS, "Read X as images with y as labels."),
    ],
)
def test_what_is_clear_is_read_with_a_word_on_what_was_assumed(saved, named, expected, note):
    npz = read_npz(saved(**named))

    np.testing.assert_array_equal(pixels_of(npz), expected)
    assert npz.labels.tolist() == LABELS.tolist() and npz.names == ["0", "1", "2"]
    assert bool(npz.notes) == bool(note)
    assert not note or any(note in one for one in npz.notes)


@pytest.mark.parametrize("pixels", [PIXELS[:, :10, :10], GREY[:, :10, :10, None]], ids=["colour", "grey"])
def test_images_of_the_size_that_is_wanted_are_what_fitting_makes_of_them(pixels):
    wanted = Wanted(10, pixels.shape[3], None, RenderSpec(), lambda *_: None)

    taken = from_arrays(pixels.__getitem__, LABELS, ["a", "b", "c"], wanted).pictures(np.arange(6))

    fitted = [fit(Image.fromarray(each.squeeze()), wanted) for each in pixels]
    np.testing.assert_array_equal(list(taken), fitted)


def test_opacity_is_told(saved):
    opaque = np.concatenate([PIXELS, np.full((6, 10, 12, 1), 255, np.uint8)], axis=3)

    npz = read_npz(saved(images=opaque, labels=LABELS))

    np.testing.assert_array_equal(pixels_of(npz), opaque)
    assert npz.notes == ["The fourth channel is taken as opacity, over white."]


def test_texts_are_labels_and_stay_texts(saved):
    names = np.array(["nan", "True", "NA", "0", "nan", "0"])

    npz = read_npz(saved(images=PIXELS, labels=names))
    of_bytes = read_npz(saved(images=PIXELS, labels=names.astype("S")))

    assert [npz.names[label] for label in npz.labels] == names.tolist()
    assert of_bytes.names == npz.names == ["0", "NA", "nan", "True"]


def test_the_same_name_in_two_forms_of_unicode_is_one_person_and_told(saved):
    names = np.array([COMPOSED, DECOMPOSED, "Bo", "Bo", COMPOSED, "Bo"])

    npz = read_npz(saved(images=PIXELS, labels=names))
    numbered = read_npz(saved(images=PIXELS, labels=LABELS, names=np.array(["Bo", COMPOSED, DECOMPOSED])))

    assert npz.names == numbered.names == ["Bo", COMPOSED]
    assert f"{COMPOSED}: written in composed and in decomposed Unicode" in npz.notes[0]
    assert npz.notes == numbered.notes


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("trainX", "trainy", "testX", "testy"),
        ("X_train", "y_train", "X_val", "y_val"),
        ("x_train", "y_train", "x_holdout", "y_holdout"),
        ("x_train", "y_train", "x_held_out", "y_held_out"),
        ("training_x", "training_y", "evaluation_x", "evaluation_y"),
    ],
)
def test_training_and_test_arrays_are_parts_of_a_split(saved, keys):
    arrays = dict(zip(keys, (PIXELS[:4], LABELS[:4], PIXELS[4:], LABELS[4:])))

    npz = read_npz(saved(**arrays))

    np.testing.assert_array_equal(pixels_of(npz), PIXELS)
    assert npz.labels.tolist() == LABELS.tolist()
    assert npz.parts == [TRAIN] * 4 + [VAL if keys[2] == "X_val" else TEST] * 2


@pytest.mark.parametrize("kind", ["U", "S"])
def test_an_array_of_texts_says_the_part_of_each_image(saved, kind):
    split = np.array(["train", "Train", "test ", "train", "val", "test"]).astype(kind)

    npz = read_npz(saved(images=PIXELS, labels=LABELS, Split=split))

    assert (npz.parts, npz.notes, npz.unused) == ([TRAIN, TRAIN, TEST, TRAIN, VAL, TEST], [], ())
    odd = read_npz(saved(x=PIXELS, y=LABELS.astype(str), subset=np.array(["a", "b", "a", "a", "a", "b"]).astype(kind)))
    assert odd.parts == [NO_PART] * 6
    assert odd.notes[1].startswith("the array subset (a 4, b 2) is not used, as it does not say train, val, test")


def test_of_several_arrays_that_may_say_the_part_the_one_that_does_is_taken(saved):
    views = np.array(["frontal", "profile"] * 3)
    folds = np.array(["train", "test"] * 3)

    for given in ({"subset": views, "fold": folds}, {"fold": folds, "subset": views}):
        npz = read_npz(saved(images=PIXELS, labels=LABELS, **given))

        assert npz.parts == [TRAIN, TEST] * 3
        assert [str(one) for one in npz.unused] == ["1 array: array that is not needed (subset)"]


@pytest.mark.parametrize("count", [4, 6])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3)])
def test_arrays_without_names_go_by_position(saved, count, order):
    arrays = [PIXELS[:count], LABELS[:count], PIXELS[count:], LABELS[count:]]
    if count == len(PIXELS):
        arrays[2:] = [PIXELS, LABELS]

    npz = read_npz(saved(*(arrays[at] for at in order)))

    assert len(npz.labels) == count + len(arrays[2])
    np.testing.assert_array_equal(npz.image(count), arrays[2][0])
    assert "are pooled" in npz.notes[1]


def test_arrays_that_are_not_needed_are_counted(saved):
    npz = read_npz(saved(images=PIXELS, labels=LABELS, age=LABELS))

    assert [str(one) for one in npz.unused] == ["1 array: array that is not needed (age)"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"images": PIXELS / 127.5 - 1, "labels": LABELS}, "images runs from -1 to 1, so it is unclear"),
        ({"images": PIXELS / 100, "labels": LABELS}, "images runs from 0 to 2.55, so it is unclear"),
        ({"images": PIXELS / 255 / 255, "labels": LABELS}, r"images runs from 0 to 0.0039\d*, so it is unclear"),
        ({"images": np.where(PIXELS > 9, PIXELS / 255, np.nan), "labels": LABELS}, "values that are no numbers"),
        ({"images": PIXELS.astype(np.uint16) * 257, "labels": LABELS}, "runs from 0 to 65535; whole numbers must be"),
        ({"images": PIXELS // 255, "labels": LABELS}, "images runs from 0 to 1, so all would be black"),
        ({"images": PIXELS > 5, "labels": LABELS}, r"images is bool \(6, 10, 12, 3\)"),
        ({"images": PIXELS[..., :2], "labels": LABELS}, r"images is uint8 \(6, 10, 12, 2\)"),
        ({"images": PIXELS[:, :3], "labels": LABELS}, "unclear which axis has the channels"),
        ({"images": PIXELS, "labels": LABELS - 1}, r"image 2 has the label -1; it must be a whole number from 0"),
        ({"images": PIXELS, "labels": LABELS + 0.5}, "image 0 has the label 1.5"),
        ({"images": PIXELS, "labels": np.where(LABELS, np.nan, 1)}, "image 0 has the label nan"),
        ({"images": PIXELS, "labels": np.ones((6, 3))}, "image 0 has 3 numbers as its label .* not one-hot"),
        ({"images": PIXELS, "labels": np.array(["Ana", " "] * 3)}, "label is an empty text"),
        ({"images": PIXELS, "labels": np.array([b"\xff", b"a"] * 3)}, "not UTF-8"),
        ({"images": PIXELS, "labels": LABELS, "names": np.array(["A", "B", "A"])}, "names has 'A' for the labels 0, 2"),
        ({"x": PIXELS, "y": LABELS.astype(object)}, r"y holds Python objects \(pickle\), which are never loaded"),
        ({"a": PIXELS, "b": GREY, "c": LABELS}, "a and b could each be the images. Name the right one images"),
        ({"x": PIXELS, "age": LABELS, "who": LABELS}, "age and who could each be the labels"),
        ({"x": PIXELS, "y": LABELS, "x_train": PIXELS, "y_train": LABELS}, "unclear whether these are the same images"),
        ({"data": GREY.reshape(6, -1), "target": LABELS}, r"data may be images in rows: reshape it to \(n, h, w\)"),
        ({"x": PIXELS.transpose(1, 2, 3, 0), "y": LABELS}, r"it holds x uint8 \(10, 12, 3, 6\), y int64 \(6,\)"),
        ({"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS}, "has no images and no labels; it holds"),
    ],
)
def test_what_could_mean_two_things_is_refused_by_what_it_is(saved, named, message):
    with pytest.raises(InputError, match=message):
        read_npz(saved(**named))


def test_what_unpacks_to_more_than_the_memory_is_refused_before_it_is_unpacked(tmp_path):
    # 40 TB of zeros by its own account; the archive's directory says the same, and holds a few bytes.
    header = io.BytesIO()
    shape = (10_000_000, 1000, 1000, 4)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", _npy(np.zeros(10_000_000, np.int8)))
        archive.getinfo("images.npy").file_size = len(header.getvalue()) + 40 * 10**12

    with pytest.raises(InputError, match=r"unpacks to 37,\d{3}.\d GiB; at most 50% of the free memory"):
        read_npz(path)


def test_a_header_that_promises_more_than_the_archive_has_is_damage(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64)})
    path = tmp_path / "lie.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", _npy(LABELS))

    with pytest.raises(InputError, match=r"images is uint8 \(1000000000, 64, 64\), .* the archive has 0 for it"):
        read_npz(path)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
