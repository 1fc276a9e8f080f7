"""Photographs sorted by person: who is in the gallery has a folder, and so has each stranger who is met more than once.

    people/Ana/      photographs of Ana, who is in the gallery
    unknown/1/       photographs of one person who is nobody of the gallery; the one with the most is first
    unknown/         a single photograph of a stranger
    decisions.csv    for each photograph who it shows, the similarity, the threshold, and where it was put

Photographs stay where they are; what is made are copies, or links. The folder gets its name once it is whole.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from facesim.recognition.reliance import Basis
from facesim.util.disk import writing_to
from facesim.util.errors import FacesimError, doing, reason
from facesim.util.files import check_new, made_whole
from facesim.util.unused import printable

PEOPLE, UNKNOWN, DECISIONS = "people", "unknown", "decisions.csv"

#: Among more strangers than that nobody is looked for who is met twice: it takes all their similarities.
MOST_STRANGERS = 5_000

#: So many bytes of a name are used for a folder or file; file systems take 255, and a number may follow.
_LONGEST = 200

#: What a spreadsheet would take for a formula if a cell began so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Decision:
    """Whom a photograph shows, and where it goes.

    person: of the gallery; None if it is nobody of it. closest: the most similar person of the gallery. similarity: to
    that one. place: in the sorted folder. problem: why it is left out. These are None where they do not apply.
    """

    photo: Path
    person: str | None = None
    closest: str | None = None
    similarity: float | None = None
    place: PurePosixPath | None = None
    problem: str | None = None

    @property
    def verdict(self) -> str:
        """The decision in words."""
        return f"left out: {self.problem}" if self.problem else self.person or "nobody of the gallery"

    def to_json(self) -> dict[str, Any]:
        photo, place = printable(str(self.photo)), self.place and str(self.place)
        return {**asdict(self), "photo": photo, "place": place}


class Sorting(NamedTuple):
    """A decision for each photograph, in the order in which they were given, and what they stand on."""

    decisions: tuple[Decision, ...]
    basis: Basis

    @property
    def counts(self) -> dict[str, int]:
        """Photographs by folder, the gallery's people first, each kind by number."""
        folders = Counter(str(one.place.parent) for one in self.decisions if one.place)
        return dict(sorted(folders.items(), key=lambda item: (item[0].startswith(UNKNOWN), -item[1], item[0])))

    @property
    def left_out(self) -> tuple[Decision, ...]:
        return tuple(one for one in self.decisions if one.problem)

    def to_json(self) -> list[dict[str, Any]]:
        """The decisions, each with the threshold and the notes that it stands on."""
        basis = {"threshold": self.basis.threshold, "notes": list(self.basis.notes)}
        return [{**one.to_json(), **basis} for one in self.decisions]

    def csv(self) -> str:
        """The decisions as a table, of which no spreadsheet takes a name for a formula."""
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["photo", "decision", "similarity", "closest", "threshold", "place"])
        for one in self.decisions:
            similarity = "" if one.similarity is None else f"{one.similarity:.4f}"
            cells = [_cell(str(one.photo)), _cell(one.verdict), similarity, _cell(one.closest or "")]
            rows.writerow([*cells, f"{self.basis.threshold:.4f}", _cell(str(one.place or ""))])
        return table.getvalue()

    def write(self, output: Path, links: bool) -> None:
        """Make the sorted folder.

        Raises:
            InputError: `output` is there already.
            FacesimError: the system refuses something.
        """
        check_new(output)
        remedy = "name another place" + (", or leave --links out" if links else "")
        with doing(f"write {output}", remedy), writing_to(output.parent), made_whole(output) as new:
            new.mkdir()
            (new / DECISIONS).write_text(self.csv(), encoding="utf-8")
            for one in self.decisions:
                if one.place:
                    target = new / one.place
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if links:
                        target.symlink_to(one.photo.absolute())
                    else:
                        _copy(one.photo, target)


