"""NumPy archives (.npz) of images and labels, as people have them, read where their meaning is clear.

`images` uint8 (n, h, w) or (n, h, w, 3), `labels` and maybe `names` are taken as they are. Other names, value ranges
and orders of axes are taken where only one reading is possible, with a note on what was assumed; anything else is
refused. Sizes are checked before anything is unpacked, and Python objects (pickle), which could run code, are never
loaded.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from facesim.data.archives import check_alone
from facesim.data.labels import Label, label_of_numbers, notes_on_names, people_of, same_names, whole
from facesim.data.parts import PART_WORD, PARTS, part_called
from facesim.data.tables import SPLIT_COLUMNS, notes_on_splits, split_column
from facesim.util.errors import InputError
from facesim.util.unused import Tally, Unused

#: The share of the free memory that arrays may take unpacked.
_MEMORY_SHARE = 0.5

#: More arrays than any data set has.
_MOST_ARRAYS = 1000

_SPLIT_NAME = re.compile(rf"(?:(?P<first>{PART_WORD})[_. -]?(?P<rest>.+)|(?P<begin>.+?)[_. -]?(?P<last>{PART_WORD}))")
_BY_POSITION = re.compile(r"arr_\d+")
_IMAGES = frozenset({"images", "image", "imgs", "img", "x", "data", "faces", "pixels"})
_LABELS = frozenset({"labels", "label", "y", "target", "targets", "identity", "identities", "person", "people"})
_NAMES = frozenset({"names", "target_names", "class_names", "label_names"})
_CHANNELS = (1, 3, 4)
_REMEDY = "Write it with numpy.savez(path, images=..., labels=...)."


@dataclass(frozen=True)
class Npz:
    """What an archive holds. labels: int32 (n,), 0..len(names)-1. notes: what was assumed. parts: of each image, as
    `facesim.data.parts` numbers them, by the arrays' names.
    """

    labels: np.ndarray
    parts: list[int]
    names: list[str]
    notes: list[str]
    unused: tuple[Unused, ...]
    _images: list[np.ndarray]
    _begins: np.ndarray
    _channels_first: bool
    _scale: float

    def image(self, index: int) -> np.ndarray:
        """uint8 (h, w) or (h, w, channels): 1 grey, 3 colour, 4 colour and opacity."""
        part = int(np.searchsorted(self._begins, index, "right")) - 1
        image = self._images[part][index - self._begins[part]]
        if self._channels_first:
            image = image.transpose(1, 2, 0)
        if image.dtype != np.uint8:
            image = (image.astype(np.float64) * self._scale + 0.5).astype(np.uint8)
        return np.ascontiguousarray(image)


class _Header(NamedTuple):
    """What an array is, known without unpacking it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    bytes: int

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


class _Part(NamedTuple):
    """The names of an array of images and of the array with their labels, and the split that they are called by."""

    images: str
    labels: str
    split: str = ""


