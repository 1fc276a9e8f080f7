"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network.

All workers receive the same sum, so their parameters stay equal. GPUs sum with TensorFlow's collectives (NCCL);
for CPUs these are slow, and a ring of our own takes their place.
"""

from __future__ import annotations

import secrets
from functools import partial

import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.replicated import Replicated, Summing, buckets, summed_by_strategy
from facesim.training.ring import TOKEN_BYTES, Listener, Ring


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        on_cpus = not tf.config.list_physical_devices("GPU") and strategy.num_replicas_in_sync > 1
        summed = _summed_by(_ring(context.replica, strategy)) if on_cpus else summed_by_strategy
    with context.recorder.timed("build_s"):
        replicas = Replicated(context, strategy, summed)
    fit(context, replicas)


def _ring(rank: int, strategy: tf.distribute.MultiWorkerMirroredStrategy) -> Ring:
    """The ring of all workers, who tell each other through the strategy where they listen."""
    cluster = strategy.cluster_resolver.cluster_spec()
    hosts = [address.rsplit(":", 1)[0] for role in ("chief", "worker") for address in cluster.job_tasks(role)]
    listener = Listener(hosts[rank])
    said = np.frombuffer(listener.port.to_bytes(4, "little") + secrets.token_bytes(TOKEN_BYTES), np.int32)
    heard = strategy.gather(tf.constant(said[np.newaxis]), axis=0).numpy()
    addresses = [(host, int(port)) for host, port in zip(hosts, heard[:, 0])]
    return Ring(rank, addresses, listener, token=heard[0, 1:].tobytes())  # the chief's


def _summed_by(ring: Ring) -> Summing:
    def summed(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        sums: dict[int, tf.Tensor] = {}
        before: list[tf.Tensor] = []  # all workers must send in the same order
        for number, places in enumerate(buckets(tensors)):
            flat = [tf.reshape(tensors[place], [-1]) for place in places]
            sizes = [tensor.shape[0] for tensor in flat]
            with tf.control_dependencies(before):
                joined = flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
                total = tf.numpy_function(partial(ring.sum, place=number), [joined], tf.float32)
            before = [total]
            parts = tf.split(tf.ensure_shape(total, [sum(sizes)]), sizes)
            sums |= {place: tf.reshape(part, tensors[place].shape) for place, part in zip(places, parts)}
        return [sums[place] for place in range(len(tensors))]

    return summed
