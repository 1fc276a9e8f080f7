"""A network to start from, made of rendered people in a given time (`facesim pretrain`).

What there is so far is kept in a folder beside the file, from which a second call goes on:

    OUT.parts/plan.json     what is rendered and trained; decided once, by how fast this machine is
    OUT.parts/rendered/     the people
    OUT.parts/speed/        a short run, that says how fast training is
    OUT.parts/runs/         the training
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facesim import __version__
from facesim.data.rendering import RenderSpec, render_folder
from facesim.runs.directory import Run
from facesim.runs.record import Record
from facesim.runs.states import RunState
from facesim.spec.job import make_job
from facesim.study.observers import Interrupted, Observer, Together
from facesim.study.runner import run_study
from facesim.util.errors import FacesimError, InputError, doing
from facesim.util.files import made_whole

RECIPE = "wild"
_PLAN = "plan.json"

#: Of each person; two of them are held out, to see whether anything is learned.
_IMAGES, _HELD_OUT = 12, 2
#: More pose, light and expression than photographs show, and a camera as poor as theirs.
_LOOKS: dict[str, Any] = {"difficulty": 0.7, "wild": 0.7, "seed": 777}
_TRAINING: dict[str, Any] = {"batch": 64, "learning_rate": 0.002, "held_out": _HELD_OUT / _IMAGES}

#: The share of the time that is for rendering: then every image is seen about ten times on two processors.
_RENDERING = 0.3
_FEWEST, _MOST = 24, 4000
_REMEDY = "name a file in a folder where you may write, on a disk with room"


class Plan(Record):
    """What is made, in how many minutes, which earlier versions did not write down. `epochs` is None until it is known
    how many there is time for.
    """

    identities: int
    model: str
    image_size: int
    minutes: float | None = None
    epochs: int | None = None

    @property
    def people(self) -> RenderSpec:
        return RenderSpec(self.identities, _IMAGES, self.image_size, **_LOOKS)


class Pretraining(Record):
    """`OUT.json`: what a network to start from was trained on, and how. `seconds` are those of the last call."""

    sha256: str
    recipe: str
    plan: Plan
    rendered: dict[str, Any]
    training: dict[str, Any]
    examples_seen: int
    held_out_accuracy: float
    seconds: float
    facesim: str


def pretrain(out: Path, minutes: float, observers: Sequence[Observer], **given: Any) -> Pretraining:
    """Make the network `out`, a .keras file, in about so many minutes, and `out` + ".json", the record. `given` are
    options of the recipe `RECIPE` that win over it. Where an earlier call was interrupted, it goes on with what that
    had decided; only rendering begins anew.

    Raises:
        InputError: `out` exists, is no such name, or was begun with other options.
        FacesimError: the training did not complete, or something cannot be written.
    """
    begin = time.monotonic()
    if out.suffix != ".keras":
        raise InputError(f"{out} is not a name of a network: give one that ends in .keras")
    if os.path.exists(out):
        raise InputError(f"{out} exists already: name another file, or remove it")
    given = {"recipe": RECIPE, "strategy": "single", **_TRAINING, **given}
    parts = out.with_name(out.name + ".parts")
    plan = _begun(parts, minutes, given)
    if plan.minutes not in (None, minutes):
        Together(observers).noticed(
            f"{parts} was begun with --minutes {plan.minutes:g}, by which it goes on: remove it to begin anew with "
            f"--minutes {minutes:g}"
        )
    rendered = parts / "rendered"
    if not rendered.exists():
        with doing(f"write into {rendered}", _REMEDY), made_whole(rendered) as new:
            render_folder(plan.people, new, Together(observers).preparing)

    def train(name: str, epochs: int, observers: Sequence[Observer], **options: Any) -> Run:
        budget = {"epochs": epochs, "evaluate_every": epochs}
        return _completed({**given, **budget, **options, "data": str(rendered)}, parts / name, observers)

    if plan.epochs is None:
        speed = train("speed", 2, (), subset=f"identities={min(plan.identities, 100)}").result()
        left_s = 60 * (plan.minutes or minutes) - (time.monotonic() - begin)
        an_epoch = plan.identities * (_IMAGES - _HELD_OUT)
        # In the end all images are evaluated, which takes about half as long as an epoch.
        plan = plan.model_copy(update={"epochs": max(1, int(left_s * speed["images_per_s"] / an_epoch - 0.5))})
        plan.write(parts / _PLAN)
    run = train("runs", plan.epochs, observers)
    with doing(f"write {out}", _REMEDY):
        result = run.result()
        record = Pretraining(
            sha256=hashlib.sha256(run.model_file.read_bytes()).hexdigest(),
            recipe=RECIPE,
            plan=plan,
            rendered=asdict(plan.people),
            training=_TRAINING,
            examples_seen=result["examples_seen"],
            held_out_accuracy=result["held_out_accuracy"],
            seconds=time.monotonic() - begin,
            facesim=__version__,
        )
        with made_whole(out) as new:
            shutil.copyfile(run.model_file, new)
            record.write(out.with_name(out.name + ".json"))  # before the network has its name: it is there with it
    shutil.rmtree(parts, ignore_errors=True)
    return record


def _begun(parts: Path, minutes: float, given: dict[str, Any]) -> Plan:
    """What an earlier call has decided; else what this machine can do in so many minutes."""
    experiment = make_job(**given).experiment
    file = parts / _PLAN
    if file.exists():
        plan = Plan.read(file)
        if (plan.model, plan.image_size) != (experiment.model, experiment.image_size):
            raise InputError(
                f"{parts} was begun with --model {plan.model} --image-size {plan.image_size}: give these, or remove it"
            )
        return plan
    affordable = int(60 * minutes * _RENDERING / (_IMAGES * _seconds_an_image(experiment.image_size)))
    identities = min(max(affordable, _FEWEST), _MOST)
    plan = Plan(identities=identities, model=experiment.model, image_size=experiment.image_size, minutes=minutes)
    with doing(f"write into {parts}", _REMEDY):
        parts.mkdir(parents=True, exist_ok=True)
        plan.write(file)
    return plan


def _seconds_an_image(size: int) -> float:
    """What rendering one, and writing it, takes here."""
    few = RenderSpec(4, _IMAGES, size, **_LOOKS)
    with tempfile.TemporaryDirectory(prefix="facesim-") as folder:
        begin = time.monotonic()
        render_folder(few, Path(folder))
        return (time.monotonic() - begin) / few.count


def _completed(options: dict[str, Any], output: Path, observers: Sequence[Observer]) -> Run:
    """The run of these options in `output`, where one that was begun goes on.

    Raises:
        FacesimError: it did not complete.
        KeyboardInterrupt: it was stopped, as Ctrl-C does it.
    """
    interrupted = Interrupted()
    (run,) = run_study([make_job(**options)], output, [*observers, interrupted], reuse=True)
    result = run.result()
    if interrupted.heard or (result is not None and result.state == RunState.STOPPED):
        raise KeyboardInterrupt
    if result is None or result.state != RunState.COMPLETED:
        why = (result and result.failure) or "it cannot be followed any more"
        raise FacesimError(f"the training did not complete: {why}; the same command goes on with it")
    return run
