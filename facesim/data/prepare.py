"""From whatever images a user has to one folder that every training task reads, made once and then reused.

`prepare` finds out what the source is, decodes every image to one size and writes

    cache_dir/<key>/images.u8      the images' raw bytes, n * height * width * channels, C order
                    labels.npy     int32 (n,), 0..identities-1
                    dataset.json   what it is: name, shape, names, groups, unreadable files, checksum

Raw bytes, because every training task, also a TensorFlow worker on another host, then reads the whole set with one
`read_file` and one `decode_raw`: no image library, no decoding again in each task and each epoch, and every task has
bit-for-bit the same data. `<key>` is a hash of whatever determines the content, so the same source and options find the
same folder at once, and a changed file makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facesim.data.layouts import Example, find_examples, list_images, natural_key, read_csv, some
from facesim.data.rendering import RENDERER_VERSION, Progress, RenderSpec, render_batches
from facesim.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

FORMAT_VERSION = 1
"""Raised whenever the folder's format, or the way images are decoded, changes."""

_LFW_MIN_IMAGES = 15  # 96 people; the size per person of the study that facesim reproduces
_STALE_S = 24 * 3600


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read as an image, and why; `path` is relative to the source's folder."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A prepared folder, loaded.

    name: what the user called it. image_shape: (height, width, channels). labels: int32 (n,). names and groups: one an
    identity, in label order; a group is None where the source tells none. sha256: of the images' and labels' bytes.
    """

    directory: Path
    name: str
    image_shape: tuple[int, int, int]
    labels: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    bad_files: tuple[BadFile, ...]
    sha256: str

    @property
    def images(self) -> np.ndarray:
        """uint8 (n, height, width, channels), read-only, mapped from the file: nothing is loaded until it is used."""
        return np.memmap(self.directory / "images.u8", np.uint8, "r", shape=(len(self.labels), *self.image_shape))

    @classmethod
    def load(cls, directory: Path) -> PreparedData:
        """Open a folder that `prepare` wrote. Raises InputError if it is missing, damaged or of another version."""
        directory = Path(directory)
        try:
            facts = json.loads((directory / "dataset.json").read_text(encoding="utf-8"))
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
            )
            due = facts["count"] * int(np.prod(data.image_shape))
            seen = (directory / "images.u8").stat().st_size
            if seen != due:
                raise ValueError(f"images.u8 has {seen} bytes instead of {due}")
            if data.labels.shape != (facts["count"],) or data.labels.dtype != np.int32:
                seen = f"{data.labels.dtype} {data.labels.shape}"
                raise ValueError(f"labels.npy is {seen} instead of int32 ({facts['count']},)")
            if len(data.names) != len(data.groups) or set(np.unique(data.labels)) != set(range(len(data.names))):
                raise ValueError(f"labels, {len(data.names)} names and {len(data.groups)} groups do not match")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            problem = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, TypeError)) else error
            raise InputError(
                f"{directory} is no usable prepared data set: {problem}. Delete the folder and prepare it again."
            ) from error
        return data

    def verify(self) -> None:
        """Raise InputError unless every byte is as it was written; reads the whole data set."""
        digest = hashlib.sha256(self.images)
        digest.update(self.labels.tobytes())
        if digest.hexdigest() != self.sha256:
            raise InputError(f"{self.directory}: the checksum does not match. Delete the folder and prepare it again.")


def prepare(
    source: str,
    *,
    image_size: int = 64,
    channels: int = 3,
    max_bad_files: float = 0.05,
    min_images: int | None = None,
    render: RenderSpec | None = None,
    cache_dir: Path,
    progress: Progress | None = None,
) -> PreparedData:
    """Make the data set that `source` names ready for training, or find it ready in `cache_dir`.

    source: "rendered" (described by `render`; its size is set to image_size), "olivetti" or "lfw" (scikit-learn
        downloads them), a folder of images (see `layouts.find_examples`), a .csv (see `layouts.read_csv`), a .npz with
        `images` uint8 (n, h, w) or (n, h, w, 3), `labels` integers (n,) and optionally `names`, or a folder that holds
        one .npz or .csv and no images. A folder that is called like a built-in source is written ./lfw.
    image_size: height and width in pixels of the square images, 8..1024; the aspect ratio is kept, on black.
    channels: 1 grey or 3 colour.
    max_bad_files: the share of all files, 0..1, that may be unreadable; these are skipped and listed in `bad_files`.
    min_images: identities with fewer images listed are left out; None leaves none out (for "lfw": 15).
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

    wanted = _Wanted(image_size, channels, min_images, render or RenderSpec(), progress or (lambda *_: None))
    kind, location = _resolve(source)
    found = SOURCES[kind](location, wanted)
    key = _hash([FORMAT_VERSION, kind, found.fingerprint, image_size, channels, min_images, max_bad_files])[:24]
    directory = Path(cache_dir) / key
    if directory.exists():
        try:
            return PreparedData.load(directory)
        except InputError:  # damaged: make it again below
            pass

    _remove_stale(Path(cache_dir))
    content = found.open()
    new = Path(cache_dir) / f".{key}.{uuid.uuid4().hex}"
    try:
        new.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {cache_dir}: {error.strerror}. Name a folder that you may write to."
        ) from error
    try:
        _write(new, found.name, content, wanted, max_bad_files)
        _publish(new, directory)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return PreparedData.load(directory)


