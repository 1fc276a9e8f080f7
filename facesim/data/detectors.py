"""Who finds faces in a picture: by name, which another package may add by an entry point of `facesim.detectors`, or an
ONNX file of the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facesim.util.errors import InputError
from facesim.util.files import open_regular, why_unread
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


_SUFFIX = ".onnx"

#: What a file's outputs are called, and the shape that each has for a face.
_OUTPUTS = {"landmarks": (5, 2), "boxes": (4,)}
_PIXELS = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
_CONTRACT = (
    "A detector takes one picture, uint8 or float32 (1, height, width, 3) of any size, RGB from 0 to 255, and gives "
    "landmarks (faces, 5, 2) and boxes (faces, 4), in pixels."
)


def _of_onnx(file: Path) -> Detector:
    """A network in a file: of a face it gives the landmarks, in the order of `Face`, and the box: left, top, right and
    bottom.

    Raises:
        InputError: it cannot be read, or is not that.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        remedy = "pip install 'facesim-cluster[detector]'"
        raise InputError(f"{file} is run by onnxruntime, which is not installed: {remedy}", remedy=remedy) from None
    try:
        open_regular(file).close()
        network = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except (OSError, ValueError) as error:
        raise InputError(f"--detector {file}: {why_unread(error)}. Name a file that you may read.") from None
    except Exception as error:  # of ONNX Runtime's own kinds
        raise InputError(f"--detector {file} is no ONNX file that can be run: {_first_line(error)}") from None
    inputs, outputs = network.get_inputs(), [output.name for output in network.get_outputs()]
    pixels = _PIXELS.get(inputs[0].type) if len(inputs) == 1 else None
    if pixels is None or not set(_OUTPUTS) <= set(outputs):
        takes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise InputError(f"--detector {file} takes {takes} and gives {', '.join(outputs)}. {_CONTRACT}")

    def detect(picture: np.ndarray) -> list[Face]:
        try:
            given = network.run(list(_OUTPUTS), {inputs[0].name: picture[None].astype(pixels)})
        except Exception as error:  # as above
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            why = _first_line(error)
            raise InputError(f"--detector {file} fails with a picture of {size} pixels: {why}. {_CONTRACT}") from None
        outputs = [np.asarray(one, float) for one in given]
        if any(one.shape != (len(outputs[0]), *shape) for one, shape in zip(outputs, _OUTPUTS.values(), strict=True)):
            shapes = " and ".join(f"{name} {one.shape}" for name, one in zip(_OUTPUTS, outputs, strict=True))
            raise InputError(f"--detector {file} gives {shapes}. {_CONTRACT}")
        if not all(np.isfinite(one).all() for one in outputs):
            raise InputError(f"--detector {file} gives numbers that are not finite. {_CONTRACT}")
        if outputs[0].size and np.abs(outputs[0]).max() <= 1:
            raise InputError(f"--detector {file} gives landmarks from 0 to 1, as shares of the picture. {_CONTRACT}")
        return [Face(points, (box[2] - box[0]) * (box[3] - box[1])) for points, box in zip(*outputs, strict=True)]

    detect(np.full((96, 128, 3), 128, np.uint8))  # what is wrong with it is said before anything is written
    return detect


def _first_line(error: Any) -> str:
    return str(error).strip().partition("\n")[0]


def detector_called(name: str) -> Detector:
    """The detector of that name, or of that ONNX file, ready.

    Raises:
        InputError: there is none, it is no detector, or its package is not installed.
    """
    if name.lower().endswith(_SUFFIX):
        return _of_onnx(Path(name))
    try:
        return DETECTORS[DETECTORS.check(name)]()
    except ValueError as error:
        raise InputError(f"--detector {name} is not allowed: {error}; or name an ONNX file") from None
