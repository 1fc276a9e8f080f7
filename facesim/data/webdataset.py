"""Tar archives of images, read in a stream without unpacking anything: WebDataset's samples, and folders of people.

A sample of WebDataset's is members with one name up to its first dot: `0001.jpg`, and whom it shows as text in
`0001.cls` or `0001.txt`, or as a key of `0001.json`. An archive without such members is folders of people as
`facesim.data.layouts` knows them. It may be compressed with gzip, bzip2 or xz.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facesim.data.archives import TABLE_SUFFIXES, check_lists_nobody, table_in_an_archive
from facesim.data.content import Content, Source, each_in_parallel, fingerprint
from facesim.data.decode import BadFile, Wanted, decode_bytes
from facesim.data.labels import Label, label_of_value, people_of
from facesim.data.layouts import people_like_splits, some, understood
from facesim.data.parts import NO_PART, parts_of_places
from facesim.data.shards import complete_set, parts_of
from facesim.data.tables import METADATA
from facesim.data.tfrecord import LABEL_FEATURES
from facesim.data.walk import IMAGE_SUFFIXES, system_name
from facesim.util.errors import InputError
from facesim.util.files import open_regular, why_unread
from facesim.util.unused import Tally, printable
from facesim.util.words import count_text

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

#: What of a sample says whom it shows; the first that there is.
_LABEL_FIELDS = ("cls", "label", "id", "txt", "json")

#: No image that is decoded, and no label, is larger, so what claims to be is not unpacked.
_MOST_BYTES, _MOST_LABEL_BYTES = 1 << 29, 1 << 20

_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}

_REMEDY = "Copy or download it again."


class _Image(NamedTuple):
    """An image: the numbers of its archive and of its member there, and the member's name."""

    file: int
    member: int
    name: str

    @property
    def sample(self) -> str:
        return _parts(self.name)[0]

    @property
    def field(self) -> str:
        return _parts(self.name)[1]


def files_of(path: Path) -> list[Path]:
    """The archives that `path` names: itself, or those in the folder.

    Raises:
        InputError: by their names there are more.
    """
    if path.is_file():
        return [path]
    return complete_set(
        path, (file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES) and file.is_file())
    )


def source(path: Path, wanted: Wanted) -> Source:
    """The images of the archives that `path` names."""
    files = files_of(path)
    name = path.name.partition(".")[0] if path.is_file() else path.resolve().name
    known_by = [fingerprint(files[0].parent, files), wanted.features]
    return Source(printable(name), known_by, lambda: _content(files, path, wanted))


def _content(files: Sequence[Path], path: Path, wanted: Wanted) -> Content:
    tally, notes = Tally(), list[str]()
    lists = dict[Path, bytes]()
    images, labels, unread = _scan(files, wanted, tally, notes, lists)
    if not images:
        unused = f": {'; '.join(map(str, tally.counted))}" if tally.counted else ""
        raise InputError(
            f"{path} holds no images{unused}. Give archives of images and labels, or of folders of people."
        )
    samples = {(image.file, image.sample) for image in images}
    if wanted.label_feature or any(samples & of_field.keys() for of_field in labels.values()):
        images = _one_a_sample(images, wanted.image_feature, path, tally)
        images, names, parts = _labelled(images, labels, files, path, wanted, tally, notes)
    elif wanted.image_feature:
        raise InputError(
            f"{path}: no sample says whom it shows, so its images are read as folders of people, which have no "
            f"{wanted.image_feature}. Name what says it with --label-feature, or leave out --image-feature."
        )
    else:
        for place, content in lists.items():
            check_lists_nobody(content, place.parent, place.name)
        try:
            names, parts, more = _by_folder(images, files, path)
        except InputError as error:
            if not unread:
                raise
            raise InputError(
                f"{error} If they are samples, name what says whom an image shows with --label-feature: the end of a "
                f"member's name, or a key of its .json. There are also {some(unread)}."
            ) from None
        notes += more
        for field, of_field in labels.items():
            tally.add(f"no image (.{field})", None, "file", len(of_field))
    people = people_of(names, str(path))

    def origin(index: int) -> str:
        image = images[index]
        return printable(f"{files[image.file].name}: {image.name}")

    def pictures(indices: np.ndarray) -> Iterator[np.ndarray | BadFile]:
        def contents() -> Iterator[tuple[int, bytes]]:
            for number, group in groupby(indices, key=lambda index: images[index].file):
                due = {images[index].member: index for index in group}
                with _reading(files[number], []) as members:
                    for place, (_, read) in enumerate(members):
                        if place in due:
                            yield due.pop(place), read(_MOST_BYTES)
                        if not due:
                            break

        return each_in_parallel(
            lambda one: decode_bytes(one[1], origin(one[0]), wanted), contents(), len(indices), wanted
        )

    return Content.of(people, pictures, origin, parts=parts, unused=tally.counted, notes=notes)


