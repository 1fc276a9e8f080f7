"""A peer to compare with: the paper's network in PyTorch, alone or DistributedDataParallel (gloo). Prints images/s.

python -m benchmarks.torch_ddp PREPARED_DIR BATCH EPOCHS PROCESSES float32|bfloat16
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cluster.topology import free_ports
from facesim.data import PreparedData, stratified_split
from facesim.training.batches import epoch_batches


def paper_cnn(identities: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(4608, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, identities)
    )


def train(rank: int, directory: str, batch: int, epochs: int, processes: int, precision: str, port: int) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
    data = PreparedData.load(Path(directory))
    examples, _ = stratified_split(data.labels, 0.2, 0)
    images = torch.from_numpy(np.array(data.images)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(data.labels.astype(np.int64))
    model: nn.Module = paper_cnn(len(data.names)).to(memory_format=torch.channels_last)
    if processes > 1:
        torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    loss_of = nn.CrossEntropyLoss()
    seconds = 0.0
    for epoch in range(epochs + 1):
        begin = time.perf_counter()
        for indices in epoch_batches(examples, batch, 0, epoch):
            mine = torch.from_numpy(np.array_split(indices, processes)[rank])
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = loss_of(model(images[mine].float() / 255), labels[mine])
            loss.backward()
            optimizer.step()
        if epoch:  # the first one warms up
            seconds += time.perf_counter() - begin
    if rank == 0:
        print(len(examples) * epochs / seconds)


def main(directory: str, batch: int, epochs: int, processes: int, precision: str) -> None:
    arguments = (directory, batch, epochs, processes, precision, free_ports(1)[0])
    if processes == 1:
        train(0, *arguments)
    else:
        torch.multiprocessing.spawn(train, arguments, nprocs=processes)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
