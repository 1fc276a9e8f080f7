"""Who is shown in which file: the folder layouts that face data sets come in, recognised by their shape.

Nothing is decoded here and nothing is written. Every function returns a list of `Example` in one order whatever the
file system returns: identities in natural order (s2 before s10), and each identity's files in natural order.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facesim.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
)
_IMAGE_SIGNATURE = re.compile(rb"GIF8[79]a|\xff\xd8\xff|\x89PNG\r\n|P[1-6]\s|II\*\0|MM\0\*|RIFF....WEBP", re.DOTALL)
_CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
_YALE_FILE = re.compile(r"(subject\d+)[._-].+", re.IGNORECASE)
_SET_FOLDER = re.compile(r"\d+_sets_\s*(?P<group>.+)", re.IGNORECASE)
_PERSON_FOLDER = re.compile(r"(?P<set_id>[^_]+)_(?:.*_)?name_\s*(?P<name>.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Example:
    """One image file and whom it shows."""

    path: Path
    identity: str
    group: str | None = None


def natural_key(text: str) -> tuple:
    """A sort key that counts as people do: s2 before s10, case ignored; equal only for equal texts."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return tuple((int(part), part) if i % 2 else (part,) for i, part in enumerate(parts)), text


def find_examples(root: Path) -> list[Example]:
    """Every image below the folder `root` with the identity it shows.

    Recognised, after stepping down through folders that hold nothing but one folder (`lfw/lfw/...`):

    - one folder an identity: `Name/*.jpg`, LFW `Name/Name_0001.jpg`, ORL `s1/1.pgm`, VGGFace2 `n000002/0001_01.jpg`;
      images in folders deeper inside an identity's folder belong to that identity
    - the same below `train/`, `test/` and `val/`: these are pooled, because facesim makes its own split, and an
      identity found in several of them is one identity
    - Yale: `subject01.glasses`, with or without an image suffix, all in one folder
    - the "Selfies & ID Images" tree `11_sets_Hispanics/<set>_..._name_<Name>/*.jpg`: `group` is the set folder's
      name, and people who share a first name stay distinct by the set's id

    Files that are no images (by suffix; without a known suffix, by content), hidden files and the clutter of macOS and
    Windows are ignored. Linked folders are not followed, nor linked files that lead out of `root`.

    Raises InputError for a missing or empty folder and for images whose identity the folders do not tell.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"no such folder: {root}. Give an existing folder of images; check the spelling.")
    if not root.is_dir():
        raise InputError(f"{root} is a file, not a folder of images. Give the folder that holds the identities.")
    root = root.resolve()
    images = list_images(root)
    if not images:
        raise InputError(
            f"no images in {root} (found {_summary_of_files(root)}). Give a folder with one sub-folder of images an "
            f"identity, or a .csv with the columns path,label."
        )

    # Every layout is decided on the names of the folders, and these may be decomposed Unicode: macOS writes them so.
    relative = {image: unicodedata.normalize("NFC", image.relative_to(root).as_posix()).split("/") for image in images}
    if _SET_FOLDER.fullmatch(root.name):
        relative = {image: [root.name, *parts] for image, parts in relative.items()}
    if any(_SET_FOLDER.fullmatch(folder) for parts in relative.values() for folder in parts[:-1]):
        return _in_order(_selfies_and_id_images(root, relative))
    return _in_order(_folders_or_yale(root, _without_single_folders(relative)))


def read_csv(path: Path) -> list[Example]:
    """The examples that a CSV file lists: a header with `path` and `label`, optionally `group`; UTF-8.

    Relative paths start at the CSV's own folder and must stay inside it; absolute paths are taken as they are. Whether
    the files exist is not looked at here: a missing file is found, and counted, when images are decoded.

    Raises InputError for a missing column, an empty cell, a path that escapes, a file listed twice (it could land in
    training and in test) and an identity in two groups.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {path}. Give an existing .csv with the columns path,label.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [(column or "").strip() for column in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV in UTF-8: {error}. Save it as comma-separated UTF-8.") from error
    if not {"path", "label"} <= set(columns):
        raise InputError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; path and label are needed. "
            f"Make the first line: path,label"
        )

    folder = Path(os.path.abspath(path.parent))
    examples, line_of, group_of = [], {}, {}
    for line, row in rows:
        cells = {column: unicodedata.normalize("NFC", (row.get(column) or "").strip()) for column in ("label", "group")}
        listed, identity, group = (row["path"] or "").strip(), cells["label"], cells["group"] or None
        if not listed or not identity:
            raise InputError(f"{path} line {line}: the path or the label is empty. Fill in both or remove the line.")
        image = Path(os.path.abspath(folder / listed))
        if not Path(listed).is_absolute() and not image.is_relative_to(folder):
            raise InputError(
                f"{path} line {line}: {listed} leads out of the CSV's folder. Relative paths must stay inside it; "
                f"move the CSV up or write an absolute path."
            )
        if image in line_of:
            raise InputError(
                f"{path} line {line}: {listed} is already on line {line_of[image]}. A file listed twice could be "
                f"trained on and tested on; remove one line."
            )
        if group_of.setdefault(identity, group) != group:
            raise InputError(
                f"{path} line {line}: {identity} is in group {group or '(none)'} here and in "
                f"{group_of[identity] or '(none)'} before. Give each identity one group."
            )
        line_of[image] = line
        examples.append(Example(image, identity, group))
    return _in_order(examples)


