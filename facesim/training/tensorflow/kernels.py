"""A process that measures the kernels which it was started with: training steps of the paper's network.

    python -m facesim.training.tensorflow.kernels PARENT THREADS PRECISION...

Its first line of output has, for each precision, the losses of the first steps, or null where these kernels cannot
train in it. For each line of input, a precision, it answers with the seconds that a step took. It ends with its input.
"""

import json
import sys
import time
from collections.abc import Callable

import facesim.training.tensorflow.preload  # noqa: F401  # isort: skip  before TensorFlow imports Keras
import keras
import numpy as np
import tensorflow as tf

from cluster.lifeline import end_with_parent
from facesim import models
from facesim.spec.experiment import Experiment, Precision
from facesim.training.keras.network import use_precision
from facesim.training.tensorflow.forward import forward_of
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.optimizer import FusedAdam
from facesim.training.tensorflow.step import compiled, training_step

#: Half of the default batch, as each of two workers has it, and the size and number of the default's people.
_BATCH, _SHAPE, _IDENTITIES = 16, (64, 64, 3), 40

#: Steps whose losses are compared; the first of them compiles.
_FIRST_STEPS = 2

#: For how long steps are repeated for one answer.
_ROUND_S = 0.2


def main(parent: int, threads: int, precisions: list[Precision]) -> None:
    end_with_parent(parent)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    steps = {precision: _step(precision) for precision in precisions}
    print(json.dumps({precision: _losses(step) for precision, step in steps.items()}), flush=True)
    for line in sys.stdin:
        print(_step_s(steps[line.strip()]), flush=True)


def _step(precision: Precision) -> Callable[[], float]:
    """A training step that returns the mean loss before it."""
    use_precision(precision)
    step = training_of("paper-cnn", _BATCH)
    return lambda: float(step().numpy()[0]) / _BATCH


def training_of(name: str, batch: int) -> Callable[[], tf.Tensor]:
    """A training step of a network on a batch of noise; it is compiled when it is called first."""
    keras.utils.set_random_seed(0)
    model = models.build(name, _SHAPE, _IDENTITIES)
    optimizer = FusedAdam(1e-4)
    optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    images = tf.constant(random.integers(0, 256, (batch, *_SHAPE), np.uint8))
    labels = tf.constant(random.integers(0, _IDENTITIES, batch), tf.int32)
    forward, loss = forward_of(model), loss_for(Experiment())

    @compiled
    def step() -> tf.Tensor:
        return training_step(forward, optimizer, loss, images, labels, tf.constant(0))

    return step


def _losses(step: Callable[[], float]) -> list[float] | None:
    try:
        return [step() for _ in range(_FIRST_STEPS)]
    except tf.errors.OpError:
        return None


def _step_s(step: Callable[[], float]) -> float:
    """Seconds of a step: the mean of those that began within `_ROUND_S`."""
    begin, done, now = time.perf_counter(), 0, 0.0
    while now < _ROUND_S:
        step()
        done, now = done + 1, time.perf_counter() - begin
    return now / done


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
