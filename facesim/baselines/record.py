"""The baselines of a study, kept as `baselines.json` in its output folder, so that they are computed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from facesim.baselines import BASELINES, MAX_IMAGES, Score
from facesim.runs.record import Record, read_json, validated
from facesim.spec.data import DataSpec
from facesim.spec.job import Job
from facesim.util.disk import writing_to
from facesim.util.errors import InputError, doing
from facesim.util.files import write_json

if TYPE_CHECKING:
    from facesim.data.prepared import PreparedData

FILE = "baselines.json"


class _Score(Record):
    """`Score` as the file has it, and of a plugin's method the package, with its version, that it is by."""

    method: str
    seed: int
    accuracy: float
    balanced_accuracy: float
    seconds: float
    package: str | None = None

    @property
    def as_score(self) -> Score:
        return Score(**self.model_dump(exclude={"package"}))


class _Entry(Record):
    """Every method on one split of one data set; `tested_sha256` is of the held-out images (`facesim.spec.data`)."""

    split: dict[str, Any]
    sha256: str
    tested_sha256: str | None = None
    scores: tuple[_Score, ...]

    def is_of(self, split: Mapping[str, Any]) -> bool:
        try:
            return DataSpec.of(self.split).model_dump() == split
        except ValidationError:
            return False


class _Entries(Record):
    entries: tuple[_Entry, ...]


def record_baselines(
    data: PreparedData,
    experiment: dict[str, Any],
    seeds: Iterable[int],
    folder: Path,
    progress: Callable[[str], Any] = lambda _: None,
) -> list[Score]:
    """The scores of every method for `seeds`, on the experiment's split; computed where `folder` does not have them, or
    has them of another version of a plugin, or a file that is damaged.

    Of an experiment with a subset `data` is that of one seed.

    Raises:
        FacesimError: `folder` cannot be written.
    """
    scores: list[Score] = []
    methods = [name for name, _ in BASELINES.available()]
    for seed in seeds:
        spec = _spec(experiment, seed)
        split, entries = spec.model_dump(), _kept(folder)
        kept = next((one.scores for one in entries if one.is_of(split) and one.sha256 == data.sha256), ())
        # A method that is not installed now may be again.
        known = {
            one.method: one for one in kept if one.method not in methods or one.package == BASELINES.package(one.method)
        }
        not_due = {*known, *too_few(data, spec)}
        if due := [name for name in methods if name not in not_due]:
            from facesim.baselines.scoring import score_baselines, tested_on

            for score in score_baselines(data, spec, due, progress):
                known[score.method] = _Score(**score._asdict(), package=BASELINES.package(score.method))
            entry = _Entry(
                split=split,
                sha256=data.sha256,
                tested_sha256=tested_on(data, spec),
                scores=tuple(known.values()),
            )
            others = [one for one in entries if not one.is_of(split)]
            with doing(f"write {folder / FILE}", "name another folder with --output"), writing_to(folder):
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / FILE, _Entries(entries=(*others, entry)).model_dump(mode="json"))
        scores += [known[name].as_score for name in methods if name in known]
    return scores


def too_few(data: PreparedData, spec: DataSpec) -> list[str]:
    """The methods that cannot learn from the training images, because there is one of each person."""
    train, _ = data.split(spec)
    return [name for name, method in BASELINES.available() if method.within and len(train) <= len(data.names)]


def study_baselines(jobs: Iterable[Job], folder: Path) -> tuple[list[Score], list[str]]:
    """The scores of every method on the data and splits of a study's jobs, kept in `folder`; and why there are none of
    data that is too large, or of a method, in words.

    Raises:
        InputError: the data cannot be used.
    """
    from facesim.data.unseen import UnseenData
    from facesim.preflight.inputs import prepare_all

    scores: dict[DataSpec, list[Score]] = {}
    left_out: dict[str, None] = {}
    jobs = list(jobs)
    for job, inputs in zip(jobs, prepare_all(jobs, lambda *_: None), strict=True):
        data, spec = inputs.data, job.experiment.data_spec
        if isinstance(data, UnseenData):
            left_out[f"no classical baselines: {data.name} is not on this machine"] = None
        elif (images := len(data.labels)) > MAX_IMAGES:
            reason = f"{data.name} has {images:,} images, and they take too long on more than {MAX_IMAGES:,}"
            left_out[f"no classical baselines: {reason}"] = None
        elif spec not in scores:
            scores[spec] = record_baselines(data, job.experiment.model_dump(), [spec.seed], folder)
            reason = f"it needs more than one training image of somebody, and {data.name} leaves one of each"
            left_out |= dict.fromkeys(f"no {name}: {reason}" for name in too_few(data, spec))
    return [score for split_scores in scores.values() for score in split_scores], list(left_out)


def read_baselines(
    folder: Path, experiment: dict[str, Any], seeds: Iterable[int], tested: Mapping[int, str | None] | None = None
) -> list[Score]:
    """What `folder` has of the experiment's split and of `seeds`; empty where it has nothing, or a damaged file.

    `tested` are the identities of the images that the runs of these seeds were tested on, as far as they are known:
    scores on other images are left out.
    """
    entries = _kept(folder)
    return [
        score.as_score
        for seed in seeds
        for entry in entries
        if entry.is_of(_spec(experiment, seed).model_dump()) and (tested or {}).get(seed) in (None, entry.tested_sha256)
        for score in entry.scores
    ]


def check_baselines(folder: Path) -> None:
    """Raise InputError if `folder` has baselines that cannot be read."""
    _entries(folder)


def _spec(experiment: Mapping[str, Any], seed: int) -> DataSpec:
    """What says which images are trained on and tested."""
    return DataSpec.of({**experiment, "seed": seed})


def _kept(folder: Path) -> tuple[_Entry, ...]:
    try:
        return _entries(folder)
    except InputError:
        return ()


def _entries(folder: Path) -> tuple[_Entry, ...]:
    path = folder / FILE
    return validated(_Entries, path, read_json(path)).entries if os.path.lexists(path) else ()
