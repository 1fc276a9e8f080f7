"""Tables, of image files above all: CSV as spreadsheets write it (`;` or tabs, UTF-16, capitals, backslashes), and JSON
lines.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from facesim.data.labels import check_numbers, notes_on_names
from facesim.data.layouts import Example, in_order, some
from facesim.data.parts import NO_PART, PARTS, part_called
from facesim.data.walk import inode_of
from facesim.util.errors import InputError
from facesim.util.files import open_regular, why_unread
from facesim.util.unused import printable
from facesim.util.words import count_text

#: Byte order marks; UTF-32's little-endian one begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = (",", ";", "\t", "|")
#: What the columns are called that list an image and say whom it shows; the first that there is.
_CALLED = {
    "path": ("path", "file_name", "filename", "file_path", "filepath", "file", "image_path", "image"),
    "label": ("label", "identity", "person", "name", "class", "class_name", "subject", "identity_id", "person_id"),
}
#: What Hugging Face's `imagefolder` has beside images.
METADATA = ("metadata.csv", "metadata.jsonl")
#: What a column is called that says which part of a split an image is; the first that names any.
SPLIT_COLUMNS = ("split", "subset", "partition", "set", "fold", "usage", "phase")
_NO_WIDTH = "\ufeff\u200b\u2060"
_REMEDY = "Save it as CSV UTF-8, with the first line"


@dataclass(frozen=True)
class Table:
    """The examples that a table lists, in order, and what a user should know of how it was read."""

    examples: list[Example]
    notes: tuple[str, ...]


class _Cells(NamedTuple):
    """The columns of a table, in lower case, each row's line and cells by column, and which columns those are that are
    needed, as far as they are there.
    """

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]
    found: Mapping[str, str]


def read_csv(path: Path) -> list[Example]:
    """The examples that a CSV file lists, as `read_table` reads them."""
    return read_table(path).examples


def read_table(path: Path, image_feature: str | None = None, label_feature: str | None = None) -> Table:
    """The examples that a CSV file lists: a header with `path` and `label`, or as these are also called (`file_name`,
    `identity`), optionally `group`. Or those of a file of JSON lines (.jsonl), objects with these keys.

    Cells are separated by commas, semicolons, tabs or bars, as the header is. The text is UTF-8, or UTF-16 or UTF-32 as
    its beginning tells. The header's columns are in any order and case; `image_feature` and `label_feature` name those
    that are read in place of `path` and `label`. A column `split` (also subset, usage and others) whose cells name
    parts of a split gives each example its part; other columns are not used, as a note tells.
    Labels are texts, whatever they look like; those that differ only in their form of Unicode are one.
    Where all are numbers, none may be negative, as in every other kind of file: it means that nobody is known.

    Relative paths start at the CSV's own folder and must stay inside it; absolute paths are taken as they are. Windows'
    backslashes are read as slashes. Whether the files exist is not looked at here: a missing file is found, and
    counted, when images are decoded.

    Raises InputError for a missing column, an empty cell, more cells than columns, a path that escapes or is one of
    another system, a file listed twice (it could land in training and in test) and an identity in two groups.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: {printable(str(path))}. Give an existing .csv with the columns path,label.")
    named = {"path": image_feature, "label": label_feature}
    # What is named comes first: the other one is not looked for there.
    called: dict[str, Sequence[str]] = {one: (_column(name),) for one, name in named.items() if name}
    called |= {one: usual for one, usual in _CALLED.items() if one not in called}
    columns, rows, found = _table(_content(path), path, called)
    if found.keys() != named.keys():
        there = printable(some(columns, 20)) or "(none)"
        if asked := [printable(name) for one, name in named.items() if name and one not in found]:
            raise InputError(
                f"{path} has no column {asked[0]}; it has {there}. Name one of these with --image-feature or "
                f"--label-feature."
            )
        raise InputError(
            f"{path} has the columns {there}; path and label are needed. Make the first line: path,label, or name the "
            f"columns with --image-feature and --label-feature."
        )
    folder = Path(os.path.abspath(path.parent))
    examples, labels, backslashes = [], set(), 0
    group_of: dict[str, str | None] = {}
    line_of: dict[Path | tuple[int, int], int] = {}
    splits: Counter[str] = Counter()
    able = [column for column in columns if column not in found.values()]
    said_of = {column: {row.get(column, "") for _, row in rows} for column in able if column in SPLIT_COLUMNS}
    split = split_column(said_of)
    for line, row in rows:
        listed, label = row.get(found["path"], ""), row.get(found["label"], "")
        group = unicodedata.normalize("NFC", row.get("group", "") if "group" in able else "") or None
        identity = printable(unicodedata.normalize("NFC", label))
        if not listed or not identity:
            raise InputError(f"{path} line {line}: the path or the label is empty. Fill in both or remove the line.")
        place = _place(listed, folder, f"{path} line {line}")
        backslashes += place != listed
        image = Path(os.path.abspath(folder / place))
        if not Path(place).is_absolute() and not image.is_relative_to(folder):
            raise InputError(
                f"{path} line {line}: {printable(listed)} leads out of the CSV's folder. Relative paths must stay "
                f"inside it; move the CSV up or write an absolute path."
            )
        file = inode_of(image) or image
        if file in line_of:
            raise InputError(
                f"{path} line {line}: {printable(listed)} is already on line {line_of[file]}, by this or another name "
                f"(a link). A file listed twice could be trained on and tested on; remove one line."
            )
        check_group(group_of, identity, group, f"{path} line {line}")
        line_of[file] = line
        labels.add(label)
        said = row.get(split, "") if split else ""
        splits[said] += 1
        examples.append(Example(image, identity, group, part_called(said)))
    check_numbers(labels, str(path))
    notes = [*notes_on_splits(split, splits)] if split else []
    notes += [*_notes_on_columns(column for column in able if column not in ("group", split))]
    notes += notes_on_names(sorted(labels))
    if backslashes:
        notes.append(
            f"{count_text(backslashes, 'path is', 'paths are')} written with backslashes, which are read as slashes."
        )
    return Table(in_order(examples), tuple(notes))


