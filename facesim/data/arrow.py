"""Tables of encoded images: Parquet files, and Arrow files as Hugging Face's `datasets` saves them (`save_to_disk`).

An image is a cell of bytes, or of `bytes` and `path` (the feature `Image` of `datasets`). A label is a text, a number,
a one-hot vector, or a number of the feature `ClassLabel`, whose names are in the schema's metadata. Rows are read some
at a time. It needs pyarrow (`pip install 'facesim-cluster[parquet]'`).
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from facesim.data.content import Content, Source, each_in_parallel, fingerprint
from facesim.data.decode import BadFile, Wanted, decode, decode_bytes
from facesim.data.labels import Label, label_of_value, people_of
from facesim.data.layouts import some
from facesim.data.parts import NO_PART, part_called
from facesim.data.shards import complete_set, parts_of
from facesim.data.tables import SPLIT_COLUMNS, notes_on_splits, split_column
from facesim.data.tfrecord import IMAGE_FEATURES, LABEL_FEATURES
from facesim.util.errors import InputError
from facesim.util.files import open_regular, read_text, why_unread
from facesim.util.unused import Tally, printable
from facesim.util.words import count_text

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".parquet", ".arrow")

_SAVED, _SAVED_PARTS = "state.json", "dataset_dict.json"

#: Rows of a Parquet file that are read at a time.
_ROWS = 64

_REMEDY = "Copy or download it again."


class Columns(NamedTuple):
    """Which columns of a table are read: the image's, and the label's with the names of its numbers, if it has these;
    those of texts that may say the part of a split, by their names in lower case; and others that are called as labels
    usually are.
    """

    image: str
    label: str
    names: Sequence[str] | None
    splits: Mapping[str, str]
    others: tuple[str, ...]


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote the folder."""
    return os.path.isfile(folder / _SAVED) or os.path.isfile(folder / _SAVED_PARTS)


def files_of(path: Path) -> list[Path]:
    """The tables that `path` names: itself, what `save_to_disk` wrote there, or else the files below the folder.

    Raises:
        InputError: by their names, or by what `save_to_disk` noted, there are more.
    """
    if path.is_file():
        return [path]
    if is_saved(path):
        return _saved(path)
    return complete_set(path, tables_below(path))


def tables_below(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Path]:
    """The files below a folder that are called as tables are, in any case."""
    for inner, _, names in os.walk(folder):
        called = (Path(inner, name) for name in names if name.lower().endswith(suffixes))
        yield from filter(Path.is_file, called)


def used_of(path: Path) -> list[Path]:
    """The same, and what `save_to_disk` wrote beside them."""
    files = files_of(path)
    folders = dict.fromkeys([path, *(file.parent for file in files)])
    return [*files, *(folder / name for folder in folders for name in (_SAVED, _SAVED_PARTS, "dataset_info.json"))]


def _saved(folder: Path) -> list[Path]:
    try:
        if (folder / _SAVED_PARTS).is_file():
            parts = json.loads(read_text(folder / _SAVED_PARTS))["splits"]
            return [file for part in parts for file in _saved(folder / str(part))]
        state = json.loads(read_text(folder / _SAVED))
        names = [str(one["filename"]) for one in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not as datasets' save_to_disk writes it: {error!r}. {_REMEDY}") from None
    if state.get("_indices_data_files"):
        raise InputError(
            f"{folder} was saved by an old version of datasets, with rows chosen by an index. Load it with datasets, "
            f"and save it with save_to_disk again."
        )
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of its {count_text(len(names), 'file')}, such as {missing[0]}. {_REMEDY}"
        )
    return [folder / name for name in names]


def source(path: Path, wanted: Wanted) -> Source:
    """The images of the tables that `path` names."""
    files, root = files_of(path), path if path.is_dir() else path.parent

    def open_content() -> Content:
        return content_of(list(zip(files, parts_of(files, root))), root, wanted)

    return Source(path.resolve().stem, [fingerprint(root, files), wanted.features], open_content)


