"""Parquet files, and what Hugging Face's `datasets` saves and its hub has, written by pyarrow and `datasets`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facesim.data import PreparedData, prepare
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError
from tests.data.hub import COMMIT, hub

pyarrow = pytest.importorskip("pyarrow")

from pyarrow import ipc, parquet  # noqa: E402

PEOPLE = ["Ana", "Jos\u00e9", "\u674e"]
LABELS = [0, 1, 2, 2, 1, 0, 0]


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "PNG")
    return file.getvalue()


def table(labels: list[Any] = LABELS, names: list[str] | None = PEOPLE, **columns: list[Any]) -> pyarrow.Table:
    """Images and labels as `datasets` has them; with `names`, the labels are of its ClassLabel."""
    images = [{"bytes": png(number), "path": None} for number in range(len(labels))]
    made = pyarrow.table({"image": images, "label": labels, **columns})
    if names is None:
        return made
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.fixture
def written(tmp_path):
    def write(rows: pyarrow.Table, name: str = "faces.parquet", **options: Any) -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(rows, tmp_path / name, **options)
        return tmp_path / name

    return write


@pytest.fixture
def ready(cache):
    return lambda source, **options: prepare(str(source), image_size=16, cache_dir=cache, **options)


def assert_is_all(data: PreparedData) -> None:
    assert [data.names[label] for label in data.labels] == [PEOPLE[label] for label in LABELS]
    np.testing.assert_array_equal(data.images, [picture(number) for number in range(len(LABELS))])
    assert (data.unused, data.notes, data.parts) == ((), (), None)


@pytest.mark.parametrize("rows_of_group", [2, 100])
def test_a_parquet_file_of_datasets(ready, written, rows_of_group):
    data = ready(written(table(), row_group_size=rows_of_group))

    assert_is_all(data)
    assert (data.name, data.origins[3]) == ("faces", "faces.parquet row 3")


def test_bytes_and_texts_of_another_program(ready, written):
    images = [png(number) for number in range(len(LABELS))]
    rows = pyarrow.table(
        {"photo": images, "person": pyarrow.array([PEOPLE[one] for one in LABELS]).dictionary_encode()}
    )

    assert_is_all(ready(written(rows)))
    as_bytes = pyarrow.table({"photo": images, "person": [PEOPLE[one].encode() for one in LABELS]})
    assert_is_all(ready(written(as_bytes), image_feature="photo"))


@pytest.mark.parametrize("open_writer", [ipc.new_stream, ipc.new_file])
def test_arrow_files_of_both_kinds(ready, tmp_path, open_writer):
    with open_writer(tmp_path / "faces.arrow", table().schema) as writer:
        writer.write_table(table(), max_chunksize=3)

    assert_is_all(ready(tmp_path / "faces.arrow"))


def test_shards_of_parts_in_a_folder_as_on_the_hub(ready, written, tmp_path):
    for name, first in {"train-00000-of-00002": 0, "train-00001-of-00002": 2, "validation-00000-of-00001": 5}.items():
        written(table().slice(first, 3 if first == 2 else 2), f"faces/data/{name}.parquet")
    (tmp_path / "faces/README.md").write_text("about it")

    data = ready(tmp_path / "faces")

    assert data.parts.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert "5 images are trained on and 2 (val) are tested" in data.notes_for(DataSpec())[0]
    assert [str(one) for one in data.unused] == ["1 file: beside the data set, and no part of it (README.md)"]


def test_what_lies_beside_tables_in_folders_below_is_counted(ready, written, tmp_path):
    written(table().slice(0, 4), "faces/data/train/a.parquet")
    written(table().slice(4), "faces/data/more/b/c.parquet")
    for name in ("data/train/notes.txt", "data/train/faces.npz", "data/more/old.csv", "data/.DS_Store"):
        (tmp_path / "faces" / name).write_text("left")
    (tmp_path / "faces/data/train/raw/deep").mkdir(parents=True)

    data = ready(tmp_path / "faces")

    assert len(data.labels) == 7
    assert sorted(map(str, data.unused)) == [
        "1 file: of macOS (data/.DS_Store)",
        "1 folder: beside the data set, and no part of it (data/train/raw)",
        "3 files: beside the data set, and no part of it (data/more/old.csv, data/train/faces.npz, "
        "data/train/notes.txt)",
    ]


@pytest.mark.parametrize("folder", ["faces", "faces/data"])
def test_suffixes_in_capitals_are_known_in_a_folder_too(ready, written, tmp_path, folder):
    for name, first in {"a.PARQUET": 0, "b.Parquet": 3}.items():
        written(table().slice(first, 4 if first else 3), f"{folder}/{name}")

    assert_is_all(ready(tmp_path / "faces"))


def test_a_column_says_the_part_of_a_split(ready, written):
    splits = pyarrow.array(["train", "train", "train", "test", "train", "test", "train"])

    for column in (splits, splits.dictionary_encode()):  # as pandas' categories are stored
        assert ready(written(table(Split=column))).parts.tolist() == [0, 0, 0, 2, 0, 2, 0]


def test_a_column_that_only_looks_like_a_split_is_not_used_and_that_is_said(ready, written):
    data = ready(written(table(subset=["frontal", "profile", "profile", "frontal", "profile", "profile", "frontal"])))

    assert data.parts is None
    assert data.notes[0].startswith("the column subset (profile 4, frontal 3) is not used")


def test_of_several_columns_that_may_say_the_part_the_one_that_does_in_any_file_is_taken(ready, written, tmp_path):
    views, none = ["frontal", "profile"] * 2, ["other"] * 3
    written(table(LABELS[:4], subset=views, fold=["train", "train", "test", "train"]), "faces/a.parquet")
    written(table(LABELS[4:], subset=none, fold=["train", "train", "test"]), "faces/b.parquet")
    folder = tmp_path / "faces"

    assert ready(folder).parts.tolist() == [0, 0, 2, 0, 0, 0, 2]
    written(table(LABELS[4:], subset=none, Fold=none), "faces/b.parquet")
    with pytest.raises(InputError, match="3 images that belong to none.*column Fold .other 3. is not used"):
        ready(folder)


def test_a_shard_that_is_missing(ready, written, tmp_path):
    written(table(), "faces/train-00000-of-00002.parquet")

    with pytest.raises(InputError, match=r"train has 2 files and 1 is missing, among them number 1"):
        ready(tmp_path / "faces")


def test_rows_without_a_label_or_an_image_are_counted(ready, written):
    rows = table([0, 1, None, 0, -1, 1, 0, 1])
    images = rows["image"].to_pylist()
    images[0], images[1] = None, {"bytes": None, "path": "/etc/hostname"}

    data = ready(written(rows.set_column(0, "image", [images])), max_bad_files=1.0)

    assert [str(one) for one in data.unused] == [
        "2 rows: a row without a label (faces.parquet row 2, faces.parquet row 4)",
        "1 file: a row without an image (faces.parquet row 0)",
        "1 file: a row with an image's path and not the image; save the set with the images in it "
        "(faces.parquet row 1)",
    ]
    np.testing.assert_array_equal(data.images, [picture(number) for number in (3, 5, 6, 7)])


def test_the_column_that_is_named(ready, written):
    rows = table(names=None, identity=[f"p{one}" for one in LABELS], mask=[b"no image"] * len(LABELS))

    assert "rows have identity beside the label that is read" in ready(written(rows)).notes[0]
    assert ready(written(rows), label_feature="identity").names == ("p0", "p1", "p2")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(names=None).drop(["label"]), r"no column that is clearly the label; it has image .*--label-feature"),
        (table().drop(["image"]), r"no column that is clearly the image: it has label \(int64\).*--image-feature"),
        (pyarrow.table({"a": [b""], "b": [b""], "label": [1]}), "no column that is clearly the image"),
        (table([0, 1, 2, 3, 0, 1, 2]), r"row 3 has the label 3, and there are names for 0 to 2"),
        (table([0.5] * 7, names=None), "has the label 0.5; it must be a whole number"),
        (table([{"a": 1}] * 7, names=None), "row 0 has a label of type dict"),
        (table([b"\xff"] * 7, names=None), "row 0 has a label that is no UTF-8"),
        (table([None] * 7), "holds no rows with a label: 7 rows: a row without a label"),
    ],
)
def test_what_is_not_clear_is_refused(ready, written, rows, message):
    with pytest.raises(InputError, match=message):
        ready(written(rows))


def test_damaged_files(ready, written, tmp_path):
    content = written(table()).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-30])
    with ipc.new_stream(tmp_path / "cut.arrow", table().schema) as writer:
        writer.write_table(table())
    os.truncate(tmp_path / "cut.arrow", 2000)
    (tmp_path / "empty.arrow").write_bytes(b"")

    for name in ("cut.parquet", "cut.arrow", "empty.arrow"):
        with pytest.raises(InputError, match=f"{name} cannot be read as a table"):
            ready(tmp_path / name)


@pytest.mark.slow
def test_what_datasets_saves_and_what_it_fetches_of_a_hub(written, tmp_path):
    """In a process of its own: the library reads the hub's address when it is loaded."""
    pytest.importorskip("datasets")
    written(table().slice(0, 4), "faces/data/train-00000-of-00001.parquet")
    written(table().slice(4), "faces/data/test-00000-of-00001.parquet")
    (tmp_path / "empty").mkdir()
    code = (
        "import json, sys; from pathlib import Path\n"
        "from facesim.data import prepare\n"
        "def facts(source):\n"
        "    data = prepare(source, image_size=16, cache_dir=Path('cache'))\n"
        "    assert not data.unused, data.unused\n"
        "    return [data.sha256, data.name, data.notes, list(data.names), data.parts.tolist(), data.origins[0]]\n"
        "fetched = facts('hf:org/faces')\n"
        "import datasets\n"
        "datasets.load_dataset('org/faces').save_to_disk('saved')\n"
        "print(json.dumps([fetched, facts('saved')]))\n"
    )
    with hub("org/faces", tmp_path / "faces") as address:
        surroundings = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "no_proxy": "*"}
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path / "empty", env=surroundings, capture_output=True, text=True
        )
    assert ran.returncode == 0, ran.stderr

    fetched, saved = json.loads(ran.stdout)

    assert fetched[1:] == [
        "org/faces", [f"it is the hub's at commit {COMMIT}."], PEOPLE, [0] * 4 + [2] * 3, "faces-train.arrow row 0",
    ]  # fmt: skip
    assert (saved[0], saved[1], saved[-1]) == (fetched[0], "saved", "train/data-00000-of-00001.arrow row 0")


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:../faces", "hf:org/faces@", "hf:org/na me"])
def test_a_name_that_the_hub_cannot_have(ready, name):
    with pytest.raises(InputError, match=r"names no data set of the hub"):
        ready(name)


def test_a_folder_that_has_the_name(ready, tmp_path, monkeypatch):
    (tmp_path / "org/faces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=r"there is a folder org/faces here.*Give --data ./org/faces"):
        ready("hf:org/faces")
