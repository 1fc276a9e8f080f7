"""Names of instance types, checked against the catalogue."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from facesim.util.errors import InputError
from facesim.util.registry import resolve


def _known_instance(name: str) -> str:
    try:
        return resolve("facesim.billing.catalogue:instance")(name).name
    except InputError as error:
        raise ValueError(str(error)) from None


#: The name of an instance type of the catalogue, such as `ml.m5.2xlarge`.
KnownInstance = Annotated[str, AfterValidator(_known_instance)]
