"""Connecting the workers by jax.distributed, and summing over them: by gloo between CPUs, by NCCL between GPUs."""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from facesim.training.peers import Peers

#: Workers end while the first of them evaluates, which may take long: JAX would take them for dead and end that one,
#: too. Who dies or hangs is found by those who watch the processes.
_PATIENT = {
    name: 24 * 60 * 60
    for name in ("heartbeat_timeout_seconds",)
    if name in inspect.signature(jax.distributed.initialize).parameters
}


class Workers:
    """All workers, of which this process is number `rank`. Where hosts have GPUs, it computes on one of its own."""

    def __init__(self, rank: int):
        peers = Peers.of_this_cluster()
        self.rank, self.count = rank, peers.count
        if self.count > 1:
            device = peers.device(rank, gpus())
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            with peers.connecting():
                # Left to itself, the first of them listens on every address.
                jax.distributed.initialize(
                    peers.addresses[0],
                    self.count,
                    rank,
                    local_device_ids=device,  # a GPU's; CPUs have no numbers
                    coordinator_bind_address=peers.addresses[0],
                    **_PATIENT,
                )
        devices = {device.process_index: device for device in reversed(jax.devices())}
        self._devices = [devices[process] for process in sorted(devices)]
        self.sum = self.summing(self.count)

    def sum_of_all(self, array: np.ndarray) -> np.ndarray:
        """The sum of all workers' arrays, float32 (n,)."""
        return np.asarray(self.sum(jnp.asarray(array)[None]))

    def summing(self, count: int) -> Callable[[jax.Array], jax.Array]:
        """What the first `count` workers sum by: from a row (1, n) of each to their sum (n,), the same everywhere."""
        if count == 1:
            return lambda row: row[0]
        mesh = Mesh(np.array(self._devices[:count]), ("worker",))
        a_row_each, everywhere = (NamedSharding(mesh, spec) for spec in (PartitionSpec("worker"), PartitionSpec()))
        summed = jax.jit(lambda rows: rows.sum(axis=0), out_shardings=everywhere)

        def sum_of(row: jax.Array) -> jax.Array:
            rows = jax.make_array_from_single_device_arrays((count, row.shape[1]), a_row_each, [row])
            return summed(rows).addressable_data(0)

        return sum_of


@contextmanager
def joined(rank: int) -> Iterator[Workers]:
    """All workers, which this one joins as number `rank`, for as long as it trains with them.

    What JAX says when another process went away becomes a ConnectionError: it may come again.
    """
    try:
        yield Workers(rank)
    except jax.errors.JaxRuntimeError as error:
        raise ConnectionError(str(error)) from error


def gpus() -> int:
    """How many GPUs of this host JAX computes on. JAX itself counts them only with all workers connected."""
    on_cuda = any("cuda" in plugin.name for plugin in entry_points(group="jax_plugins"))
    if not on_cuda or (jax.config.jax_platforms or "cuda").startswith("cpu"):
        return 0
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    except OSError:
        return 0
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value
