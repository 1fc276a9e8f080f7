"""How many parameters a network of a published measurement has, by any of the names that it goes by."""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Any

from benchmarks.published.curves import positive
from facesim.forecast.constants import constants, plain_name

FLOAT_BYTES = 4


def param_bytes(row: dict[str, Any]) -> float | None:
    """The parameter bytes of the model of a row, as the row or else the table tells; None: neither does."""
    for name, unit in (("params_millions", 1e6), ("parameters", 1.0), ("params_MB", 1e6 / FLOAT_BYTES)):
        if size := positive(row, name):
            return size * unit * FLOAT_BYTES
    millions = constants("model_parameters_millions").values
    known = next((millions[each] for each in _spellings(str(row.get("model", ""))) if each in millions), None)
    return None if known is None else known * 1e6 * FLOAT_BYTES


def bytes_to_sum(model: str, row: dict[str, Any], given: Sized, several: Sized, start: str) -> float | str:
    """The parameter bytes of a `model`, as `row` tells them; or in words why its `several` hosts cannot be forecast
    from the rows of one that are `given`, which `start` describes.
    """
    if not several:
        return "only one host was measured"
    if not given:
        return f"no row of {start}, from which it would start"
    return param_bytes(row) or f"how many parameters {model} has is not known"


def _spellings(model: str) -> list[str]:
    """`ResNet-18, CIFAR-10` is resnet18; `resnet50_v1.5` is resnet50; InceptionV3 is inception3."""
    name = model.split(",", maxsplit=1)[0].strip()
    names = []
    for part in (model, name, re.sub(r"[-_ ]?v\d+(\.\d+)?$", "", name, flags=re.IGNORECASE)):
        plain = plain_name(part)
        names += [plain, re.sub(r"v(?=\d)", "", plain)]
    return names