def _scan(
    files: Sequence[Path], wanted: Wanted, tally: Tally, notes: list[str], lists: dict[Path, bytes]
) -> tuple[list[_Image], dict[str, dict[tuple[int, str], Label | InputError]], list[str]]:
    """The images of archives, their labels, by field, of each sample in each archive, and how the names of members end
    that say nothing; to `lists` is added what may say of folders whom their images show, by archive and name.
    """
    images, unread = list[_Image](), dict[str, None]()
    labels: dict[str, dict[tuple[int, str], Label | InputError]] = {}
    for number, file in enumerate(files):
        seen = set[str]()
        with _reading(file, notes) as members:
            for place, (member, read) in enumerate(members):
                if member.isdir():
                    continue
                name = member.name.strip("/")
                sample, field = _parts(name)
                if reason := _why_unused(member, name, seen):
                    tally.add(reason, f"{file.name}: {name}")
                elif f".{field}".endswith(tuple(IMAGE_SUFFIXES)):
                    images.append(_Image(number, place, name))
                elif field in (_LABEL_FIELDS if wanted.label_feature is None else (wanted.label_feature, "json")):
                    where = f"{file}: {printable(name)}"
                    try:
                        label = _label(field, read(_MOST_LABEL_BYTES), wanted.label_feature, where)
                    except InputError as error:  # which matters if it turns out to be a sample's
                        label = error
                    if label is not None:
                        labels.setdefault(field, {})[number, sample] = label
                    else:
                        unread[f".{field}"] = None
                else:
                    unread |= {f".{field}": None} if field else {}
                    tally.add(_why_unread(field), name)
                    if (last := name.rpartition("/")[2]) in METADATA:
                        lists[file / last] = read(_MOST_BYTES)
        wanted.progress("reading labels", number + 1, len(files))
    return images, labels, list(unread)


def _parts(name: str) -> tuple[str, str]:
    """A member's sample and field: `train/0001` and `seg.png` of `train/0001.Seg.png`."""
    folder, slash, last = name.rpartition("/")
    sample, _, field = last.partition(".")
    return f"{folder}{slash}{sample}", field.lower()


def _why_unused(member: tarfile.TarInfo, name: str, seen: set[str]) -> str | None:
    """Why a member is not looked into; the names of those that are are added to `seen`."""
    for part in filter(None, name.split("/")):
        if part not in (".", "..") and (reason := system_name(part)):
            return reason
    if not member.isfile():
        return "a link in an archive" if member.issym() or member.islnk() else "a device or a pipe in an archive"
    if member.size > _MOST_BYTES:
        return f"too large: more than {_MOST_BYTES:,} bytes"
    if name in seen:
        return "a second member of the same name"
    seen.add(name)
    return None


def _why_unread(field: str) -> str:
    """Why a member is left out that is no image and no label, by its field."""
    if f".{field}" in TABLE_SUFFIXES:
        return table_in_an_archive(f".{field}")
    what = "a label that is not read" if field in _LABEL_FIELDS else "no image and no label"
    return f"{what} (.{field})" if field else what


def _label(field: str, content: bytes, key: str | None, where: str) -> Label | None:
    """What a member says of whom the image shows; None where JSON does not."""
    try:
        text = content.decode("utf-8-sig").strip()
        if field != "json":
            return Label(text)
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{where} cannot be read as {'JSON' if field == 'json' else 'UTF-8'}: {error}. {_REMEDY}"
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"{where} is JSON of type {type(values).__name__}, and a sample has names and values.")
    named = next((name for name in ([key] if key not in (None, "json") else LABEL_FEATURES) if name in values), None)
    return None if named is None or values[named] is None else label_of_value(values[named], f"{where}: {named}")


def _one_a_sample(images: Sequence[_Image], named: str | None, path: Path, tally: Tally) -> list[_Image]:
    """Raises InputError where samples have several images, and none is named."""
    if named:
        chosen = [image for image in images if image.field == named.lower()]
        others = [image for image in images if image.field != named.lower()]
        for image in others:
            tally.add("an image that --image-feature does not name", image.name, "image")
        if not chosen:
            there = list(dict.fromkeys(image.field for image in images))
            raise InputError(f"{path}: no sample has {named}; there are {some(there, 20)}. Name one of these.")
        return chosen
    several = [key for key, count in Counter((image.file, image.sample) for image in images).items() if count > 1]
    if several:
        fields = [image.field for image in images if (image.file, image.sample) == several[0]]
        raise InputError(
            f"{path}: {count_text(len(several), 'sample has', 'samples have')} several images, such as "
            f"{printable(several[0][1])}: {', '.join(fields)}. Name the one to read with --image-feature."
        )
    return list(images)


