"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network.

All workers receive the same sum, so their parameters stay equal.
"""

from __future__ import annotations

import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.tensorflow.collectives import Summing, by_ring, summing_arrays
from facesim.training.tensorflow.connecting import connected_peers
from facesim.training.tensorflow.replicated import Replicated


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        strategy, summed = connected_peers(context.replica)
    with context.recorder.timed("build_s"):
        replica = _Peer(context, strategy, summed)
    fit(context, replica)


class _Peer(Replicated):
    """This process' replica, one of several."""

    def __init__(self, context: Context, strategy: tf.distribute.MultiWorkerMirroredStrategy, summed: Summing):
        super().__init__(context, strategy, summed, factors=by_ring(strategy))
        self.sum_of_all = summing_arrays(strategy, summed)
