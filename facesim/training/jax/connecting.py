"""Connecting the workers by jax.distributed, and summing over them: by gloo between CPUs, by NCCL between GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from facesim.training.peers import Peers


class Workers:
    """All workers, of which this process is number `rank`."""

    def __init__(self, rank: int):
        peers = Peers.of_this_cluster()
        self.rank, self.count = rank, peers.count
        if self.count > 1:
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            with peers.connecting(), lost_peers():
                # Left to itself, the first of them listens on every address.
                jax.distributed.initialize(
                    peers.addresses[0], self.count, rank, coordinator_bind_address=peers.addresses[0]
                )
                first = [device for device in jax.devices() if device.id == self._first_of(device).id]
            mesh = Mesh(np.array(sorted(first, key=lambda device: device.process_index)), ("worker",))
            self._a_row_each = NamedSharding(mesh, PartitionSpec("worker"))
            everywhere = NamedSharding(mesh, PartitionSpec())
            self._sum = jax.jit(lambda rows: rows.sum(axis=0), out_shardings=everywhere)

    @staticmethod
    def _first_of(device: jax.Device) -> jax.Device:
        return next(other for other in jax.devices() if other.process_index == device.process_index)

    def sum(self, row: jax.Array) -> jax.Array:
        """The sum (n,) over all workers' rows (1, n), the same on each of them."""
        if self.count == 1:
            return row[0]
        rows = jax.make_array_from_single_device_arrays((self.count, row.shape[1]), self._a_row_each, [row])
        return self._sum(rows).addressable_data(0)


@contextmanager
def lost_peers() -> Iterator[None]:
    """Turn what JAX says when another process went away into a ConnectionError: it may come again."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise ConnectionError(str(error)) from error
