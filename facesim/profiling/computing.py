"""What one process alone shows: its step at several batches, what surrounds training, and kernels for comparison."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facesim.training.tensorflow import preload  # isort: skip  before TensorFlow imports Keras
import numpy as np
import tensorflow as tf

from facesim.profiling import fits
from facesim.profiling.parts import median_s, timed
from facesim.profiling.stages import leave
from facesim.runs.directory import Run
from facesim.training.checkpoint_manager import CheckpointManager
from facesim.training.context import Context, open_context
from facesim.training.loop import save_network
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.collectives import summed_by_ring
from facesim.training.tensorflow.forward import forward_of, pulled, sent_dtypes
from facesim.training.tensorflow.gradients import values_of, with_values
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import index_batch
from facesim.training.tensorflow.replicated import Replicated
from facesim.training.tensorflow.single import Alone
from facesim.training.tensorflow.step import compiled, compute_step
from facesim.training.tensorflow.task import work_in
from facesim.training.train_state import TrainState

#: For how long a step, and a part of it, is repeated.
_STEPS_S, _PARTS_S = 2.5, 0.8
#: How often what overlaps is measured.
_OVERLAPS = 3
#: Images that one is evaluated from.
_EVALUATED = 256
_SGEMM = 1024
#: Images, height and width, channels in and out of the convolution.
_CONVOLUTION = (16, 32, 64, 64)


def measure(
    run_directory: str, threads: int, data_directory: str, checkpoint_directory: str, batches: list[int], whole: bool
) -> None:
    """A chief that measures in place of training: a step at each of `batches`; the rest only if it is to measure the
    `whole`.
    """
    run = Run(Path(run_directory))
    work_in(run.task_directory("chief-0"), 0)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    context = open_context(run, Path(data_directory), Path(checkpoint_directory), "chief", 0, 0)
    with context.recorder.timed("build_s"):
        replica = Alone(context)
    begin = time.perf_counter()
    (first,) = replica.train([_examples(context, batches[-1])])
    figures: dict[str, Any] = {"first_step_s": time.perf_counter() - begin}
    figures["steps_s"] = [_steps(context, replica, batch) for batch in batches]
    if whole:
        figures |= {"parts_s": [_parts(context, replica, batch) for batch in batches]}
        figures |= {"optimizer_s": _optimizer_s(context, replica), "variables": _variables(replica)}
        figures |= {"ring_overlap": _ring_overlap(context, batches[-1])}
        figures |= {"sgemm_gflops": _sgemm_gflops(), "convolution_gflops": _convolution_gflops()}
        figures |= _surroundings(context, replica, first)
        figures |= {"examples": len(context.train_indices), "held_out": len(context.held_out_indices)}
    figures["load_s"] = preload.LOADING_S
    figures["start_s"] = context.recorder.phases["startup_s"] + context.recorder.phases["build_s"]
    leave(run, figures)


def _examples(context: Context, batch: int) -> np.ndarray:
    """The indices of a batch, of which some come again where there are too few."""
    return np.resize(context.train_indices, batch)


def _steps(context: Context, replica: Alone, batch: int) -> list[float]:
    indices = _examples(context, batch)

    def step() -> None:
        (_,) = replica.train([indices])

    for _ in range(3):
        step()
    return timed(step, _STEPS_S, least=8)


def _parts(context: Context, replica: Alone, batch: int) -> dict[str, float]:
    """Seconds of the forward pass, and of the forward and the backward pass, of a batch."""
    forward, loss_of, optimizer = forward_of(replica.model), loss_for(context.experiment), replica.optimizer
    ((indices, classes),) = replica.with_classes([_examples(context, batch)])
    _, labels, *classes = index_batch(indices, context.data.labels, *classes)
    images = tf.constant(context.data.images[indices])

    @compiled
    def forwards(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(loss_of(labels, forward(images, *classes)[0]))

    @compiled
    def both(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        # The gradients are returned because a backward pass that nobody uses would be left out.
        return compute_step(forward, optimizer, loss_of, images, labels, tf.constant(0), classes=classes)

    return {
        "forward_s": median_s(lambda: forwards(images, labels).numpy(), _PARTS_S),
        "both_s": median_s(lambda: both(images, labels)[0].numpy(), _PARTS_S),  # noqa: PLW0108  calls both each time
    }


class _Link:
    """In a ring's place, its link of `bytes_per_s`: a sum waits for as long as sending takes, and does not work."""

    def __init__(self) -> None:
        self.bytes_per_s, self.places = math.inf, set[int]()

    def sum(self, array: np.ndarray, place: int = 0) -> np.ndarray:
        self.places.add(place)
        time.sleep(array.nbytes / self.bytes_per_s)
        return array