def split_column(said: Mapping[str, Iterable[str]]) -> str | None:
    """Which column, or array, says the part of a split that an image is, by the texts that each has: of those that are
    called as `SPLIT_COLUMNS`, in any case, the first that names a part, or else the first; None where none is.
    """
    called = [name for usual in SPLIT_COLUMNS for name in said if name.lower() == usual]
    names_parts = (name for name in called if any(part_called(text) != NO_PART for text in said[name]))
    return next(names_parts, next(iter(called), None))


def check_group(group_of: dict[str, str | None], identity: str, group: str | None, where: str) -> None:
    """Raise InputError if `identity` is in another group than `group_of`, which gets it, has it in."""
    if group_of.setdefault(identity, group) != group:
        raise InputError(
            f"{where}: {identity} is in group {group or '(none)'} here and in {group_of[identity] or '(none)'} before. "
            f"Give each identity one group."
        )


def lists_of(folder: Path, image_feature: str | None = None, label_feature: str | None = None) -> list[Path]:
    """The files called as `METADATA` that list images and say whom they show, in columns of the usual names or of those
    that are named: that of `folder` itself, or else of the parts of a split in it, such as `train` and `test`.

    Raises:
        InputError: a folder has two of them, or one that cannot be read.
    """
    features = (image_feature, label_feature)
    if listed := _lists_in(folder, *features):
        return listed
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for place in inside if part_called(place.name) != NO_PART for path in _lists_in(place, *features)]


def _lists_in(folder: Path, *features: str | None) -> list[Path]:
    there = [path for path in map(folder.joinpath, METADATA) if os.path.isfile(path)]
    listed = [path for path in there if says_whom(_content(path), path, *features)]
    if len(listed) > 1:
        raise InputError(
            f"{printable(str(folder))} has {' and '.join(METADATA)}, which both say whom its images show. Remove one."
        )
    return listed


def says_whom(content: bytes, path: Path, *features: str | None) -> bool:
    """Whether a table, the content of a file, lists images and says whom they show, in columns of the usual names or of
    these, the image's and the label's.

    Raises:
        InputError: it cannot be read.
    """
    named = dict(zip(_CALLED, features))
    called = {one: (*map(_column, filter(None, [named.get(one)])), *usual) for one, usual in _CALLED.items()}
    return _table(content, path, called).found.keys() == _CALLED.keys()


