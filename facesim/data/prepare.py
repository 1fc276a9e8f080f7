"""From whatever images a user has to one folder that every training task reads, made once and then reused.

`prepare` finds out what the source is, decodes every image to one size and writes

    cache_dir/<key>/images.u8      the images' raw bytes, n * height * width * channels, C order
                    labels.npy     int32 (n,), 0..identities-1
                    parts.i1       int8 (n,), the part of each image (`facesim.data.parts`); only of a split of its own
                    origins.json   where each image was found in the source
                    dataset.json   what it is: name, shape, names, groups, unreadable and unused files, checksum
                    checks.json    sizes and checksums of the other files (see `facesim.data.cache`)

Raw bytes, because every training task, also a TensorFlow worker on another host, then reads the whole set with one
`read_file` and one `decode_raw`: no image library, no decoding again in each task and each epoch, and every task has
bit-for-bit the same data. Where they are not to be kept (`decoded=False`), `facesim.data.stored` says what is written
in place of images.u8, and every task decodes the files whenever it reads them. `<key>` is a hash of whatever determines
the content, so the same source and options find the same folder at once, and a changed file makes a new one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facesim.data.cache import made_once, room_for
from facesim.data.content import Content, tested_with
from facesim.data.decode import BadFile, Wanted, shows_nothing
from facesim.data.duplicates import notes_across
from facesim.data.labels import notes_on_alike
from facesim.data.layouts import natural_key, some
from facesim.data.opening import decoders
from facesim.data.parts import TRAIN, kept_split
from facesim.data.prepared import FACTS_FILE, FORMAT_VERSION, PARTS_FILE, PreparedData, mapped
from facesim.data.rendering import Progress, RenderSpec
from facesim.data.sources import DATASETS, find_source
from facesim.data.stored import StoredImages, store, write_index
from facesim.data.walk import snapshot
from facesim.util.errors import InputError
from facesim.util.files import read_text, write_text
from facesim.util.unused import Tally, Unused, printable
from facesim.util.unused import in_words as unused_in_words
from facesim.util.words import count_text

#: What `_key` returns.
_KEY = re.compile("[0-9a-f]{24}")


def prepare(
    source: str,
    *,
    test: str | None = None,
    split: Literal["own", "random"] = "own",
    image_size: int = 64,
    channels: int = 3,
    max_bad_files: float = 0.05,
    min_images: int | None = None,
    image_feature: str | None = None,
    label_feature: str | None = None,
    render: RenderSpec | None = None,
    decoded: bool = True,
    cache_dir: Path,
    progress: Progress | None = None,
) -> PreparedData:
    """Make the data set that `source` names ready for training, or find it ready in `cache_dir`.

    source: "rendered" (described by `render`; its size is set to image_size), "olivetti" or "lfw" (scikit-learn
        downloads them), a folder of images (see `layouts.find_examples`), a .csv (see `tables.read_table`), a .npz with
        `images` uint8 (n, h, w) or (n, h, w, 3), `labels` integers (n,) and optionally `names`, InsightFace's .rec (see
        `recordio`), a .tfrecord of `tf.train.Example` (see `tfrecord`), a .parquet or .arrow (see `arrow`), a .tar (see
        `webdataset`), or a folder that holds one of these, or any number of the last three kinds, and no images; or
        "hf:org/name" of Hugging Face's hub (see `huggingface`). A folder that is called like a built-in source is
        written ./lfw.
    test: another such source, whose images are tested on; all of `source` is then trained on.
    split: "own" keeps a split that the source makes (`facesim.data.parts`), "random" does not.
    image_size: height and width in pixels of the square images, 8..1024; the aspect ratio is kept, on black.
    channels: 1 grey or 3 colour.
    max_bad_files: the share of all files, 0..1, that may be unreadable; these are skipped and listed in `bad_files`.
    min_images: identities with fewer images listed are left out; None leaves none out (for "lfw": 15).
    decoded: keep the decoded images; if not, only where each lies and how it is turned, which takes image files.
    image_feature, label_feature: what they are called in a table, in TFRecord files or in a tar's samples; None looks
        for the usual names.
    progress: called with a phase ("rendering", "decoding", "downloading"), images done and images due.

    Raises InputError, with what to do, for a source that cannot be used.
    """
    if not isinstance(image_size, int) or not 8 <= image_size <= 1024:
        raise InputError(f"image_size is {image_size}; it is a whole number of pixels, 8..1024.")
    if channels not in (1, 3):
        raise InputError(f"channels is {channels}; allowed are 1 (grey) and 3 (colour).")
    if not 0 <= max_bad_files <= 1:
        raise InputError(f"max_bad_files is {max_bad_files}; it is a share of all files, 0..1.")
    if min_images is not None and min_images < 2:
        raise InputError(f"min_images is {min_images}; an identity needs at least 2.")

    progress = progress or (lambda *_: None)
    wanted = Wanted(image_size, channels, min_images, render or RenderSpec(), progress, image_feature, label_feature)
    options = [split, image_size, channels, min_images, decoded, decoders()]

    def look() -> tuple[str, Callable[[Path], str | None], bool]:
        """The key of what is prepared, what writes it to a folder, and whether all of it lies within its folders."""
        kind, image_source = find_source(source, wanted)
        kinds, written_split, nameless = [kind], split, image_source.nameless
        if test is not None:
            kind, tested = find_source(test, wanted)
            kinds, image_source, written_split = [*kinds, kind], tested_with(image_source, tested, split), "own"
            nameless = nameless and tested.nameless
        if nameless:
            _check_nothing_is_named(image_source.name, image_feature=image_feature, label_feature=label_feature)

        def write(new: Path) -> str | None:
            sha256 = _write(new, image_source.name, image_source.open(), wanted, max_bad_files, decoded, written_split)
            # Another time these may be read; until then what is the same has the same name, and is there once.
            return _key([key, sha256, sorted(wanted.unread_now)]) if wanted.unread_now else None

        key = _key([kinds, image_source.fingerprint, options])
        return key, write, image_source.within

    cache_dir = Path(cache_dir)
    key_file = _key_file(cache_dir, [source, *([test] if test else [])], [options, image_feature, label_feature])
    if key_file is not None and (key := _read_key(key_file)):
        data = _once(cache_dir, key, lambda new: look()[1](new))  # noqa: PLW0108 - looked at only if it is written
    else:
        key, write, within = look()
        data = _once(cache_dir, key, write)
        if key_file is not None and within:
            with suppress(OSError):  # then everything is looked at the next time, too
                key_file.parent.mkdir(exist_ok=True)
                write_text(key_file, key)
    # What was found may have been prepared where more was allowed.
    _check_readable(data.name, data.bad_files, len(data.labels), max_bad_files)
    return data


def _check_nothing_is_named(source: str, **features: str | None) -> None:
    """Raises InputError if options name an image or a label where there are no names to choose from."""
    for option, value in features.items():
        if value is not None:
            shown = f"--{option.replace('_', '-')}"
            raise InputError(
                f"{shown} {printable(value)} means nothing to {source}: it names a column of a CSV, a metadata.csv, a "
                f"Parquet or an Arrow file, a feature of TFRecord files, or a suffix of a tar's samples. Leave it out.",
                field=option,
                value=value,
                remedy="leave it out",
            )


def too_many_unreadable(bad_files: Sequence[BadFile], usable: int, max_bad_files: float) -> str | None:
    """That more than the share `max_bad_files` of all files cannot be read, these `bad_files` beside the `usable` ones,
    in words with what to do; None where it is not more.
    """
    files = usable + len(bad_files)
    # As a quotient, which is the nearest to its decimals: 0.29 * 100 is less than 29.
    if not bad_files or len(bad_files) / files <= max_bad_files:
        return None
    enough = math.ceil(100 * len(bad_files) / files) / 100
    return (
        f"{len(bad_files):,} of {count_text(files, 'file')} cannot be read as images: {_by_kind(bad_files)}; at most "
        f"{100 * max_bad_files:g}% may be: repair or remove them, or allow them with --max-bad-files {enough:g}"
    )


def _check_readable(source: str, bad_files: Sequence[BadFile], usable: int, max_bad_files: float) -> None:
    """Raises InputError if more of the source cannot be read than may be."""
    if refused := too_many_unreadable(bad_files, usable, max_bad_files):
        raise InputError(f"{source}: {refused}.", field="max_bad_files", value=max_bad_files)


def _key_file(cache_dir: Path, sources: Sequence[str], options: Any) -> Path | None:
    """The file that would say what was prepared of folders as they are now, which is found much faster than their
    images are; None where a source is no folder.
    """
    folders = [os.path.expanduser(source) for source in sources if source not in DATASETS]
    if len(folders) < len(sources) or not all(map(os.path.isdir, folders)):
        return None
    try:
        return cache_dir / "folders" / _key([[snapshot(Path(folder)) for folder in folders], options])
    except OSError:
        return None


def _read_key(key_file: Path) -> str | None:
    try:
        key = read_text(key_file)
    except (OSError, ValueError):
        return None
    return key if _KEY.fullmatch(key) else None


def keep_prepared(
    cache_dir: Path,
    content: Any,
    *,
    name: str,
    image_shape: tuple[int, int, int],
    pixels: Iterable[np.ndarray],
    labels: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str | None],
    bad_files: Sequence[BadFile],
    unused: Sequence[Unused],
    source_notes: Sequence[str],
    origins: Sequence[str],
    parts: np.ndarray | None,
) -> PreparedData:
    """Keep images as a prepared data set, or find it ready; `content` is JSON-able and says what determines it.

    pixels: uint8 (any, height, width, channels), some images at a time, in the order of `labels`, int32. Notes on the
    split that `parts` are, if there is one, are made of these images.
    """

    def write(directory: Path) -> None:
        digest = hashlib.sha256()
        with room_for(directory, len(labels) * math.prod(image_shape)), (directory / "images.u8").open("wb") as file:
            for some_images in pixels:
                file.write(some_images.tobytes())
                digest.update(some_images.tobytes())
        split_notes = _notes_on_split(mapped(directory, len(labels), image_shape), labels, parts, origins)
        _write_facts(
            directory, name, image_shape, labels, names, groups, bad_files, unused, split_notes, source_notes,
            origins, parts, digest,
        )  # fmt: skip

    return _once(cache_dir, _key(content), write)


def _once(cache_dir: Path, key: str, write: Callable[[Path], str | None]) -> PreparedData:
    """The prepared data set that is called `key`: found in `cache_dir`, or written there by `write`."""
    data, damaged = made_once(cache_dir, key, write, PreparedData.load)
    if damaged is None:
        return data
    return replace(data, repairs=(f"prepared again, because what was kept was damaged: {damaged}",))


def _write(
    directory: Path,
    name: str,
    content: Content,
    wanted: Wanted,
    max_bad_files: float,
    decoded: bool,
    split: Literal["own", "random"],
) -> str:
    """Write what `prepare` promises to `directory`; return the SHA-256 of images, labels and parts."""
    if not decoded and content.files is None:
        raise InputError(
            f"--cache none decodes image files as they are read, and {name} has none: use --cache disk or "
            f"--cache memory, or a folder or .csv of image files."
        )
    parts, notes = kept_split(content.parts, split, name, content.notes)
    alike = notes_on_alike(content.names)  # also of people who are left out, perhaps because they are called otherwise
    counts = np.bincount(content.labels, minlength=len(content.names))
    kept = counts >= (wanted.min_images or 0)
    tally = Tally(content.unused)
    for label in np.flatnonzero(~kept):
        few = f"of an identity with fewer than {wanted.min_images} images"
        tally.add(few, content.names[label], "image", int(counts[label]))
    if parts is not None:
        untrained = kept & ~np.isin(np.arange(len(kept)), content.labels[parts == TRAIN])
        for label in np.flatnonzero(untrained):
            tally.add("of an identity without an image to train on", content.names[label], "image", int(counts[label]))
        kept &= ~untrained
    _check_identities(content, kept, content.labels, parts, name, tally.counted, alike, wanted.min_images)
    indices = np.flatnonzero(kept[content.labels])

    shape = (wanted.image_size, wanted.image_size, wanted.channels)
    bad_files, flat, used, origins, digest = [], [], [], [], hashlib.sha256()
    paths, turns = [], []
    room = room_for(directory, len(indices) * math.prod(shape) if decoded else 0)
    with room, (directory / "images.u8").open("wb") if decoded else nullcontext() as file:
        for index, picture in _looked_at(content, indices, flat):
            if isinstance(picture, BadFile):
                bad_files.append(picture)
                tally.add(picture.kind, picture.path)
                continue
            used.append(index)
            pixels = picture.tobytes()
            digest.update(pixels)
            if decoded:
                file.write(pixels)
            else:
                path, turned = store(directory, len(paths), content.files[index], picture)
                paths.append(path)
                turns.append(turned)
            origins.append(content.origin(index))
    if not decoded:
        write_index(directory, paths, turns)
    _check_readable(name, bad_files, len(used), max_bad_files)
    labels = content.labels[used]
    parts = None if parts is None else parts[used]
    _check_identities(content, kept, labels, parts, name, tally.counted, alike, wanted.min_images)

    images = mapped(directory, len(labels), shape) if decoded else StoredImages(directory, shape)
    split_notes = _notes_on_split(images, labels, parts, origins, wanted.progress)
    source_notes = [*notes, *_notes_on_frames(wanted.first_frames), *_notes_on_flat(flat), *alike, *content.notes]
    labels = np.searchsorted(np.flatnonzero(kept), labels).astype(np.int32)
    names, groups = ([of[i] for i in np.flatnonzero(kept)] for of in (content.names, content.groups))
    return _write_facts(
        directory, name, shape, labels, names, groups, bad_files, tally.counted, split_notes, source_notes,
        origins, parts, digest,
    )  # fmt: skip


def _notes_on_split(
    images: np.ndarray | StoredImages,
    labels: np.ndarray,
    parts: np.ndarray | None,
    origins: Sequence[str],
    progress: Progress = lambda *_: None,
) -> list[str]:
    """What a user should know of the images of a split of the data's own, if there is one."""
    return [] if parts is None else notes_across(images, labels, parts, origins, progress)


