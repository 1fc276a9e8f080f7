"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network."""

from __future__ import annotations

import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.replicated import Replicated


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with context.recorder.timed("build_s"):
        replicas = Replicated(context, strategy)
    fit(context, replicas)
