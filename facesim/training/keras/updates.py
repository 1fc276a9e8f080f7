"""What a worker does with the batches that it is given, whatever the framework that computes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from cluster.pulse import progressed
from facesim.training.batches import slice_of_batch
from facesim.training.protocols import StepResult

#: What a worker found in its part of a batch: the sum of the losses, how many were right, how many examples it has.
Row = Sequence[float]
#: The same, as a framework keeps it.
Found = TypeVar("Found")


def joint_updates(
    batches: Iterable[np.ndarray],
    first: int,
    update: Callable[[np.ndarray, float], Found],
    read: Callable[[Found], Sequence[Row]],
    rank: int = 0,
    count: int = 1,
    *,
    ahead: bool = False,
) -> Iterator[StepResult]:
    """Worker `rank` of `count` makes one update from each batch together with the others; the number of the first is
    `first`.

    `update` makes one from the worker's part of a batch, indices (n,), and the share of the batch that it is, 0-1. It
    returns what each worker found, which `read` waits for. With `ahead` the next update is begun before: an accelerator
    has something to do meanwhile.
    """
    waiting = deque[tuple[int, Found]]()
    for number, batch in enumerate(batches, first):
        waiting.append((number, update(*slice_of_batch(batch, rank, count))))
        if len(waiting) > ahead:
            of, found = waiting.popleft()
            yield from _results(of, read(found))
    for of, found in waiting:
        yield from _results(of, read(found))


def averaged_updates(
    batches: Iterable[np.ndarray],
    first: int,
    update: Callable[[np.ndarray, float], Found],
    average: Callable[[list[Found]], Sequence[Sequence[Row]]],
    steps: int,
    rank: int,
    count: int,
) -> Iterator[StepResult]:
    """Worker `rank` of `count` makes an update of its own from its part of each batch; after so many `steps`, and at
    the end, all copies are averaged. The number of the first update is `first`.

    `update` gets indices (n,) and 1, or 0 where the part is empty and the indices are not to be counted; it returns
    what the worker found. `average` gets what it found since the last time, and returns, step by step, what each worker
    did.
    """
    found: list[Found] = []
    numbers = itertools.count(first)

    def averaged() -> Iterator[StepResult]:
        for rows in average(found):
            yield from _results(next(numbers), rows)
        found.clear()

    for batch in batches:
        indices, share = slice_of_batch(batch, rank, count)
        found.append(update(indices, float(share > 0)))
        progressed()  # results come at the end of so many steps
        if len(found) == steps:
            yield from averaged()
    if found:  # an epoch's end: what is evaluated is the average, and every epoch's results are complete
        yield from averaged()


def _results(number: int, rows: Sequence[Row]) -> Iterator[StepResult]:
    for worker, (loss, correct, examples) in enumerate(rows):
        yield StepResult(loss, int(correct), int(examples), worker, number, number)