# Sources -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    image_size: int
    channels: int
    min_images: int | None
    render: RenderSpec
    progress: Progress


@dataclass(frozen=True)
class _Content:
    """Images that can be had, and of whom. `pictures(indices)` yields those images, or why one cannot be read."""

    labels: np.ndarray
    names: Sequence[str]
    groups: Sequence[str | None]
    pictures: Callable[[np.ndarray], Iterator[np.ndarray | BadFile]]


@dataclass(frozen=True)
class _Source:
    """A name, what determines the content (as JSON-able data, cheap to have) and how to open it (maybe slow)."""

    name: str
    fingerprint: Any
    open: Callable[[], _Content]


def _rendered(_: Path, wanted: _Wanted) -> _Source:
    spec = replace(wanted.render, size=wanted.image_size)

    def pictures(indices: np.ndarray) -> Iterator[np.ndarray]:
        for batch in render_batches(spec, wanted.progress):
            yield from (_to_channels(picture, wanted.channels) for picture in batch)

    def open_content() -> _Content:
        return _Content(spec.labels, spec.names, [None] * spec.identities, pictures)

    return _Source("rendered", [RENDERER_VERSION, asdict(spec)], open_content)


def _olivetti(_: Path, wanted: _Wanted) -> _Source:
    def open_content() -> _Content:
        from sklearn.datasets import fetch_olivetti_faces

        faces = _download(fetch_olivetti_faces, "olivetti", wanted)
        names = [f"person-{i + 1:02d}" for i in range(int(faces.target.max()) + 1)]
        return _from_arrays(_as_uint8(faces.images), faces.target, names, wanted)

    return _Source("olivetti", _sklearn_home(), open_content)


def _lfw(_: Path, wanted: _Wanted) -> _Source:
    min_images = wanted.min_images or _LFW_MIN_IMAGES

    def open_content() -> _Content:
        from sklearn.datasets import fetch_lfw_people

        # The middle 128 x 128 of 250 x 250: the whole head with little background. Scaled down while loading, because
        # scikit-learn holds all images as float32.
        middle = slice(61, 189)
        scale = min(1.0, wanted.image_size / 128)
        options = {"min_faces_per_person": min_images, "color": True, "slice_": (middle, middle), "resize": scale}
        faces = _download(fetch_lfw_people, "lfw", wanted, **options)
        return _from_arrays(_as_uint8(faces.images), faces.target, [str(name) for name in faces.target_names], wanted)

    return _Source("lfw", [_sklearn_home(), min_images], open_content)


def _npz(path: Path, wanted: _Wanted) -> _Source:
    return _Source(path.stem, _fingerprint(path.parent, [path]), lambda: _read_npz(path, wanted))


def _csv(path: Path, wanted: _Wanted) -> _Source:
    return _files(path.stem, path.parent, read_csv(path), wanted)


