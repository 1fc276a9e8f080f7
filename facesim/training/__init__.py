"""How replicas train: one module a strategy, and what all of them share (step, optimiser, data plan, evaluation).

`STRATEGIES` names them without importing TensorFlow. Adding a strategy is one module with a `train(context)` and one
line.
"""

from typing import NamedTuple


class Strategy(NamedTuple):
    """A strategy, as far as it can be told without TensorFlow."""

    module: str
    roles: tuple[str, ...]
    summary: str

    @property
    def distributed(self) -> bool:
        return "worker" in self.roles


STRATEGIES: dict[str, Strategy] = {
    "single": Strategy("facesim.training.single", ("chief",), "one process, the yardstick"),
    "ps-async": Strategy(
        "facesim.training.ps_async",
        ("chief", "worker", "ps"),
        "workers pull parameters from parameter servers and push gradients, none waiting for another",
    ),
}
