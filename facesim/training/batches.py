"""Which examples make up which update: the same for every strategy, so that all of them see the same examples.

In every epoch a seeded permutation of the training examples is cut into batches. A batch is the work of one update: an
asynchronous strategy hands each to whichever worker is free, a synchronous one splits each among its replicas. Either
way the workers' shares of an epoch are disjoint, and together they are every example exactly once.
"""

import numpy as np


def epoch_batches(examples: np.ndarray, batch: int, seed: int, epoch: int, done: int = 0) -> list[np.ndarray]:
    """The batches of `epoch` after the first `done` examples: index arrays of `batch` examples each, the last one of
    what is left.

    `examples` are the indices (n,) of the training split. The order depends on `seed` and `epoch` alone.
    """
    order = np.random.default_rng((seed, epoch)).permutation(examples)[done:]
    if not len(order):
        return []
    return np.split(order, range(batch, len(order), batch))


def slice_of_batch(batch: np.ndarray, rank: int, count: int) -> tuple[np.ndarray, float]:
    """Worker `rank`'s part, of `count`, of a batch of indices (n,), and the share of the batch that it is, 0-1.

    A batch smaller than `count` leaves workers without an example; they compute the first one with a share of 0,
    because all must take part in the sum.
    """
    share = len(batch[rank::count]) / len(batch)
    return batch[rank if share else 0 :: count], share
