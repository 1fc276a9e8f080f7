"""The baselines of a study, kept as `baselines.json` in its output folder, so that they are computed once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.baselines import Score
from facesim.disk import writing_to
from facesim.files import write_json

if TYPE_CHECKING:
    from facesim.data.prepare import PreparedData

FILE = "baselines.json"

#: The fields of an experiment that say which images are trained on and tested.
SPLIT = ("data", "image_size", "channels", "held_out", "max_bad_files", "min_images")


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
        known = [Score(**score) for score in entry["scores"]] if entry else []
        if seed not in {score.seed for score in known}:
            from facesim.baselines.scoring import score_baselines

            known += score_baselines(data, split["held_out"], seed, progress)
            new = {"split": split, "sha256": data.sha256, "scores": [score._asdict() for score in known]}
            folder.mkdir(parents=True, exist_ok=True)
            with writing_to(folder):
                write_json(folder / FILE, {"entries": [*(e for e in entries if e["split"] != split), new]})
        scores += [score for score in known if score.seed == seed]
    return scores


def read_baselines(folder: Path, experiment: dict[str, Any], seeds: Iterable[int]) -> list[Score]:
    """What `folder` has of the experiment's split and of `seeds`; empty where it has nothing."""
    entries = _entries(folder)
    return [
        own
        for seed in seeds
        for entry in entries
        if entry["split"] == _split(experiment, seed)
        for score in entry["scores"]
        if (own := Score(**score)).seed == seed
    ]


def _split(experiment: dict[str, Any], seed: int) -> dict[str, Any]:
    """What says which images are trained on and tested; the seed is apart, but for a subset, which is other images."""
    split = {name: experiment.get(name) for name in SPLIT}
    subset = experiment.get("subset")
    return split if subset is None else {**split, "subset": subset, "subset_seed": seed}


def _entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / FILE
    return json.loads(path.read_text())["entries"] if path.exists() else []
