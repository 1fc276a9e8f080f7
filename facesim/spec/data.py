"""Which images are trained on and tested, and when two runs were tested on the same ones.

This is the one place that says so. Before a run, `DataSpec` has every option that decides it: what is prepared once for
several jobs, and which classical scores belong to a row, follow from it. After a run, `tested_sha256` of the images
themselves is in its result: two folders with the same images agree, and one folder whose content has changed does not.

The images are compared as the network sees them, after decoding: another image size or another number of channels makes
other test images. Nothing shows that a face is as hard to recognise at 32 pixels as it is at 64.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class DataSpec(BaseModel):
    """Every option that decides which images are trained on and tested, named as in an experiment.

    `seed` chooses the subset and, unless the data's own split is kept (`split`, `test_part`) or `test` names what to
    test on, what is held out. With `validation` a run is tested on that share of what would be its training images, and
    the held-out ones are left alone. How images are kept while training (`cache`) changes none of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    data: str = "rendered"
    test: str | None = None
    split: Literal["own", "random"] = "own"
    test_part: Literal["test", "val"] = "test"
    subset: str | None = None
    image_size: int = 64
    channels: Literal[1, 3] = 3
    max_bad_files: float = 0.05
    min_images: int | None = None
    image_feature: str | None = None
    label_feature: str | None = None
    held_out: float = 0.2
    validation: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, experiment: Mapping[str, Any]) -> DataSpec:
        """That of an experiment as JSON has it; what it lacks is the default, what else it has does not matter.

        Raises:
            pydantic.ValidationError: a value is not of its option's type.
        """
        return cls.model_validate(dict(experiment))

    @property
    def tested_in_words(self) -> str:
        """What the images that are tested are, in words."""
        return "validation" if self.validation or self.test_part == "val" else "held-out"

    @property
    def images(self) -> Hashable:
        """What decides the images before any is held out: equal for jobs that can share one prepared data set."""
        chosen = self.model_dump(exclude={"held_out", "validation", "test_part", "seed"})
        return (*chosen.values(), self.seed if self.subset else None)

    def differences(self, other: DataSpec) -> dict[str, tuple[Any, Any]]:
        """The options that differ, seed apart: name -> (own value, the other's)."""
        options, other_options = self.model_dump(exclude={"seed"}), other.model_dump(exclude={"seed"})
        return {name: (options[name], other_options[name]) for name in options if options[name] != other_options[name]}


def images_sha256(examples: Iterable[tuple[int, bytes]]) -> str:
    """The identity of images with the people on them: (label, digest of the decoded image) each, in any order.

    A SHA-256 over which images show the same person; what people and files are called does not matter.
    """
    people: defaultdict[int, list[bytes]] = defaultdict(list)
    for label, digest in examples:
        people[label].append(digest)
    groups = sorted(hashlib.sha256(b"".join(sorted(of_person))).digest() for of_person in people.values())
    return hashlib.sha256(b"".join(groups)).hexdigest()
