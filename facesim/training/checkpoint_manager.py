"""When a training task writes checkpoints, what goes into them, and how it continues from the newest."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.task import tell
from facesim.training.agreement import of_first
from facesim.training.checkpoints import Checkpoint, Checkpoints, read
from facesim.training.protocols import Replicas
from facesim.training.train_state import TrainState
from facesim.util.errors import FacesimError
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.training.context import Context

_SHA256 = re.compile("[0-9a-f]{64}")


class CheckpointManager:
    """Keeps the checkpoints of one training task; one that does not write only reads them."""

    def __init__(self, context: Context, replicas: Replicas, *, writes: bool):
        self._context, self._replicas = context, replicas
        self._settings = context.job.recovery
        context.checkpoints.mkdir(parents=True, exist_ok=True)
        self._checkpoints = Checkpoints(context.checkpoints, self._settings.checkpoint_keep)
        self._writes = writes
        self._saved_s, self._saved_step = time.monotonic(), 0

    def due(self, step: int) -> bool:
        """Whether one should be written when update `step` has been made."""
        settings = self._settings
        return self._writes and bool(
            (settings.checkpoint_steps and step - self._saved_step >= settings.checkpoint_steps)
            or (settings.checkpoint_s and time.monotonic() - self._saved_s >= settings.checkpoint_s)
        )

    def save(self, state: TrainState) -> None:
        """Write one. No update may be under way. A disk that is full is reported and does not end the training."""
        step = state.counts.last_version
        if not self._writes or step == 0:
            return
        begin = time.perf_counter()
        with self._context.recorder.timed("checkpoint_s"):
            described = {
                "job": self._context.job.model_dump(),
                "data": self._context.data.sha256,
                **state.to_json(),
            }
            values = self._replicas.variables()
            try:
                file = self._checkpoints.save(step, values, described)
            except OSError as error:
                tell("checkpoint_failed", step=step, why=str(error))
            else:
                seconds, size = time.perf_counter() - begin, file.stat().st_size
                tell(
                    "checkpoint",
                    file=file.name,
                    step=step,
                    examples=state.counts.examples,
                    seconds=seconds,
                    bytes=size,
                )
        self._saved_s, self._saved_step = time.monotonic(), step

    def continued(self) -> TrainState:
        """The state of the newest whole checkpoint, with its values in the replicas; a new state if there is none.

        Of several processes each takes that of the first, which alone writes them, perhaps where others cannot read.

        Raises:
            FacesimError: the newest belongs to another experiment, or to other data.
        """
        checkpoint = self._of_first(self._checkpoints.newest(self._pass_over, self._check))
        state = TrainState()
        if checkpoint:
            state = TrainState.from_json(checkpoint.state)
            self._replicas.assign(checkpoint.variables)
            self._saved_step = state.counts.last_version
        if self._writes:
            self._record_restoring(checkpoint, state)
        return state

    def _of_first(self, mine: Checkpoint | None) -> Checkpoint | None:
        """The first process's newest checkpoint: that of this one, unless they have different ones."""
        sum_of_all = getattr(self._replicas, "sum_of_all", None)
        if sum_of_all is None:
            return mine
        held = mine.file.read_bytes() if mine else b""
        content = of_first(held, self._context.replica, self._context.job.replicas, sum_of_all)
        if content == held:
            return mine
        if not content:
            return None
        checkpoint = read(io.BytesIO(content), Path("of the first worker"))
        self._check(checkpoint)
        return checkpoint

    def _pass_over(self, file: Path, why: str) -> None:
        if self._writes:
            tell("checkpoint_damaged", file=file.name, why=why)
            self._checkpoints.put_aside(file)

    def _check(self, checkpoint: Checkpoint) -> None:
        """Look whether a checkpoint is one of this experiment's, and complete; leave its state without the rest.

        Raises:
            FacesimError: it is of another experiment, or of other data.
            ValueError: it is damaged.
        """
        experiment, data = checkpoint.state.pop("job")["experiment"], checkpoint.state.pop("data")
        # An earlier version's experiment lacks the options that there were not yet.
        due = {name: value for name, value in self._context.experiment.model_dump().items() if name in experiment}
        if others := [name for name in due if experiment[name] != due[name]]:
            what = ", ".join(f"{name} {experiment[name]!r}" for name in others)
            raise FacesimError(
                f"the checkpoint {checkpoint.file} is of another experiment: it has {what}; name another folder"
            )
        # An earlier version's has no SHA-256 but the name of a folder of the cache, which is not of the content alone.
        if _SHA256.fullmatch(data) and data != self._context.data.sha256:
            raise FacesimError(
                f"the checkpoint {checkpoint.file} is of other data: the images and labels that it was trained on have "
                f"the SHA-256 {data}, those that there are now {self._context.data.sha256}; put back the data as they "
                f"were, or start a new run"
            )
        TrainState.from_json(checkpoint.state)
        shapes, held = (
            [value.shape for value in values] for values in (checkpoint.variables, self._replicas.variables())
        )
        if shapes != held:
            raise ValueError(
                f"it has {count_text(len(shapes), 'variable')}, the network {len(held)}, or of other shapes"
            )

    def _record_restoring(self, checkpoint: Checkpoint | None, state: TrainState) -> None:
        """Record from where training continues, and what was lost: what an earlier process recorded beyond that."""
        context, examples = self._context, state.counts.examples
        if checkpoint is None and not context.started_before:
            return
        lost, lost_s = 0, 0.0
        if context.recorded_before:
            reached, until_unix_s = context.recorded_before[-1]
            lost = max(0, int(reached) - examples)
        if lost:
            # It was trained on since the checkpoint, or since an earlier process continued from that.
            begins = [when for count, when in context.recorded_before if count <= examples]
            begins += [checkpoint.saved_unix_s] if checkpoint else []
            lost_s = max(0.0, until_unix_s - max(begins, default=context.recorded_before[0][1]))
        tell(
            "restored", file=checkpoint.file.name if checkpoint else None, step=state.counts.last_version,
            examples=examples, epoch=state.epoch, lost_examples=lost, lost_s=lost_s,
        )  # fmt: skip
        # The next process, which may come before this one has recorded anything, finds the same work lost otherwise.
        context.recorder.write({"examples": examples, "updates": state.counts.updates})