def _notes_on_frames(several: Sequence[str]) -> list[str]:
    if not several:
        return []
    shown = some(sorted(several, key=natural_key), 3)
    return [
        f"{count_text(len(several), 'image has', 'images have')} several frames or pages, of which the first is read "
        f"({shown})."
    ]


def _looked_at(content: Content, indices: np.ndarray, flat: list[str]) -> Iterator[tuple[int, np.ndarray | BadFile]]:
    """Each image with its index; to `flat` is added where one is that shows nothing."""
    for index, picture in zip(indices, content.pictures(indices), strict=True):
        if not isinstance(picture, BadFile) and shows_nothing(picture):
            flat.append(content.origin(index))
        yield index, picture


def _notes_on_flat(flat: Sequence[str]) -> list[str]:
    if not flat:
        return []
    one = "image is of one colour, or nearly, and shows nobody"
    more = "images are of one colour, or nearly, and show nobody"
    return [
        f"{count_text(len(flat), one, more)} ({some(flat, 3)}); so are images of 16 or 32 bits a pixel that use only "
        "the lowest of them."
    ]


def _write_facts(
    directory: Path,
    name: str,
    image_shape: tuple[int, int, int],
    labels: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str | None],
    bad_files: Sequence[BadFile],
    unused: Sequence[Unused],
    split_notes: Sequence[str],
    source_notes: Sequence[str],
    origins: Sequence[str],
    parts: np.ndarray | None,
    digest: Any,
) -> str:
    """What lies beside the images, whose bytes the SHA-256 `digest` is of; return that of images, labels and parts."""
    digest.update(labels.tobytes())
    if parts is not None:
        digest.update(parts.tobytes())
        (directory / PARTS_FILE).write_bytes(parts.tobytes())
    encoded = io.BytesIO()
    np.save(encoded, labels)
    (directory / "labels.npy").write_bytes(encoded.getvalue())  # np.save itself does not say that a disk is full
    (directory / "origins.json").write_text(json.dumps(origins, ensure_ascii=False, indent=0), encoding="utf-8")
    facts = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "count": len(labels),
        "image_shape": list(image_shape),
        "names": list(names),
        "groups": list(groups),
        "bad_files": [asdict(bad_file) for bad_file in bad_files],
        "unused": [asdict(one) for one in unused],
        "split_notes": list(split_notes),
        "source_notes": list(source_notes),
        "sha256": digest.hexdigest(),
        "own_split": parts is not None,
        "decoded": (directory / "images.u8").exists(),
    }
    (directory / FACTS_FILE).write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    return digest.hexdigest()


