"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network.

All workers receive the same sum, so their parameters stay equal.
"""

from __future__ import annotations

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.tensorflow.collectives import by_ring
from facesim.training.tensorflow.connecting import connected_peers
from facesim.training.tensorflow.replicated import Replicated


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        strategy, summed = connected_peers(context.replica)
    with context.recorder.timed("build_s"):
        replicas = Replicated(context, strategy, summed, factors=by_ring(strategy))
    fit(context, replicas)
