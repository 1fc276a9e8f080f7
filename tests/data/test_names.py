"""Names of people, whatever they look like, through every kind of data: texts, never numbers, and nobody is lost."""

from __future__ import annotations

import csv
import io
import struct
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import prepare
from facesim.data.tfrecord import checksum

#: Texts that programs like to read as something else, and letters of all kinds.
NAMES = [
    *("nan", "0", "007", "7", "True", "NULL", "None", "1e5", "-", "CON", "a,b", 'say "q"', "=1+1", "<b>", "$HOME"),
    *(
        "Jose\u0301",
        "\u05d0\u05d1\u05d2",
        "\u0645\u062d\u0645\u062f",
        "\u674e",
        "\U0001f600 Smile",
        "\U0001f468\u200d\U0001f469",
    ),
    *("Ana", "ana", "x" * 250),
]
#: What no folder can be called, and a spreadsheet would strip.
UNSUITED_TO_FOLDERS = ["a/b", "y" * 300]
UNSUITED_TO_SHEETS = [" Ana", "a\tb", "a\nb", "\u202eabc", "\x1b[31mred"]


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def in_folders(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (root / "people" / name).mkdir(parents=True)
        for k in range(2):
            (root / "people" / name / f"{k}.png").write_bytes(png(2 * number + k))
    return root / "people"


def in_zip(root: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for file in in_folders(root, names).rglob("*.png"):
            archive.write(file, file.relative_to(root))
    return root / "a.zip"


def in_tar(root: Path, names: list[str]) -> Path:
    with tarfile.open(root / "a.tar", "w") as archive:
        archive.add(in_folders(root, names), "people")
    return root / "a.tar"


def in_csv(root: Path, names: list[str]) -> Path:
    with (root / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number in range(2 * len(names)):
            (root / f"{number}.png").write_bytes(png(number))
            writer.writerow([f"{number}.png", names[number // 2]])
    return root / "a.csv"


def in_npz(root: Path, names: list[str]) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (2 * len(names), 8, 8, 3), np.uint8)
    np.savez(root / "a.npz", images=images, labels=np.repeat(np.array(names), 2))
    return root / "a.npz"


def in_parquet(root: Path, names: list[str]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "image": [png(number) for number in range(2 * len(names))],
        "label": [one for one in names for _ in "ab"],
    }
    parquet.write_table(pyarrow.table(columns), root / "a.parquet")
    return root / "a.parquet"


def in_tfrecord(root: Path, names: list[str]) -> Path:
    """By hand, without TensorFlow: an `Example` of a feature each for image and label."""

    def field(content: bytes, number: int = 1) -> bytes:
        length, digits = len(content), b""
        while length > 127:
            digits, length = digits + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + digits + bytes([length]) + content

    with (root / "a.tfrecord").open("wb") as file:
        for number in range(2 * len(names)):
            features = {"image": png(number), "label": names[number // 2].encode()}
            entries = [field(field(name.encode()) + field(field(field(one)), 2)) for name, one in features.items()]
            example = field(b"".join(entries))
            size = struct.pack("<Q", len(example))
            file.write(size + struct.pack("<I", checksum(size)) + example + struct.pack("<I", checksum(example)))
    return root / "a.tfrecord"


_KINDS = {
    in_folders: NAMES + UNSUITED_TO_SHEETS,
    in_zip: NAMES + UNSUITED_TO_SHEETS,
    in_tar: NAMES + UNSUITED_TO_SHEETS,
    in_csv: NAMES + UNSUITED_TO_FOLDERS,
    in_npz: NAMES + UNSUITED_TO_FOLDERS + UNSUITED_TO_SHEETS,
    in_parquet: NAMES + UNSUITED_TO_FOLDERS + UNSUITED_TO_SHEETS,
    in_tfrecord: NAMES + UNSUITED_TO_FOLDERS + UNSUITED_TO_SHEETS,
}


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__)
def test_every_name_is_a_person_of_that_name(tmp_path, cache, kind):
    names = _KINDS[kind]

    data = prepare(str(kind(tmp_path, names)), image_size=8, cache_dir=cache)

    escaped = {"a\tb": r"a\tb", "a\nb": r"a\nb", "\u202eabc": r"\u202eabc", "\x1b[31mred": r"\x1b[31mred"}
    assert set(data.names) == {escaped.get(name, unicodedata.normalize("NFC", name)) for name in names}
    assert np.bincount(data.labels).tolist() == [2] * len(names) and not data.unused
    (alike,) = [note for note in data.notes if "are people of their own" in note]
    assert "'007' and '7'" in alike and "'Ana' and 'ana'" in alike
