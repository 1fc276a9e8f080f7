"""From whatever images a user has to one folder that every training task reads, made once and then reused.

`prepare` finds out what the source is, decodes every image to one size and writes

    cache_dir/<key>/images.u8      the images' raw bytes, n * height * width * channels, C order
                    labels.npy     int32 (n,), 0..identities-1
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
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facesim.data.cache import check, made_once, room_for
from facesim.data.decode import BadFile, Wanted
from facesim.data.layouts import natural_key, some
from facesim.data.rendering import Progress, RenderSpec
from facesim.data.sources import Content, find_source
from facesim.data.stored import FILES, TURNS, StoredImages, store, write_index
from facesim.util.errors import InputError
from facesim.util.files import read_text
from facesim.util.unused import Tally, Unused
from facesim.util.unused import in_words as unused_in_words

FORMAT_VERSION = 4
"""Raised whenever the folder's format, or the way images are decoded, changes."""

_MOST_LABEL_BYTES = 1 << 34  # of four thousand million images


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A prepared folder, loaded.

    name: what the user called it. image_shape: (height, width, channels). labels: int32 (n,). names and groups: one an
    identity, in label order; a group is None where the source tells none. sha256: of the images' and labels' bytes.
    decoded: whether the images are kept as pixels. unused: what of the source is not used, by reason, the most frequent
    first; unreadable files are counted there too. notes: what a user should know of how the source was read.
    """

    directory: Path
    name: str
    image_shape: tuple[int, int, int]
    labels: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    bad_files: tuple[BadFile, ...]
    sha256: str
    decoded: bool = True
    unused: tuple[Unused, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> np.ndarray | StoredImages:
        """uint8 (n, height, width, channels), read-only, mapped from the file: nothing is loaded until it is used.
        Where there are no decoded images, what is asked for is decoded each time.
        """
        if not self.decoded:
            return StoredImages(self.directory, self.image_shape)
        return np.memmap(self.directory / "images.u8", np.uint8, "r", shape=(len(self.labels), *self.image_shape))

    @property
    def origins(self) -> list[str]:
        """Where each image was found in the source: a path below its folder, or a place in a file of many."""
        return json.loads(read_text(self.directory / "origins.json"))

    @classmethod
    def load(cls, directory: Path) -> PreparedData:
        """Open a folder that `prepare` wrote. Raises InputError if it is missing, damaged or of another version."""
        directory = Path(directory)
        try:
            if (directory / "labels.npy").stat().st_size > _MOST_LABEL_BYTES:
                raise ValueError("labels.npy is too large for labels")
            facts = json.loads(read_text(directory / "dataset.json"))
            if facts["format_version"] != FORMAT_VERSION:
                raise ValueError(f"its format is {facts['format_version']}, this facesim reads {FORMAT_VERSION}")
            data = cls(
                directory=directory,
                name=facts["name"],
                image_shape=tuple(facts["image_shape"]),
                labels=np.load(directory / "labels.npy", allow_pickle=False),
                names=tuple(facts["names"]),
                groups=tuple(facts["groups"]),
                bad_files=tuple(BadFile(**bad_file) for bad_file in facts["bad_files"]),
                sha256=facts["sha256"],
                decoded=facts["decoded"],
                unused=tuple(Unused(**{**one, "examples": tuple(one["examples"])}) for one in facts["unused"]),
                notes=tuple(facts["notes"]),
            )
            if data.decoded:
                file, due = "images.u8", facts["count"] * int(np.prod(data.image_shape))
            else:
                file, due = TURNS, facts["count"] * 4
                if (directory / FILES).read_bytes().count(b"\0") != facts["count"]:
                    raise ValueError(f"{FILES} does not name {facts['count']} files")
            seen = (directory / file).stat().st_size
            if seen != due:
                raise ValueError(f"{file} has {seen} bytes instead of {due}")
            if data.labels.shape != (facts["count"],) or data.labels.dtype != np.int32:
                seen = f"{data.labels.dtype} {data.labels.shape}"
                raise ValueError(f"labels.npy is {seen} instead of int32 ({facts['count']},)")
            if len(data.names) != len(data.groups) or set(np.unique(data.labels)) != set(range(len(data.names))):
                raise ValueError(f"labels, {len(data.names)} names and {len(data.groups)} groups do not match")
        except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError) as error:
            problem = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, TypeError)) else error
            raise InputError(
                f"{directory} is no usable prepared data set: {problem}. Delete the folder and prepare it again."
            ) from error
        return data

    def verify(self) -> None:
        """Raise InputError unless every byte is as it was written; reads the whole data set."""
        check(self.directory, whole=True)


def prepare(
    source: str,
    *,
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
        `recordio`), a .tfrecord of `tf.train.Example` (see `tfrecord`), or a folder that holds one of these, or any
        number of .tfrecord files, and no images. A folder that is called like a built-in source is written ./lfw.
    image_size: height and width in pixels of the square images, 8..1024; the aspect ratio is kept, on black.
    channels: 1 grey or 3 colour.
    max_bad_files: the share of all files, 0..1, that may be unreadable; these are skipped and listed in `bad_files`.
    min_images: identities with fewer images listed are left out; None leaves none out (for "lfw": 15).
    decoded: keep the decoded images; if not, only where each lies and how it is turned, which takes image files.
    image_feature, label_feature: what they are called in TFRecord files; None looks for the usual names.
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

    told = progress or (lambda *_: None)
    wanted = Wanted(image_size, channels, min_images, render or RenderSpec(), told, image_feature, label_feature)
    kind, found = find_source(source, wanted)
    return _once(
        Path(cache_dir),
        [kind, found.fingerprint, image_size, channels, min_images, max_bad_files, *([] if decoded else ["stored"])],
        lambda new: _write(new, found.name, found.open(), wanted, max_bad_files, decoded),
    )


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
    notes: Sequence[str],
    origins: Sequence[str],
) -> PreparedData:
    """Keep images as a prepared data set, or find it ready; `content` is JSON-able and says what determines it.

    pixels: uint8 (any, height, width, channels), some images at a time, in the order of `labels`, int32.
    """

    def write(directory: Path) -> None:
        digest = hashlib.sha256()
        with room_for(directory, len(labels) * math.prod(image_shape)), (directory / "images.u8").open("wb") as file:
            for some_images in pixels:
                file.write(some_images.tobytes())
                digest.update(some_images.tobytes())
        _write_facts(directory, name, image_shape, labels, names, groups, bad_files, unused, notes, origins, digest)

    return _once(cache_dir, content, write)


def _once(cache_dir: Path, content: Any, write: Callable[[Path], None]) -> PreparedData:
    """The prepared data set that `content` determines: found in `cache_dir`, or written there by `write`."""
    key = _hash([FORMAT_VERSION, *content])[:24]
    data, damaged = made_once(cache_dir, key, write, PreparedData.load)
    if damaged is None:
        return data
    return replace(data, notes=(*data.notes, f"prepared again, because what was kept was damaged: {damaged}"))


def _write(directory: Path, name: str, content: Content, wanted: Wanted, max_bad_files: float, decoded: bool) -> None:
    if not decoded and content.files is None:
        raise InputError(
            f"--cache none decodes image files as they are read, and {name} has none: use --cache disk or "
            f"--cache memory, or a folder or .csv of image files."
        )
    counts = np.bincount(content.labels, minlength=len(content.names))
    kept = counts >= (wanted.min_images or 0)
    _check_identities(content.names, kept, counts, name, content.unused)
    indices = np.flatnonzero(kept[content.labels])
    tally = Tally(content.unused)
    for label in np.flatnonzero(~kept):
        few = f"of an identity with fewer than {wanted.min_images} images (--min-images)"
        tally.add(few, content.names[label], "image", int(counts[label]))

    shape = (wanted.image_size, wanted.image_size, wanted.channels)
    bad_files, labels, origins, digest = [], [], [], hashlib.sha256()
    paths, turns = [], []
    room = room_for(directory, len(indices) * math.prod(shape) if decoded else 0)
    with room, (directory / "images.u8").open("wb") if decoded else nullcontext() as file:
        for index, picture in zip(indices, content.pictures(indices), strict=True):
            if isinstance(picture, BadFile):
                bad_files.append(picture)
                tally.add(picture.kind, picture.path)
                continue
            labels.append(content.labels[index])
            digest.update(picture.tobytes())
            if decoded:
                file.write(picture.tobytes())
            else:
                path, turned = store(directory, len(paths), content.files[index], picture)
                paths.append(path)
                turns.append(turned)
            origins.append(content.origin(index))
    if not decoded:
        write_index(directory, paths, turns)
    if len(bad_files) > max_bad_files * len(indices):
        raise InputError(
            f"{name}: {len(bad_files)} of {len(indices)} files cannot be read as images: {_by_kind(bad_files)}; "
            f"at most {max_bad_files:.0%} may be bad. Repair or remove them, or raise max_bad_files."
        )
    labels = np.array(labels, np.int64)
    _check_identities(content.names, kept, np.bincount(labels, minlength=len(content.names)), name, tally.counted)

    labels = np.searchsorted(np.flatnonzero(kept), labels).astype(np.int32)
    names, groups = ([of[i] for i in np.flatnonzero(kept)] for of in (content.names, content.groups))
    unused, notes = tally.counted, content.notes
    _write_facts(directory, name, shape, labels, names, groups, bad_files, unused, notes, origins, digest)


def _write_facts(
    directory: Path,
    name: str,
    image_shape: tuple[int, int, int],
    labels: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str | None],
    bad_files: Sequence[BadFile],
    unused: Sequence[Unused],
    notes: Sequence[str],
    origins: Sequence[str],
    digest: Any,
) -> None:
    """What lies beside the images; `digest` is the SHA-256 of their bytes so far."""
    digest.update(labels.tobytes())
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
        "notes": list(notes),
        "sha256": digest.hexdigest(),
        "decoded": (directory / "images.u8").exists(),
    }
    (directory / "dataset.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def _by_kind(bad_files: Sequence[BadFile]) -> str:
    """How many files cannot be read for each reason, with the first of them, the most frequent reasons first."""
    firsts: dict[str, BadFile] = {}
    for bad_file in bad_files:
        firsts.setdefault(bad_file.kind, bad_file)
    counts = Counter(bad_file.kind for bad_file in bad_files).most_common()
    shown = [f"{count:,} like {firsts[kind].path}: {firsts[kind].reason}" for kind, count in counts[:3]]
    return "; ".join([*shown, f"and for {len(counts) - 3} more reasons"] if len(counts) > 3 else shown)


def _check_identities(
    names: Sequence[str], kept: np.ndarray, counts: np.ndarray, source: str, unused: Sequence[Unused]
) -> None:
    """names, kept (bool) and counts: one an identity; unused: what of the source is not among the counts.

    Raises InputError if the identities that are kept cannot be learned and tested. The cause comes first.
    """
    if unused:
        source = f"{source}: not used: {unused_in_words(unused)}. {source}"
    if kept.sum() < 2:
        left_out = f" after {np.sum(~kept)} with too few images were left out" if not kept.all() else ""
        raise InputError(
            f"{source} holds {kept.sum()} identities{left_out} ({some(list(names)) or 'none'}); recognition needs two "
            f"or more. Give one sub-folder of images an identity, or a .csv with the columns path,label."
        )
    single = sorted((names[i] for i in np.flatnonzero(kept & (counts < 2))), key=natural_key)
    if single:
        remedy = "Repair what is not used, add images" if unused else "Add images"
        raise InputError(
            f"{source}: {len(single)} of {kept.sum()} identities have fewer than 2 usable images ({some(single)}); one "
            f"to train on and one to test on are needed. {remedy}, or leave these out with --min-images 2 (or more)."
        )


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
