"""Where images come from: `DATASETS` are given by name, `FORMATS` are found at a path. Adding one is one function and
one line; another package adds a data set by an entry point of `facesim.datasets`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import numpy as np

from facesim.data import arrow, huggingface, recordio, tfrecord, webdataset
from facesim.data.archives import open_zip
from facesim.data.arrays import read_npz
from facesim.data.content import Content, Source, each_in_parallel, fingerprint, from_arrays, in_parallel
from facesim.data.decode import BadFile, Wanted, decode, decode_bytes, decode_member, shown_path, to_channels
from facesim.data.labels import people_of
from facesim.data.layouts import Example, Listing, in_order, look_through, people_like_splits, some
from facesim.data.parts import NO_PART, PARTS, part_called
from facesim.data.rendering import RENDERER_VERSION, render_batches
from facesim.data.shards import of_a_user, parts_of
from facesim.data.tables import check_group, lists_of, read_table
from facesim.data.walk import beside, files_in, instead_of, list_images, real_path, walk
from facesim.spec.remote import remote
from facesim.util.errors import InputError
from facesim.util.files import kind_of_file, reading, why_unread
from facesim.util.registry import Registry
from facesim.util.unused import Tally, Unused, printable

_LFW_MIN_IMAGES = 15  # 96 people; the size per person of the study that facesim reproduces


def _rendered(wanted: Wanted) -> Source:
    spec = replace(wanted.render, size=wanted.image_size)

    def pictures(indices: np.ndarray) -> Iterator[np.ndarray]:
        chosen = set(indices.tolist())
        rendered = (picture for batch in render_batches(spec, wanted.progress) for picture in batch)
        yield from (to_channels(picture, wanted.channels) for at, picture in enumerate(rendered) if at in chosen)

    def open_content() -> Content:
        return Content(spec.labels, spec.names, [None] * spec.identities, pictures)

    return Source("rendered", [RENDERER_VERSION, asdict(spec)], open_content, nameless=True)


def _olivetti(wanted: Wanted) -> Source:
    def open_content() -> Content:
        from sklearn.datasets import fetch_olivetti_faces

        faces = _download(fetch_olivetti_faces, "olivetti", wanted)
        names = [f"person-{i + 1:02d}" for i in range(int(faces.target.max()) + 1)]
        return from_arrays(_as_uint8(faces.images).__getitem__, faces.target, names, wanted)

    return Source("olivetti", _sklearn_home(), open_content, nameless=True)


def _lfw(wanted: Wanted) -> Source:
    min_images = wanted.min_images or _LFW_MIN_IMAGES

    def open_content() -> Content:
        from sklearn.datasets import fetch_lfw_people

        # The middle 128 x 128 of 250 x 250: the whole head with little background. Scaled down while loading, because
        # scikit-learn holds all images as float32.
        middle = slice(61, 189)
        scale = min(1.0, wanted.image_size / 128)
        options = {"min_faces_per_person": min_images, "color": True, "slice_": (middle, middle), "resize": scale}
        faces = _download(fetch_lfw_people, "lfw", wanted, **options)
        return from_arrays(
            _as_uint8(faces.images).__getitem__, faces.target, [str(name) for name in faces.target_names], wanted
        )

    return Source("lfw", [_sklearn_home(), min_images], open_content, nameless=True)


def _npz(path: Path, wanted: Wanted) -> Source:
    files = fingerprint(path.parent, [path])
    return Source(printable(path.stem), files, lambda: _read_npz(path, wanted), nameless=True)


def _csv(path: Path, wanted: Wanted) -> Source:
    table = read_table(path, *wanted.features)
    # Absolute, as the paths of the examples are.
    folder = Path(os.path.abspath(path.parent))
    return _files(printable(path.stem), folder, table.examples, wanted, notes=table.notes)


def _folder(path: Path, wanted: Wanted) -> Source:
    root = Path(os.path.realpath(path))
    lists = lists_of(root, *wanted.features)
    listing = _listing(root, lists, *wanted.features)
    notes = (*listing.notes, *people_like_splits(listing.examples))
    source = _files(printable(root.name), root, listing.examples, wanted, listing.unused, notes)
    # What a list names may lie elsewhere, also behind a link.
    listed = listing.examples if lists else []
    within = all(real_path(example.path).is_relative_to(root) for example in listed)
    return replace(source, within=within, nameless=not lists)


def listing_of(folder: Path, image_feature: str | None = None, label_feature: str | None = None) -> Listing:
    """The images of a folder: those that its `metadata.csv` or `metadata.jsonl` lists, or one in each part of a split
    (`train`, `test`), if it says whom they show, or else by its folders.

    Raises:
        InputError: as `read_table` and `look_through` do; or two lists have one person in two groups.
    """
    folder, features = Path(os.path.realpath(folder)), (image_feature, label_feature)
    return _listing(folder, lists_of(folder, *features), *features)


def _listing(folder: Path, lists: Sequence[Path], *features: str | None) -> Listing:
    """What `listing_of` has, by `lists`, those of `tables.lists_of`."""
    if not lists:
        return look_through(folder)
    tables = {path: read_table(path, *features) for path in lists}
    examples = [
        example if path.parent == folder else _in_part(example, path)
        for path, table in tables.items()
        for example in table.examples
    ]
    group_of: dict[str, str | None] = {}
    for example in examples:
        check_group(group_of, example.identity, example.group, str(folder))
    walked = walk(folder, besides=[*lists, *(example.path for example in examples)])
    tally = Tally(walked.unused)
    for image in walked.images:
        tally.add(f"an image that {lists[0].name} does not list", image.relative_to(folder).as_posix())
    notes = dict.fromkeys(note for table in tables.values() for note in table.notes)
    return Listing(in_order(examples), tally.counted, tuple(notes))


def _in_part(example: Example, listed_in: Path) -> Example:
    """An example of a list that lies in the folder of a part of a split."""
    part = part_called(listed_in.parent.name)
    if example.part not in (NO_PART, part):
        raise InputError(
            f"{listed_in} lists images of the part {PARTS[part]}, by its folder, and says {PARTS[example.part]} of "
            f"{printable(example.path.name)}. Move the image there, or remove the column."
        )
    return replace(example, part=part)


def _zip(path: Path, wanted: Wanted) -> Source:
    def open_content() -> Content:
        archive = open_zip(path)

        def picture_of(image: Path) -> np.ndarray | BadFile:
            return decode_member(lambda: archive.read(image), shown_path(image, path), wanted)

        listing = archive.listing
        notes = (*listing.notes, *people_like_splits(listing.examples))
        return _of_examples(listing.examples, path, picture_of, wanted, listing.unused, notes)

    return Source(printable(path.stem), fingerprint(path.parent, [path]), open_content, nameless=True)


def _recordio(path: Path, wanted: Wanted) -> Source:
    def open_content() -> Content:
        index = recordio.read_index(path, wanted.progress)

        def origin(number: int) -> str:
            return f"{path.name} byte {index.offsets[number]}"

        def picture_of(number: int) -> np.ndarray | BadFile:
            with reading(path) as file:
                record = recordio.read_record(file, path, int(index.offsets[number]))
            return decode_bytes(record.image, origin(number), wanted)

        used, labels = np.unique(index.labels, return_inverse=True)
        names = [str(label) for label in used]
        return Content(
            labels.astype(np.int32),
            names,
            [None] * len(names),
            in_parallel(picture_of, wanted),
            origin,
            notes=index.notes,
        )

    files = fingerprint(path.parent, recordio.files_of(path))
    return Source(path.resolve().parent.name, files, open_content, nameless=True)


def _tfrecord(path: Path, wanted: Wanted) -> Source:
    files = tfrecord.shards(path)

    def example(file: Path, place: tfrecord.Place, content: bytes) -> tfrecord.Example:
        return tfrecord.parse(content, *wanted.features, f"{file}: the record at byte {place.record:,}")

    def open_content() -> Content:
        places, read_labels, others, parts, tally = [], [], {}, [], Tally()
        done, due = 0, max(1, sum(file.stat().st_size for file in files) // 1000)
        for file, part in zip(files, parts_of(files, files[0].parent)):
            before = len(read_labels)
            for place, content in tfrecord.find_records(file):
                places.append((file, place))
                read_labels.append(example(file, place, content).label)
                if len(read_labels) == before + 1 and wanted.label_feature is None:
                    others |= dict.fromkeys(tfrecord.other_labels(content))
                done += len(content)
                if len(read_labels) % 1000 == 0:
                    wanted.progress("reading labels, kB", min(done // 1000, due), due)
            parts += [part] * (len(read_labels) - before)
            if len(read_labels) == before:
                tally.add("a file without a record", file.name)
        if not read_labels:
            raise InputError(f"{path} holds no records. Copy or download it again.")
        wanted.progress("reading labels, kB", due, due)
        people = people_of(read_labels, str(path))

        def origin(number: int) -> str:
            file, place = places[number]
            return f"{file.name} byte {place.record}"

        def pictures(indices: np.ndarray) -> Iterator[np.ndarray | BadFile]:
            def contents() -> Iterator[tuple[int, bytes]]:
                for file, group in groupby(indices, key=lambda number: places[number][0]):
                    numbers = list(group)
                    yield from zip(numbers, tfrecord.read(file, [places[number][1] for number in numbers]))

            def decoded(record: tuple[int, bytes]) -> np.ndarray | BadFile:
                number, content = record
                image = example(*places[number], content).image
                return decode_bytes(image, origin(number), wanted)

            return each_in_parallel(decoded, contents(), len(indices), wanted)

        notes = _notes_on_labels(list(others))
        return Content.of(people, pictures, origin, parts=parts, unused=tally.counted, notes=notes)

    return Source(path.resolve().stem, [fingerprint(files[0].parent, files), wanted.features], open_content)


def _notes_on_labels(others: Sequence[str]) -> list[str]:
    if not others:
        return []
    return [f"records have {some(others)} beside the label that is read; --label-feature names the one to read."]


#: A data set by name: from what is wanted of its images to the source of them.
DATASETS: Registry[Callable[[Wanted], Source]] = Registry(
    "data set", "facesim.datasets", {"rendered": _rendered, "olivetti": _olivetti, "lfw": _lfw}
)


class Format(NamedTuple):
    """A kind of file, known by its name; `source` opens what lies at a path, a file or a folder of several.

    `files_of` are those that are read of such a path; `several`: a folder of several of them is one data set.
    """

    called: Callable[[Path], bool]
    source: Callable[[Path, Wanted], Source]
    files_of: Callable[[Path], Sequence[Path]] = lambda path: [path]
    several: bool = False


def _ends(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.name.lower().endswith(suffixes)


#: Kinds of files, and folders of images. The first that fits is taken.
FORMATS: dict[str, Format] = {
    "tfrecord": Format(tfrecord.is_record_file, _tfrecord, tfrecord.shards, several=True),
    "npz": Format(_ends(".npz"), _npz),
    "csv": Format(_ends(".csv", ".tsv"), _csv),
    "zip": Format(_ends(".zip"), _zip),
    "recordio": Format(_ends(".rec"), _recordio, recordio.files_of),
    "arrow": Format(_ends(*arrow.SUFFIXES), arrow.source, arrow.used_of, several=True),
    "webdataset": Format(_ends(*webdataset.SUFFIXES), webdataset.source, webdataset.files_of, several=True),
    "folder": Format(lambda _: False, _folder),
}


def find_source(source: str, wanted: Wanted) -> tuple[str, Source]:
    """The kind of what `source` names, and the source itself. Where that is files in a folder, what lies beside these
    is counted.

    Raises:
        InputError: `source` names nothing that can be used.
    """
    kind, path = resolve(source)
    if path is None:
        return kind, huggingface.source(source, wanted) if kind == "hf" else DATASETS[kind](wanted)
    image_source, folder = FORMATS[kind].source(path, wanted), Path(os.path.expanduser(source))
    if kind == "folder" or not folder.is_dir():
        return kind, image_source
    left_out = beside(folder, FORMATS[kind].files_of(path))

    def open_content() -> Content:
        content = image_source.open()
        return replace(content, unused=(*content.unused, *left_out))

    known_by = [image_source.fingerprint, [asdict(entry) for entry in left_out]]
    return kind, replace(image_source, fingerprint=known_by, open=open_content)


def resolve(source: str) -> tuple[str, Path | None]:
    """Which data set or format `source` names, and where it lies; None for a data set."""
    if source in DATASETS:
        return source, None
    if source.startswith(huggingface.PREFIX):
        return "hf", None
    place = os.path.expanduser(source)
    path = Path(place)
    try:
        mode = os.stat(place).st_mode  # the text: a path makes the current folder of an empty one
    except (OSError, ValueError) as error:
        why = "" if isinstance(error, FileNotFoundError) else f" ({why_unread(error)})"
        raise InputError(
            f"no data source {source!r}{why}. Give {', '.join(DATASETS)}, or an existing folder or {_FILES} file, "
            f"or hf:org/name.",
            field="data",
            value=source,
            allowed=[*DATASETS, f"a folder or {_FILES} file"],
        ) from None
    kind = _kind_of_file(path) if stat.S_ISREG(mode) else None
    if kind:
        return kind, path
    if not stat.S_ISDIR(mode):
        what = "" if stat.S_ISREG(mode) else f" ({kind_of_file(mode)})"
        remedy = instead_of(path) or "Give one of these."
        raise InputError(f"{printable(source)}{what} is neither a folder nor a {_FILES} file. {remedy}")
    return _in_folder(path)


def place_of(source: str) -> str:
    """By what `source` is known again, from whatever folder it is named: where it lies, or what a data set is called.

    Raises:
        InputError: as of `resolve`.
    """
    return source if resolve(source)[1] is None else printable(os.path.realpath(os.path.expanduser(source)))


def to_be_fetched(source: str) -> bool:
    """Whether `source` has to be fetched over the network, or may have to be: another package's data set."""
    if source == "rendered":
        return False
    if source in _KEPT:
        return not Path(_sklearn_home(), _KEPT[source][0]).exists()
    return source in DATASETS or source.startswith(huggingface.PREFIX) or remote(source) is not None


