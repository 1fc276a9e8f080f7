"""`mirrored`: one process with a replica on each of its devices; each step sums their gradients.

Without GPUs the CPU is divided into as many logical devices as workers were asked for, which gains no speed: it is the
same training, to test and to learn with.
"""

from __future__ import annotations

import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.tensorflow.collectives import summed_by_strategy
from facesim.training.tensorflow.replicated import Replicated
from facesim.util.errors import FacesimError
from facesim.util.words import count_text


def train(context: Context) -> None:
    with context.recorder.timed("build_s"):
        strategy = tf.distribute.MirroredStrategy(_devices(context.job.shape.workers))
        replicas = Replicated(context, strategy, summed_by_strategy, factors=False)
    fit(context, replicas)


def _devices(replicas: int) -> list[str]:
    if gpus := tf.config.list_physical_devices("GPU"):
        if replicas > len(gpus):
            raise FacesimError(
                f"mirrored has {count_text(replicas, 'replica')} (--workers) and this host "
                f"{count_text(len(gpus), 'GPU')}: give --workers {len(gpus)} or less, or instances with more GPUs"
            )
        tf.config.set_visible_devices(gpus[:replicas], "GPU")
        return [f"GPU:{index}" for index in range(replicas)]
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    return [f"CPU:{index}" for index in range(replicas)]