def list_images(root: Path) -> list[Path]:
    """All image files below `root` in no particular order, without clutter and without links that lead out of it."""
    images = []
    for folder, subfolders, files in os.walk(root, onerror=_refuse_unreadable_folder):
        subfolders[:] = [name for name in subfolders if not _is_clutter(name)]
        images += [path for name in files if not _is_clutter(name) and _is_image(path := Path(folder, name), root)]
    return images


def _in_order(examples: Sequence[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: (natural_key(example.identity), natural_key(str(example.path))))


def _folders_or_yale(root: Path, relative: dict[Path, list[str]]) -> list[Example]:
    at_top = sorted(parts[0] for parts in relative.values() if len(parts) == 1)
    if len(at_top) == len(relative):
        subjects = {image: _YALE_FILE.fullmatch(parts[0]) for image, parts in relative.items()}
        if all(subjects.values()):
            return [Example(image, match[1].lower()) for image, match in subjects.items()]
    if at_top:
        raise InputError(
            f"{root}: {len(at_top)} of {len(relative)} images lie in no identity's folder ({some(at_top)}). "
            f"Put each person's images into a folder of their own, or list them in a .csv with the columns path,label."
        )
    if all(parts[0].lower() in _SPLITS and len(parts) > 2 for parts in relative.values()):
        relative = {image: parts[1:] for image, parts in relative.items()}

    direct = {parts[0] for parts in relative.values() if len(parts) == 2}
    unclear = sorted({parts[0] for parts in relative.values()} - direct, key=natural_key)
    if unclear:
        raise InputError(
            f"{root}: the folders {some(unclear)} hold no images themselves, only folders of images, so it is unclear "
            f"who is an identity. Give the folder whose sub-folders are the identities, or a .csv with the columns "
            f"path,label."
        )
    return [Example(image, parts[0]) for image, parts in relative.items()]


def _selfies_and_id_images(root: Path, relative: dict[Path, list[str]]) -> list[Example]:
    people: dict[Path, tuple[str, str, str]] = {}  # image: group, set's id, name
    for image, parts in relative.items():
        depth = next((i for i, folder in enumerate(parts[:-1]) if _SET_FOLDER.fullmatch(folder)), None)
        if depth is None or len(parts) - depth < 3:
            raise InputError(
                f"{root}: {'/'.join(parts)} lies in no person's folder, while others lie in "
                f"'<n>_sets_<group>/<set>_..._name_<Name>/'. Move it into its person's folder or out of the tree."
            )
        group = _SET_FOLDER.fullmatch(parts[depth])["group"].strip()
        person = _PERSON_FOLDER.fullmatch(parts[depth + 1])
        people[image] = (group, person["set_id"], person["name"].strip()) if person else (group, "", parts[depth + 1])

    # A first name is enough while only one person has it.
    bearers = Counter(name for _, _, name in set(people.values()))
    return [
        Example(image, name if bearers[name] == 1 else f"{name} ({f'{group} {set_id}'.strip()})", group)
        for image, (group, set_id, name) in people.items()
    ]


def _without_single_folders(relative: dict[Path, list[str]]) -> dict[Path, list[str]]:
    """Drop leading folders while they are the only one and do not hold images themselves."""
    while len({parts[0] for parts in relative.values()}) == 1 and all(len(parts) > 2 for parts in relative.values()):
        relative = {image: parts[1:] for image, parts in relative.items()}
    # A last single folder is an identity, unless its files name their subjects themselves.
    one_folder = len({parts[0] for parts in relative.values()}) == 1
    if one_folder and all(len(parts) == 2 and _YALE_FILE.fullmatch(parts[1]) for parts in relative.values()):
        relative = {image: parts[1:] for image, parts in relative.items()}
    return relative


def _refuse_unreadable_folder(error: OSError) -> None:
    # os.walk would pass over it, and an identity would be missing without a word.
    raise InputError(
        f"{error.filename} cannot be listed: {error.strerror}. Make it readable or move it away."
    ) from error


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER


def _is_image(path: Path, root: Path) -> bool:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return _IMAGE_SIGNATURE.match(file.read(16)) is not None
    except OSError:  # an unreadable file that does not even look like an image is not ours to judge
        return False


def _summary_of_files(root: Path) -> str:
    suffixes = Counter(Path(name).suffix or name for _, _, files in os.walk(root) for name in files)
    links = sum(Path(folder, name).is_symlink() for folder, dirs, files in os.walk(root) for name in dirs + files)
    found = [f"{count} {suffix}" for suffix, count in suffixes.most_common(5)] or ["nothing"]
    return ", ".join(found + [f"{links} links, which are not followed out of the folder"] * bool(links))


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