def _in_folder(folder: Path) -> tuple[str, Path]:
    """The kind of data set that a folder is or holds, and where that lies."""
    if arrow.is_saved(folder):
        return "arrow", folder
    if lists_of(folder):
        return "folder", folder
    kind_of = {file: kind for file in of_a_user(folder, files_in(folder)) if (kind := _kind_of_file(file))}
    below = arrow.tables_below(folder, (".parquet",))  # as on Hugging Face's hub
    nested = not kind_of and next(of_a_user(folder, below), None)
    if not (kind_of or nested) or list_images(folder):
        return "folder", folder
    kinds = set(kind_of.values()) or {"arrow"}
    if len(kinds) == 1 and FORMATS[kind := kinds.pop()].several:
        return kind, folder
    if len(kind_of) > 1:
        names = ", ".join(file.name for file in kind_of)
        raise InputError(f"{folder} holds no images but {len(kind_of)} data sets ({names}). Give one of these files.")
    ((file, kind),) = kind_of.items()
    return kind, file


_FILES = ".npz, .csv, .zip, .tar, .rec, .tfrecord or .parquet"


def _kind_of_file(path: Path) -> str | None:
    """The kind of source that a file is, by its name."""
    return next((kind for kind, known in FORMATS.items() if known.called(path)), None)


