"""What accuracy a shape reaches, where a run or a replay shows it: it does not follow from a profile.

Strategies whose update is one of every example's gradient, none stale, make the updates of a single process: a run of
one of them holds for all. Where a network normalises by the batch, that is a worker's part of it, so a run holds for
as many workers only. Asynchronous workers and averaged ones learn differently for each number of them anyway.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.special import stdtrit

from facesim.data.sources import DATASETS
from facesim.forecast.intervals import Z80
from facesim.forecast.model import Phases
from facesim.forecast.profile_data import Profile
from facesim.forecast.replay import AccuracyForecast
from facesim.forecast.shapes import ClusterShape
from facesim.planning.search import Accuracy
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.accuracy import Curve, forecast_accuracy
from facesim.runs.directory import Run
from facesim.runs.records import Audit, Data, JobFields, Result
from facesim.runs.states import Measurement, RunState
from facesim.spec.backends import BACKENDS
from facesim.spec.experiment import with_defaults
from facesim.spec.job import Job, flat, make_job
from facesim.spec.own_model import network
from facesim.spec.strategies import STRATEGIES, known_strategy
from facesim.util.errors import InputError
from facesim.util.words import count_text


class Alike(NamedTuple):
    """Whose updates a shape makes, or its strategy; and what else decides how it learns, where that does."""

    what: str
    workers: object = None
    local_steps: object = None
    other_workers: str | None = None
    backup_workers: object = None


#: What all learn like whose updates are those of a single process.
_ONE_PROCESS = Alike("one process")

#: Data of which nothing is known.
_UNKNOWN = Data()

#: Fields of an experiment that may be others, and the accuracy is still that of the experiment.
_WITHOUT_MEANING = {"seed", "cache", "max_bad_files", "recipe", "evaluate_every"}


def accuracies(
    runs: Iterable[Run],
    job: Job,
    profile: Profile,
    shapes: Sequence[ClusterShape],
    left_out: Callable[[InputError], None] = lambda _: None,
    images: Data = _UNKNOWN,
) -> dict[ClusterShape, Accuracy]:
    """The accuracy of each shape that completed runs of the job's experiment show, with an 80 % interval; `left_out`
    hears why a run cannot be read. `images` say what is known of the job's data as it is now: runs count whose data had
    the same content and as many training examples, as far as both are known; without a content, data at the same place.
    """
    wanted = _experiment(job.experiment.model_dump(mode="json"))
    normalises = normalises_batches(profile)
    results_of: dict[Alike, dict[str, Result]] = {}
    for run in runs:
        try:
            fields, result = JobFields.read(run.job_file), run.result()
        except InputError as error:
            left_out(error)
            continue
        if result is None or result.state is not RunState.COMPLETED or result.held_out_accuracy is None:
            continue
        content = (images.content_sha256, result.data.content_sha256)
        its = _experiment(fields.experiment) | ({} if None in content else {"data": wanted["data"]})
        if its != wanted or fields.framework != job.framework:
            continue
        kind = known_strategy(fields.strategy)
        if result.sync_audit.verdict == "apart" and kind and kind.trains_together():
            continue  # it is not what its strategy learns
        examples = (images.training_examples, result.data.training_examples)
        if any(None not in pair and pair[0] != pair[1] for pair in (content, examples)):
            continue  # it had other images
        like = results_of.setdefault(learns_like(fields.strategy, fields.shape, normalises), {})
        like.setdefault(result.model_dump_json(), result)  # a copy of a run is no second one
    pooled = {key: _pooled(key, [*results.values()]) for key, results in results_of.items()}
    keys = {shape: learns_like(shape.strategy, shape.model_dump(), normalises) for shape in shapes} if pooled else {}
    return {shape: pooled[key] for shape, key in keys.items() if key in pooled}


def replayed_job(job: Job, shape: ClusterShape) -> Job:
    """The job that a shape stands for, which a replay trains in one process.

    Raises:
        InputError: no job can be that, such as one of more workers than any has.
    """
    known = STRATEGIES[shape.strategy].model_fields
    strategy_options = {name: getattr(shape, name) for name in ("backup_workers", "local_steps") if name in known}
    asked = {"strategy": shape.strategy, "workers": shape.workers, "ps": shape.ps, **strategy_options}
    try:
        return make_job(**{**flat(job), **asked, "spot": False})
    except InputError as error:
        raise InputError(
            f"--replay trains what {shape} would, and no job can be that: {error}; ask for less, or leave --replay out",
            field="replay",
        ) from None


def replay_shape(
    job: Job, profile: Profile, shape: ClusterShape, folder: Path, seeds: int, tick: Callable[[], None] = lambda: None
) -> list[Run]:
    """Train in one process what the job would train on a shape, with so many seeds: a run directory each, marked
    forecast, whose held-out accuracy `accuracies` finds. It takes as long as so many trainings on this machine; those
    that have ended are kept if it is interrupted.

    Raises:
        InputError: no job can be that, the data cannot be used, or the folder cannot be written.
        FacesimError: a process failed.
    """
    there = replayed_job(job, shape)
    inputs = prepare_inputs(there, lambda *_: None)
    runs = []

    def keep(directory: Path, curve: Curve) -> None:
        run = Run.open(directory)
        seed_job, outcome = run.job(), run.outcome()
        facts = {name: getattr(outcome, name) for name in ("data", "updates", "examples_seen")} if outcome else {}
        Result(
            run_id=run.id,
            job=seed_job.model_dump(mode="json"),
            strategy=shape.strategy,
            backend="local",
            seed=seed_job.experiment.seed,
            state=RunState.COMPLETED,
            measurement=Measurement.FORECAST,
            held_out_accuracy=curve.held_out_accuracy[-1],
            sync_audit=Audit(verdict="unknown", evidence=("replayed in one process: there were no replicas",)),
            **facts,
        ).write(run.result_file)
        run.claim.release()
        runs.append(run)

    shared = shape.one_host
    forecast_accuracy(there, profile, folder, inputs, seeds=seeds, shared_cores=shared, ended=keep, tick=tick)
    return runs


def time_to_accuracy_s(forecast: AccuracyForecast, accuracy: float, phases: Phases) -> float | None:
    """Seconds from a job's submission until it reaches a held-out accuracy, 0-1, from the epochs and the seconds that
    are forecast of it: statistical times hardware efficiency. None where it is not reached in the job's epochs.
    """
    epoch_s = (phases.training_s + phases.evaluation_s + phases.checkpoint_s) / len(forecast.mean)
    return forecast.time_to_s(accuracy, epoch_s, phases.waiting_s + phases.download_s + phases.start_s)


def normalises_batches(profile: Profile) -> bool:
    """Whether what a network makes of an image depends on the batch that it is in, in training."""
    return any(variable.name.endswith("moving_mean") for variable in profile.variables)


def learns_like(strategy: str, shape: Mapping[str, object], normalises: bool) -> Alike:
    """The same for shapes that learn alike: where each update is made of all of a batch's gradients, none stale, it is
    that of a single process, to rounding (dropout apart); but if the network `normalises`, as `normalises_batches`
    says, only that of as many workers.
    """
    kind = known_strategy(strategy)
    if kind and (not kind.replicated or (kind.joint and not kind.averaging)) and not shape.get("backup_workers"):
        workers = shape.get("workers", 1) if kind.replicated else 1
        return Alike("updates made together", workers) if normalises and workers != 1 else _ONE_PROCESS
    alike = None if not shape.get("other_workers") else str(shape["other_workers"])
    local_steps = shape.get("local_steps") if kind and kind.averaging else None
    return Alike(strategy, shape.get("workers"), local_steps, alike, shape.get("backup_workers") or None)


def _experiment(fields: Mapping[str, object]) -> dict[str, object]:
    """What of an experiment decides its accuracy. Folders and files are named by their whole path, networks of
    the user's own by their content.
    """
    known = {name: value for name, value in with_defaults(fields).items() if name not in _WITHOUT_MEANING}
    places = {name: _place(data) for name in ("data", "test") if isinstance(data := known[name], str)}
    return known | places | {"model": network(str(known["model"]))}


def _place(data: str) -> str:
    return data if data in DATASETS else os.path.abspath(os.path.expanduser(data))


def _shared_cores(result: Result) -> bool:
    """Whether it is of asynchronous workers that waited for the cores of one machine."""
    kind = known_strategy(result.strategy)
    real = result.measurement is not Measurement.FORECAST and result.backend in BACKENDS
    return bool(kind and kind.asynchronous) and real and not BACKENDS[result.backend].own_hosts


def _pooled(key: Alike, results: Sequence[Result]) -> Accuracy:
    """Wilson's 80 % interval of a seed's test images, narrower for several seeds and widened to what a further one of
    them may have, from three on: mean +- t(n-1) s sqrt(1 + 1/n). Runs of one seed learn and are tested alike: they are
    one value.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    of_seed: dict[int, list[float]] = {}
    for result in results:
        of_seed.setdefault(result.seed, []).append(result.held_out_accuracy or 0.0)
    values = [math.fsum(same) / len(same) for same in of_seed.values()]
    mean = math.fsum(values) / len(values)
    examples = max((result.data.held_out_examples or 0 for result in results), default=0) or 1
    centre = (mean + Z80**2 / (2 * examples)) / (1 + Z80**2 / examples)
    half = Z80 / (1 + Z80**2 / examples) * math.sqrt(mean * (1 - mean) / examples + Z80**2 / (4 * examples**2))
    if len(values) >= 3:
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        further = float(stdtrit(len(values) - 1, 0.9)) * spread * math.sqrt(1 + 1 / len(values))
        half = max(half / math.sqrt(len(values)), further)
        centre = mean
    what = "one process, which strategies without stale gradients learn like" if key == _ONE_PROCESS else key.what
    workers = "" if key.workers is None else f", {count_text(key.workers, 'worker')}"
    backup = f" ({key.backup_workers} backup)" if key.backup_workers else ""
    replayed = sum(result.measurement is Measurement.FORECAST for result in results)
    parts = [(len(results) - replayed, "run"), (replayed, "replay")]
    counted = " and ".join(count_text(count, name) for count, name in parts if count)
    origin = f"from {counted} of {what}{workers}{backup}"
    if len(values) < len(results):
        origin += f", with {count_text(len(values), 'seed')}"
    if shared := sum(_shared_cores(result) for result in results):
        origin += f", {shared} with workers that shared one machine's cores; on hosts of their own gradients are staler"
    low, high = max(0.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))
    return Accuracy(mean, low, high, origin)
