"""A strategy with an option of its own. Nothing here imports TensorFlow: listing strategies stays instant."""

from typing import Literal

from facesim.spec.options import option
from facesim.spec.shape import Shape
from facesim.spec.strategies import Layout, Strategy


class Accumulating(Strategy):
    summary = "one process that takes each batch in parts and sums their gradients: less memory, the same updates"
    layout = Layout.SINGLE_PROCESS
    replicated = False
    trainers = {"tensorflow": "facesim_example.training:train"}

    name: Literal["accumulating"] = "accumulating"
    parts: int = option(2, "parts of which a batch is made", "Training", ge=1, le=64)

    def check(self, shape: Shape) -> None:
        if self.parts % 2 and self.parts > 1:
            raise ValueError(f"--parts {self.parts} must be 1 or even")
