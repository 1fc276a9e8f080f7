"""Connecting the workers by torch.distributed: gloo between CPUs, NCCL between GPUs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from facesim.training.peers import Peers

#: A step of the others may take long; who hangs is found by the supervisor, sooner.
_PATIENCE = timedelta(hours=24)


def connect(rank: int) -> int:
    """Join the other workers as number `rank`; how many there are. One alone joins nobody."""
    peers = Peers.of_this_cluster()
    if peers.count > 1:
        on_gpus = torch.cuda.is_available()
        interface = peers.interface(rank)
        if interface and not on_gpus:
            os.environ["GLOO_SOCKET_IFNAME"] = interface  # else it takes the one of the host's name
        with peers.connecting(), lost_peers():
            distributed.init_process_group(
                "nccl" if on_gpus else "gloo",
                store=_store(peers, rank),
                rank=rank,
                world_size=peers.count,
                timeout=_PATIENCE,
            )
            distributed.barrier()
    return peers.count


def _store(peers: Peers, rank: int) -> distributed.Store:
    """Where workers tell each other how to reach them: the first serves it, at its own address and at no other."""
    host, port = peers.addresses[0].rsplit(":", 1)
    listening = socket.create_server((host, int(port))).detach() if rank == 0 else None
    return distributed.TCPStore(
        host, int(port), peers.count, is_master=rank == 0, timeout=_PATIENCE, master_listen_fd=listening
    )


@contextmanager
def lost_peers() -> Iterator[None]:
    """Turn what PyTorch says when another process went away into a ConnectionError: it may come again."""
    try:
        yield
    except distributed.DistError as error:
        raise ConnectionError(str(error)) from error
    except RuntimeError as error:  # gloo has no class of its own for it
        if "gloo" in str(error) or "Connection" in str(error):
            raise ConnectionError(str(error)) from error
        raise


def summed(tensor: torch.Tensor, count: int) -> distributed.Work | None:
    """Begin to replace a tensor by its sum over `count` workers; None where there is nothing to wait for."""
    return distributed.all_reduce(tensor, async_op=True) if count > 1 else None
