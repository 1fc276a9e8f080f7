"""Who finds faces in a picture, by name. Another package adds one by an entry point of `facesim.detectors`."""

from __future__ import annotations

import os
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

_LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


def _mtcnn() -> Detector:
    """MTCNN (Zhang et al., 2016), with the weights that come with the package mtcnn, under the MIT licence."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from mtcnn import MTCNN
    except ModuleNotFoundError:
        remedy = "pip install 'facesim[align]'"
        raise InputError(f"the detector mtcnn is not installed: {remedy}", remedy=remedy) from None
    network = MTCNN(device="CPU:0")

    def detect(picture: np.ndarray) -> list[Face]:
        faces = []
        for found in network.detect_faces(picture) or []:
            _, _, width, height = found["box"]
            landmarks = np.array([found["keypoints"][name] for name in _LANDMARKS], float)
            faces.append(Face(landmarks, float(width * height)))
        return faces

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
