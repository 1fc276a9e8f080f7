"""What comes out of an archive that a container made, and what does not."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from facesim.aws.session import AwsError
from facesim.aws.storage import unpack


def archive(path: Path, *members: tarfile.TarInfo, content: bytes = b"harm") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_files_and_folders_are_unpacked(tmp_path):
    made = archive(
        tmp_path / "a.tar.gz",
        member(".", tarfile.DIRTYPE),
        member("./metrics", tarfile.DIRTYPE),
        member("./metrics/a.jsonl"),
    )

    unpack(made, tmp_path / "out")

    assert (tmp_path / "out" / "metrics" / "a.jsonl").read_bytes() == b"harm"


EVIL = {
    "absolute": [member("/tmp/facesim-evil")],
    "parent": [member("../evil")],
    "hidden parent": [member("metrics/../../evil")],
    "link": [member("link", tarfile.SYMTYPE, "/etc/passwd")],
    "through a link": [member("link", tarfile.SYMTYPE, ".."), member("link/evil")],
    "hard link": [member("link", tarfile.LNKTYPE, "../../evil")],
    "device": [member("null", tarfile.CHRTYPE)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("kind", EVIL)
def test_what_would_write_or_read_elsewhere_is_refused(kind, tmp_path):
    made = archive(tmp_path / "a.tar.gz", *EVIL[kind])

    with pytest.raises(AwsError, match="it is not unpacked"):
        unpack(made, tmp_path / "out" / "deep")

    assert not (tmp_path / "out" / "evil").exists()
    assert not (tmp_path / "evil").exists()
    assert not os.path.lexists("/tmp/facesim-evil")


def test_a_damaged_archive_is_told(tmp_path):
    whole = archive(tmp_path / "a.tar.gz", member("a"), content=os.urandom(100_000))
    whole.write_bytes(whole.read_bytes()[:50_000])

    with pytest.raises(AwsError, match=r"a\.tar\.gz cannot be unpacked"):
        unpack(whole, tmp_path / "out")
