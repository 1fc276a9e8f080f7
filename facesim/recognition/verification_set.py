"""InsightFace's verification sets (`lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`): encoded images, two a pair, in ten folds.

A file is a pickle of two lists: the images' bytes, and for every two of them whether they show the same person. A
pickle can run code when it is read. Here it cannot: what is no list, bytes or number is refused before it is made.
"""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facesim.recognition.pairs import FOLDS, Pairs
from facesim.util.errors import InputError
from facesim.util.files import open_regular, why_unread
from facesim.util.words import count_text

SUFFIX = ".bin"

_REMEDY = "It must be a verification set of InsightFace's, such as lfw.bin."


class VerificationSet(NamedTuple):
    """Encoded images, and pairs of them as indices, in folds as InsightFace cuts them: one after the other."""

    images: list[bytes]
    pairs: Pairs


class _Plain(pickle.Unpickler):
    """Makes lists, bytes, texts and numbers only."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) == ("_codecs", "encode"):  # as Python 3 writes bytes in the second version of the format
            return _latin1
        raise pickle.UnpicklingError(f"it holds a Python object, {module}.{name}, which is never loaded")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of it")


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it holds texts that are no bytes")
    return codecs.encode(text, "latin1")


def read_verification_set(path: Path) -> VerificationSet:
    """Read a file of InsightFace's.

    Raises:
        InputError: it cannot be read, is not that, or has too few pairs for its folds.
    """
    try:
        with open_regular(path) as file:
            parts = _Plain(file, encoding="bytes").load()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {why_unread(error)}. {_REMEDY}") from None
    except Exception as error:  # whatever a damaged pickle leads to
        raise InputError(f"{path} cannot be read: {error or type(error).__name__}. {_REMEDY}") from error
    if not isinstance(parts, (tuple, list)) or len(parts) != 2 or not all(isinstance(part, list) for part in parts):
        raise InputError(f"{path} does not hold two lists. {_REMEDY}")
    images, same = parts
    if not all(isinstance(image, bytes) for image in images) or any(one not in (0, 1) for one in same):
        raise InputError(f"{path} does not hold images as bytes and truth values. {_REMEDY}")
    if len(images) != 2 * len(same):
        raise InputError(
            f"{path} holds {count_text(len(images), 'image')} and {count_text(len(same), 'pair')}, of two images each. "
            f"{_REMEDY}"
        )
    fold = np.arange(len(same)) * FOLDS // max(len(same), 1)
    truth = np.array(same, bool)
    if len(same) < 2 * FOLDS or truth.all() or not truth.any():
        raise InputError(
            f"{path} holds {count_text(len(same), 'pair')}, {int(truth.sum())} of them of the same person: for {FOLDS} "
            f"folds there must be 20 or more, of both kinds. {_REMEDY}"
        )
    numbers = np.arange(len(images))
    return VerificationSet(images, Pairs(numbers[::2], numbers[1::2], truth, fold))
