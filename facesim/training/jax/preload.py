"""Loads JAX and Keras on it. A node loads this first; JAX starts no thread before it is first used."""

import time

from facesim.models.framework import load_keras, without

_begin_s = time.perf_counter()
with without("tensorflow", "torch", "sklearn", "pandas", "matplotlib"):
    load_keras("jax")
    import jax  # noqa: F401

#: How long it took, in seconds.
LOADING_S = time.perf_counter() - _begin_s