def read_npz(path: Path) -> Npz:
    """Read the images and labels of an archive.

    Raises:
        InputError: it is damaged, too large for the memory, or its meaning is not clear.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_alone(archive, path)
            headers = _headers(archive, path)
            parts, names_key = _chosen(headers, path)
            split_keys = _split_keys(headers, parts)
            used = [*(key for part in parts for key in part[:2]), *filter(None, [names_key]), *split_keys]
            _check_memory(sum(headers[key].bytes for key in used), path)
            arrays = {key: _array(archive, key) for key in used}
    except InputError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib or NumPy, each with errors of its own
        raise InputError(f"{path} cannot be read as .npz: {error or type(error).__name__}. {_REMEDY}") from error

    images = [arrays[part.images] for part in parts]
    channels_first, shape_notes = _axes(images, [part.images for part in parts], path)
    scale, range_notes = _range(images, " and ".join(part.images for part in parts), path)
    labels = [label for part in parts for label in _labels(arrays[part.labels], len(arrays[part.images]), part, path)]
    people = people_of(labels, str(path)) if names_key is None else _named(labels, arrays[names_key], path)
    texts = {key: _texts(arrays[key]) for key in split_keys}
    split_key = split_column(texts)
    tally = Tally()
    for key in headers:
        if key not in used or (key in split_keys and key != split_key):
            tally.add("array that is not needed", key, "array")
    called = [part.split for part in parts for _ in arrays[part.images]]
    split_notes = list[str]()
    if split_key:
        called = texts[split_key]
        split_notes = list(notes_on_splits(split_key, Counter(called), "array"))
    return Npz(
        np.array(people[0], np.int32),
        list(map(part_called, called)),
        people[1],
        [*_notes_on_parts(parts), *split_notes, *shape_notes, *range_notes, *people[2]],
        tally.counted,
        images,
        np.cumsum([0, *(len(array) for array in images[:-1])]),
        channels_first,
        scale,
    )


def _headers(archive: zipfile.ZipFile, path: Path) -> dict[str, _Header]:
    """Every array's type, shape and bytes, which must agree with what the archive says of its size."""
    listed = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
    if len(listed) > _MOST_ARRAYS:
        raise InputError(f"{path} holds {len(listed):,} arrays; at most {_MOST_ARRAYS:,} are read. {_REMEDY}")
    headers: dict[str, _Header] = {}
    for entry in listed:
        key = entry.filename.removesuffix(".npy")
        if key in headers:
            raise InputError(f"{path} holds {key} twice, so it is unclear which one is meant. {_REMEDY}")
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise InputError(f"{path}: {key} is in version {version} of NumPy's format. {_REMEDY}")
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            size = entry.file_size - file.tell()
        if not dtype.hasobject and size != math.prod(shape) * dtype.itemsize:
            raise InputError(
                f"{path}: {key} is {dtype} {shape}, {math.prod(shape) * dtype.itemsize:,} bytes, and the archive has "
                f"{size:,} for it: it is damaged. Copy or download the file again."
            )
        headers[key] = _Header(dtype, shape, size)
    return headers


def _check_memory(needed: int, path: Path) -> None:
    free = psutil.virtual_memory().available
    if needed > _MEMORY_SHARE * free:
        raise InputError(
            f"{path} unpacks to {needed / 2**30:,.1f} GiB; at most {_MEMORY_SHARE:.0%} of the free memory is used for "
            f"that, {_MEMORY_SHARE * free / 2**30:,.1f} GiB. Save the images as files, one folder a person, which are "
            f"read one by one."
        )


def _array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _chosen(headers: dict[str, _Header], path: Path) -> tuple[list[_Part], str | None]:
    """Which arrays are images and their labels, and which one has the names of numbered labels."""
    names = next((key for key in headers if key.lower() in _NAMES), None)
    for key, header in headers.items():
        if header.dtype.hasobject and (key == names or _stem(key)[1] in _LABELS | _IMAGES or _BY_POSITION.match(key)):
            raise InputError(
                f"{path} cannot be read as .npz: {key} holds Python objects (pickle), which are never loaded: they "
                f"could run code. Save texts with .astype(str) and numbers with .astype(int)."
            )
    if {"images", "labels"} <= headers.keys():
        return [_Part("images", "labels")], names
    if headers and all(map(_BY_POSITION.fullmatch, headers)):
        return _by_position(headers, path), None
    of_split: dict[str, list[str]] = {}
    for key in headers:
        of_split.setdefault(_stem(key)[0], []).append(key)
    parts = [part for split, keys in of_split.items() if (part := _part(headers, keys, names, split, path))]
    if not parts:
        _refuse(headers, path)
    if len(parts) > 1 and not all(part.split for part in parts):
        raise InputError(
            f"{path} holds {', '.join(part.images for part in parts)}: it is unclear whether these are the same images "
            f"or more. {_REMEDY}"
        )
    labels_are_texts = headers[parts[0].labels].dtype.kind in "US"
    return parts, None if labels_are_texts or names in {part.labels for part in parts} else names


def _split_keys(headers: dict[str, _Header], parts: Sequence[_Part]) -> list[str]:
    """The arrays of texts that may name each image's part of a split, where there are no arrays of the parts."""
    if len(parts) > 1 or parts[0].split:
        return []
    count, taken = headers[parts[0].images].shape[0], parts[0].labels
    texts = (key for key, header in headers.items() if header.dtype.kind in "US" and header.shape == (count,))
    return [key for key in texts if key.lower() in SPLIT_COLUMNS and key != taken]


def _stem(key: str) -> tuple[str, str]:
    """The split that an array's name tells, empty if none, and the rest of the name, both in lower case."""
    match = _SPLIT_NAME.fullmatch(key.lower())
    if match is None:
        return "", key.lower()
    return PARTS[part_called(match["first"] or match["last"])], match["rest"] or match["begin"]