def _folder(path: Path, wanted: _Wanted) -> _Source:
    return _files(path.resolve().name, path.resolve(), find_examples(path), wanted)


SOURCES: dict[str, Callable[[Path, _Wanted], _Source]] = {
    "rendered": _rendered,
    "olivetti": _olivetti,
    "lfw": _lfw,
    "npz": _npz,
    "csv": _csv,
    "folder": _folder,
}
BUILT_IN = ("rendered", "olivetti", "lfw")
"""The sources that are given by name; the others are found at a path."""


def _resolve(source: str) -> tuple[str, Path]:
    """Which source `source` names, and where it lies."""
    if source in BUILT_IN:
        return source, Path()
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(
            f"no data source {source!r}. Give {', '.join(BUILT_IN)}, or an existing folder, .npz or .csv file."
        )
    if path.is_dir():
        tables = sorted(file for file in path.iterdir() if file.suffix.lower() in (".npz", ".csv") and file.is_file())
        if not tables or list_images(path.resolve()):
            return "folder", path
        if len(tables) > 1:
            names = ", ".join(table.name for table in tables)
            raise InputError(f"{path} holds no images but {len(tables)} data sets ({names}). Give one of these files.")
        path = tables[0]
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("npz", "csv"):
        raise InputError(f"{path} is neither a folder nor a .npz or .csv file. Give one of these.")
    return kind, path


def _files(name: str, root: Path, examples: Sequence[Example], wanted: _Wanted) -> _Source:
    def open_content() -> _Content:
        names = tuple(dict.fromkeys(example.identity for example in examples))
        label_of = {identity: label for label, identity in enumerate(names)}
        group_of = {example.identity: example.group for example in examples}
        labels = np.array([label_of[example.identity] for example in examples], np.int32)

        def decode(index: int) -> np.ndarray | BadFile:
            return _decode(examples[index].path, root, wanted)

        def pictures(indices: np.ndarray) -> Iterator[np.ndarray | BadFile]:
            with ThreadPoolExecutor() as pool:
                # A window at a time: millions of files must not become millions of pending results.
                for start in range(0, len(indices), 1024):
                    window = indices[start : start + 1024]
                    for done, picture in enumerate(pool.map(decode, window), start + 1):
                        wanted.progress("decoding", done, len(indices))
                        yield picture

        return _Content(labels, names, [group_of[identity] for identity in names], pictures)

    listed = [[example.identity, example.group] for example in examples]
    return _Source(name, [_fingerprint(root, [example.path for example in examples]), listed], open_content)


def _read_npz(path: Path, wanted: _Wanted) -> _Content:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ("images", "labels", "names") if key in archive.files}
            keys = ", ".join(archive.files) or "(none)"
    except Exception as error:  # a damaged archive fails in zipfile, zlib or NumPy, each with errors of its own
        raise InputError(
            f"{path} cannot be read as .npz: {error}. Write it with numpy.savez(path, images=..., labels=...)."
        ) from error
    missing = [key for key in ("images", "labels") if key not in arrays]
    if missing:
        raise InputError(f"{path} has no {' and no '.join(missing)}; it holds {keys}. images and labels are needed.")
    images, labels, names = arrays["images"], arrays["labels"], arrays.get("names")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise InputError(
            f"{path}: images is {images.dtype} {images.shape}; it must be uint8, 0..255, (n, h, w) or (n, h, w, 3)."
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{path}: labels is {labels.dtype} {labels.shape}; it must be integers ({len(images)},), one an image."
        )
    if 0 in images.shape:
        raise InputError(f"{path}: images is empty, {images.shape}.")
    used, labels = np.unique(labels, return_inverse=True)
    if names is None:
        names = [str(label) for label in used]
    elif names.ndim != 1 or names.dtype.kind not in "US" or used[0] < 0 or used[-1] >= len(names):
        raise InputError(
            f"{path}: names is {names.dtype} {names.shape} and labels run from {used[0]} to {used[-1]}; "
            f"names must be texts, and names[label] the name of each label."
        )
    else:
        names = [unicodedata.normalize("NFC", name) for name in names.astype(str)[used]]
    return _from_arrays(images, labels, names, wanted)