def _files(
    name: str,
    root: Path,
    examples: Sequence[Example],
    wanted: Wanted,
    unused: Sequence[Unused] = (),
    notes: Sequence[str] = (),
) -> Source:
    def open_content() -> Content:
        content = _of_examples(examples, root, lambda image: decode(image, root, wanted), wanted, unused, notes)
        return replace(content, files=[real_path(example.path) for example in examples])

    listed = [[example.identity, example.group, example.part] for example in examples]
    left_out = [[asdict(entry) for entry in unused], list(notes)]
    files = fingerprint(root, [example.path for example in examples])
    return Source(name, [name, files, listed, left_out], open_content)  # several lists may name the same files


def _of_examples(
    examples: Sequence[Example],
    root: Path,
    picture_of: Callable[[Path], np.ndarray | BadFile],
    wanted: Wanted,
    unused: Sequence[Unused],
    notes: Sequence[str],
) -> Content:
    """The content that examples below `root` are, of which `picture_of` decodes one."""
    names = tuple(dict.fromkeys(example.identity for example in examples))
    label_of = {identity: label for label, identity in enumerate(names)}
    group_of = {example.identity: example.group for example in examples}
    return Content(
        np.array([label_of[example.identity] for example in examples], np.int32),
        names,
        [group_of[identity] for identity in names],
        in_parallel(lambda index: picture_of(examples[index].path), wanted),
        lambda index: shown_path(examples[index].path, root),
        parts=[example.part for example in examples],
        unused=unused,
        notes=notes,
    )