def _by_position(headers: dict[str, _Header], path: Path) -> list[_Part]:
    """`numpy.savez(path, x, y, ...)`: the first images belong to the first labels, and so on."""
    keys = sorted(headers, key=lambda key: int(key.removeprefix("arr_")))
    images = [key for key in keys if _is_images(headers[key])]
    labels = [key for key in keys if key not in images]
    fit = len(images) == len(labels) and all(
        _can_label(headers[label], headers[image].shape[0]) for image, label in zip(images, labels)
    )
    if not images or not fit:
        _refuse(headers, path)
    return [_Part(image, label) for image, label in zip(images, labels)]


def _part(headers: dict[str, _Header], keys: Sequence[str], names: str | None, split: str, path: Path) -> _Part | None:
    """The images and labels among the arrays of one split, None where it has no images."""
    images = _only([key for key in keys if _is_images(headers[key])], _IMAGES, "images", path)
    if images is None:
        return None
    able = [key for key in keys if key != images and _can_label(headers[key], headers[images].shape[0])]
    labels = _only([key for key in able if key != names] or able, _LABELS, "labels", path)
    if labels is None:
        _refuse(headers, path)
    return _Part(images, labels, split)


def _only(able: list[str], usual: frozenset[str], what: str, path: Path) -> str | None:
    """The one that can be it, or the one of them that is called so."""
    called = [key for key in able if _stem(key)[1] in usual]
    chosen = able if len(able) < 2 else called
    if len(able) > 1 and len(called) != 1:
        raise InputError(f"{path}: {' and '.join(able)} could each be the {what}. Name the right one {what}.")
    return chosen[0] if chosen else None


def _is_images(header: _Header) -> bool:
    return len(header.shape) in (3, 4) and header.dtype.kind in "uif"


def _can_label(header: _Header, count: int) -> bool:
    """Whether by its shape it can be the labels of `count` images, one-hot vectors included."""
    return len(header.shape) in (1, 2) and header.shape[0] == count and header.dtype.kind in "uifbUS"


def _refuse(headers: dict[str, _Header], path: Path) -> None:
    missing = [key for key in ("images", "labels") if key not in headers]
    flat = next((key for key, header in headers.items() if len(header.shape) == 2 and header.shape[1] > 64), None)
    hint = f" {flat} may be images in rows: reshape it to (n, h, w)." if flat else ""
    raise InputError(
        f"{path} has no {' and no '.join(missing)}; it holds "
        f"{', '.join(f'{key} {header}' for key, header in headers.items()) or '(none)'}. Images (n, h, w) or "
        f"(n, h, w, 3) and labels (n,), one an image, are needed.{hint}"
    )


def _axes(images: Sequence[np.ndarray], keys: Sequence[str], path: Path) -> tuple[bool, list[str]]:
    """Whether channels come before height and width, and notes for the user."""
    orders = set()
    for key, array in zip(keys, images):
        subject = f"{path}: {key} is {array.dtype} {array.shape}"
        if array.ndim not in (3, 4) or array.dtype.kind not in "uif":
            raise InputError(f"{subject}; it must be (n, h, w) or (n, h, w, 3), of numbers 0 to 255.")
        if 0 in array.shape:
            raise InputError(f"{path}: {key} is empty, {array.shape}.")
        last, first = array.ndim == 3 or array.shape[3] in _CHANNELS, array.ndim == 4 and array.shape[1] in _CHANNELS
        if last and first:
            raise InputError(
                f"{subject}: it is unclear which axis has the channels. Transpose it so that they are last."
            )
        if not last and not first:
            raise InputError(f"{subject}; it must be (n, h, w), (n, h, w, 3), or (n, 3, h, w), of numbers 0 to 255.")
        orders.add((array.ndim, first, array.shape[1 if first else 3] if array.ndim == 4 else 1))
    if len(orders) > 1:
        raise InputError(f"{path}: {' and '.join(keys)} do not have their axes in the same order. {_REMEDY}")
    ((_, first, channels),) = orders
    notes = [f"{keys[0]} is (n, channels, h, w): channels come first."] if first else []
    return first, notes + ["The fourth channel is taken as opacity, over white."] * (channels == 4)


