"""Who finds faces in a picture, by name. Another package adds one by an entry point of `facesim.detectors`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from facesim.util.errors import InputError
from facesim.util.registry import Registry


class Face(NamedTuple):
    """Where a face is: the centres of both eyes, the tip of the nose, and both corners of the mouth, float (5, 2), x
    and y in pixels, each time first the one further left in the picture; and its area in pixels.
    """

    landmarks: np.ndarray
    area: float


#: Finds the faces of a picture, uint8 (height, width, 3), RGB.
Detector = Callable[[np.ndarray], list[Face]]


def _mtcnn() -> Detector:
    """MTCNN (Zhang et al., 2016), with the weights that come with the package mtcnn, under the MIT licence."""
    try:
        from mtcnn import MTCNN
    except ModuleNotFoundError:
        remedy = "pip install 'facesim-cluster[align]'"
        raise InputError(f"the detector mtcnn is not installed: {remedy}", remedy=remedy) from None
    network = MTCNN(device="CPU:0")

    def detect(picture: np.ndarray) -> list[Face]:
        # A row a face: the picture's number, two corners, the confidence, and of the landmarks, in the order of `Face`,
        # all x and then all y.
        rows = np.asarray(network.detect_faces(picture, box_format="xyxy", output_type="numpy"), float).reshape(-1, 16)
        return [Face(row[6:].reshape(2, 5).T, (row[3] - row[1]) * (row[4] - row[2])) for row in rows]

    return detect


DETECTORS: Registry[Callable[[], Detector]] = Registry("detector", "facesim.detectors", {"mtcnn": _mtcnn})


def detector_called(name: str) -> Detector:
    """The detector of that name, ready.

    Raises:
        InputError: there is none, or its package is not installed.
    """
    try:
        return DETECTORS[DETECTORS.check(name)]()
    except ValueError as error:
        raise InputError(f"--detector {name} is not allowed: {error}") from None
