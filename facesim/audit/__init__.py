"""Two lines for a training script of your own, which `facesim audit -- COMMAND` watches from outside.

    facesim.audit.step(examples=indices)   # after every step
    facesim.audit.parameters(model)        # when the training is over

They report to the audit what cannot be seen from outside: which examples a process trained on, and whether all
processes ended with the same parameters. In a script that no audit watches they do nothing, and whatever they are
given, they end no training: what cannot be reported is not known then. They import no framework.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: The variable with the audit's folder for the reports of processes, a file each.
FOLDER = "FACESIM_AUDIT_FOLDER"

_FLUSH_S = 0.5
#: So many examples are distinguished; later ones are only counted.
_MOST_IDENTITIES = 1_000_000


def step(examples: Any = 0) -> None:
    """Say that this process has made a step, on these examples.

    Args:
        examples: best the numbers (or names) of the examples, one each; or the batch itself, as it was read, before
            anything random was done to it: (n, ...); or how many there were, which says nothing about which.
    """
    with _never_ending_the_training("step"):
        reporter = _reporter()
        if reporter:
            reporter.step(examples)


def parameters(model: Any) -> None:
    """Say which parameters this process has now: of a PyTorch module, a Keras model, or arrays.

    To be called when the training is over, and as often before as wanted.
    """
    with _never_ending_the_training("parameters"):
        reporter = _reporter()
        if reporter:
            reporter.parameters(model)


@contextmanager
def _never_ending_the_training(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the user's objects raise
        _say(f"{name} was given what it cannot report", f"{type(error).__name__}: {error}")


def _say(what: str, why: str) -> None:
    """Tell the user once what is not reported."""
    if what not in _said:
        _said.add(what)
        with suppress(OSError, ValueError):  # standard error is closed
            print(f"facesim.audit: {what}: {why}", file=sys.stderr)


_said: set[str] = set()


class _Reporter:
    """Writes this process' reports to a file of its own, a JSON object a line."""

    def __init__(self, folder: str):
        self.pid = os.getpid()
        self._file = os.path.join(folder, f"{self.pid}.jsonl")
        self._unwritten: list[str] = []
        self._written_s = time.monotonic()
        self._seen: set[str] = set()
        self._again = False
        atexit.register(self.flush)

    def step(self, examples: Any) -> None:
        try:
            count, identities, hashed = _identities(examples)
        except Exception:
            self._write({"step": 0})  # it was made, on what is not known
            raise
        report: dict[str, Any] = {"step": count}
        if identities is not None:
            report["hashed"] = hashed
            report["repeated"] = sum(identity in self._seen for identity in identities)
            if not self._again and len(self._seen) < _MOST_IDENTITIES:
                report["first"] = self._until_one_comes_again(identities)
        self._write(report)

    def _until_one_comes_again(self, identities: list[str]) -> list[str]:
        """Those before the first that this process had already: they end its first pass over what it trains on."""
        for place, identity in enumerate(identities):
            if identity in self._seen:
                self._again = True
                return identities[:place]
            self._seen.add(identity)
        return identities

    def parameters(self, model: Any) -> None:
        values = list(_parameters_of(model))
        if _are_wrapped_in_parts(model) or any(map(_is_part, values)):
            self._write({"holds_part": True})
        elif values:
            digest, size = hashlib.sha256(), 0
            for value in values:
                array = _as_array(value)
                if array.dtype.hasobject:
                    raise TypeError(f"{type(value).__name__} is no model and no array")
                digest.update(array.tobytes())
                if getattr(value, "requires_grad", True):  # what is frozen need not be exchanged
                    size += array.nbytes
            self._write({"parameters_sha256": digest.hexdigest(), "parameter_bytes": size})
        self.flush()

    def _write(self, report: dict[str, Any]) -> None:
        self._unwritten.append(json.dumps({"clock_s": time.monotonic(), **report}))
        if time.monotonic() - self._written_s > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the reports to the file. What cannot be written is no reason to end a training."""
        if self._unwritten and os.getpid() == self.pid:
            try:
                with open(self._file, "a", encoding="utf-8") as file:
                    file.write("\n".join(self._unwritten) + "\n")
            except OSError as error:
                _say(f"cannot write {self._file}", str(error.strerror))
        self._unwritten.clear()
        self._written_s = time.monotonic()


_current: _Reporter | None = None


def _reporter() -> _Reporter | None:
    """This process', where an audit watches; one that was forked has its own."""
    global _current  # noqa: PLW0603
    folder = os.environ.get(FOLDER)
    if folder and (_current is None or _current.pid != os.getpid()):
        _current = _Reporter(folder)
    return _current if folder else None


