"""How fast this machine is among others: by kernels of TensorFlow, as in the catalogue, whatever framework trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import facesim.training.tensorflow.preload  # noqa: F401  # isort: skip  before TensorFlow imports Keras
import tensorflow as tf

from facesim.profiling.stages import leave
from facesim.profiling.timing import median_s
from facesim.runs.directory import Run
from facesim.training.tensorflow import task

#: For how long a kernel is repeated.
_FOR_S = 0.8
_SGEMM = 1024
#: Images, height and width, channels in and out of the convolution.
_CONVOLUTION = (16, 32, 64, 64)


def measure(run_directory: str, threads: int, *_: str) -> None:
    """A chief that measures in place of training, on `threads` threads."""
    run = Run(Path(run_directory))
    task.prepare(run.task_directory("chief-0"), 0, threads)
    leave(run, kernels())


def kernels() -> dict[str, float]:
    """GFLOP/s of each kernel in this process, as `facesim.forecast.profile_data.Machine` has them."""
    return {"sgemm_gflops": _sgemm_gflops(), "convolution_gflops": _convolution_gflops()}


def _sgemm_gflops() -> float:
    """Of a product of two square float32 matrices."""
    left = tf.random.normal((_SGEMM, _SGEMM))
    return _gflops(lambda: tf.linalg.matmul(left, left), 2 * _SGEMM**3)


def _convolution_gflops() -> float:
    """Of a convolution with 3 x 3 kernels and padding, float32."""
    count, side, channels_in, channels_out = _CONVOLUTION
    images = tf.random.normal((count, side, side, channels_in))
    kernels = tf.random.normal((3, 3, channels_in, channels_out))
    convolution = partial(tf.nn.conv2d, images, kernels, strides=1, padding="SAME")
    return _gflops(convolution, 2 * count * side**2 * 9 * channels_in * channels_out)


def _gflops(operation: Callable[[], tf.Tensor], flops: float) -> float:
    function = tf.function(operation, autograph=False)
    return flops / median_s(lambda: function().numpy(), _FOR_S) / 1e9
