"""When a training task writes checkpoints, what goes into them, and how it goes on from the newest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from cluster.task import tell
from facesim.training.checkpoints import Checkpoint, Checkpoints
from facesim.training.train_state import Course
from facesim.util.errors import FacesimError

if TYPE_CHECKING:
    from facesim.training.context import Context


class Keeper:
    """Keeps the checkpoints of one training task; one that does not write only reads them."""

    def __init__(self, context: Context, variables: list[keras.Variable], *, writes: bool):
        self._context = context
        self._settings = context.job.recovery
        context.checkpoints.mkdir(parents=True, exist_ok=True)
        self._checkpoints = Checkpoints(context.checkpoints, self._settings.checkpoint_keep)
        self._variables = [_copies(variable) for variable in variables]
        self._shapes = [tuple(variable.shape) for variable in variables]
        self._seeds = [variable.path.endswith("seed_generator_state") for variable in variables]
        self._writes = writes
        self._saved_s, self._saved_step = time.monotonic(), 0

    def due(self, step: int) -> bool:
        """Whether one should be written when update `step` has been made."""
        settings = self._settings
        return self._writes and bool(
            (settings.checkpoint_steps and step - self._saved_step >= settings.checkpoint_steps)
            or (settings.checkpoint_s and time.monotonic() - self._saved_s >= settings.checkpoint_s)
        )

    def save(self, course: Course) -> None:
        """Write one. No update may be under way. A disk that is full is told of and does not end the training."""
        step = course.counts.last_version
        if not self._writes or step == 0:
            return
        begin = time.perf_counter()
        with self._context.recorder.timed("checkpoint_s"):
            said = {
                "job": self._context.job.model_dump(),
                "data": self._context.data.directory.name,
                **course.to_json(),
            }
            values = [copies[0].numpy() for copies in self._variables]
            try:
                file = self._checkpoints.save(step, values, said)
            except OSError as error:
                tell("checkpoint_failed", step=step, why=str(error))
            else:
                seconds, size = time.perf_counter() - begin, file.stat().st_size
                tell(
                    "checkpoint",
                    file=file.name,
                    step=step,
                    examples=course.counts.examples,
                    seconds=seconds,
                    bytes=size,
                )
        self._saved_s, self._saved_step = time.monotonic(), step

    def continued(self) -> Course:
        """The course of the newest whole checkpoint, with its values in the variables; a new course if there is none.

        Raises:
            FacesimError: the newest belongs to another experiment, or to other data.
        """
        found = self._checkpoints.newest(self._pass_over, self._check)
        course = Course()
        if found:
            course = Course.from_json(found.course)
            for copies, value, is_seed in zip(self._variables, found.variables, self._seeds, strict=True):
                # The chief's: other replicas go on dropping other units than it does.
                mine = value + self._context.replica if is_seed else value
                for copy in copies:
                    copy.assign(mine.astype(value.dtype))
            self._saved_step = course.counts.last_version
        if self._writes:
            self._tell_of_restoring(found.file.name if found else None, found.saved_unix_s if found else None, course)
        return course

    def _pass_over(self, file: Path, why: str) -> None:
        if self._writes:
            tell("checkpoint_damaged", file=file.name, why=why)
            self._checkpoints.put_aside(file)

    def _check(self, found: Checkpoint) -> None:
        """Look whether a checkpoint is one of this experiment's, and complete; leave its course without the rest.

        Raises:
            FacesimError: it is of another experiment, or of other data.
            ValueError: it is damaged.
        """
        experiment, data = found.course.pop("job")["experiment"], found.course.pop("data")
        mine = self._context.experiment.model_dump()
        others = [name for name in mine if experiment.get(name) != mine[name]]
        if others or data != self._context.data.directory.name:
            what = ", ".join(f"{name} {experiment.get(name)!r}" for name in others) or f"data {data}"
            raise FacesimError(
                f"the checkpoint {found.file} is of another experiment: it has {what}; name another folder"
            )
        Course.from_json(found.course)
        shapes = [value.shape for value in found.variables]
        if shapes != self._shapes:
            raise ValueError(f"it has {len(shapes)} variables, the network {len(self._shapes)}, or of other shapes")

    def _tell_of_restoring(self, file: str | None, saved_unix_s: float | None, course: Course) -> None:
        """Tell from where training goes on, and what was lost: what an earlier process recorded beyond that."""
        before = self._context.recorded_before
        if file is None and not before:
            return
        examples, seconds = course.counts.examples, 0.0
        reached, until = before[-1] if before else (examples, None)
        if reached > examples:
            seconds = until - (saved_unix_s or before[0][1])
        lost = max(0, int(reached) - examples)
        tell(
            "restored", file=file, step=course.counts.last_version, examples=examples, epoch=course.epoch,
            lost_examples=lost, lost_s=max(0.0, seconds),
        )  # fmt: skip


def _copies(variable: keras.Variable) -> list[tf.Variable]:
    """The TensorFlow variables behind a Keras variable: one, or, of a mirrored one, each replica's here."""
    return list(getattr(variable.value, "values", (variable.value,)))
