"""Activities that overlap in part."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def overlapped(first_s: ArrayLike, second_s: ArrayLike, overlap: ArrayLike) -> Array:
    """|x, y|_p = (x^p + y^p)^(1/p): activities that overlap in part; not at all with p = 1.

    Source: Qiao et al., "Pollux", OSDI 2021, for computing and synchronising.
    """
    most = np.maximum(first_s, second_s)
    scale = np.where(most > 0, most, 1.0)
    powers = (np.asarray(first_s) / scale) ** overlap + (np.asarray(second_s) / scale) ** overlap
    return np.where(most > 0, most * powers ** (1.0 / np.asarray(overlap)), 0.0)
