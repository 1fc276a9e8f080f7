"""What a framework provides so that jobs can be trained with it: replicas, an evaluator, the input.

The loop, the batches, the checkpoints and what is counted (`facesim.training`) know nothing else of it: what passes
between them are NumPy arrays. `facesim.training.tensorflow` is the one that comes with facesim; another stands beside
it, and is named by the `trainer` of its strategies (`facesim.spec.strategies`), a function that builds `Replicas` from
a `facesim.training.context.Context` and calls `facesim.training.loop.fit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class StepResult(NamedTuple):
    """What one worker did for one update: sums over its examples, who it was, the parameter versions at both ends.

    `batch` is its place among the batches that `train` was given, where that is not the place of the result.
    """

    loss_sum: float
    correct: int
    examples: int
    worker: int
    version_read: int
    version: int
    batch: int | None = None

    @property
    def staleness(self) -> int:
        """Updates by others that came between reading the parameters and applying the gradient."""
        return self.version - self.version_read

    @classmethod
    def unpack(cls, packed: np.ndarray, batch: int | None = None) -> StepResult:
        """From one array, float64 (6,), in the order of the fields."""
        return cls(float(packed[0]), *(int(value) for value in packed[1:]), batch=batch)


class Evaluation(NamedTuple):
    """Accuracy, 0-1, and mean cross-entropy, in evaluation mode (no dropout, stored batch statistics)."""

    accuracy: float
    loss: float


class Evaluator(Protocol):
    """Evaluates the network of some replicas, with the parameters that they have when it is called."""

    def __call__(self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Evaluation:
        """Evaluate on `images[indices]`, uint8 (n, height, width, channels), with `labels[indices]`, int32 (n,)."""


class Replicas(Protocol):
    """What a strategy provides: replicas of a network that train on batches."""

    #: After how many of its steps a worker exchanges parameters or gradients with others; None if it never does.
    steps_per_exchange: int | None

    #: Bytes of a worker's parameters or gradients when they are exchanged; on parameter servers, what it pulls.
    exchange_bytes: int

    #: Accelerators that the replicas compute on, by the framework's names; empty on CPUs alone.
    devices: list[str]

    #: How many parameters the network has, and their bytes.
    parameters: int
    parameter_bytes: int

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        """Make one update from each batch of example indices; yield what each worker did for it, when it is known.

        `batches` is asked for the next one only when it is wanted, and may end at any multiple of
        `steps_per_exchange`. When this is through, no update is under way.
        """

    # Replicas of several processes, none of which outlives the others, also have
    #     def sum_of_all(self, array: np.ndarray) -> np.ndarray
    # the sum of the arrays, float32 (n,), of all of them, each of which calls it.

    def variables(self) -> list[np.ndarray]:
        """The values of the network's and then the optimiser's variables, always in the same order: with them any
        strategy of the framework can continue where another stopped.
        """

    def assign(self, values: list[np.ndarray]) -> None:
        """Take the values that `variables` gave. The states of random generators are those of the first replica; the
        others make theirs different from it.
        """

    def evaluator(self, mirror: bool) -> Evaluator:
        """What evaluates the network; with `mirror`, on each image and its mirror image."""

    def copies(self) -> Iterator[list[np.ndarray]]:
        """The parameters and moving statistics of the network, once for each replica that this process holds."""

    def save(self, file: Path) -> None:
        """Write the network to a .keras file, which every part of facesim reads.

        Raises:
            OSError: it could not be written.
        """


class InputPipeline(Protocol):
    """The prepared images as a replica reaches them; made from `PreparedData` and the experiment's `cache`.

    Elements, indices and images are the framework's own: what compiled functions pass on.
    """

    def dataset(self) -> Any:
        """What a replica iterates over: for ever the same element, which it hands to `take`."""

    def take(self, element: Any, indices: Any) -> tuple[Any, Any]:
        """The images of `indices`, int64 (n,), uint8 (n, height, width, channels), and the number of the worker that
        takes them.
        """
