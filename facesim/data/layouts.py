"""Who is shown in which file: the folder layouts that face data sets come in, recognised by their shape.

Nothing is decoded here and nothing is written. Every function returns a list of `Example` in one order whatever the
file system returns: identities in natural order (s2 before s10), and each identity's files in natural order.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facesim.data.parts import NO_PART, part_called, parts_of_places
from facesim.data.walk import summary_of_files, walk
from facesim.util.errors import InputError
from facesim.util.unused import Unused, in_words, printable
from facesim.util.words import count_text

_YALE_FILE = re.compile(r"(subject\d+)[._-].+", re.IGNORECASE)
_SET_FOLDER = re.compile(r"\d+_sets_\s*(?P<group>.+)", re.IGNORECASE)
_PERSON_FOLDER = re.compile(r"(?P<set_id>[^_]+)_(?:.*_)?name_\s*(?P<name>.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Example:
    """One image file and whom it shows; `part` is that of the data set's own split (`facesim.data.parts`)."""

    path: Path
    identity: str
    group: str | None = None
    part: int = NO_PART


def natural_key(text: str) -> tuple:
    """A sort key that counts as people do: s2 before s10, case ignored; equal only for equal texts."""
    parts = re.split(r"([0-9]+)", text.casefold())
    # A number's digits after its zeros, the longer the larger: Python's int() refuses numbers of thousands of digits.
    numbers = ((len(part.lstrip("0")), part.lstrip("0"), part) if i % 2 else (part,) for i, part in enumerate(parts))
    return tuple(numbers), text


@dataclass(frozen=True)
class Listing:
    """The images of a folder in order, what else lies there, by reason, and how the folders were understood."""

    examples: list[Example]
    unused: tuple[Unused, ...]
    notes: tuple[str, ...]


def find_examples(root: Path) -> list[Example]:
    """Every image below the folder `root` with the identity it shows, as `look_through` finds them."""
    return look_through(root).examples


def look_through(root: Path) -> Listing:
    """Every image below the folder `root` with the identity it shows, and what of the folder is not used.

    Recognised, after stepping down through folders that hold nothing but one folder (`lfw/lfw/...`):

    - one folder an identity: `Name/*.jpg`, LFW `Name/Name_0001.jpg`, ORL `s1/1.pgm`, VGGFace2 `n000002/0001_01.jpg`;
      images in folders deeper inside an identity's folder belong to that identity
    - the same below `train/`, `test/` and `val/`, which are a split (`Example.part`), or with these inside each
      identity's folder; an identity found in several of them is one identity
    - Yale: `subject01.glasses`, with or without an image suffix, all in one folder
    - the "Selfies & ID Images" tree `11_sets_Hispanics/<set>_..._name_<Name>/*.jpg`: `group` is the set folder's
      name, and people who share a first name stay distinct by the set's id

    Names are compared as composed Unicode (NFC), so one name written in two forms is one identity.

    What is no image, what systems and programs put beside images, and links that are not followed are counted in
    `Listing.unused` (see `facesim.data.walk`).

    Raises InputError for a missing or empty folder and for images whose identity the folders do not tell.
    """
    root = Path(root)
    shown = printable(str(root))
    if not os.path.exists(root):
        raise InputError(f"no such folder: {shown}. Give an existing folder of images; check the spelling.")
    if not os.path.isdir(root):
        raise InputError(f"{shown} is a file, not a folder of images. Give the folder that holds the identities.")
    root = Path(os.path.realpath(root))
    walked = walk(root)
    if not walked.images:
        left_out = f"; not used: {in_words(walked.unused)}" if walked.unused else ""
        raise InputError(
            f"no images in {printable(str(root))} (found {summary_of_files(root)}){left_out}. Give a folder with one "
            f"sub-folder of images an identity, or a .csv with the columns path,label."
        )

    return understood(root, walked.images, walked.unused)


def understood(root: Path, images: Sequence[Path], unused: tuple[Unused, ...]) -> Listing:
    """Whom `images` show, by the folders between them and `root`, as `look_through` says. Nothing is opened, so `root`
    may be an archive, and `images` be in it.

    Raises InputError for images whose identity the folders do not tell.
    """
    # Every layout is decided on the names of the folders, and these may be decomposed Unicode: macOS writes them so.
    relative = {image: _name(image.relative_to(root).as_posix()).split("/") for image in images}
    in_sets = any(_SET_FOLDER.fullmatch(folder) for parts in relative.values() for folder in parts[:-1])
    if not in_sets and _SET_FOLDER.fullmatch(root.name):
        relative = {image: [_name(root.name), *parts] for image, parts in relative.items()}
        in_sets = True
    if in_sets:
        examples = _selfies_and_id_images(root, relative)
    else:
        examples = _folders_or_yale(root, _without_single_folders(relative))
    parts = parts_of_places([_folders_above(example, root) for example in examples])
    examples = [replace(example, part=part) for example, part in zip(examples, parts)]
    return Listing(in_order(examples), unused, tuple(_same_names(root, examples)))


