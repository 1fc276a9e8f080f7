"""A network to start from, made of rendered people in a given time (`facesim pretrain`).

What there is so far is kept in a folder beside the file, from which a second call goes on:

    OUT.parts/plan.json     what is rendered and trained; decided once, by how fast this machine is
    OUT.parts/rendered/     the people
    OUT.parts/speed/        a short run, that says how fast training is
    OUT.parts/runs/         the training
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facesim import __version__
from facesim.data.rendering import RenderSpec, render_folder
from facesim.runs.directory import Run
from facesim.runs.record import Record
from facesim.spec.job import make_job
from facesim.study.observers import Observer, Together
from facesim.study.runner import run_study
from facesim.util.errors import FacesimError, InputError, doing
from facesim.util.files import made_whole

#: Of each person; two of them are held out, to see whether anything is learned.
IMAGES, _HELD_OUT = 12, 2
#: More pose, light and expression than photographs show, and a camera as poor as theirs.
_HOW = {"difficulty": 0.7, "wild": 0.7, "seed": 777}
#: The share of the time that is for rendering: then every image is seen about ten times.
_RENDERING = 0.3
_FEWEST, _MOST = 24, 4000
#: What a larger batch learns well with, and short of what it would take until nothing more is learned.
_TRAINING = {"batch": 64, "learning_rate": 0.002, "held_out": _HELD_OUT / IMAGES, "strategy": "single"}


class PretrainingPlan(Record):
    """What is made. `epochs` is None until it is known how many the time is enough for."""

    identities: int
    image_size: int
    recipe: str
    epochs: int | None = None


class Pretraining(Record):
    """`OUT.json`: what a network to start from was trained on, and how. `seconds` are those of the last call."""

    sha256: str
    recipe: str
    model: str
    image_size: int
    identities: int
    images: int
    difficulty: float
    wild: float
    seed: int
    epochs: int
    examples_seen: int
    held_out_accuracy: float
    seconds: float
    facesim: str


def pretrain(
    out: Path, minutes: float, observers: Sequence[Observer], recipe: str = "wild", **given: Any
) -> Pretraining:
    """Make the network `out`, a .keras file, in about so many minutes, and `out` + ".json", the record. `given` are
    other options of the training. Where an earlier call was interrupted, it goes on with what that had decided.

    Raises:
        InputError: `out` exists, is no such name, or cannot be written.
        FacesimError: the training did not complete.
    """
    begin = time.monotonic()
    if out.suffix != ".keras":
        raise InputError(f"{out} is not a name of a network: give one that ends in .keras")
    if out.exists():
        raise InputError(f"{out} already exists: name another file, or remove it")
    parts = out.with_name(out.name + ".parts")
    with doing(f"write into {parts}", "name a file in a folder where you may write, on a disk with room"):
        parts.mkdir(parents=True, exist_ok=True)
        plan_file, people = parts / "plan.json", parts / "rendered"
        size = make_job(recipe=recipe, **given).experiment.image_size
        if plan_file.exists():
            plan = PretrainingPlan.read(plan_file)
            if (plan.recipe, plan.image_size) != (recipe, size):
                raise InputError(f"{parts} was begun with other options: give the same again, or remove it")
        else:
            affordable = int(60 * minutes * _RENDERING / (IMAGES * _seconds_an_image(size)))
            plan = PretrainingPlan(identities=min(max(affordable, _FEWEST), _MOST), image_size=size, recipe=recipe)
            plan.write(plan_file)
        spec = RenderSpec(plan.identities, IMAGES, size, **_HOW)
        if not people.exists():
            with made_whole(people) as new:
                render_folder(spec, new, Together(observers).preparing)

    options = {"recipe": recipe, "data": str(people), **_TRAINING, **given}
    if plan.epochs is None:
        short = _completed(
            {**options, "epochs": 2, "evaluate_every": 2, "subset": "identities=100"}, parts / "speed", ()
        )
        speed = short.result()
        left_s = 60 * minutes - (time.monotonic() - begin)
        an_epoch = plan.identities * (IMAGES - _HELD_OUT)
        # The last evaluation, of all images, takes about as long as half an epoch.
        epochs = max(1, round(left_s * speed["images_per_s"] / an_epoch - 0.5))
        plan = plan.model_copy(update={"epochs": epochs})
        plan.write(plan_file)
    run = _completed({**options, "epochs": plan.epochs, "evaluate_every": plan.epochs}, parts / "runs", observers)
    result, job = run.result(), run.job()
    with doing(f"write {out}", "name a file in a folder where you may write, on a disk with room"):
        with made_whole(out) as new:
            shutil.copyfile(run.model_file, new)
        record = Pretraining(
            sha256=hashlib.sha256(out.read_bytes()).hexdigest(),
            recipe=recipe,
            model=job.experiment.model,
            image_size=size,
            identities=plan.identities,
            images=spec.count,
            difficulty=spec.difficulty,
            wild=spec.wild,
            seed=spec.seed,
            epochs=plan.epochs,
            examples_seen=result["examples_seen"],
            held_out_accuracy=result["held_out_accuracy"],
            seconds=time.monotonic() - begin,
            facesim=__version__,
        )
        record.write(out.with_name(out.name + ".json"))
        shutil.rmtree(parts)
    return record


def _seconds_an_image(size: int) -> float:
    """What rendering one, and writing it, takes here."""
    few = RenderSpec(4, IMAGES, size, **_HOW)
    with tempfile.TemporaryDirectory(prefix="facesim-") as folder:
        begin = time.monotonic()
        render_folder(few, Path(folder))
        return (time.monotonic() - begin) / few.count


def _completed(options: dict[str, Any], output: Path, observers: Sequence[Observer]) -> Run:
    """The run of these options in `output`, where one that was begun goes on."""
    (run,) = run_study([make_job(**options)], output, observers, reuse=True)
    result = run.result()
    if result is None or result.state != "Completed":
        why = (result and result.failure) or "it was stopped"
        raise FacesimError(f"the training did not complete: {why}; the same command goes on with it")
    return run