def read_rows(path: Path, needed: Sequence[str]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV file, however a spreadsheet wrote it, or of JSON lines (.jsonl), and each row's line and
    cells by column.

    Raises:
        InputError: it is none, has one of the columns twice, or a row has more cells than there are columns. Whether
            the columns that are `needed` are there is not looked at here.
    """
    cells = _table(_content(path), path, {one: (one,) for one in needed})
    return cells.columns, cells.rows


def _table(content: bytes, path: Path, called: Mapping[str, Sequence[str]]) -> _Cells:
    """A table's cells. `called` are the columns that are needed, each with what it may be called."""
    header = ",".join(called)
    try:
        text = _text(content, path, header)
        columns, rows = _json_rows(text, path, called) if path.suffix.lower() == ".jsonl" else _rows(text, called)
    except (UnicodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV in UTF-8: {error}. {_REMEDY} {header}.") from error
    found = _found(columns, called)
    for column, count in Counter(columns).items():
        if count > 1 and column in {*found.values(), "group"}:
            raise InputError(f"{path} has the column {column} {count} times. Remove or rename all but one.")
    for line, cells in rows:
        if any(map(str.strip, cells[len(columns) :])):
            raise InputError(
                f"{path} line {line} has {count_text(len(cells), 'cell')} and the header "
                f"{count_text(len(columns), 'column')}. Put quotes around a cell that has the separator in it."
            )
    return _Cells(
        columns, [(line, {column: cell.strip() for column, cell in zip(columns, cells)}) for line, cells in rows], found
    )


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {why_unread(error)}. Give a .csv file that you may read.") from None


def _text(content: bytes, path: Path, header: str) -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:4]:  # UTF-16 without a mark: every other byte of ASCII is 0
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    text = content.decode(encoding or "utf-8")
    if "\0" in text:
        raise InputError(f"{path} has a 0 byte in its text: it is damaged, or no CSV. {_REMEDY} {header}.")
    return text


def _rows(text: str, called: Mapping[str, Sequence[str]]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The columns of the header, in lower case, and every row that is not empty, with its line; where the columns that
    are needed are missing, the header as it is, and no rows.
    """
    lines = io.StringIO(text, newline="")
    begin = 0
    if text[:4].lower() == "sep=":  # Excel's own line about the separator
        lines.readline()
        begin = 1
    at = lines.tell()
    headers, plain = {}, list[str]()
    for delimiter in _DELIMITERS:
        lines.seek(at)
        cells = next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), [])
        plain = plain or [cell.strip() for cell in cells]
        headers[delimiter] = [_column(cell) for cell in cells]
    delimiter = next((one for one, columns in headers.items() if len(_found(columns, called)) == len(called)), None)
    if delimiter is None:
        return plain, []
    lines.seek(at)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)
    next(reader)
    header = headers[delimiter]
    rows = [(begin + reader.line_num, row) for row in reader if any(map(str.strip, row))]
    while header and not header[-1]:  # a spreadsheet's empty columns
        header.pop()
    return header, rows


def _json_rows(
    text: str, path: Path, called: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The same of a JSON object a line, whose keys are the columns."""
    objects = [(number, _object(line, f"{path} line {number}")) for number, line in _lines(text)]
    keys = list(dict.fromkeys(key for _, content in objects for key in content))
    columns = [_column(key) for key in keys]
    needed = _found(columns, called).values()
    for number, content in objects:
        for key, column in zip(keys, columns):
            value = content.get(key, "")
            if column in needed and (isinstance(value, bool) or not isinstance(value, (str, int))):
                raise InputError(
                    f"{path} line {number}: {printable(key)} is {printable(json.dumps(value)[:80])}. Write a text, or "
                    f"for a label a whole number."
                )
    return columns, [(number, [_cell(content.get(key)) for key in keys]) for number, content in objects]


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {error}. Write one object a line.") from None
    if not isinstance(content, dict):
        raise InputError(f"{where} is no JSON object, but {type(content).__name__}. Write one object a line.")
    return content


def _found(columns: Sequence[str], called: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which of the columns each of those is that are needed, as far as they are there: the first that is called so."""
    found: dict[str, str] = {}
    for one, names in called.items():
        if able := [name for name in names if name in columns and name not in found.values()]:
            found[one] = able[0]
    return found


def _column(cell: str) -> str:
    return unicodedata.normalize("NFKC", cell).strip(_NO_WIDTH).strip().lower()


def _place(listed: str, folder: Path, where: str) -> str:
    """A path as this system writes it.

    Raises:
        InputError: it is absolute on Windows, so that it cannot be here, or the address of something that is no file.
    """
    if "://" in listed:
        raise InputError(f"{where}: {printable(listed)} is an address, and images are read from files. Download it.")
    windows = PureWindowsPath(listed)
    if os.name == "posix" and windows.drive and not os.path.lexists(folder / listed):
        raise InputError(
            f"{where}: {printable(listed)} is a path of a Windows system, which this one does not have. Write paths "
            f"from the CSV's own folder on, such as {PurePosixPath(*windows.parts[-2:])}"
        )
    if listed.startswith("~") and not os.path.lexists(folder / listed):
        raise InputError(
            f"{where}: {printable(listed)} begins with ~, which only a shell replaces by a home folder. Write the path "
            f"from / on, or from the CSV's own folder on."
        )
    # A backslash can be a part of a file's name here, but hardly is.
    if "\\" in listed and not os.path.lexists(folder / listed):
        return listed.replace("\\", "/")
    return listed


def notes_on_splits(column: str, splits: Counter[str], kind: str = "column") -> Iterator[str]:
    """A note where a column that is called as one of a split names none of its parts, or other things as well;
    `splits` counts what it says; `kind` is what it is called.
    """
    others = Counter({name: count for name, count in splits.items() if part_called(name) == NO_PART})
    counts = ", ".join(f"{printable(name) or '(empty)'} {count:,}" for name, count in others.most_common(5))
    if others and len(others) < len(splits):
        yield f"the {kind} {printable(column)} also says {counts}, which is no part of a split."
    elif others:
        yield (
            f"the {kind} {printable(column)} ({counts}) is not used, as it does not say {', '.join(PARTS)}: all are "
            f"pooled, and facesim makes its own split (--held-out)."
        )


def _notes_on_columns(unused: Iterable[str]) -> Iterator[str]:
    others = [printable(column or "(without a name)") for column in unused]
    if others:
        yield f"columns that are not used: {some(others)}."