def content_of(
    parts: Sequence[tuple[Path, int]], root: Path, wanted: Wanted, paths: bool = False, notes: Sequence[str] = ()
) -> Content:
    """The images of tables, each a file and the part of a split that it is.

    paths: an image that is given by its path alone is read from there; otherwise it is one that cannot be read.
    notes: what a user should know of them.

    Raises:
        InputError: a file is damaged, or which of its columns are images and labels is not clear.
    """
    tally, labels, image_parts, others = Tally(), list[Label](), list[int](), dict[str, None]()
    files, rows = array("i"), array("q")  # of each image the number of its file, and its row there
    of_file, splits = list[Columns](), dict[str, Counter[str]]()
    split_called = _split_called([file for file, _ in parts], wanted)
    for number, (file, part) in enumerate(parts):
        with _reading(file) as (schema, batches):
            columns = _columns(schema, file, wanted)
            of_file.append(columns)
            others |= dict.fromkeys(columns.others)
            split_in = columns.splits.get(split_called)
            row = 0
            for value, split in _labels_and_splits(batches, columns.label, split_in):
                label = _label(value, columns, f"{file}: row {row:,}")
                if label is None:
                    tally.add("a row without a label", f"{_shown(file, root)} row {row}", "row")
                else:
                    labels.append(label)
                    files.append(number)
                    rows.append(row)
                    named = part_called(split)
                    image_parts.append(part if named == NO_PART else named)
                    if split_in is not None:
                        splits.setdefault(split_in, Counter())[split] += 1
                row += 1
        if not row:
            tally.add("a file without a row", _shown(file, root))
        wanted.progress("reading labels", number + 1, len(parts))
    if not labels:
        unused = f": {'; '.join(map(str, tally.counted))}" if tally.counted else ""
        raise InputError(f"{root} holds no rows with a label{unused}. {_REMEDY}")
    people = people_of(labels, str(root))

    def origin(index: int) -> str:
        return f"{_shown(parts[files[index]][0], root)} row {rows[index]}"

    def pictures(indices: np.ndarray) -> Iterator[np.ndarray | BadFile]:
        def cells() -> Iterator[tuple[int, Any]]:
            for number, group in groupby(indices, key=files.__getitem__):
                chosen = list(group)
                cells_there = _cells(parts[number][0], of_file[number].image, [rows[index] for index in chosen])
                yield from zip(chosen, cells_there)

        def decoded(cell: tuple[int, Any]) -> np.ndarray | BadFile:
            return _picture(cell[1], origin(cell[0]), paths, wanted)

        return each_in_parallel(decoded, cells(), len(indices), wanted)

    if others:
        columns_left = f"rows have {some(list(others))} beside the label that is read"
        notes = [*notes, f"{columns_left}; --label-feature names the one to read."]
    notes = [*notes, *chain.from_iterable(notes_on_splits(*counted) for counted in splits.items())]
    return Content.of(people, pictures, origin, parts=image_parts, unused=tally.counted, notes=notes)


def _split_called(files: Sequence[Path], wanted: Wanted) -> str | None:
    """What the column is called, in lower case, that says the part of a split, by what all of the files say there."""
    said = dict[str, set[str]]()
    for file in files:
        with _reading(file) as (schema, _):
            said |= {name: set() for name in _columns(schema, file, wanted).splits}
    if len(said) > 1:  # else there is nothing to choose from, and nothing has to be read twice
        for file in files:
            with _reading(file) as (schema, batches):
                there = _columns(schema, file, wanted).splits
                for batch in batches([*there.values()]) if there else ():
                    for name, column in there.items():
                        said[name].update(filter(None, batch.column(column).to_pylist()))
    return split_column(said)


def _labels_and_splits(batches: Any, label: str, split: str | None) -> Iterator[tuple[Any, str]]:
    """Of each row the label's cell, and what its split is called, empty where it has none."""
    for batch in batches([label, *([split] if split else [])]):
        labels = batch.column(label).to_pylist()
        splits = batch.column(split).to_pylist() if split else [None] * len(labels)
        yield from ((label, split or "") for label, split in zip(labels, splits, strict=True))


def _shown(file: Path, root: Path) -> str:
    return printable(file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name)


def _picture(cell: Any, origin: str, paths: bool, wanted: Wanted) -> np.ndarray | BadFile:
    path = None
    if isinstance(cell, dict):
        cell, path = cell.get("bytes"), cell.get("path")
    if cell is not None:
        return decode_bytes(cell, origin, wanted)
    if path is None:
        return BadFile(origin, "a row without an image")
    if paths:
        return decode(Path(path), Path(path).parent, wanted)
    return BadFile(origin, "a row with an image's path and not the image; save the set with the images in it")


