"""A zip archive of people's folders is read like the folders themselves, without unpacking anything."""

from __future__ import annotations

import io
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import PreparedData, prepare
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError


def png(number: int) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture
def ready(tmp_path):
    def run(source, **options) -> PreparedData:
        return prepare(str(source), **{"image_size": 16, "cache_dir": tmp_path / "cache", **options})

    return run


@pytest.fixture
def zipped(tmp_path):
    def write(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(tmp_path / "faces.zip", "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return tmp_path / "faces.zip"

    return write


TWO = {f"{name}/{k}.png": png(10 * len(name) + k) for name in ("Ana", "Jos\u00e9") for k in range(3)}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_it_is_the_folder_that_was_packed(ready, zipped, tmp_path, compression):
    archive = zipped({f"faces/{name}": content for name, content in TWO.items()}, compression)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "unpacked")
    before = set(tmp_path.rglob("*.png"))

    data = ready(archive)

    unpacked = ready(tmp_path / "unpacked")
    assert (data.sha256, data.names, data.name) == (unpacked.sha256, unpacked.names, "faces")
    assert data.origins[0] == "faces/Ana/0.png"
    assert set(tmp_path.rglob("*.png")) == before, "nothing is unpacked"


def test_its_own_split_is_kept(ready, zipped):
    members = {f"{'test' if name[-5] == '2' else 'train'}/{name}": content for name, content in TWO.items()}

    assert [len(part) for part in ready(zipped(members)).split(DataSpec())] == [4, 2]


@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-8", "Jos\u00e9"), ("utf-8", "Jose\u0301"), ("cp437", "Jos\u00e9"), ("ascii", "Ana")]
)
def test_names_are_read_in_whichever_encoding_they_are_written(ready, tmp_path, encoding, name, monkeypatch):
    """macOS writes UTF-8 without the flag that says so, and DOS' programs their code page."""
    with monkeypatch.context() as patched, zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        patched.setattr(zipfile.ZipInfo, "_encodeFilenameFlags", lambda member: (member.filename.encode(encoding), 0))
        for person in (name, "Bo"):
            for number in range(2):
                archive.writestr(f"{person}/{number}.png", png(number))

    data = ready(tmp_path / "faces.zip")

    assert set(data.names) == {unicodedata.normalize("NFC", name), "Bo"}
    assert not data.bad_files


def test_what_is_no_image_and_what_is_damaged_is_counted(ready, zipped):
    more = {"__MACOSX/Ana/._0.png": b"x", "Ana/notes.txt": b"x", "Ana/Thumbs.db": b"x", "Ana/7.png": png(7)[:60]}

    data = ready(zipped(TWO | more), max_bad_files=0.5)

    assert len(data.labels) == 6
    assert {one.examples[0] for one in data.unused} == set(more)


def test_a_table_in_an_archive_is_not_read_and_that_is_told(ready, zipped):
    table = {"labels.csv": b"path,label\n0.png,Ana\n"}

    told = [str(one) for one in ready(zipped(TWO | table)).unused]

    assert told == [
        "1 file: a table (.csv), which is not read in an archive: unpack it, and give the table itself (labels.csv)"
    ]
    with pytest.raises(InputError, match=r"or unpack faces.zip and give a .csv with the columns path,label that lists"):
        ready(zipped({f"{number}.png": png(number) for number in range(3)} | table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-30], "cannot be read as .zip"),
        (lambda content: b"", "cannot be read as .zip"),
        (lambda content: content.replace(b".png", b".doc"), r"no images in .* \(not used: 6 files: no image \(.doc\)"),
    ],
)
def test_what_cannot_be_used_is_refused(ready, zipped, change, message):
    archive = zipped(TWO)
    archive.write_bytes(change(archive.read_bytes()))

    with pytest.raises(InputError, match=message):
        ready(archive)


def test_an_encrypted_image_is_told(ready, zipped):
    archive = zipped(TWO)
    content = bytearray(archive.read_bytes())
    content[content.rfind(b"PK\1\2") + 8] |= 1  # the flag of the last one
    archive.write_bytes(content)

    assert "encrypted" in ready(archive, max_bad_files=0.5).bad_files[0].reason


def test_names_lead_nowhere(ready, zipped, tmp_path):
    outwards = {f"../../{name}": content for name, content in TWO.items()}
    absolute = {f"/{tmp_path}/{name}": content for name, content in TWO.items()}

    assert ready(zipped(outwards)).names == ready(zipped(absolute)).names == ("Ana", "Jos\u00e9")
    assert not list(tmp_path.rglob("Ana")) and not (tmp_path.parents[1] / "Ana").exists()


def test_of_several_archives_joined_to_one_none_is_read_as_all(ready, zipped, tmp_path):
    """Python's zipfile takes what lies before the last one for a program that unpacks it."""
    archive = zipped(TWO)
    whole = archive.read_bytes()
    archive.write_bytes(whole + whole)
    np.savez(tmp_path / "faces.npz", images=np.zeros((4, 8, 8), np.uint8), labels=[0, 0, 1, 1])
    (tmp_path / "two.npz").write_bytes(2 * (tmp_path / "faces.npz").read_bytes())

    for joined, size in ((archive, len(whole)), (tmp_path / "two.npz", (tmp_path / "faces.npz").stat().st_size)):
        with pytest.raises(InputError, match=f"has {size:,} bytes of another archive before its own"):
            ready(joined)
    archive.write_bytes(b"MZ, a program that unpacks it" + whole)
    assert len(ready(archive).labels) == len(TWO)


@pytest.mark.parametrize("packed_as", ["zip", "tar"])
def test_a_list_of_whom_the_images_show_is_not_passed_over(ready, photo, tmp_path, packed_as):
    """Its folders would be taken for the people."""
    for part in ("train", "test"):
        rows = ["file_name,label", *(f"{photo(f'faces/{part}/{k}.png').name},{'AB'[k % 2]}" for k in range(4))]
        (tmp_path / "faces" / part / "metadata.csv").write_text("\n".join(rows))
    file = shutil.make_archive(str(tmp_path / "packed"), packed_as, tmp_path / "faces")

    with pytest.raises(InputError, match="has a metadata.csv that says whom its images show, which is not read in an"):
        ready(file)

    for part in ("train", "test"):
        (tmp_path / "faces" / part / "metadata.csv").write_text("file_name,light\n0.png,dim")
    assert ready(shutil.make_archive(file, packed_as, tmp_path / "faces")).names == ("test", "train")


def test_folders_of_parts_may_be_inside_those_of_people(ready, zipped):
    data = ready(zipped({f"{name}/{part}/1.png": png(1) for name in ("Ana", "Bo") for part in ("train", "test")}))

    assert (data.names, np.bincount(data.parts).tolist()) == (("Ana", "Bo"), [2, 0, 2])
