"""Images in a zip archive, in folders as `facesim.data.layouts` knows them, read without unpacking the archive."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from facesim.data.layouts import Listing, understood
from facesim.data.opening import Unusable
from facesim.data.tables import METADATA, says_whom
from facesim.data.walk import IMAGE_SUFFIXES, system_name
from facesim.util.errors import InputError
from facesim.util.files import open_regular, why_unread
from facesim.util.unused import Tally, in_words, printable

#: How tables are called that may say whom images show.
TABLE_SUFFIXES = (".csv", ".tsv")

#: The flag of a member that says in what its name is written.
_NAME_IS_UTF8 = 0x800

#: No image that is decoded is larger, so what claims to be is not unpacked.
_MOST_BYTES = 1 << 29


@dataclass(frozen=True)
class Archive:
    """An open archive, and what it holds: `listing.examples` have the archive's path before that of their member."""

    path: Path
    listing: Listing
    _file: zipfile.ZipFile
    _members: dict[Path, zipfile.ZipInfo]

    def read(self, image: Path) -> bytes:
        """The bytes of one of its images. Threads may read at the same time.

        Raises:
            Unusable: it is encrypted, or too large for an image.
            Exception: whatever a damaged member leads to.
        """
        member = self._members[image]
        if member.flag_bits & 1:
            raise Unusable("encrypted; write the archive without a password")
        if member.file_size > _MOST_BYTES:
            raise Unusable(f"too large: more than {_MOST_BYTES:,} bytes unpacked")
        return self._file.read(member)


def open_zip(path: Path) -> Archive:
    """Look through an archive: its images by the folders that they lie in, and what else is in it, by reason.

    Names are names, and lead nowhere: nothing is written.

    Raises:
        InputError: it is damaged, or holds no images whose identity its folders tell.
    """
    try:
        opened: BinaryIO = open_regular(path)
        archive = zipfile.ZipFile(opened)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {why_unread(error)}. Give a .zip that you may read.") from None
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} cannot be read as .zip: {error}. Copy or download it again.") from None
    check_alone(archive, path)
    tally, members = Tally(), dict[Path, zipfile.ZipInfo]()
    for member in archive.infolist():
        name = _name_of(member)
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        if member.is_dir() or not parts:
            continue
        shown = printable("/".join(parts))
        if reason := _why_no_image(parts):
            _check_no_list(archive, member, path)
            tally.add(reason, shown)
        elif path.joinpath(*parts) in members:
            raise InputError(f"{path} holds {shown} twice, so it is unclear which one is meant. Write it anew.")
        else:
            members[path.joinpath(*parts)] = member
    if not members:
        unused = f" (not used: {in_words(tally.counted)})" if tally.counted else ""
        raise InputError(
            f"no images in {printable(str(path))}{unused}. Give an archive with one folder of images an identity, such "
            f"as of a folder that facesim reads."
        )
    return Archive(path, understood(path, sorted(members), tally.counted), archive, members)


def _name_of(member: zipfile.ZipInfo) -> str:
    """A member's path, with slashes. macOS and some other programs write it in UTF-8 and do not say so; Python then
    takes it for DOS' code page 437.
    """
    name = member.filename
    if not member.flag_bits & _NAME_IS_UTF8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _check_no_list(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Refuse an archive with a list of whom its images show, which its folders then do not say."""
    name = PurePosixPath(_name_of(member)).name
    if name not in METADATA:
        return
    try:
        with archive.open(member) as file:
            content = file.read(_MOST_BYTES)
    except Exception as error:  # whatever a damaged or encrypted member leads to
        raise InputError(f"{path} has a {name} that cannot be read: {error}. Copy or download it again.") from None
    check_lists_nobody(content, path, name)


def check_lists_nobody(content: bytes, path: Path, name: str) -> None:
    """Refuse a member `name` of an archive that says whom the images show, because their folders then do not.

    Raises:
        InputError: it does, or it cannot be read.
    """
    if says_whom(content, path / name):
        raise InputError(
            f"{path} has a {name} that says whom its images show, which is not read in an archive. Unpack it, and give "
            f"the folder."
        )


def table_in_an_archive(suffix: str) -> str:
    """Why a table in an archive is left out."""
    return f"a table ({suffix}), which is not read in an archive: unpack it, and give the table itself"


def check_alone(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse several archives that were joined to one file, of which the last alone would be read.

    Raises:
        InputError: another one begins the file.
    """
    first = min((member.header_offset for member in archive.infolist()), default=0)
    assert archive.fp is not None  # it is open
    archive.fp.seek(0)
    if first and archive.fp.read(4) == b"PK\3\4":  # else a program that unpacks it may be there
        raise InputError(
            f"{path} has {first:,} bytes of another archive before its own: several were joined, and the last alone "
            f"would be read. Give each by itself, or write one of all."
        )


def _why_no_image(parts: Sequence[str]) -> str | None:
    """Why a member is left out, by its folders and its name; None for an image."""
    for part in parts:
        if reason := system_name(part):
            return reason
    suffix = Path(parts[-1]).suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return table_in_an_archive(suffix)
    return None if suffix in IMAGE_SUFFIXES else f"no image ({suffix})" if suffix else "no image, by name"
