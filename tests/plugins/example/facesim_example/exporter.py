"""A format: the network's parameters as NumPy arrays, with the people's names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facesim.models.exporters import Exporter


def write(model: Any, names: Sequence[str], output: Path) -> None:
    weights = {weight.path: np.asarray(weight) for weight in model.weights}
    np.savez(output, names=np.array(names), **weights)


WEIGHTS = Exporter("parameters as NumPy arrays", ".npz", write)
