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
import re
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
            anything random was done to it: images (n, ...), or columns such as [images, labels]; or how many there
            were, which says nothing about which.
    """
    with _never_ending_the_training("step"):
        reporter = _reporter()
        if reporter:
            reporter.step(examples)


def parameters(model: Any) -> None:
    """Say which parameters this process has now: of a PyTorch module, a Keras model, or arrays, also in mappings such
    as a state_dict(), of which moving statistics are left out by their names.

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
        from facesim.audit.place import own_place

        self.pid = os.getpid()
        self._about: dict[str, Any] = {"process": {"command": " ".join(sys.orig_argv), "place": own_place()}}
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
            digest, sizes = hashlib.sha256(), []
            for value in values:
                array = _as_array(value)
                if array.dtype.hasobject:
                    raise TypeError(f"{type(value).__name__} is no model and no array")
                digest.update(array.tobytes())
                sizes.append(array.nbytes)
            # What is frozen need not be exchanged; in a state_dict() everything is detached, and nothing says what is.
            trained = [size for value, size in zip(values, sizes) if getattr(value, "requires_grad", True)]
            self._write({"parameters_sha256": digest.hexdigest(), "parameter_bytes": sum(trained or sizes)})
        self.flush()

    def _write(self, report: dict[str, Any]) -> None:
        self._unwritten.append(json.dumps({"clock_s": time.monotonic(), **report, **self._about}))
        self._about = {}  # said once
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
    if isinstance(examples, (str, bytes)):  # a name
        return 1, [str(examples)], False
    shape = getattr(examples, "shape", None)
    if isinstance(examples, int) or (shape is not None and len(shape) == 0):
        return int(examples), None, False
    if columns := _columns(examples):
        # All of them together: labels alone, or a mask, are the same for many examples.
        rows = [*zip(*map(_rows, columns))]
        return len(rows), [_identity(row) for row in rows], True
    if hasattr(examples, "keys"):  # which of them has the examples is not known
        return max((len(column) for column in examples.values() if hasattr(column, "__len__")), default=0), None, False
    if shape is None and not hasattr(examples, "__len__"):
        raise TypeError(f"{type(examples).__name__} has no length")  # an iterator is the training's own
    rows = _rows(examples)
    return len(rows), [_identity(row) for row in rows], len(rows) > 0 and _is_content(rows[0])


def _columns(examples: Any) -> list[Any]:
    """The columns of a batch such as [images, labels], or of one that has names for them; none where it has no columns,
    or may have none: what has as many dimensions everywhere are examples, such as images of different sizes.
    """
    columns = _parts(examples)
    shapes = [_shape(column) for column in columns]
    lengths, dimensions = {shape[:1] for shape in shapes}, {len(shape) for shape in shapes}
    return columns if len(dimensions) > 1 and len(lengths) == 1 else []


def _parts(value: Any) -> list[Any]:
    """What a list holds, or a mapping under whatever names; nothing of anything else."""
    if hasattr(value, "keys") and not hasattr(value, "shape"):
        return [*value.values()]
    return [*value] if isinstance(value, (list, tuple)) else []


def _shape(value: Any) -> tuple[int, ...]:
    """That of an array; of a list, that of its first item below its length; none of anything else."""
    if isinstance(value, (list, tuple)):
        return (len(value), *(_shape(value[0]) if value else ()))
    return tuple(getattr(value, "shape", ()))


def _rows(values: Any) -> Any:
    return _as_array(values) if hasattr(values, "shape") else list(values)


def _is_content(example: Any) -> bool:
    """Whether an example is known by what it holds, as images are, and not by its number or name."""
    return len(getattr(example, "shape", ())) > 0 or _is_picture(example) or any(map(_is_content, _parts(example)))


def _is_picture(example: Any) -> bool:
    """Whether it is one of Pillow's, which are arrays without a shape."""
    return not hasattr(example, "shape") and hasattr(type(example), "__array_interface__")


def _identity(example: Any) -> str:
    """The number or name of an example, or the hash of its content; of what has several parts, those of each."""
    if parts := _parts(example):
        return ":".join(map(_identity, parts))
    if _is_content(example):
        return hashlib.blake2b(_as_array(example).tobytes(), digest_size=8).hexdigest()
    return str(_as_array(example).item() if hasattr(example, "shape") else example)


#: What layers keep of the examples that they saw, replicas each their own: as PyTorch, Keras and Flax call it.
_MOVING_STATISTICS = frozenset(
    ("running_mean", "running_var", "num_batches_tracked", "moving_mean", "moving_variance", "batch_stats")
)


def _parameters_of(model: Any) -> Iterator[Any]:
    """Each parameter; moving statistics are left out, which replicas may have each."""
    if hasattr(model, "trainable_weights"):  # Keras, on whatever framework
        yield from model.trainable_weights
    elif hasattr(model, "parameters"):  # PyTorch
        yield from model.parameters()
    elif hasattr(model, "shape") or isinstance(model, str) or not hasattr(model, "__iter__"):
        yield model
    elif hasattr(model, "items"):  # a state_dict(), or such a tree of arrays as JAX' libraries have
        for name, part in model.items():
            if _MOVING_STATISTICS.isdisjoint(re.findall(r"\w+", str(name))):  # module.norm.running_mean
                yield from _parameters_of(part)
    else:
        for part in model:
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
