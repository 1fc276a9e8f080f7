"""Sums over all replicas, for the strategies whose replicas hold the parameters each.

GPUs sum with TensorFlow's collectives (NCCL); between processes on CPUs these are slow, and a ring of our own takes
their place.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
import tensorflow as tf

from facesim.training.ring import TOKEN_BYTES, Listener, Ring

#: Small gradients are sent together until they come to this; a large one by itself, which saves copying it twice.
_BUCKET_BYTES = 4 * 2**20

#: The sums of float32 and bfloat16 tensors over all replicas, added in float32, the same on each of them; called in
#: each replica.
Summing = Callable[[list[tf.Tensor]], list[tf.Tensor]]


def sums_over(strategy: tf.distribute.MultiWorkerMirroredStrategy, rank: int) -> Summing:
    """How the processes of a strategy sum, of which this is number `rank`; all of them call this."""
    return summed_by_ring(_ring(rank, strategy)) if by_ring(strategy) else summed_by_strategy


def by_ring(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> bool:
    """Whether the processes of a strategy sum by a ring of our own: several, and on CPUs."""
    return not tf.config.list_physical_devices("GPU") and strategy.num_replicas_in_sync > 1


def summing_arrays(
    strategy: tf.distribute.MultiWorkerMirroredStrategy, summed: Summing
) -> Callable[[np.ndarray], np.ndarray]:
    """What has the sum of the arrays, float32 (n,), of a strategy's processes, of one replica each; all call it."""

    @tf.function(autograph=False)  # for each size anew
    def total(array: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(lambda mine: summed([mine])[0], args=(array,)))[0]

    return lambda array: total(tf.constant(array)).numpy()


def summed_by_strategy(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """A `Summing` with the strategy's own collectives: NCCL's on GPUs, which would add in what they are given."""
    tensors = [tf.cast(tensor, tf.float32) for tensor in tensors]
    sums: dict[int, tf.Tensor] = {}
    for places in buckets(tensors):
        some = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, [tensors[place] for place in places]
        )
        sums |= dict(zip(places, some))
    return [sums[place] for place in range(len(tensors))]


def buckets(tensors: list[tf.Tensor]) -> list[list[int]]:
    """Places of tensors that are sent together, the last ones first.

    The gradients of the last layers are known first, and are on their way while the backward pass goes on.
    """
    sizes = [tensor.shape.num_elements() * tensor.dtype.size for tensor in tensors]
    full: list[list[int]] = []
    small: dict[tf.DType, list[int]] = {}  # one tensor of each dtype
    for place in reversed(range(len(sizes))):
        if sizes[place] >= _BUCKET_BYTES:
            full.append([place])
            continue
        some = small.setdefault(tensors[place].dtype, [])
        some.append(place)
        if sum(sizes[each] for each in some) >= _BUCKET_BYTES:
            full.append(small.pop(tensors[place].dtype))
    return [*full, *small.values()]


def _ring(rank: int, strategy: tf.distribute.MultiWorkerMirroredStrategy) -> Ring:
    """The ring of all workers, who tell each other through the strategy where they listen."""
    cluster = strategy.cluster_resolver.cluster_spec()
    hosts = [address.rsplit(":", 1)[0] for role in ("chief", "worker") for address in cluster.job_tasks(role)]
    listener = Listener(hosts[rank])
    announced = np.frombuffer(listener.port.to_bytes(4, "little") + secrets.token_bytes(TOKEN_BYTES), np.int32)

    @tf.function(autograph=False)  # called as it is, the strategy makes a function of its own, translated by autograph
    def gathered() -> tf.Tensor:
        return strategy.gather(tf.constant(announced[np.newaxis]), axis=0)

    heard = gathered().numpy()
    addresses = [(host, int(port)) for host, port in zip(hosts, heard[:, 0])]
    return Ring(rank, addresses, listener, token=heard[0, 1:].tobytes())  # the chief's


class SumsArrays(Protocol):
    """What sums float32 or bfloat16 (n,) arrays over all replicas, as `Ring` does."""

    def sum(self, array: np.ndarray, place: int = 0) -> np.ndarray: ...


def summed_by_ring(ring: SumsArrays) -> Summing:
    """A `Summing` by a ring, one bucket after another: the first while the backward pass goes on to earlier layers."""

    def summed(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        sums: dict[int, tf.Tensor] = {}
        before: list[tf.Tensor] = []  # all workers must send in the same order
        for number, places in enumerate(buckets(tensors)):
            flat = [tf.reshape(tensors[place], [-1]) for place in places]
            sizes = [tensor.shape[0] for tensor in flat]
            with tf.control_dependencies(before):
                joined = flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)
                total = tf.numpy_function(partial(ring.sum, place=number), [joined], joined.dtype)
            before = [total]
            parts = tf.split(tf.ensure_shape(total, [sum(sizes)]), sizes)
            sums |= {place: tf.reshape(part, tensors[place].shape) for place, part in zip(places, parts)}
        return [sums[place] for place in range(len(tensors))]

    return summed
