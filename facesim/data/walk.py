"""The files below a folder: which of them are images, by name or content, and why the others are not.

What the computers that people keep photographs on put beside them (thumbnails, trash, settings) is known by its name.
Only regular files are opened, so nothing waits, and links lead to no file twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from facesim.util.errors import InputError
from facesim.util.files import kind_of_file, open_regular, why_unread
from facesim.util.unused import Tally, Unused, printable
from facesim.util.words import count_text

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
)
_IMAGE_SIGNATURE = re.compile(rb"GIF8[79]a|\xff\xd8\xff|\x89PNG\r\n|P[1-6]\s|II\*\0|MM\0\*|RIFF....WEBP", re.DOTALL)
_UNREAD_IMAGE_SUFFIXES = frozenset(
    {".jp2", ".j2k", ".jpx", ".jpf", ".jxl", ".tga", ".ico", ".psd", ".psb", ".xcf", ".svg", ".eps", ".pdf", ".exr"}
    | {".hdr", ".dds", ".pcx", ".ras", ".sgi", ".pfm", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
    | {".raw", ".srw", ".pef", ".fits", ".dcm", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".npy"}
)
"""Pictures and films of kinds that are not read."""

_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}", re.IGNORECASE)

#: Why files and folders are left out, and their names, in any case; * is any text. The first that fits is given.
_SYSTEM_NAMES = {
    "of a NAS: thumbnails, trash or snapshots": (
        *("@eadir", "*@synoeastream", "*@synoresource", "synophoto_*", "synofile_*", "synoindex_*", "@tmp"),
        *("@sharebin", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@transcode", "@__thumb", ".@*"),
        *("~snapshot", ".snapshot", ".snapshots", ".zfs", "trashbox", "recycle.bin", ".recycle", "recycle bin"),
        *(".wdmc", ".wdcache"),
    ),
    "of macOS": (
        *("__macosx", "._*", ".ds_store", ".appledouble", ".spotlight-v100", ".trash", ".trashes", ".fseventsd"),
        *(".temporaryitems", ".documentrevisions-v100", ".apdisk", ".localized", ".volumeicon.icns", ".com.apple.*"),
        *("network trash folder", "temporary items", "icon\r", "*.icloud"),
    ),
    "of Windows": (
        *("thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin"),
        *("recycler", "recycled", "system volume information", "*:zone.identifier"),
    ),
    "of Linux or Android: thumbnails or trash": (
        *(".trash-*", ".thumbnail", ".thumbnails", ".thumbs", ".xvpics", ".directory", "lost+found", "lost.dir"),
        *(".trashed-*", ".pending-*", ".nomedia"),
    ),
    "of a photo program: copies, thumbnails or settings": (
        *(".picasaoriginals", "picasa.ini", ".picasa.ini", "zbthumbnail.info", "*.lrdata", "*.lrcat-data", ".dtrash"),
        *("captureone", "[originals]", "nksc_param", "thmbnl", "*.photoslibrary", "*.photolibrary", "*.aplibrary"),
    ),
    "of a program that keeps folders in step": (
        *(".dropbox", ".dropbox.cache", ".dropbox.attr", ".stversions", ".stfolder", ".sync", "~syncthing~*.tmp"),
    ),
    "hidden, its name begins with a dot": (".*",),
}
_SYSTEM = {
    reason: re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in names), re.IGNORECASE | re.DOTALL)
    for reason, names in _SYSTEM_NAMES.items()
}

_LINK_OUT = "a link out of the folder, which is not followed"
_FOLDER_LINK = "a link to a folder, which is not followed"
_LINK_LOOP = "a loop of links"
_SECOND_NAME = "another name (a link) of a file that is there already"
_NO_IMAGES = "a folder without an image that can be read"


@dataclass(frozen=True)
class Walked:
    """The image files below a folder, in order of their paths, and what else is there."""

    images: tuple[Path, ...]
    unused: tuple[Unused, ...]


def walk(root: Path, besides: Iterable[Path] = ()) -> Walked:
    """Find the image files below `root`: those with an image's suffix, and others that begin as an image does. The
    files `besides`, and those that they lead to as links, are used otherwise: they are neither found nor counted.

    A file with several names, by links of either kind, is found once, by a name that is no symbolic link if it has one.
    Links out of the folder and links to folders are not followed.

    Raises:
        InputError: a folder cannot be listed; an identity would be missing otherwise.
    """
    root = Path(os.path.realpath(root))
    seen = _Seen(root, besides)
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        waiting += reversed(seen.look_into(folder))
    return seen.walked()


def snapshot(root: Path) -> str:
    """A SHA-256 over names, kinds, sizes, inodes and times of change of all that lies below a folder: the same while
    `walk` would find the same, and the images are the same. Nothing is opened: 100,000 files take a third of a second.

    Raises:
        OSError: a folder cannot be listed.
    """
    digest, waiting = hashlib.sha256(), [os.path.realpath(root)]
    while waiting:
        folder = waiting.pop()
        entries = []
        with os.scandir(folder) as listing:
            for entry in listing:
                about = entry.stat(follow_symlinks=False)
                target = os.readlink(entry.path) if stat.S_ISLNK(about.st_mode) else None
                change = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
                entries.append((entry.name, about.st_mode, target, change))
                if stat.S_ISDIR(about.st_mode):
                    waiting.append(entry.path)
        digest.update(os.fsencode(repr((folder, sorted(entries)))))
    return digest.hexdigest()


def list_images(root: Path) -> list[Path]:
    """All image files below `root`, in order of their paths."""
    return list(walk(root).images)


def files_in(folder: Path) -> list[Path]:
    """The regular files that lie directly in a folder, links to such ones included, in order of their names.

    Raises:
        InputError: the folder cannot be listed.
    """
    return [path for path in map(folder.joinpath, _names_in(folder)) if os.path.isfile(path)]


def beside(folder: Path, used: Iterable[Path]) -> tuple[Unused, ...]:
    """What lies in a folder, and in those below it that hold files that are used of it, beside these files."""
    tally, of_the_set = Tally(), set(used)
    on_the_way = {above for path in of_the_set for above in path.parents}
    waiting = [folder]
    while waiting:
        here = waiting.pop(0)
        for path in map(here.joinpath, _names_in(here)):
            if path in on_the_way:
                waiting.append(path)
            elif path not in of_the_set:
                unit = "folder" if os.path.isdir(path) else "file"
                reason = system_name(path.name) or "beside the data set, and no part of it"
                tally.add(reason, path.relative_to(folder).as_posix(), unit)
    return tally.counted


def real_path(path: Path) -> Path:
    """The path without links; as it is where no file can have such a path, and where links lead in a loop.

    `Path.resolve` raises there, or does not, by the version of Python.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError:
        return path


