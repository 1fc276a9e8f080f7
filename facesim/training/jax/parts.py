"""Many arrays as one, which is one message, and what of a network is averaged."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from facesim.training.jax.network import Arrays


def is_statistic(array: jax.Array) -> bool:
    """Whether it is a moving statistic, of which each worker sees its part, and not a generator's state."""
    return jnp.issubdtype(array.dtype, jnp.floating)


def as_one(arrays: Arrays) -> jax.Array:
    """All arrays as one row (1, n): one message."""
    return jnp.concatenate([each.ravel() for each in arrays])[None]


def parted(row: jax.Array, like: Arrays) -> Arrays:
    """The arrays, of the shapes of others, that were joined."""
    ends = np.cumsum([math.prod(each.shape) for each in like])
    parts = jnp.split(row, ends[:-1])
    return [part.reshape(each.shape) for part, each in zip(parts, like, strict=True)]
