"""What accuracy a shape reaches, where a run tells it: time and cost follow from a profile, accuracy does not.

Strategies whose update is one of every example's gradient, none stale, make the updates of a single process: a run of
one of them tells for all. Asynchronous workers and averaged ones learn differently for each number of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from facesim.forecast.intervals import Z80
from facesim.forecast.shapes import ClusterShape
from facesim.planning.search import Accuracy
from facesim.runs.directory import Run
from facesim.runs.forecasts import FORECAST
from facesim.runs.records import JobFields, Result
from facesim.runs.states import RunState
from facesim.spec.job import Job
from facesim.util.errors import InputError

#: Their updates are those of a single process, to rounding (batch statistics and dropout apart).
AS_SINGLE = ("single", "mirrored", "ps-sync", "allreduce")

#: Fields of an experiment that may be others, and the accuracy is still that of the experiment.
_WITHOUT_MEANING = {"seed", "cache", "max_bad_files", "recipe"}


def accuracies(runs: Iterable[Run], job: Job, shapes: Sequence[ClusterShape]) -> dict[ClusterShape, Accuracy]:
    """The accuracy of each shape of which completed runs of the job's experiment tell, with an 80 % interval."""
    wanted = _experiment(job.experiment.model_dump(mode="json"))
    found: dict[tuple[object, ...], list[Result]] = {}
    for run in runs:
        try:
            fields, result = JobFields.read(run.job_file), run.result()
        except InputError:
            continue
        if result is None or result.state is not RunState.COMPLETED or result.measurement == FORECAST:
            continue
        if result.held_out_accuracy is None or _experiment(dict(fields.experiment)) != wanted:
            continue
        found.setdefault(_learns_like(fields.strategy, fields.shape), []).append(result)
    told = {key: _pooled(key, results) for key, results in found.items()}
    keys = {shape: _learns_like(shape.strategy, shape.model_dump()) for shape in shapes} if told else {}
    return {shape: told[key] for shape, key in keys.items() if key in told}


def _learns_like(strategy: str, shape: Mapping[str, object]) -> tuple[object, ...]:
    """The same for shapes that learn alike."""
    if strategy in AS_SINGLE and not (strategy == "ps-sync" and shape.get("backup_workers")):
        return ("single",)
    return strategy, shape.get("workers"), shape.get("local_steps") if strategy == "local-sgd" else None


def _experiment(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in _WITHOUT_MEANING}


def _pooled(key: tuple[object, ...], results: Sequence[Result]) -> Accuracy:
    """Wilson's 80 % interval of all runs' test images, widened to their spread from three seeds on.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    values = [result.held_out_accuracy or 0.0 for result in results]
    mean = math.fsum(values) / len(values)
    examples = max((result.data.held_out_examples or 0 for result in results), default=0) or 1
    centre = (mean + Z80**2 / (2 * examples)) / (1 + Z80**2 / examples)
    half = Z80 / (1 + Z80**2 / examples) * math.sqrt(mean * (1 - mean) / examples + Z80**2 / (4 * examples**2))
    if len(values) >= 3:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        half = max(half / math.sqrt(len(values)), Z80 * spread)
        centre = mean
    what = "one process, which strategies without stale gradients learn like" if key == ("single",) else str(key[0])
    workers = f", {key[1]} workers" if len(key) > 1 else ""
    plural = "" if len(values) == 1 else "s"
    origin = f"from {len(values)} run{plural} of {what}{workers}"
    low, high = max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))
    return Accuracy(mean, low, high, origin)
