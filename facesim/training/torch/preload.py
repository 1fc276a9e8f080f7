"""Loads PyTorch and Keras on it. A node loads this first; no thread has been started when tasks are forked."""

import time

from facesim.models.framework import load_keras, without

_begin_s = time.perf_counter()
with without("tensorflow", "jax", "sklearn", "pandas", "matplotlib"):
    load_keras("torch")
    import torch  # noqa: F401

    from facesim.training.torch.layout import save_passes

    save_passes()

#: How long it took, in seconds.
LOADING_S = time.perf_counter() - _begin_s