def _identities(examples: Any) -> tuple[int, list[str] | None, bool]:
    """How many examples there are; what identifies each, if that is known; whether that is their content."""
    shape = getattr(examples, "shape", None)
    if isinstance(examples, int) or (shape is not None and len(shape) == 0):
        return int(examples), None, False
    if hasattr(examples, "keys"):  # a batch by its columns
        return max((len(column) for column in examples.values() if hasattr(column, "__len__")), default=0), None, False
    if (count := _count_by_columns(examples)) is not None:
        return count, None, False
    if shape is None and not hasattr(examples, "__len__"):
        raise TypeError(f"{type(examples).__name__} has no length")  # an iterator is the training's own
    rows = list(examples) if shape is None else _as_array(examples)
    hashed = len(rows) > 0 and len(getattr(rows[0], "shape", ())) > 0
    return len(rows), [_identity(row) for row in rows], hashed


def _count_by_columns(examples: Any) -> int | None:
    """How many examples there are in a list of columns, such as [images, labels]; None if it is none: what has the same
    shape everywhere are examples.
    """
    if not isinstance(examples, (list, tuple)):
        return None
    shapes = {
        (len(each),) if isinstance(each, (list, tuple)) else tuple(getattr(each, "shape", ())) for each in examples
    }
    lengths = {shape[:1] for shape in shapes}
    if len(shapes) < 2 or len(lengths) > 1:
        return None
    ((count,),) = lengths
    return count


def _identity(example: Any) -> str:
    """The number or name of an example, or the hash of its content."""
    if not hasattr(example, "shape"):
        return str(example)
    array = _as_array(example)
    return hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest() if array.ndim else str(array.item())


def _parameters_of(model: Any) -> Iterator[Any]:
    """Each parameter; moving statistics are left out, which replicas may have each."""
    if hasattr(model, "trainable_weights"):  # Keras, on whatever framework
        yield from model.trainable_weights
    elif hasattr(model, "parameters"):  # PyTorch
        yield from model.parameters()
    elif hasattr(model, "shape") or isinstance(model, str) or not hasattr(model, "__iter__"):
        yield model
    else:  # arrays, or such trees of them as JAX' libraries have
        for part in model.values() if hasattr(model, "values") else model:
            yield from _parameters_of(part)


def _are_wrapped_in_parts(model: Any) -> bool:
    """Whether PyTorch's first FSDP holds a part of the model in each process."""
    modules = model.modules() if hasattr(model, "modules") else ()
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in modules)


def _is_part(value: Any) -> bool:
    """Whether other processes have the rest of a parameter: PyTorch's DTensor, DeepSpeed's ZeRO-3, JAX."""
    if not getattr(value, "is_fully_addressable", True):  # JAX
        return not value.is_fully_replicated
    placements = getattr(value, "placements", ())
    return hasattr(value, "ds_id") or any(not placement.is_replicate() for placement in placements)


def _as_array(value: Any) -> Any:
    """A tensor of any framework as a NumPy array."""
    import numpy as np

    if hasattr(value, "to_local"):  # a DTensor that every process has all of
        value = value.to_local()
    if hasattr(value, "detach"):  # PyTorch; NumPy has no bfloat16
        value = value.detach().cpu()
        value = value.float() if value.dtype.is_floating_point else value
    elif hasattr(value, "numpy"):
        value = value.numpy()
    return np.asarray(value)
