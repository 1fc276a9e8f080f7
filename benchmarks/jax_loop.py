"""A peer to compare with: the paper's network in plain JAX, one process. Prints images/s.

python -m benchmarks.jax_loop PREPARED_DIR BATCH EPOCHS
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from facesim.data import PreparedData, stratified_split
from facesim.training.batches import epoch_batches

_LAYOUT = ("NHWC", "HWIO", "NHWC")


Layers = list[tuple[jax.Array, jax.Array]]


def parameters(identities: int) -> Layers:
    initialise = jax.nn.initializers.glorot_uniform()
    shapes = [(3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), (4608, 1024), (1024, identities)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [(initialise(key, shape), jnp.zeros(shape[-1])) for key, shape in zip(keys, shapes, strict=True)]


def dropped(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def loss_of(
    layers: list[tuple[jax.Array, jax.Array]], images: jax.Array, labels: jax.Array, key: jax.Array
) -> jax.Array:
    x, keys = images.astype(jnp.float32) / 255, jax.random.split(key, 4)
    for (kernel, bias), drawn in zip(layers[:3], keys[:3], strict=True):
        x = jax.nn.relu(lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=_LAYOUT) + bias)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = dropped(x, 0.25, drawn)
    x = dropped(jax.nn.relu(x.reshape(len(x), -1) @ layers[3][0] + layers[3][1]), 0.5, keys[3])
    logits = x @ layers[4][0] + layers[4][1]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


@jax.jit
def update(state, images, labels):
    layers, first, second, number, key = state
    key, drawn = jax.random.split(key)
    gradients = jax.grad(loss_of)(layers, images, labels, drawn)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    step = 1e-4 * jnp.sqrt(1 - 0.999**number) / (1 - 0.9**number)
    layers = jax.tree.map(lambda p, m, v: p - step * m / (jnp.sqrt(v) + 1e-7), layers, first, second)
    return layers, first, second, number + 1, key


def main(directory: str, batch: int, epochs: int) -> None:
    data = PreparedData.load(Path(directory))
    examples, _ = stratified_split(data.labels, 0.2, 0)
    images, layers = np.array(data.images), parameters(len(data.names))
    zeros = jax.tree.map(jnp.zeros_like, layers)
    state = (layers, zeros, zeros, jnp.float32(1), jax.random.key(1))
    seconds = 0.0
    for epoch in range(epochs + 1):
        begin = time.perf_counter()
        for indices in epoch_batches(examples, batch, 0, epoch):
            state = update(state, images[indices], data.labels[indices])
        jax.block_until_ready(state)
        if epoch:  # the first one warms up
            seconds += time.perf_counter() - begin
    print(len(examples) * epochs / seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