def inode_of(path: Path) -> tuple[int, int] | None:
    """What identifies a file, whatever its names are; None where it is not there, or that cannot be told."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None


def system_name(name: str) -> str | None:
    """Why a file or folder of this name is left out unseen: which system it belongs to. None for all others."""
    return next((reason for reason, names in _SYSTEM.items() if names.fullmatch(name)), None)


class _Seen:
    """What was met on a walk so far."""

    def __init__(self, root: Path, besides: Iterable[Path]):
        self._root = root
        besides = [path for path in besides if path.is_relative_to(root)]
        self._besides = {*besides, *(path for path in map(real_path, besides) if path.is_relative_to(root))}
        self._on_the_way = self._above(path.parent for path in besides)  # to these, folders and links to folders
        self._tally = Tally()
        self._files: list[Path] = []
        self._links: list[Path] = []
        self._known = {inode for path in besides if (inode := inode_of(path))}
        self._folders: dict[Path, int] = {}  # each with the files that lie in it directly

    def look_into(self, folder: Path) -> list[Path]:
        """Take in what lies directly in `folder`; the folders in it, which are to be looked into next, in order."""
        subfolders = []
        self._folders[folder] = 0
        for name in _names_in(folder):
            path = folder / name
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                continue  # removed a moment ago
            except OSError as error:
                self._leave_out(why_unread(error), path)
                continue
            unit = "folder" if stat.S_ISDIR(mode) else "file"
            used = path in self._besides or path in self._on_the_way
            if not used and (reason := system_name(name)):
                self._leave_out(reason, path, unit)
            elif stat.S_ISDIR(mode):
                subfolders.append(path)
            else:
                self._folders[folder] += 1
                if not used:
                    self._take(path, mode)
        return subfolders

    def _take(self, path: Path, mode: int) -> None:
        if stat.S_ISLNK(mode):
            self._take_link(path)
        elif not stat.S_ISREG(mode):
            self._leave_out(kind_of_file(mode), path)
        elif reason := _why_no_image(path):
            self._leave_out(reason, path)
        else:
            self._files.append(path)

    def _take_link(self, path: Path) -> None:
        target = Path(os.path.realpath(path))
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._leave_out(_LINK_LOOP, path, "link")
            elif not target.is_relative_to(self._root):
                self._leave_out(_LINK_OUT, path, "link")
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                self._files.append(path)  # a link to nothing that should be an image: an unreadable one
            else:
                self._leave_out(f"a link: {why_unread(error)}", path, "link")
            return
        if not target.is_relative_to(self._root):
            self._leave_out(_LINK_OUT, path, "link")
        elif stat.S_ISDIR(mode):
            self._leave_out(_LINK_LOOP if path.is_relative_to(target) else _FOLDER_LINK, path, "link")
        elif not stat.S_ISREG(mode):
            self._leave_out(f"a link to {kind_of_file(mode)}", path, "link")
        elif reason := _why_no_image(path):
            self._leave_out(reason, path)
        else:
            self._links.append(path)

    def walked(self) -> Walked:
        images = [path for path in (*self._files, *self._links) if self._is_new(path)]
        self._count_folders_without(images)
        return Walked(tuple(sorted(images)), self._tally.counted)

    def _is_new(self, path: Path) -> bool:
        inode = inode_of(path)
        if inode is None:
            return True  # if it cannot be read, that is reported when it is to be decoded
        if inode in self._known:
            self._leave_out(_SECOND_NAME, path, "link")
            return False
        self._known.add(inode)
        return True

    def _count_folders_without(self, images: list[Path]) -> None:
        """Count each folder without an image in it or below it, but not again the folders that it holds."""
        useful = self._above(image.parent for image in (*images, *self._besides)) | {self._root}
        filled = self._above(folder for folder, files in self._folders.items() if files)
        for folder in self._folders:
            if folder not in useful and folder.parent in useful:
                self._leave_out(_NO_IMAGES if folder in filled else "an empty folder", folder, "folder")

    def _above(self, folders: Iterable[Path]) -> set[Path]:
        """These folders and all that hold them, up to the root."""
        folders_above: set[Path] = set()
        for folder in folders:
            above = folder
            while above not in folders_above and above != self._root:
                folders_above.add(above)
                above = above.parent
        return folders_above

    def _leave_out(self, reason: str, path: Path, unit: str = "file") -> None:
        self._tally.add(reason, path.relative_to(self._root).as_posix(), unit)


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []  # removed a moment ago
    except OSError as error:
        raise InputError(
            f"{printable(str(folder))} cannot be listed: {error.strerror}. Make it readable or move it away."
        ) from error


def _why_no_image(path: Path) -> str | None:
    """Why a regular file is not taken for an image, by its suffix and how it begins; None if it is."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return None
    try:
        with open_regular(path) as file:
            start = file.read(16)
    except (OSError, ValueError) as error:
        return f"no image by its name, and {why_unread(error)}"
    if _IMAGE_SIGNATURE.match(start):
        return None
    if suffix in _UNREAD_IMAGE_SUFFIXES:
        return f"{suffix} is not read, convert it to JPEG or PNG"
    return f"no image ({suffix})" if _SUFFIX.fullmatch(suffix) else "no image, by name and content"