def _ring_overlap(context: Context, batch: int) -> float:
    """How sums over a network overlap with the backward pass: the p of `laws.allreduce_step_s`, from a real step whose
    sums take as long as the two thirds of it that are its backward pass. The median of a few measurements.
    """
    link, indices = _Link(), _examples(context, batch)
    replicas = Replicated(context, tf.distribute.get_strategy(), summed_by_ring(link))

    def step() -> None:
        (_,) = replicas.train([indices])

    step()
    if len(link.places) == 1:
        return 1.0  # all is summed at once, when the last gradient is there

    def once() -> float:
        link.bytes_per_s = math.inf
        step_s = median_s(step, _PARTS_S)
        exchange_s = step_s * 2 / 3
        link.bytes_per_s = replicas.exchange_bytes / exchange_s
        return fits.overlap(median_s(step, _PARTS_S), step_s, 0.0, exchange_s)

    return statistics.median(once() for _ in range(_OVERLAPS))


def _optimizer_s(context: Context, replica: Alone) -> float:
    variables = replica.model.trainable_variables
    ((_, classes),) = replica.with_classes([_examples(context, context.experiment.batch)])
    gradients = []
    for variable, read in zip(variables, pulled(replica.model, *map(tf.constant, classes)), strict=True):
        gradients.append(with_values(read, tf.fill(values_of(read).shape, tf.cast(1e-12, variable.dtype))))

    @tf.function(autograph=False)
    def apply() -> tf.Tensor:
        return replica.optimizer.apply(gradients, variables)

    return median_s(lambda: apply().numpy(), _PARTS_S)


def _variables(replica: Alone) -> list[dict[str, Any]]:
    """The model's variables in order, as `facesim.forecast.profile_data.Variable`; all lie on the one server."""
    model = replica.model
    sent = {id(variable): dtype.size for variable, dtype in zip(model.trainable_variables, sent_dtypes(model))}
    variables, kernel = [], model.layers[-1].kernel
    for variable in model.variables:
        size, each = int(np.prod(variable.shape)), tf.as_dtype(variable.dtype).size
        variables.append(
            {
                "name": variable.path,
                "shape": list(variable.shape),
                "held_bytes": size * each,
                "sent_bytes": size * sent.get(id(variable), each) - (replica.unsent_bytes if variable is kernel else 0),
                "trainable": id(variable) in sent,
                "server": 0,
            }
        )
    return variables


def _surroundings(context: Context, replica: Alone, first: StepResult) -> dict[str, float]:
    """Seconds of what surrounds training: evaluating an image, a checkpoint, writing the model."""
    indices, evaluate = _examples(context, _EVALUATED), replica.evaluator(context.experiment.mirror_test)

    def evaluating() -> None:
        evaluate(context.data.images, context.data.labels, indices)

    first_s = timed(evaluating, 0.0, least=1)[0]
    evaluation_s = median_s(evaluating, _PARTS_S, warm_up=0)
    state, checkpoints = TrainState(), CheckpointManager(context, replica, writes=True)
    state.add(first)
    checkpoint_s = median_s(lambda: checkpoints.save(state), _PARTS_S, warm_up=1)
    save_s = median_s(lambda: save_network(replica, context.run.model_file), _PARTS_S, warm_up=1)
    return {
        "first_evaluation_s": max(0.0, first_s - evaluation_s),
        "evaluation_image_s": evaluation_s / len(indices),
        "checkpoint_s": checkpoint_s,
        "save_s": save_s,
    }


def _sgemm_gflops() -> float:
    """Of a product of two square float32 matrices."""
    left = tf.random.normal((_SGEMM, _SGEMM))
    return _gflops(lambda: tf.linalg.matmul(left, left), 2 * _SGEMM**3)


def _convolution_gflops() -> float:
    """Of a convolution with 3 x 3 kernels and padding, float32."""
    count, side, channels_in, channels_out = _CONVOLUTION
    images = tf.random.normal((count, side, side, channels_in))
    kernels = tf.random.normal((3, 3, channels_in, channels_out))
    flops = 2 * count * side**2 * 9 * channels_in * channels_out
    return _gflops(lambda: tf.nn.conv2d(images, kernels, strides=1, padding="SAME"), flops)


def _gflops(operation: Callable[[], tf.Tensor], flops: float) -> float:
    function = tf.function(operation, autograph=False)
    return flops / median_s(lambda: function().numpy(), _PARTS_S) / 1e9