def _name(text: str) -> str:
    """A name as identities and messages have it."""
    return printable(unicodedata.normalize("NFC", text))


def _folders_above(example: Example, root: Path) -> list[str]:
    """The folders that may be of parts of a split: `train` of `train/Name/1.jpg` or `Name/train/1.jpg`."""
    folders = _name(example.path.parent.relative_to(root).as_posix()).split("/")
    return [folder for folder in folders if folder != example.identity]


def people_like_splits(examples: Sequence[Example]) -> list[str]:
    """A note if all identities are called as the parts of a split are, which they hardly are."""
    people = dict.fromkeys(example.identity for example in examples)
    if any(part_called(person) == NO_PART for person in people):
        return []
    return [
        f"the folders {some(sorted(people, key=natural_key))} are taken as people, as they hold images themselves. If "
        f"they are parts of a split, put each person's images into a folder of their own, or list them in a .csv with "
        f"the columns path,label."
    ]


def people_further_down(root: Path, examples: Sequence[Example]) -> list[str]:
    """A note if the people are not the folders in `root`, because there is only one there with folders of its own."""
    above = set()
    for example in examples:
        folders = _name(os.path.relpath(example.path.parent, os.path.realpath(root))).split("/")
        if example.identity in folders[1:] and part_called(folders[0]) == NO_PART:
            above.add("/".join(folders[: folders.index(example.identity)]))
    people = sorted({example.identity for example in examples}, key=natural_key)
    return [f"the folders in {one} are taken as people: {some(people)}." for one in sorted(above)]


def _same_names(root: Path, examples: Sequence[Example]) -> list[str]:
    """A note if folders whose names are the same text in other Unicode forms became one identity."""
    written: dict[str, set[str]] = {}
    for example in examples:
        if not example.identity.isascii():
            folders = example.path.parent.relative_to(root).as_posix()
            form = next((part for part in folders.split("/") if _name(part) == example.identity), None)
            written.setdefault(example.identity, set()).update([form] if form else [])
    same = sorted((name for name, forms in written.items() if len(forms) > 1), key=natural_key)
    if not same:
        return []
    return [
        f"folders whose names differ only in how accents are stored (Unicode NFC or NFD) are one identity each: "
        f"{some(same)}."
    ]


def in_order(examples: Sequence[Example]) -> list[Example]:
    """Identities in natural order, and each one's files."""
    return sorted(examples, key=lambda example: (natural_key(example.identity), natural_key(str(example.path))))


def _folders_or_yale(root: Path, relative: dict[Path, list[str]]) -> list[Example]:
    shown = printable(str(root))
    at_top = sorted(parts[0] for parts in relative.values() if len(parts) == 1)
    if len(at_top) == len(relative):
        subjects = {image: _YALE_FILE.fullmatch(parts[0]) for image, parts in relative.items()}
        if all(subjects.values()):
            return [Example(image, match[1].lower()) for image, match in subjects.items()]
    if at_top:
        raise InputError(
            f"{shown}: {len(at_top):,} of {count_text(len(relative), 'image')} "
            f"{'lies' if len(at_top) == 1 else 'lie'} in no identity's folder ({some(at_top)}). Put each person's "
            f"images into a folder of their own, or {_list_them(root)}."
        )
    if all(part_called(parts[0]) != NO_PART and len(parts) > 2 for parts in relative.values()):
        relative = {image: parts[1:] for image, parts in relative.items()}

    # Images of a person may lie in folders of the parts of a split.
    direct = {
        parts[0]
        for parts in relative.values()
        if len(parts) == 2 or (len(parts) == 3 and part_called(parts[1]) != NO_PART)
    }
    unclear = sorted({parts[0] for parts in relative.values()} - direct, key=natural_key)
    if unclear:
        raise InputError(
            f"{shown}: the folders {some(unclear)} hold no images themselves, only folders of images, so it is unclear "
            f"who is an identity. Give the folder whose sub-folders are the identities, or {_list_them(root)}."
        )
    return [Example(image, parts[0]) for image, parts in relative.items()]


def _list_them(root: Path) -> str:
    """What else to do about images whose identity the folders in `root` do not tell; a list in it is not read."""
    unpacked = "" if os.path.isdir(root) else f"unpack {printable(root.name)} and "
    return f"{unpacked}give a .csv with the columns path,label that lists them"


def _selfies_and_id_images(root: Path, relative: dict[Path, list[str]]) -> list[Example]:
    shown = printable(str(root))
    people: dict[Path, tuple[str, str, str]] = {}  # image: group, set's id, name
    for image, parts in relative.items():
        depth = next((i for i, folder in enumerate(parts[:-1]) if _SET_FOLDER.fullmatch(folder)), None)
        if depth is None or len(parts) - depth < 3:
            raise InputError(
                f"{shown}: {'/'.join(parts)} lies in no person's folder, while others lie in "
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


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
