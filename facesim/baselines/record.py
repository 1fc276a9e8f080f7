"""The baselines of a study, kept as `baselines.json` in its output folder, so that they are computed once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.baselines import Score
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
    """The scores of every method for `seeds`, on the experiment's split; computed where `folder` does not have them."""
    split = {name: experiment[name] for name in SPLIT}
    entries = _entries(folder)
    entry = next((e for e in entries if e["split"] == split and e["sha256"] == data.sha256), None)
    scores = [Score(**score) for score in entry["scores"]] if entry else []
    missing = [seed for seed in seeds if seed not in {score.seed for score in scores}]
    if missing:
        from facesim.baselines.scoring import score_baselines

        for seed in missing:
            scores += score_baselines(data, split["held_out"], seed, progress)
        new = {"split": split, "sha256": data.sha256, "scores": [score._asdict() for score in scores]}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, {"entries": [*(e for e in entries if e["split"] != split), new]})
    return [score for score in scores if score.seed in seeds]


def read_baselines(folder: Path, experiment: dict[str, Any], seeds: Iterable[int]) -> list[Score]:
    """What `folder` has of the experiment's split and of `seeds`; empty where it has nothing."""
    split = {name: experiment.get(name) for name in SPLIT}
    found = [entry["scores"] for entry in _entries(folder) if entry["split"] == split]
    return [own for scores in found for score in scores if (own := Score(**score)).seed in seeds]


def _entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / FILE
    return json.loads(path.read_text())["entries"] if path.exists() else []
