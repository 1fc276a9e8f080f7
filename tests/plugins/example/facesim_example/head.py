"""A head: cosines, with a margin in training."""

from facesim.models import Head

SOFT_COSFACE = Head(True, "cosines, with a margin that grows with the cosine", "facesim_example.layers:soft_margin")