_ARCHIVES = (".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_TABLES = (".npy", ".h5", ".hdf5", ".mat", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".lmdb", ".feather")


def instead_of(path: Path) -> str | None:
    """What to do with a file of a kind that is not read, by its name; None where nothing is known of it."""
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return "It is an archive: unpack it, and give the folder."
    if suffix in _SHEETS:
        return "It is a spreadsheet: save it as CSV UTF-8, with the columns path,label."
    if suffix in _TABLES:
        return "Write its images and labels with numpy.savez(path, images=..., labels=...), and give that .npz."
    if suffix in IMAGE_SUFFIXES:
        return "It is one image: give the folder that holds a sub-folder of images for each person."
    return None


def summary_of_files(root: Path) -> str:
    """What lies below `root`, where there are no images: the most frequent suffixes, and links."""
    suffixes, links, waiting = Counter(), 0, [root]
    while waiting:
        folder = waiting.pop()
        for path in (folder / name for name in _names_in(folder)):
            if path.is_symlink():
                links += 1
            elif path.is_dir():
                waiting.append(path)
            else:
                suffixes[printable(path.suffix or path.name)] += 1
    counts = [f"{count} {suffix}" for suffix, count in suffixes.most_common(5)] or ["nothing"]
    return ", ".join(counts + [f"{count_text(links, 'link')}, not followed out of the folder"] * bool(links))
