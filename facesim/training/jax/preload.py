"""Loads JAX and Keras on it. A node loads this first; JAX starts no thread before it is first used."""

from facesim.models.framework import load_keras, without

with without("tensorflow", "torch", "sklearn", "pandas", "matplotlib"):
    load_keras("jax")
    import jax  # noqa: F401
