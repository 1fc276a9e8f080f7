"""Accuracy as a cluster would reach it, replayed in one process of this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facesim.backends.local import BACKEND
from facesim.forecast.profile_data import Profile
from facesim.forecast.replay import AccuracyForecast, accuracy_forecast, simulated_orders
from facesim.metrics.files import read_samples
from facesim.preflight.inputs import Inputs
from facesim.profiling.stages import follow
from facesim.runs.directory import Run
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.job import Job
from facesim.spec.recovery import Recovery
from facesim.spec.strategies import Single
from facesim.training.order import Order, write_orders
from facesim.util.errors import InputError
from facesim.util.words import count_text


@dataclass(frozen=True)
class Curve:
    """What a training reached after each epoch: accuracies 0-1, losses; its mean staleness over all."""

    held_out_accuracy: tuple[float, ...]
    held_out_loss: tuple[float, ...]
    loss: tuple[float, ...]
    staleness_mean: float


def curve_of(run: Run) -> Curve:
    """The curve of a run, from what its training recorded."""
    samples = read_samples(run.directory)
    rows = samples[(samples["source"] == "training") & (samples["role"] == "chief")]

    def values(name: str) -> tuple[float, ...]:
        return tuple(rows[rows["name"] == name]["value"])

    late = values("staleness_mean")
    return Curve(
        values("held_out_accuracy"), values("held_out_loss"), values("loss"), sum(late) / len(late) if late else 0.0
    )


def check_replayable(job: Job) -> None:
    """Look whether what a job would train can be replayed.

    Raises:
        InputError: another framework than TensorFlow trains it.
    """
    if job.framework != TENSORFLOW:
        raise InputError(
            f"accuracy is replayed with {TENSORFLOW}, not with --framework {job.framework}: leave --framework out, for "
            "the accuracy is the experiment's, whatever computes it",
            field="framework",
            value=job.framework,
            allowed=[TENSORFLOW],
            remedy="leave --framework out",
        )


def replay(
    job: Job,
    orders: Sequence[Order] | None,
    folder: Path,
    inputs: Inputs,
    tick: Callable[[], None],
    epochs: int | None = None,
) -> Curve:
    """Train in one process what the job would train on its cluster, or only its first `epochs`, in `folder`, which
    becomes its run directory.

    `orders` are those of asynchronous workers' updates, which pause where the job evaluates; None for a strategy that
    needs none.

    Raises:
        InputError: asynchronous workers have no orders, or of too few updates; the framework is not TensorFlow.
        FacesimError: the process failed.
    """
    check_replayable(job)
    epochs = epochs or job.experiment.epochs
    if job.strategy.asynchronous:
        due, known = epochs * updates_of_epoch(job, inputs), sum(map(len, orders or ()))
        if known < due:
            raise InputError(
                f"the order of {count_text(known, 'update')} is known, and "
                f"{count_text(epochs, 'epoch has', 'epochs have')} {due:,}: a replay needs that of each"
            )
    job = job.model_copy(update={"recovery": Recovery(checkpoint_s=0), "faults": (), "spot": None})
    run = Run.create(folder, job)
    if orders is not None:
        write_orders(run.directory / "orders.npz", orders)
    # The tasks of a run of one process, which find the job of the cluster in their run directory.
    alone = job.model_copy(update={"strategy": Single()})
    plan = BACKEND.render(alone, run.directory, inputs)
    tasks = tuple(
        replace(task, target="facesim.training.tensorflow.replayed:train", arguments=(epochs, *task.arguments))
        for task in plan.tasks
    )
    follow(run, replace(plan, tasks=tasks, max_restarts=0), tick, "what a cluster trains could not be replayed")
    return curve_of(run)


def updates_of_epoch(job: Job, inputs: Inputs) -> int:
    """How many updates an epoch of the job is."""
    train, _ = inputs.data.split(job.experiment.data_spec)
    return math.ceil(len(train) / job.update_batch)


def forecast_accuracy(
    job: Job,
    profile: Profile,
    folder: Path,
    inputs: Inputs,
    *,
    seeds: int = 3,
    replayed_epochs: int | None = None,
    shared_cores: bool | None = None,
    began: Callable[[int], None] = lambda seed: None,
    ended: Callable[[Path, Curve], None] = lambda directory, curve: None,
    tick: Callable[[], None] = lambda: None,
) -> AccuracyForecast:
    """What accuracy the job will reach, from replays with `seeds` seeds; the profile gives its workers' order.

    With `replayed_epochs` only the first are replayed, at the rates that they have in the whole training, and the rest
    is extrapolated, which the forecast marks. `began` is called with each seed, `ended` with the run directory and the
    curve of each replay. `shared_cores` says whether its workers share this machine's cores; left out, they do where
    the job's backend gives them no hosts of their own.
    """
    shared_cores = not job.backend.own_hosts if shared_cores is None else shared_cores
    budget = job.experiment.epochs
    epochs = min(budget, replayed_epochs or budget)
    curves = []
    for seed in range(seeds):
        began(seed)
        experiment = job.experiment.model_copy(update={"seed": seed, "evaluate_every": 1})
        seed_job = job.model_copy(update={"experiment": experiment})
        orders = None
        if job.strategy.asynchronous:
            orders = simulated_orders(
                profile, job.shape.workers, job.shape.ps, updates_of_epoch(seed_job, inputs), epochs,
                batch=job.update_batch, shared_cores=shared_cores, seed=seed,
            )  # fmt: skip
        directory = folder / f"seed-{seed}"
        curves.append(replay(seed_job, orders, directory, inputs, tick, epochs))
        ended(directory, curves[-1])
    return accuracy_forecast([curve.held_out_accuracy for curve in curves], budget)
