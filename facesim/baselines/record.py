"""The baselines of a study, kept as `baselines.json` in its output folder, so that they are computed once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.baselines import MAX_IMAGES, Score
from facesim.preflight.inputs import prepare_all
from facesim.spec.data import DataSpec
from facesim.spec.job import Job
from facesim.util.disk import writing_to
from facesim.util.files import write_json

if TYPE_CHECKING:
    from facesim.data.prepare import PreparedData

FILE = "baselines.json"


def record_baselines(
    data: PreparedData,
    experiment: dict[str, Any],
    seeds: Iterable[int],
    folder: Path,
    progress: Callable[[str], Any] = lambda _: None,
) -> list[Score]:
    """The scores of every method for `seeds`, on the experiment's split; computed where `folder` does not have them.

    Of an experiment with a subset `data` is that of one seed.
    """
    scores: list[Score] = []
    for seed in seeds:
        split = _split(experiment, seed)
        entries = _entries(folder)
        entry = next((e for e in entries if e["split"] == split and e["sha256"] == data.sha256), None)
        if entry is None:
            from facesim.baselines.scoring import score_baselines, tested_on

            entry = {
                "split": split,
                "sha256": data.sha256,
                "tested_sha256": tested_on(data, split["held_out"], seed),
                "scores": [score._asdict() for score in score_baselines(data, split["held_out"], seed, progress)],
            }
            folder.mkdir(parents=True, exist_ok=True)
            with writing_to(folder):
                write_json(folder / FILE, {"entries": [*(e for e in entries if e["split"] != split), entry]})
        scores += [Score(**score) for score in entry["scores"]]
    return scores


def study_baselines(jobs: Iterable[Job], folder: Path) -> tuple[list[Score], list[str]]:
    """The scores of every method on the data and splits of a study's jobs, kept in `folder`; and why there are none of
    data that is too large, in words.

    Raises:
        InputError: the data cannot be used.
    """
    scores: dict[DataSpec, list[Score]] = {}
    left_out: dict[str, None] = {}
    jobs = list(jobs)
    for job, inputs in zip(jobs, prepare_all(jobs, lambda *_: None), strict=True):
        data, spec = inputs.data, job.experiment.data_spec
        if (images := len(data.labels)) > MAX_IMAGES:
            told = f"{data.name} has {images:,} images, and they take too long on more than {MAX_IMAGES:,}"
            left_out[f"no classical baselines: {told}"] = None
        elif spec not in scores:
            scores[spec] = record_baselines(data, job.experiment.model_dump(), [spec.seed], folder)
    return [score for own in scores.values() for score in own], list(left_out)


def read_baselines(
    folder: Path, experiment: dict[str, Any], seeds: Iterable[int], tested: Mapping[int, str | None] | None = None
) -> list[Score]:
    """What `folder` has of the experiment's split and of `seeds`; empty where it has nothing.

    `tested` are the identities of the images that the runs of these seeds were tested on, as far as they are known:
    scores on other images are left out.
    """
    entries = _entries(folder)
    return [
        Score(**score)
        for seed in seeds
        for entry in entries
        if entry["split"] == _split(experiment, seed) and (tested or {}).get(seed) in (None, entry["tested_sha256"])
        for score in entry["scores"]
    ]


def _split(experiment: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What says which images are trained on and tested."""
    return DataSpec.of({**experiment, "seed": seed}).model_dump()


def _entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / FILE
    return json.loads(path.read_text())["entries"] if path.exists() else []
