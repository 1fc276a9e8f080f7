"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network.

With `--precision bfloat16`, which computes large gradients in that type, they are sent in it, too: half the bytes. All
workers receive the same sum, so their parameters stay equal.
"""

from __future__ import annotations

import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.replicated import Replicated


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with context.recorder.timed("build_s"):
        wire = tf.bfloat16 if context.experiment.precision == "bfloat16" else tf.float32
        replicas = Replicated(context, strategy, wire)
    fit(context, replicas)
