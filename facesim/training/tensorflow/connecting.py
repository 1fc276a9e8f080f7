"""Connecting a cluster, in bounded time: one that cannot connect fails and says why, in place of waiting for ever."""

from __future__ import annotations

from contextlib import AbstractContextManager

import tensorflow as tf

from cluster.task import connecting
from facesim.metrics.host_identity import has_own_network
from facesim.training.tensorflow.collectives import Summing, sums_over

#: Tasks of one machine are started together; hosts may come minutes after one another.
_WITHIN_S, _HOSTED_WITHIN_S = 120.0, 600.0


def connecting_to(resolver: tf.distribute.cluster_resolver.ClusterResolver, *roles: str) -> AbstractContextManager:
    """For as long as this task connects to the tasks of `roles`."""
    cluster = resolver.cluster_spec()
    addresses = [address for role in roles if role in cluster.jobs for address in cluster.job_tasks(role)]
    return connecting(addresses, _HOSTED_WITHIN_S if has_own_network() else _WITHIN_S)


def connected_peers(rank: int) -> tuple[tf.distribute.MultiWorkerMirroredStrategy, Summing]:
    """The strategy of all peers, of which this is number `rank`, and how they sum."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    with connecting_to(resolver, "chief", "worker"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return strategy, sums_over(strategy, rank)
