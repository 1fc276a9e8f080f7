"""A request, checked against the service's own description: types, lengths, patterns and allowed values.

botocore checks types and what is required before it sends; lengths, patterns and enumerations are left to AWS.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

try:
    import regex  # the patterns are Java's: \p{L} is not known to re
except ImportError:
    regex = None


def problems(operation: str, request: Any) -> list[str]:
    """What SageMaker would refuse in a request of `operation`, such as `CreateTrainingJob`."""
    shape = _sagemaker().operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    return [report.generate_report()] if report.has_errors() else list(_constraints(request, shape, ""))


@functools.cache
def _sagemaker() -> ServiceModel:
    return botocore.session.get_session().get_service_model("sagemaker")


def _constraints(value: Any, shape: Shape, at: str) -> Iterator[str]:
    rules = shape.metadata
    if shape.type_name == "structure":
        for name, member in value.items():
            yield from _constraints(member, shape.members[name], f"{at}.{name}".lstrip("."))
        return
    size = value if shape.type_name in ("integer", "long", "float", "double") else None
    if shape.type_name in ("string", "list", "map"):
        size = len(value)
    if size is not None and not rules.get("min", size) <= size <= rules.get("max", size):
        yield f"{at}: {size} is not within {rules.get('min', '')}..{rules.get('max', '')}"
    if shape.type_name == "string":
        if "pattern" in rules and not _matches(rules["pattern"], value):
            yield f"{at}: {value!r} does not match {rules['pattern']}"
        if "enum" in rules and value not in rules["enum"]:
            yield f"{at}: {value!r} is not one of {', '.join(rules['enum'])}"
    elif shape.type_name == "list":
        for position, member in enumerate(value):
            yield from _constraints(member, shape.member, f"{at}[{position}]")
    elif shape.type_name == "map":
        for key, member in value.items():
            yield from _constraints(key, shape.key, f"{at} (key)")
            yield from _constraints(member, shape.value, f"{at}.{key}")


def _matches(pattern: str, value: str) -> bool:
    if regex:
        return bool(regex.fullmatch(pattern, value, regex.DOTALL))
    # Without the package `regex`: what names of letters and digits of all scripts is left to AWS (tags, whose rules
    # `facesim.spec.aws_names` has).
    return r"\p{" in pattern or bool(re.fullmatch(pattern, value, re.DOTALL))
