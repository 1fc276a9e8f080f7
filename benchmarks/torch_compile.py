"""Whether `torch.compile` pays: CPU time of a step of the paper's network in plain PyTorch, as it is and compiled.

    python -m benchmarks.torch_compile --rounds 5

A network that Keras builds compiles worse than this one, which is one graph: it breaks into one for every layer or so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import nn

from benchmarks.common import show, write
from benchmarks.torch_ddp import paper_cnn

_STEPS, _IDENTITIES, _SIDE = 20, 40, 64


def stepping(network: Callable[[torch.Tensor], torch.Tensor], model: nn.Module, batch: int) -> Callable[[], None]:
    """A training step of `network`, which is `model` or made of it."""
    optimizer, loss_of = torch.optim.Adam(model.parameters(), 1e-4, fused=True), nn.CrossEntropyLoss()
    images = torch.randint(0, 256, (batch, _SIDE, _SIDE, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.randint(0, _IDENTITIES, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        loss_of(network(images.float() / 255), labels).backward()
        optimizer.step()

    return step


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(rounds: int, batch: int, path: Path | None) -> None:
    plain, compiled = (paper_cnn(_IDENTITIES).to(memory_format=torch.channels_last) for _ in range(2))
    steps = {
        "eager": stepping(plain, plain, batch),
        "compiled": stepping(torch.compile(compiled, dynamic=False), compiled, batch),
    }
    figures: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        begin = time.perf_counter()
        for _ in range(3):
            step()
        click.echo(f"{name}: three steps after {time.perf_counter() - begin:.1f} s")
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.process_time()
            for _ in range(_STEPS):
                step()
            figures[name].append(1000 * (time.process_time() - begin) / _STEPS)
    write([show(f"PyTorch, paper-cnn, batch {batch}: CPU time of a step", figures, "eager", "ms")], path)


if __name__ == "__main__":
    main()