def _from_arrays(images: np.ndarray, labels: np.ndarray, names: Sequence[str], wanted: _Wanted) -> _Content:
    """images uint8 (n, h, w), (n, h, w, 1) or (n, h, w, 3)."""
    from PIL import Image

    def pictures(indices: np.ndarray) -> Iterator[np.ndarray]:
        for done, index in enumerate(indices, 1):
            picture = images[index]
            image = Image.fromarray(picture if picture.ndim == 2 or picture.shape[2] == 3 else picture[:, :, 0])
            wanted.progress("decoding", done, len(indices))
            yield _fit(image, wanted)

    return _Content(np.asarray(labels, np.int32).reshape(-1), names, [None] * len(names), pictures)


def _download(fetch: Callable, name: str, wanted: _Wanted, **options: Any) -> Any:
    wanted.progress("downloading", 0, 1)
    try:
        faces = fetch(n_retries=2, delay=1.0, **options)
    except (OSError, ValueError) as error:  # ValueError: scikit-learn found fewer images than asked for
        raise InputError(
            f"the data set {name!r} could not be fetched: {error}. It is downloaded once by scikit-learn: check the "
            f"network, or put it where scikit-learn looks ({_sklearn_home()}; SCIKIT_LEARN_DATA sets that place), "
            f"or use rendered faces or a folder of your own."
        ) from error
    wanted.progress("downloading", 1, 1)
    return faces


def _sklearn_home() -> str:
    from sklearn.datasets import get_data_home

    return get_data_home()


def _as_uint8(images: np.ndarray) -> np.ndarray:
    return (images * 255 + 0.5).astype(np.uint8)


def read_image(path: Path, image_size: int, channels: int) -> np.ndarray:
    """One image file as `prepare` would decode it: uint8 (image_size, image_size, channels).

    Raises InputError if it cannot be read.
    """
    path = Path(path)
    image = _decode(path, path.parent, _Wanted(image_size, channels, None, RenderSpec(), lambda *_: None))
    if isinstance(image, BadFile):
        raise InputError(f"{path} cannot be read as an image: {image.reason}. Name an image file.")
    return image


# Decoding ------------------------------------------------------------------------------------------------------------


