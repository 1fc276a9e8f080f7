"""Lists of pairs to verify, as data sets publish them: LFW's `pairs.txt`, CALFW's and CPLFW's lists, CFP's folders of
folds, and CSV files.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from facesim.data.layouts import natural_key
from facesim.data.tables import read_rows
from facesim.data.walk import IMAGE_SUFFIXES
from facesim.recognition.pairs import FOLDS, Pairs, files_called, find_lfw_images, read_lfw_pairs
from facesim.util.errors import InputError
from facesim.util.files import read_text, why_unread
from facesim.util.unused import printable
from facesim.util.words import count_text

_COLUMNS = ("first", "second", "same")
_SAME = {
    "1": True,
    "true": True,
    "yes": True,
    "same": True,
    "0": False,
    "false": False,
    "no": False,
    "different": False,
}

#: CFP's lists of images, frontal ones and profiles, each line a number and a path (Sengupta et al., 2016).
_FRONTAL, _PROFILE = "Pair_list_F.txt", "Pair_list_P.txt"


class PairList(NamedTuple):
    """Image files, and the pairs as indices of them; `people` how many these show, None where the list does not say.

    cut: the list has no folds of its own, and was cut into some here, in which a person can be in several.
    """

    files: list[Path]
    pairs: Pairs
    people: int | None
    cut: bool

    @property
    def trials(self) -> Pairs:
        """The pairs without those of an image with itself, which any model gets right, and each once."""
        kept = self.is_trial
        return Pairs(*(column[kept] for column in self.pairs))

    @property
    def is_trial(self) -> np.ndarray:
        return self._of_two & self._new

    @property
    def left_out(self) -> list[str]:
        """Which pairs are no trials, in words."""
        of_two = self._of_two
        itself, again = np.sum(~of_two), np.sum(of_two & ~self._new)
        return [
            *([f"without {itself:,} of an image with itself"] if itself else []),
            *([f"without {count_text(again, 'that repeats another', 'that repeat others')}"] if again else []),
        ]

    @property
    def _of_two(self) -> np.ndarray:
        return self.pairs.first != self.pairs.second

    @property
    def _new(self) -> np.ndarray:
        """Whether no pair before is of the same two images, in either order, bool (n,)."""
        low, high = np.minimum(*self.pairs[:2]), np.maximum(*self.pairs[:2])
        numbers = low * len(self.files) + high  # sorted some seven times as fast as rows of two are
        new = np.zeros(len(numbers), bool)
        new[np.unique(numbers, return_index=True)[1]] = True
        return new


def find_pairs(path: Path, folder: Path) -> PairList:
    """The pairs that a list names, with images below `folder`.

    path: a `pairs.txt` or `pairsDev*.txt` of LFW's; `pairs_CALFW.txt` or `pairs_CPLFW.txt`; a folder of CFP's folds,
        `Protocol/Split/FP` or `FF`; or a CSV with the columns `first,second,same`, paths from `folder` on, and maybe
        `fold`.

    Raises:
        InputError: it is none of these, says two things of one pair, or an image is missing; the message names the
            first and counts the others.
    """
    if path.is_dir():
        files, pairs, people = _cfp(path, folder)
    elif path.suffix.lower() in (".csv", ".tsv"):
        files, pairs, people = _csv(path, folder)
    elif _names_an_image(path):
        files, pairs, people = _two_lines_a_pair(path, folder)
    else:
        files, pairs = find_lfw_images(read_lfw_pairs(path), folder)
        people = len({file.stem.rsplit("_", 1)[0] for file in files})
    _check_agrees(pairs, files, path)
    cut = len(np.unique(pairs.fold)) < 2
    listed = PairList(files, pairs, people, cut)
    return listed._replace(pairs=pairs._replace(fold=_folds(pairs.same, listed.is_trial))) if cut else listed


def _check_agrees(pairs: Pairs, files: list[Path], source: Path) -> None:
    said: dict[tuple[int, int], bool] = {}
    for one, other, same in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist()):
        if said.setdefault((min(one, other), max(one, other)), same) != same:
            raise InputError(
                f"{printable(str(source))} says of {printable(str(files[one]))} and {printable(str(files[other]))} "
                f"both that they show the same person and that they do not; correct it"
            )


def _names_an_image(path: Path) -> bool:
    """Whether a list begins with an image, as CALFW's and CPLFW's do; LFW's begin with numbers."""
    first = next((text for _, text in _lines(path)), "")
    return any(Path(word).suffix.lower() in IMAGE_SUFFIXES for word in first.split())


def _two_lines_a_pair(path: Path, folder: Path) -> tuple[list[Path], Pairs, int]:
    """CALFW's and CPLFW's lists (Zheng et al., 2017; Zheng and Deng, 2018): an image and a number a line, two lines a
    pair; 0 says that they show different people.
    """
    lines = _lines(path)
    file_of = files_called({text.rpartition(" ")[0].strip() for _, text in lines}, folder, lambda file: file.name)
    listed = []
    for line, text in lines:
        name, _, number = text.rpartition(" ")
        if not name or not number.isdecimal() or (len(listed) % 2 and bool(int(number)) != listed[-1][1]):
            raise InputError(
                f"{path} line {line}: {printable(text)!r} is not an image and a number, 0 in both lines of a pair of "
                f"different people; get the file again"
            )
        listed.append((file_of.get(name.strip(), folder / name.strip()), bool(int(number))))
    if len(listed) % 2:
        raise InputError(f"{path} has {count_text(len(listed), 'line')}, and a pair has two; get the file again")
    rows = [(one[0], other[0], one[1], 0) for one, other in zip(listed[::2], listed[1::2])]
    files, pairs = _indexed(rows, path)
    return files, pairs, len({file.stem.rpartition("_")[0] for file in files})