def _range(images: Sequence[np.ndarray], key: str, path: Path) -> tuple[float, list[str]]:
    """What values are multiplied with to become 0 to 255, and notes for the user."""
    low, high = (float(of([of(array) for array in images])) for of in (np.min, np.max))
    if not math.isfinite(low) or not math.isfinite(high):
        raise InputError(f"{path}: {key} has values that are no numbers (nan or inf). Remove these images.")
    span = f"{key} runs from {low:g} to {high:g}"
    if any(array.dtype.kind == "f" for array in images):
        if low >= 0 and 0.1 <= high <= 1:
            return 255.0, [f"{span}: 0 is taken as black and 1 as white."]
        if low < 0 or high > 255 or high < 8:
            raise InputError(
                f"{path}: {span}, so it is unclear what is black and what is white. Scale it to 0..1 or 0..255."
            )
        return 1.0, [f"{span}: 0 is taken as black and 255 as white."]
    if low < 0 or high > 255:
        raise InputError(
            f"{path}: {span}; whole numbers must be 0 (black) to 255 (white). Scale it and save it as uint8."
        )
    if high == 1:
        raise InputError(f"{path}: {span}, so all would be black: 255 is white. Multiply it by 255.")
    return 1.0, []


def _labels(array: np.ndarray, count: int, part: _Part, path: Path) -> list[Label]:
    subject = f"{path}: {part.labels} is {array.dtype} {array.shape}"
    if array.shape[:1] != (count,) or array.ndim > 2 or array.dtype.kind not in "uifbUS":
        raise InputError(f"{subject}; it must be ({count},), whole numbers or texts, one an image.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind in "US":
        if array.ndim != 1:
            raise InputError(f"{subject}; it must be ({count},), one text an image.")
        try:
            texts = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
        except UnicodeDecodeError:
            raise InputError(f"{subject}, and its bytes are not UTF-8. Save it with .astype(str) as texts.") from None
        return [Label(str(text)) for text in texts]
    numbers = array.astype(int) if array.dtype.kind == "b" else array
    if array.ndim == 1:
        return [Label(whole(value, f"{subject}; image {index}")) for index, value in enumerate(numbers.tolist())]
    return [label_of_numbers(row, f"{subject}; image {index}") for index, row in enumerate(numbers.tolist())]


def _texts(array: np.ndarray) -> list[str]:
    return (np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array).tolist()


def _named(labels: Sequence[Label], names: np.ndarray, path: Path) -> tuple[list[int], list[str], list[str]]:
    """Labels, names in the order of their labels, and notes, where `names[label]` is the name of each label."""
    notes = people_of(labels, str(path)).notes
    used = sorted({label.value for label in labels})
    numbers = not any(isinstance(label, str) for label in used)
    if not numbers or names.ndim != 1 or names.dtype.kind not in "US" or used[-1] >= len(names):
        raise InputError(
            f"{path}: names is {names.dtype} {names.shape} and labels run from {used[0]} to {used[-1]}; "
            f"names must be texts, and names[label] the name of each label."
        )
    written = {label: _text(names[label], path) for label in used}
    several = [name for name, count in Counter(written.values()).items() if count > 1]
    if several:
        same = [str(label) for label, name in written.items() if name == several[0]]
        raise InputError(
            f"{path}: names has {several[0]!r} for the labels {', '.join(same)}. Give one person one label, or two "
            f"people two names."
        )
    same = same_names(written.values())
    name_of = {label: same[name] for label, name in written.items()}
    ordered = list(dict.fromkeys(name_of.values()))
    number_of = {name: number for number, name in enumerate(ordered)}
    return [number_of[name_of[label.value]] for label in labels], ordered, notes + notes_on_names(written.values())


def _text(value: Any, path: Path) -> str:
    try:
        text = value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise InputError(f"{path}: the name {value[:20]!r} is not UTF-8. Save names with .astype(str).") from None
    if not text.strip():
        raise InputError(f"{path}: names has an empty name. Give every label a name.")
    return text


def _notes_on_parts(parts: Sequence[_Part]) -> list[str]:
    notes = []
    if parts[0][:2] != ("images", "labels"):
        pairs = " and ".join(f"{part.images} as images with {part.labels} as labels" for part in parts)
        notes.append(f"Read {pairs}.")
    if len(parts) > 1 and not parts[0].split:
        notes.append(f"{' and '.join(part.images for part in parts)} are pooled.")
    return notes