def _decode(path: Path, root: Path, wanted: _Wanted) -> np.ndarray | BadFile:
    """uint8 (size, size, channels), upright, or why this file is no usable image."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {Image.MAX_IMAGE_PIXELS}")
            # JPEG can be decoded at 1/2, 1/4 or 1/8 size; twice the size asked for is enough to resample from.
            image.draft(None, (2 * wanted.image_size, 2 * wanted.image_size))
            image.load()
            return _fit(ImageOps.exif_transpose(image), wanted)
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise whatever they trip over in a damaged file
        shown = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        return BadFile(shown.as_posix(), _reason(path, error))


def _reason(path: Path, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if path.suffix.lower() in (".heic", ".heif"):
        return "HEIC is not supported; convert it to JPEG"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "empty file" if path.stat().st_size == 0 else "not an image that Pillow can read"
    return f"{type(error).__name__}: {error}"


def _fit(image: Image.Image, wanted: _Wanted) -> np.ndarray:
    """uint8 (size, size, channels): 8 bits, without transparency, scaled to fit and padded with black."""
    from PIL import Image, ImageOps

    if image.mode.startswith("I"):  # 16 bits a pixel, in whatever byte order; Pillow's own conversion would clip
        image = Image.fromarray((np.asarray(image).astype(np.float64).clip(0, 65535) / 257 + 0.5).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert the image to 8 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("L" if wanted.channels == 1 else "RGB")
    size = (wanted.image_size, wanted.image_size)
    return np.asarray(ImageOps.pad(image, size, method=Image.Resampling.LANCZOS)).reshape(*size, wanted.channels)


def _to_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    from PIL import Image

    return picture if channels == 3 else np.asarray(Image.fromarray(picture).convert("L"))[:, :, None]


# The prepared folder -------------------------------------------------------------------------------------------------


def _write(directory: Path, name: str, content: _Content, wanted: _Wanted, max_bad_files: float) -> None:
    counts = np.bincount(content.labels, minlength=len(content.names))
    kept = counts >= (wanted.min_images or 0)
    _check_identities(content.names, kept, counts, name)
    indices = np.flatnonzero(kept[content.labels])

    bad_files, labels, digest = [], [], hashlib.sha256()
    with (directory / "images.u8").open("wb") as file:
        for index, picture in zip(indices, content.pictures(indices), strict=True):
            if isinstance(picture, BadFile):
                bad_files.append(picture)
            else:
                labels.append(content.labels[index])
                pixels = picture.tobytes()
                file.write(pixels)
                digest.update(pixels)
    if len(bad_files) > max_bad_files * len(indices):
        shown = "; ".join(f"{bad_file.path}: {bad_file.reason}" for bad_file in bad_files[:3])
        raise InputError(
            f"{name}: {len(bad_files)} of {len(indices)} files cannot be read as images ({shown}"
            f"{'; ...' if len(bad_files) > 3 else ''}); at most {max_bad_files:.0%} may be bad. "
            f"Repair or remove them, or raise max_bad_files."
        )
    labels = np.array(labels, np.int64)
    _check_identities(content.names, kept, np.bincount(labels, minlength=len(content.names)), name)

    labels = np.searchsorted(np.flatnonzero(kept), labels).astype(np.int32)
    digest.update(labels.tobytes())
    np.save(directory / "labels.npy", labels)
    facts = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "count": len(labels),
        "image_shape": [wanted.image_size, wanted.image_size, wanted.channels],
        "names": [content.names[i] for i in np.flatnonzero(kept)],
        "groups": [content.groups[i] for i in np.flatnonzero(kept)],
        "bad_files": [asdict(bad_file) for bad_file in bad_files],
        "sha256": digest.hexdigest(),
    }
    (directory / "dataset.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def _check_identities(names: Sequence[str], kept: np.ndarray, counts: np.ndarray, source: str) -> None:
    """names, kept (bool) and counts: one an identity. Raises InputError if those kept cannot be learned and tested."""
    if kept.sum() < 2:
        left_out = f" after {np.sum(~kept)} with too few images were left out" if not kept.all() else ""
        raise InputError(
            f"{source} holds {kept.sum()} identities{left_out} ({some(list(names)) or 'none'}); recognition needs two "
            f"or more. Give one sub-folder of images an identity, or a .csv with the columns path,label."
        )
    single = sorted((names[i] for i in np.flatnonzero(kept & (counts < 2))), key=natural_key)
    if single:
        raise InputError(
            f"{source}: {len(single)} of {kept.sum()} identities have fewer than 2 usable images ({some(single)}); one "
            f"to train on and one to test on are needed. Add images, or leave these out with --min-images 2 (or more)."
        )


def _publish(new: Path, directory: Path) -> None:
    """Give the finished folder its name in one step, so that nobody ever sees half of it."""
    try:
        os.replace(new, directory)
    except OSError:
        # Something has that name already: another process was faster and its folder is as good, or it is damaged.
        try:
            PreparedData.load(directory)
        except InputError:
            os.replace(directory, new.with_name(f"{new.name}.old"))
            os.replace(new, directory)
            shutil.rmtree(new.with_name(f"{new.name}.old"), ignore_errors=True)


def _remove_stale(cache_dir: Path) -> None:
    """Remove what killed preparations left, once it is old enough that none of them can still be running."""
    for left_over in cache_dir.glob(".*.*") if cache_dir.is_dir() else ():
        if left_over.is_dir() and time.time() - left_over.stat().st_mtime > _STALE_S:
            shutil.rmtree(left_over, ignore_errors=True)


def _fingerprint(root: Path, paths: Sequence[Path]) -> list:
    """Where the files are and their sizes and times of change: what must differ when the images differ."""

    def facts(path: Path) -> list:
        try:
            stat = path.stat()
        except (OSError, ValueError):  # listed in a CSV but no such file, which decoding reports
            return [os.path.relpath(path, root), None, None]
        return [os.path.relpath(path, root), stat.st_size, stat.st_mtime_ns]

    return [str(root.resolve()), [facts(path) for path in paths]]


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