def _folds(same: np.ndarray, is_trial: np.ndarray) -> np.ndarray:
    """Folds for a list without: as many genuine as impostor trials in each as in the whole, in the order of the list.
    What is no trial is in the first.
    """
    kinds = same & is_trial, ~same & is_trial
    folds = min(FOLDS, *(int(kind.sum()) for kind in kinds))
    fold = np.zeros(len(same), int)
    for kind in kinds:
        fold[kind] = np.arange(kind.sum()) * folds // max(1, kind.sum())
    return fold


def _cfp(split: Path, folder: Path) -> tuple[list[Path], Pairs, int]:
    protocol = next((above for above in split.resolve().parents if (above / _FRONTAL).is_file()), None)
    folds = sorted(
        (one for one in split.iterdir() if (one / "same.txt").is_file()), key=lambda one: natural_key(one.name)
    )
    if protocol is None or not folds:
        raise InputError(
            f"{printable(str(split))} is no folder of CFP's folds: it has 01/same.txt and 01/diff.txt, and above it "
            f"lies {_FRONTAL}. Give Protocol/Split/FP, or FF."
        )
    listed = [_cfp_images(protocol / name, folder) for name in (_FRONTAL, _PROFILE)]
    sides = listed if split.resolve().name.upper() == "FP" else [listed[0], listed[0]]
    rows = []
    for fold, one in enumerate(folds):
        for name, same in (("same.txt", True), ("diff.txt", False)):
            for line, text in _lines(one / name):
                numbers = [number.strip() for number in text.split(",")]
                if len(numbers) != 2 or not all(number in side for number, side in zip(numbers, sides)):
                    raise InputError(f"{one / name} line {line}: {printable(text)!r} does not name two images of CFP's")
                rows.append((*(side[number] for number, side in zip(numbers, sides)), same, fold))
    files, pairs = _indexed(rows, split)
    return files, pairs, len({file.parent.parent for file in files})


def _cfp_images(path: Path, folder: Path) -> dict[str, Path]:
    """The images that a list of CFP's names by their numbers."""
    images = {}
    for line, text in _lines(path):
        number, _, place = text.partition(" ")
        parts = [part for part in PurePosixPath(place.strip()).parts if part != ".."]
        if not number.isdecimal() or not parts:
            raise InputError(f"{path} line {line}: {printable(text)!r} is not a number and a path; get the file again")
        images[number] = folder.joinpath(*parts)
    return images


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else why_unread(error)
        raise InputError(f"{path}: {why}; get the file again") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _csv(path: Path, folder: Path) -> tuple[list[Path], Pairs, None]:
    columns, lines = read_rows(path, _COLUMNS)
    if not set(_COLUMNS) <= set(columns):
        raise InputError(
            f"{path} has the columns {printable(', '.join(columns)) or '(none)'}; {', '.join(_COLUMNS)} are needed. "
            f"Make the first line: {','.join(_COLUMNS)}"
        )
    folds = sorted({row.get("fold", "") for _, row in lines}, key=natural_key)
    if len(folds) > 1 and (line := next((line for line, row in lines if not row.get("fold")), None)):
        raise InputError(
            f"{path} line {line}: fold is empty, and other lines name one; name one in each line, or in none"
        )
    rows = []
    for line, row in lines:
        same = _SAME.get(row.get("same", "").lower())
        if same is None or not row.get("first") or not row.get("second"):
            raise InputError(
                f"{path} line {line}: first and second must be paths, and same one of {', '.join(_SAME)}; same is "
                f"{printable(row.get('same', ''))!r}"
            )
        images = (_as_stored(folder, row[side].replace("\\", "/")) for side in ("first", "second"))
        rows.append((*images, same, folds.index(row.get("fold", ""))))
    return *_indexed(rows, path), None


def _as_stored(folder: Path, listed: str) -> Path:
    """A listed file, in whichever form of Unicode its name is stored."""
    forms = [listed, *(unicodedata.normalize(form, listed) for form in ("NFC", "NFD"))]
    files = [Path(os.path.abspath(folder / form)) for form in forms]
    return next((file for file in files if file.is_file()), files[0])


def _indexed(rows: list[tuple[Path, Path, bool, int]], source: Path) -> tuple[list[Path], Pairs]:
    """Each file once, and the pairs as indices of these."""
    if not rows:
        raise InputError(f"{printable(str(source))} names no pairs; get it again")
    index = {file: place for place, file in enumerate(dict.fromkeys(file for row in rows for file in row[:2]))}
    missing = [file for file in index if not file.is_file()]
    if missing:
        raise InputError(
            f"{printable(str(source))} names {count_text(len(index), 'image')} and "
            f"{count_text(len(missing), 'of them is', 'of them are')} missing, such as {printable(str(missing[0]))}; "
            "give the folder that its paths begin in as DATA"
        )
    first, second, same, fold = zip(*rows)
    sides = (np.array([index[file] for file in side]) for side in (first, second))
    return list(index), Pairs(*sides, np.array(same, bool), np.array(fold))
