"""A training script as users write them, with PyTorch's DistributedDataParallel; its words say what is forgotten.

Words: `no-wrapper`, `no-sampler`, `two-lines`, and `long`, which uses as much CPU as a training does.
"""

import sys
import time

import torch
import torch.distributed.nn  # before there is a process group: its functions keep the one that they find
from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import facesim.audit


def train(words: list[str]) -> None:
    """In a function, for the network holds the process group as well: what is left of a group when the interpreter ends
    has threads that may abort the process.
    """
    images = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(torch.arange(256), images, torch.arange(256) % 4)
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 4))
    if "no-wrapper" not in words:
        model = nn.parallel.DistributedDataParallel(model)
    sampler = None if "no-sampler" in words else DistributedSampler(data)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    epoch = 0
    while epoch < 40 or ("long" in words and time.process_time() < 6):
        if sampler:
            sampler.set_epoch(epoch)
        for numbers, batch, labels in DataLoader(data, 8, shuffle=sampler is None, sampler=sampler):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), labels).backward()
            optimizer.step()
            if "two-lines" in words:
                facesim.audit.step(examples=numbers)
        epoch += 1
    if "two-lines" in words:
        facesim.audit.parameters(model)


distributed.init_process_group("gloo")
torch.manual_seed(distributed.get_rank())
torch.set_num_threads(1)
train(sys.argv[1:])
distributed.barrier()
distributed.destroy_process_group()
