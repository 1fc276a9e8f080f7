"""The random numbers that TensorFlow draws from a seed, in NumPy: so every framework starts from the same parameters.

TensorFlow's stateless operations use the counter-based generator Philox4x32-10 (Salmon et al., 2011, "Parallel random
numbers: as easy as 1, 2, 3"); two normal numbers are made of two uniform ones (Box and Muller, 1958).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)

#: With what TensorFlow mixes a seed.
_SEED_KEY = (0x3EC8F720, 0x02461E29)

#: A truncated normal number is drawn again while it is beyond so many standard deviations.
_BOUND = 2.0
#: For each four truncated normal numbers TensorFlow reserves so many blocks of four words, and eight are never too few.
_RESERVED_BLOCKS, _TRIED_BLOCKS = 256, 8


def uniform(shape: Sequence[int], minimum: float, maximum: float, seed: int) -> NDArray[np.float32]:
    """float32 of `shape`, from `minimum` to below `maximum`."""
    count = math.prod(shape)
    numbers = _uniform(_blocks(seed, np.arange(-(-count // 4)))).ravel()[:count]
    return (numbers * np.float32(np.float32(maximum) - np.float32(minimum)) + np.float32(minimum)).reshape(shape)


def normal(shape: Sequence[int], mean: float, deviation: float, seed: int) -> NDArray[np.float32]:
    """float32 of `shape`, normally distributed."""
    count = math.prod(shape)
    numbers = _normal(_blocks(seed, np.arange(-(-count // 4)))).ravel()[:count]
    return (numbers * np.float32(deviation) + np.float32(mean)).reshape(shape)


def truncated_normal(shape: Sequence[int], mean: float, deviation: float, seed: int) -> NDArray[np.float32]:
    """float32 of `shape`, normally distributed, within two standard deviations."""
    count = math.prod(shape)
    groups = np.arange(-(-count // 4))[:, None] * _RESERVED_BLOCKS + np.arange(_TRIED_BLOCKS)
    tried = _normal(_blocks(seed, groups.ravel())).reshape(len(groups), 4 * _TRIED_BLOCKS)
    inside = np.abs(tried) < _BOUND
    first = np.argsort(~inside, axis=1, kind="stable")[:, :4]  # of each group, the first four that are inside
    numbers = np.take_along_axis(tried, first, axis=1).ravel()[:count]
    return (numbers * np.float32(deviation) + np.float32(mean)).reshape(shape)


@contextmanager
def drawn_alike() -> Iterator[None]:
    """Within it, Keras' initialisers draw what they draw on TensorFlow, whatever framework Keras computes with."""
    from keras.src.initializers import random_initializers

    original = random_initializers.random
    random_initializers.random = _Alike(original)
    try:
        yield
    finally:
        random_initializers.random = original


class _Alike:
    """Keras' random module, with the three distributions of its initialisers in NumPy."""

    def __init__(self, original: Any):
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def uniform(self, shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        return self._drawn("uniform", uniform, shape, minval, maxval, dtype, seed)

    def normal(self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
        return self._drawn("normal", normal, shape, mean, stddev, dtype, seed)

    def truncated_normal(
        self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        return self._drawn("truncated_normal", truncated_normal, shape, mean, stddev, dtype, seed)

    def _drawn(self, name: str, draw: Any, shape: Any, first: float, second: float, dtype: Any, seed: Any) -> Any:
        from keras import ops

        if not isinstance(seed, int):  # a generator with a state of its own, which no layer of Keras gives
            return getattr(self._original, name)(shape, first, second, dtype=dtype, seed=seed)
        return ops.convert_to_tensor(draw(tuple(shape), first, second, seed), dtype=dtype)


def _blocks(seed: int, places: NDArray[np.int64]) -> Words:
    """(n, 4) words, 0 to 2^32 - 1: the generator's blocks at `places` (n,)."""
    mixed = _philox(np.array([[seed & 0xFFFFFFFF, seed >> 32, 0, 0]], np.uint64), _SEED_KEY)[0]
    counters = np.empty((len(places), 4), np.uint64)
    counters[:, 0], counters[:, 1] = places.astype(np.uint64) & _LOW, places.astype(np.uint64) >> np.uint64(32)
    counters[:, 2:] = mixed[2:]
    return _philox(counters, (int(mixed[0]), int(mixed[1])))


def _philox(counters: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10 of counters (n, 4)."""
    words = [counters[:, place] for place in range(4)]
    keys = list(key)
    for _ in range(_ROUNDS):
        products = [words[0] * np.uint64(_MULTIPLIERS[0]), words[2] * np.uint64(_MULTIPLIERS[1])]
        high, low = [product >> np.uint64(32) for product in products], [product & _LOW for product in products]
        words = [high[1] ^ words[1] ^ np.uint64(keys[0]), low[1], high[0] ^ words[3] ^ np.uint64(keys[1]), low[0]]
        keys = [(each + more) & 0xFFFFFFFF for each, more in zip(keys, _INCREMENTS, strict=True)]
    return np.stack(words, axis=1)


def _uniform(words: Words) -> NDArray[np.float32]:
    """float32 from 0 to below 1, of the words' lowest 23 bits."""
    mantissas = (words & np.uint64(0x7FFFFF)).astype(np.uint32) | np.uint32(0x3F800000)
    return mantissas.view(np.float32) - np.float32(1)


def _normal(words: Words) -> NDArray[np.float32]:
    """float32 (n, 4), standard normal, of words (n, 4): each pair of words makes a pair."""
    numbers = _uniform(words)
    radius = np.sqrt(np.float32(-2) * np.log(np.maximum(numbers[:, 0::2], np.float32(1e-7))))
    angle = np.float32(2 * np.pi) * numbers[:, 1::2]
    return np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=2).reshape(len(words), 4)
