"""`independent`: every worker has TF_CONFIG and ignores it, and trains the whole experiment by itself.

This is what the paper ran and took for a cluster: a script that calls `fit` and never builds a `tf.distribute`
strategy. It is kept so that its cost can be shown, and so that the sync audit can be seen to notice.
"""

from __future__ import annotations

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.peers import Peers, number_on_host
from facesim.training.tensorflow.connecting import use_gpu
from facesim.training.tensorflow.single import Alone


def train(context: Context) -> None:
    context.seed += 1_000_003 * context.replica  # nothing joins them, so nothing makes them start alike either
    context.checkpoints /= context.task  # each goes on from its own
    use_gpu(number_on_host(Peers.of_this_cluster().addresses, context.replica))
    with context.recorder.timed("build_s"):
        replica = Alone(context)
    fit(context, replica, everyone_evaluates=True)
