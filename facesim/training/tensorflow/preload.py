"""Loads TensorFlow and Keras without what Keras would wrap, accept or draw with if it is there: a fifth of the time.

A node loads this first. Who needs one of those packages imports it as ever. Layers drop units as `dropout` has it.
"""

import time

from facesim.models.framework import load_keras, without

_begin_s = time.perf_counter()
with without("torch", "jax", "sklearn", "pandas", "matplotlib"):
    load_keras()  # before TensorFlow, which imports Keras, too
    import tensorflow  # noqa: F401

    from facesim.training.tensorflow import dropout

    dropout.use()

#: How long it took, in seconds.
LOADING_S = time.perf_counter() - _begin_s
