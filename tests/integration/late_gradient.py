"""A small cluster, forked from one process: prints the numbers that two workers' updates got, a line each.

    python -m tests.integration.late_gradient SIZE REAL REAL REAL SEEN SEEN

SIZE is how many numbers their variable has. REAL are ports for a parameter server and two workers; all others know the
workers by the ports SEEN. One worker begins an update; the other makes its own when a line is read.
"""

from __future__ import annotations

import os
import sys

import facesim.training.tensorflow.preload  # noqa: F401  # isort: skip  before TensorFlow imports Keras
import keras
import numpy as np
import tensorflow as tf

from facesim.training.tensorflow.optimizer import FusedAdam


def main(size: int, *ports: int) -> None:
    server, *addresses = (f"127.0.0.1:{port}" for port in ports)
    cluster = tf.train.ClusterSpec({"ps": [server], "worker": addresses[:2]})
    for role, index in (("ps", 0), ("worker", 0), ("worker", 1)):
        if not os.fork():
            config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=2)
            tf.distribute.Server(cluster, job_name=role, task_index=index, config=config).join()
    known = tf.train.ClusterSpec({"ps": [server], "worker": addresses[2:]})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(known, rpc_layer="grpc")
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        variable, optimizer = keras.Variable(np.zeros(size, np.float32)), FusedAdam(0.1)
        optimizer.build([variable])

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        return optimizer.apply([tf.fill([size], tf.random.uniform([]))], [variable])

    late = coordinator.schedule(step)
    sys.stdin.readline()
    print(int(coordinator.schedule(step).fetch()), flush=True)
    print(int(late.fetch()), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