def _by_kind(bad_files: Sequence[BadFile]) -> str:
    """How many files cannot be read for each reason, with the first of them, the most frequent reasons first."""
    firsts: dict[str, BadFile] = {}
    for bad_file in bad_files:
        firsts.setdefault(bad_file.kind, bad_file)
    counts = Counter(bad_file.kind for bad_file in bad_files).most_common()
    shown = [f"{count:,} like {firsts[kind].path}: {firsts[kind].reason}" for kind, count in counts[:3]]
    return "; ".join([*shown, f"and for {count_text(len(counts) - 3, 'more reason')}"] if len(counts) > 3 else shown)


def _check_identities(
    content: Content,
    kept: np.ndarray,
    labels: np.ndarray,
    parts: np.ndarray | None,
    source: str,
    unused: Sequence[Unused],
    alike: Sequence[str],
    min_images: int | None,
) -> None:
    """kept: bool, one an identity of `content`; labels and parts: of the images there are; unused: what is not among
    these; alike: notes on names that may be one person's.

    Raises InputError if the identities that are kept cannot be learned and tested. The cause comes first.
    """
    names = content.names
    counts = np.bincount(labels if parts is None else labels[parts == TRAIN], minlength=len(names))
    if unused:
        source = f"{source}: not used: {unused_in_words(unused)}. {source}"
    if kept.sum() < 2:
        left_out = f" after {np.sum(~kept)} with too few images were left out" if not kept.all() else ""
        raise InputError(
            f"{source} holds {count_text(kept.sum(), 'identity')}{left_out} ({some(list(names)) or 'none'}); "
            "recognition needs two or more. Give one sub-folder of images an identity, or a .csv with the columns "
            "path,label."
        )
    if parts is not None and not kept[labels[parts != TRAIN]].any():
        if content.tested is None:
            nobody = (
                f"{source} has no image to test on of anybody that is trained on: the people of its parts are others. "
                f"Train on the one part, and recognise the people of the other with facesim evaluate RUN DATA, or pool "
                f"all with --split random."
            )
        else:
            nobody = (
                f"{source}: nobody of whom {content.tested} (--test) has a usable image is trained on. Compare what "
                f"people are called in both, or give one folder of both and leave out --test. Other people than those "
                f"that are trained on are recognised with facesim evaluate RUN DATA."
            )
        raise InputError(f"{nobody} {' '.join(alike)}".rstrip())
    least = 2 if parts is None else 1
    single = sorted((names[i] for i in np.flatnonzero(kept & (counts < least))), key=natural_key)
    few = f"{len(single):,} of {count_text(kept.sum(), 'identity')} {'has' if len(single) == 1 else 'have'}"
    if single and parts is not None:
        raise InputError(
            f"{source}: {few} no usable image to train on ({some(single)}). Repair what is not used, or leave these "
            "people out."
        )
    if single:
        remedy = "Repair what is not used, add images" if unused else "Add images"
        # That option goes by the images that are there, whether they can be read or not.
        leave_out = "move these people's away" if min_images else "leave these out with --min-images 2 (or more)"
        raise InputError(
            f"{source}: {few} fewer than 2 usable images ({some(single)}); one to train on and one to test on are "
            f"needed. {remedy}, or {leave_out}."
        )


def _key(content: Any) -> str:
    """What a prepared data set with this content, JSON-able, is called."""
    return hashlib.sha256(json.dumps([FORMAT_VERSION, content], sort_keys=True).encode()).hexdigest()[:24]
