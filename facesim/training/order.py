"""In which order asynchronous workers made updates, and from which versions of the parameters: recorded, read again.

That order, with the batches, is all that makes one asynchronous training differ from another: with it, one process can
make the same updates. Without TensorFlow, so that a forecast can use it.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesim.util.errors import InputError
from facesim.util.files import append
from facesim.util.words import count_text

Integers = NDArray[np.int64]

#: When a forward pass is over, as a share of the time from reading to applying.
_FORWARD_SHARE = 0.5

_FIELDS = ("epoch", "batch", "worker", "version_read", "version")


@dataclass(frozen=True, eq=False)
class Order:
    """The updates of one epoch or more in the order of their application, from one moment when none is under way to
    another.

    Update k was made by `workers[k]` from batch `batches[k]`, counted on from epoch to epoch, and the parameters after
    the first `versions_read[k]` of these updates: arrays (updates,).

    Raises:
        InputError: a batch comes twice or not at all, or an update read what did not exist yet.
    """

    workers: Integers
    versions_read: Integers
    batches: Integers

    def __post_init__(self) -> None:
        count = len(self.batches)
        if sorted(self.batches.tolist()) != list(range(count)):
            raise InputError(f"an order of {count_text(count, 'update')} must have each of {count} batches once")
        if np.any(self.versions_read < 0) or np.any(self.versions_read > np.arange(count)):
            raise InputError("an order has updates from versions of the parameters that did not exist yet")

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def staleness(self) -> Integers:
        """(updates,) updates by others between an update's reading and its applying."""
        return np.arange(len(self)) - self.versions_read

    def events(self) -> list[tuple[int, bool]]:
        """What happens, in order: (update, False) when the forward pass of an update is over, (update,
        True) when its gradient is applied. That of update k comes between the version that it read and the one that it
        makes, somewhere about half way: pulling and the forward pass take about as long as the backward pass and
        pushing.
        """
        number = np.arange(len(self))
        computed = self.versions_read + _FORWARD_SHARE * (number + 1 - self.versions_read)
        times = np.concatenate([computed, number + 1.0])
        # What is applied at the same time makes a version that nobody has read yet.
        return [(int(place % len(self)), bool(place >= len(self))) for place in np.argsort(times, kind="stable")]

    def is_read(self) -> NDArray[np.bool_]:
        """(updates + 1,) whether anybody reads a version, the first being that before the updates."""
        read = np.zeros(len(self) + 1, bool)
        read[self.versions_read] = True
        return read


class OrderRecorder:
    """Appends to a file who made which update, a line each; the first of a process is a line of names."""

    def __init__(self, file: Path):
        self._file = file
        self._unwritten = b""
        self._begun = self._flushed = False

    def add(self, epoch: int, batch: int, worker: int, version_read: int, version: int) -> None:
        if not self._begun:
            self._unwritten, self._begun = (",".join(_FIELDS) + "\n").encode(), True
        self._unwritten += f"{epoch},{batch},{worker},{version_read},{version}\n".encode()

    def flush(self) -> None:
        """Write what was added, if anything was. What a full disk does not take is written with the next."""
        if self._unwritten:
            self._unwritten = append(self._file, self._unwritten, fresh_line=not self._flushed)
            self._flushed = True


def read_orders(file: Path) -> list[Order]:
    """The orders of the epochs that a run recorded whole, from the first on: one for each stretch of epochs between
    which workers went on without a pause.

    Raises:
        InputError: there is no such file, or an update is missing in it.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the order of updates {file} cannot be read: {error.strerror}; only ps-async records one"
        ) from None
    updates: dict[int, tuple[int, int, int, int]] = {}
    begun: set[int] = set()
    for row in csv.reader(text.splitlines()):
        if tuple(row) == _FIELDS:  # a process that goes on from a checkpoint: what came after that is made again
            begun = set()
            continue
        try:
            epoch, batch, worker, version_read, version = map(int, row)
        except ValueError:
            continue  # a crash tore it; if it was of an update that counted, there is a gap
        if not begun:
            updates = {number: update for number, update in updates.items() if number < version}
        begun.add(version)
        updates[version] = (epoch, batch, worker, version_read)
    return list(_stretches(file, updates))


def _stretches(file: Path, updates: dict[int, tuple[int, int, int, int]]) -> Iterator[Order]:
    count = len(updates)
    if sorted(updates) != list(range(count)):
        raise InputError(f"the order of updates {file} has gaps: a worker was lost, and what it did is not known")
    if not updates:
        return
    epochs, batches, workers, read = np.array([updates[version] for version in range(count)]).T
    # A stretch ends where all updates of its epochs have been applied, and nobody has read before that what comes then.
    latest_before = np.maximum.accumulate(epochs)[:-1]
    first_after, read_after = (np.minimum.accumulate(each[::-1])[::-1][1:] for each in (epochs, read))
    ends = 1 + np.flatnonzero((latest_before < first_after) & (read_after >= np.arange(1, count)))
    for begin, end in itertools.pairwise([0, *ends.tolist(), count]):
        here = slice(begin, end)
        _, of_stretch, sizes = np.unique(epochs[here], return_inverse=True, return_counts=True)
        counted_on = batches[here] + (np.cumsum(sizes) - sizes)[of_stretch]
        if end == count and sorted(counted_on.tolist()) != list(range(end - begin)):
            return  # it was stopped within these epochs
        yield Order(workers[here], read[here] - begin, counted_on)


def write_orders(file: Path, orders: Iterable[Order]) -> None:
    """Keep orders in a file of NumPy's."""
    order_list = list(orders)
    rows = [np.stack([order.workers, order.versions_read, order.batches]) for order in order_list]
    np.savez(file, lengths=np.array([len(order) for order in order_list]), updates=np.concatenate(rows, axis=1))


def load_orders(file: Path) -> list[Order]:
    """What `write_orders` kept."""
    with np.load(file) as kept:
        ends = np.cumsum(kept["lengths"])
        return [Order(*part) for part in np.split(kept["updates"], ends[:-1], axis=1)]
