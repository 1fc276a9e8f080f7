"""Which identities an update of a sampled head is made of: Partial FC.

With very many identities most of an update would be spent on centres of people who are not in the batch. Those of the
batch are always taken, and of the others a random part, which is enough to learn from (An et al., "Killing Two Birds
with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial FC", CVPR 2022). Their logits, the
gradient, the optimiser's work and what crosses a network are of the chosen ones alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def sample_size(identities: int, rate: float, batch: int) -> int:
    """How many of `identities` an update of `batch` examples is made of: the share `rate` (0-1] of them, rounded up,
    and never fewer than the batch may show.
    """
    return min(identities, max(math.ceil(rate * identities), batch))


@dataclass(frozen=True)
class ClassSampler:
    """Chooses `size` of `identities`, more only for a batch that may show more. What it chooses depends on nothing but
    the seed, the update and its examples, so every strategy, worker, continued training and replay has the same.
    """

    identities: int
    size: int
    seed: int

    def __call__(self, labels: np.ndarray, update: int) -> np.ndarray:
        """The classes of update number `update`, from 0, with examples of `labels` (n,): int32 (size,), ascending."""
        size = max(self.size, min(len(labels), self.identities))
        order = np.random.default_rng((self.seed, update)).random(self.identities, np.float32)
        order[labels] = -1.0  # before all others
        return np.sort(np.argpartition(order, size - 1)[:size]).astype(np.int32)