def _read_npz(path: Path, wanted: Wanted) -> Content:
    npz = read_npz(path)
    content = from_arrays(npz.image, npz.labels, npz.names, wanted, npz.notes, npz.unused)
    return replace(content, parts=npz.parts)


def _download(fetch: Callable, name: str, wanted: Wanted, **options: Any) -> Any:
    """What scikit-learn fetches, from its folder or from the network; images float (n, ...), 0..1."""
    home = Path(_sklearn_home())
    files = [home / part for part in _KEPT[name] if (home / part).exists()]
    remedy = f"Delete {' and '.join(map(str, files))} and run again: scikit-learn downloads it anew."
    if len(files) > 1:  # the archive is removed once everything is out of it
        raise InputError(f"the data set {name!r} was not unpacked to its end in {home}. {remedy}")
    wanted.progress("downloading", 0, 1)
    try:
        faces = fetch(n_retries=2, delay=1.0, **options)
        damage = None if np.isfinite(faces.images).all() else "it holds values that are no numbers"
    except Exception as error:  # noqa: BLE001  a damaged archive or pickle fails with whatever it leads to
        reason = f"{type(error).__name__}: {error}"
        if "min_faces_per_person" in str(error):
            raise InputError(f"{name} has nobody with so many images ({error}). Lower --min-images.") from error
        if not files or isinstance(error, (URLError, ConnectionError, TimeoutError)):
            raise InputError(
                f"the data set {name!r} could not be fetched: {reason}. It is downloaded once by scikit-learn: check "
                f"the network, or put it where scikit-learn looks ({home}; SCIKIT_LEARN_DATA sets that place), or use "
                f"rendered faces or a folder of your own."
            ) from error
        damage = reason
    if damage:
        raise InputError(f"the data set {name!r}, as it lies in {home}, is damaged: {damage}. {remedy}")
    wanted.progress("downloading", 1, 1)
    return faces


#: What scikit-learn keeps in its folder.
_KEPT = {
    "olivetti": ("olivetti_py3.pkz",),
    "lfw": ("lfw_home/lfw_funneled", "lfw_home/lfw-funneled.tgz"),
}


def _sklearn_home() -> str:
    from sklearn.datasets import get_data_home

    return get_data_home()


def _as_uint8(images: np.ndarray) -> np.ndarray:
    return (images * 255 + 0.5).astype(np.uint8)
