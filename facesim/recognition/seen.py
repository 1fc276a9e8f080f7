"""Whether people on whom a model is evaluated were trained on: by their images, and by what they are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from facesim.data.identity import image_digests
from facesim.data.layouts import natural_key, some
from facesim.preflight.lineage import lineage
from facesim.runs.directory import Run

#: How people are called who have no names.
_NUMBERED = re.compile(r"\D*\d+")


def seen_in_training(
    run: Run, digests: Iterable[bytes], names: Sequence[str] | None, notice: Callable[[str], None]
) -> bool | None:
    """Whether images, by their `digests` (`facesim.data.identity`), or people, by their `names`, are also in what the
    run's network was trained on, that of the network that it started from included.

    None where that is not known: what it was trained on is not at hand, or no image is there and `names` is None.
    `notice` is called with which are there, and with what is not known. A name that is a number, perhaps with letters
    before it, may be another person's there.
    """
    tested, trained, people, doubts = list(digests), set[bytes](), set[str](), list[str]()
    for data, _, doubt in lineage(run, fetch=False):
        if data is not None:
            trained.update(image_digests(data, np.arange(len(data.labels))))
            people.update(data.names)
        if doubt:
            doubts.append(doubt)
    own = "the run's own data"
    if run.job().experiment.pretrained:
        own = f"{own}, or that of the network that it started from"
    if known := sum(digest in trained for digest in tested):
        notice(
            f"{known:,} of the {len(tested):,} images {'is' if known == 1 else 'are'} in {own}: these are no new people"
        )
        return True
    shared = sorted(people & set(names or ()), key=natural_key)
    are = "is" if len(shared) == 1 else "are"
    called = f"{len(shared):,} of the {len(names or ()):,} people {are} called as people of {own}"
    if real := [name for name in shared if not _NUMBERED.fullmatch(name)]:
        notice(f"{called} ({some(real)}): these are no new people. Rename them if they are")
        return True
    if shared:
        notice(f"{called} ({some(shared)}): if they are the same ones, these are no new people")
    if doubts:
        notice(f"whether these people were trained on is not known: {'; '.join(doubts)}")
    return None if doubts or names is None else False
