"""Connecting the workers by torch.distributed: gloo between CPUs, NCCL between GPUs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import distributed

from facesim.training.peers import Peers

#: A step of the others may take long; who hangs is found by the supervisor, sooner.
_PATIENCE = timedelta(hours=24)


class Workers:
    """All workers, of which this process is number `rank`. Where hosts have GPUs, it computes on one of its own."""

    def __init__(self, rank: int):
        peers, gpus = Peers.of_this_cluster(), torch.cuda.device_count()
        self.rank, self.count = rank, peers.count
        device = peers.device(rank, gpus)
        self._device = "cuda" if gpus else "cpu"
        if gpus:
            torch.cuda.set_device(device)
        if self.count > 1:
            interface = peers.interface(rank)
            if interface and not gpus:
                os.environ["GLOO_SOCKET_IFNAME"] = interface  # else it takes the one of the host's name
            with peers.connecting():
                distributed.init_process_group(
                    "nccl" if gpus else "gloo",
                    store=_store(peers, rank),
                    rank=rank,
                    world_size=self.count,
                    timeout=_PATIENCE,
                )
                distributed.barrier()

    def sum(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace tensors by their sums over all workers."""
        if self.count > 1:
            for work in [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

    def sum_of_all(self, array: np.ndarray) -> np.ndarray:
        """The sum of all workers' arrays, float32 (n,)."""
        tensor = torch.tensor(array, device=self._device)
        self.sum([tensor])
        return tensor.cpu().numpy()


@contextmanager
def joined(rank: int) -> Iterator[Workers]:
    """All workers, which this one joins as number `rank`, for as long as it trains with them.

    What PyTorch says when another process went away becomes a ConnectionError: it may come again.
    """
    try:
        yield Workers(rank)
    except distributed.DistError as error:
        raise ConnectionError(str(error)) from error
    except RuntimeError as error:  # gloo has no class of its own for it
        if "gloo" in str(error) or "Connection" in str(error):
            raise ConnectionError(str(error)) from error
        raise


def _store(peers: Peers, rank: int) -> distributed.Store:
    """Where workers tell each other how to reach them: the first serves it, at its own address and at no other."""
    host, port = peers.addresses[0].rsplit(":", 1)
    listening = socket.create_server((host, int(port))).detach() if rank == 0 else None
    return distributed.TCPStore(
        host, int(port), peers.count, is_master=rank == 0, timeout=_PATIENCE, master_listen_fd=listening
    )