def sort_photos(
    names: Sequence[str],
    photos: Sequence[Path],
    embeddings: np.ndarray,
    similarity: np.ndarray,
    basis: Basis,
    unread: dict[Path, str],
) -> Sorting:
    """Decide on each photograph by `basis.threshold`.

    names: the gallery's people. embeddings: of the photographs, of length 1, float (n, dimensions). similarity: of each
        photograph and person, float (n, people). unread: what else was to be sorted, and why it cannot be.
    """
    assert basis.threshold is not None
    nearest = similarity.argmax(axis=1)
    passed = similarity[np.arange(len(photos)), nearest] >= basis.threshold
    strangers = np.zeros(len(photos), int)
    strangers[~passed] = met_again(embeddings[~passed], basis.threshold)
    if (~passed).sum() > MOST_STRANGERS:
        note = f"{(~passed).sum():,} strangers are more than {MOST_STRANGERS:,}: who is met twice was not looked for"
        basis = basis._replace(notes=(*basis.notes, note))
    folders = _Names()
    folder_of = {name: PurePosixPath(PEOPLE, folders.unused(name, of_folder=True)) for name in names}
    files = {PurePosixPath(UNKNOWN): _Names(map(str, strangers))}
    decisions = []
    for photo, who, known, stranger, scores in zip(photos, nearest, passed, strangers, similarity, strict=True):
        closest = names[who]
        folder = folder_of[closest] if known else PurePosixPath(UNKNOWN, *([str(stranger)] if stranger else []))
        place = folder / files.setdefault(folder, _Names()).unused(photo.name)
        decisions.append(Decision(photo, closest if known else None, closest, float(scores[who]), place))
    decisions += [Decision(photo, problem=problem) for photo, problem in unread.items()]
    return Sorting(tuple(decisions), basis)


def met_again(embeddings: np.ndarray, threshold: float, most: int = MOST_STRANGERS) -> np.ndarray:
    """Which of these show one person: a number from 1, the person with the most first, int (n,); 0 is a single one.

    Groups are joined while their images are on average more alike than `threshold` (agglomerative clustering, average
    linkage, of cosines). Of more than `most` all are single ones.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    if not 2 <= len(embeddings) <= most:
        return np.zeros(len(embeddings), int)
    # An embedding of length 0, of a network that sees nothing in an image, has no cosine and is like nothing.
    distances = np.nan_to_num(pdist(embeddings.astype(np.float64), "cosine"), nan=1.0)
    tree = linkage(distances, "average")
    joined = fcluster(np.maximum(tree, 0), 1 - threshold, "distance")
    sizes = Counter(joined.tolist())
    several = [group for group, size in sizes.most_common() if size > 1]
    number = {group: place for place, group in enumerate(several, 1)}
    return np.array([number.get(group, 0) for group in joined.tolist()])


class _Names:
    """Names of files in one folder, also where the file system takes upper and lower case, or composed and decomposed
    letters, for the same. `taken` are there already.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(map(_alike, taken))

    def unused(self, wanted: str, of_folder: bool = False) -> str:
        """`wanted` as a name that any file system takes, with a number if another has it: before the suffix, which a
        file's name may have, and a folder's has not.
        """
        safe = re.sub(r'[/\\:*?"<>|]', "_", printable(wanted))
        path = PurePosixPath(safe.strip(". ") or "_")
        stem, suffix = (path.name, "") if of_folder else (path.stem, _cut(path.suffix, 20))
        stem = _cut(stem, _LONGEST)
        name, number = stem + suffix, 1
        while _alike(name) in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(_alike(name))
        return name


def _copy(photo: Path, target: Path) -> None:
    try:
        shutil.copy2(photo, target)
    except FileNotFoundError as error:
        raise FacesimError(f"cannot copy {printable(str(photo))}: {reason(error)} any more; sort again") from None


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")


def _cell(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) else text
