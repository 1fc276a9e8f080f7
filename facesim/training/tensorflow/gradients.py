"""Gradients, each of a whole variable or of some of its rows."""

from __future__ import annotations

import tensorflow as tf

#: `tf.IndexedSlices` where it is of some rows alone, each of them once.
Gradient = tf.Tensor | tf.IndexedSlices


def values_of(gradient: Gradient) -> tf.Tensor:
    """The numbers of a gradient: (rows, ...) where it is of some rows."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def with_values(gradient: Gradient, values: tf.Tensor) -> Gradient:
    """A gradient of the same rows with other numbers."""
    return tf.IndexedSlices(values, gradient.indices) if isinstance(gradient, tf.IndexedSlices) else values