def _labelled(
    images: Sequence[_Image],
    labels: dict[str, dict[tuple[int, str], Label | InputError]],
    files: Sequence[Path],
    path: Path,
    wanted: Wanted,
    tally: Tally,
    notes: list[str],
) -> tuple[list[_Image], list[Label], list[int]]:
    """The images that have a label, these labels, and of each the part of a split."""
    able = [field for field in (wanted.label_feature or "", *_LABEL_FIELDS) if field in labels]
    if not able:
        raise InputError(
            f"{path}: no sample says whom it shows by {wanted.label_feature}, as a member of that name or a key of its "
            f".json. Name another with --label-feature."
        )
    if len(able) > 1:
        notes.append(
            f"samples have {some([f'.{field}' for field in able])}; .{able[0]} is taken as the label; --label-feature "
            f"names the one to read."
        )
    label_of = dict(labels[able[0]])
    kept, names = [], []
    for image in images:
        label = label_of.pop((image.file, image.sample), None)
        name = f"{files[image.file].name}: {image.name}"
        if label is None:
            tally.add(f"an image without its label (.{able[0]})", name, "image")
        elif isinstance(label, InputError):
            raise label
        else:
            kept.append(image)
            names.append(label)
    for number, sample in label_of:
        tally.add("a label without its image", f"{files[number].name}: {sample}.{able[0]}")
    folders = parts_of_places([image.name.split("/")[:-1] for image in kept])
    return kept, names, _or_of_file(folders, kept, files)


def _by_folder(
    images: Sequence[_Image], files: Sequence[Path], path: Path
) -> tuple[list[Label], list[int], Sequence[str]]:
    """Whom images show by the folders that they lie in, their parts of a split, and notes."""
    places = [
        path.joinpath(*(part for part in image.name.split("/") if part not in ("", ".", ".."))) for image in images
    ]
    twice = [place for place, count in Counter(places).items() if count > 1]
    if twice:
        shown = printable(twice[0].relative_to(path).as_posix())
        raise InputError(f"{path}: {shown} is there several times, so it is unclear which one is meant. Remove one.")
    listing = understood(path, places, ())
    example_of = {example.path: example for example in listing.examples}
    examples = [example_of[place] for place in places]
    return (
        [Label(example.identity) for example in examples],
        _or_of_file([example.part for example in examples], images, files),
        [*listing.notes, *people_like_splits(listing.examples)],
    )


def _or_of_file(parts: Sequence[int], images: Sequence[_Image], files: Sequence[Path]) -> list[int]:
    """The part of each image: that of its folder in the archive, `parts`, or else of the archive."""
    of_file = parts_of(files, files[0].parent)
    return [of_file[image.file] if part == NO_PART else part for part, image in zip(parts, images)]


class _Bounded:
    """A stream that reads no more at a time than an image may have, and remembers what it read last."""

    def __init__(self, stream: Any):
        self._stream, self.last = stream, b""

    def read(self, size: int) -> bytes:
        if size > _MOST_BYTES + tarfile.RECORDSIZE:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self.last = self._stream.read(size)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _reading(file: Path, notes: list[str]) -> Iterator[Iterator[tuple[tarfile.TarInfo, Any]]]:
    """Every member of an archive in order, with a function that reads at most so many bytes of it.

    Raises:
        InputError: it is damaged, or cut off; also while members are read.
    """
    try:
        with open_regular(file) as opened:
            start = opened.read(2)
            opened.seek(0)
            unpack = _COMPRESSED.get(start)
            stream = _Bounded(unpack(opened) if unpack else opened)
            with tarfile.TarFile(fileobj=stream) as archive:  # type: ignore[arg-type]
                yield _members(archive, stream, file, notes)
    except InputError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
        why = why_unread(error) if isinstance(error, OSError) and error.errno else error
        raise InputError(f"{file} cannot be read as a tar archive: {why}. {_REMEDY}") from None


def _members(
    archive: tarfile.TarFile, stream: _Bounded, file: Path, notes: list[str]
) -> Iterator[tuple[tarfile.TarInfo, Any]]:
    while (member := archive.next()) is not None:
        archive.members.clear()  # it would keep them all
        yield member, lambda most, member=member: _read(archive, member, most)
    # The end of an archive is zeros. Python takes anything that is no header for the end.
    if not stream.last:
        notes.append(f"{file.name} has no mark at its end, so whether it is whole is not known.")
    elif any(stream.last) or any(stream.read(1 << 20)):
        raise InputError(
            f"{file}: no member begins at byte {archive.offset:,}, and the archive does not end there: it is damaged, "
            f"or several archives were joined. {_REMEDY}"
        )


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    content = archive.extractfile(member)
    assert content is not None  # it is a file
    return content.read(most)