def _label(value: Any, columns: Columns, where: str) -> Label | None:
    """The label that a cell is; None where it says that there is none."""
    if value is None or (columns.names is not None and value == -1):  # as datasets has it where nothing is known
        return None
    if columns.names is not None:
        if not isinstance(value, int) or not 0 <= value < len(columns.names):
            raise InputError(f"{where} has the label {value!r}, and there are names for 0 to {len(columns.names) - 1}.")
        return Label(columns.names[value])
    return label_of_value(value, where)


def _columns(schema: pyarrow.Schema, file: Path, wanted: Wanted) -> Columns:
    """Raises InputError if it is not clear which columns are meant."""
    features = _features(schema)
    there = ", ".join(f"{printable(field.name)} ({field.type})" for field in schema)
    of_type = [field.name for field in schema if _can_hold_image(field.type)]
    able = [name for name in of_type if features.get(name, {}).get("_type") == "Image"] or of_type
    image = _chosen(wanted.image_feature, of_type, [*(able if len(able) == 1 else ()), *IMAGE_FEATURES])
    if image is None:
        raise InputError(
            f"{file} has no column {wanted.image_feature or 'that is clearly the image'}: it has {there}, and an image "
            f"must be one encoded file (JPEG, PNG, ...) as bytes. Name the right one with --image-feature."
        )
    able = [name for name in schema.names if name != image]
    classes = [name for name in able if features.get(name, {}).get("_type") == "ClassLabel"]
    label = _chosen(wanted.label_feature, able, [*LABEL_FEATURES, *(classes if len(classes) == 1 else ())])
    if label is None:
        raise InputError(
            f"{file} has no column {wanted.label_feature or 'that is clearly the label'}; it has {there}. Name the one "
            f"that says whom an image shows with --label-feature."
        )
    names = features.get(label, {}).get("names")
    others = () if wanted.label_feature else tuple(name for name in (*LABEL_FEATURES, *classes) if name in able)
    texts = [field.name for field in schema if _is_text(field.type) and field.name not in (image, label)]
    splits = {name.lower(): name for name in texts if name.lower() in SPLIT_COLUMNS}
    return Columns(image, label, names, splits, tuple(dict.fromkeys(name for name in others if name != label)))


def _chosen(named: str | None, able: Sequence[str], usual: Iterable[str]) -> str | None:
    """The column that is named, or the first of the usual ones, if it can be it."""
    return next((name for name in ([named] if named else usual) if name in able), None)


def _can_hold_image(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return types.is_binary(kind) or types.is_large_binary(kind) or str(kind) == "binary_view"


def _is_text(kind: pyarrow.DataType) -> bool:
    """Whether cells are texts, also where each different one is stored once, as pandas' categories are."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view"


def _features(schema: pyarrow.Schema) -> dict[str, Any]:
    """What `datasets` says of the columns, by their names; empty where another program wrote the table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _cells(file: Path, column: str, rows: Sequence[int]) -> Iterator[Any]:
    """The cells of a column at `rows`, ascending."""
    with _reading(file) as (_, batches):
        begin = at = 0
        for batch in batches([column]):
            while at < len(rows) and rows[at] < begin + len(batch):
                yield batch.column(0)[rows[at] - begin].as_py()
                at += 1
            if at == len(rows):
                return
            begin += len(batch)


@contextmanager
def _reading(file: Path) -> Iterator[tuple[pyarrow.Schema, Any]]:
    """A file's schema, and a function from names of columns to the record batches of these.

    Raises:
        InputError: pyarrow is not installed, or the file cannot be read; also while batches are read.
    """
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ModuleNotFoundError:
        remedy = "pip install 'facesim-cluster[parquet]'"
        raise InputError(f"{file} is read by pyarrow, which is not installed: {remedy}", remedy=remedy) from None
    try:
        with open_regular(file) as opened:
            start = opened.read(6)
            opened.seek(0)
            if start[:4] == b"PAR1":
                table = parquet.ParquetFile(opened, buffer_size=1 << 20)
                yield table.schema_arrow, lambda names: table.iter_batches(_ROWS, columns=names)
            elif start == b"ARROW1":
                saved = ipc.open_file(opened)
                numbers = range(saved.num_record_batches)
                yield saved.schema, lambda names: (saved.get_batch(number).select(names) for number in numbers)
            else:
                stream = ipc.open_stream(opened)
                yield stream.schema, lambda names: (batch.select(names) for batch in stream)
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        why = why_unread(error) if isinstance(error, OSError) and error.errno else error
        raise InputError(f"{file} cannot be read as a table: {why}. {_REMEDY}") from None
