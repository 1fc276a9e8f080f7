"""Connecting a cluster, in bounded time: one that cannot connect fails and says why, in place of waiting for ever."""

from __future__ import annotations

from contextlib import AbstractContextManager

import tensorflow as tf

from facesim.training.peers import Peers, connecting_to_all
from facesim.training.tensorflow.collectives import Summing, sums_over


def connecting_to(resolver: tf.distribute.cluster_resolver.ClusterResolver, *roles: str) -> AbstractContextManager:
    """For as long as this task connects to the tasks of `roles`."""
    cluster = resolver.cluster_spec()
    addresses = [address for role in roles if role in cluster.jobs for address in cluster.job_tasks(role)]
    return connecting_to_all(addresses)


def use_gpu(number: int) -> None:
    """Compute on one GPU alone, if there are any: tasks of one host take turns on them."""
    if gpus := tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices(gpus[number % len(gpus)], "GPU")


def connected_peers(rank: int) -> tuple[tf.distribute.MultiWorkerMirroredStrategy, Summing]:
    """The strategy of all peers, of which this is number `rank`, and how they sum."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    use_gpu(Peers.of_this_cluster().device(rank, len(tf.config.list_physical_devices("GPU"))))
    with connecting_to(resolver, "chief", "worker"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return strategy, sums_over(strategy, rank)
