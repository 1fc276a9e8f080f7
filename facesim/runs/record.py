"""What every record of a run is read and written by: JSON, a frozen type, and errors that say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from facesim.util.errors import InputError
from facesim.util.files import read_text, write_json

REMEDY = "leave this run out of the report, or run the job again"

AnyRecord = TypeVar("AnyRecord", bound="Record")

#: The last second of the year 9999; for later ones calendars have no date.
LATEST_UNIX_S = 253_402_300_799
#: Seconds since 1970.
Moment = Annotated[float, Field(ge=0, le=LATEST_UNIX_S)]


class Record(BaseModel):
    """Something that a run left. Its fields can also be read by their names in the file: `result["state"]`."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, content: Any) -> Any:
        return {k: v for k, v in content.items() if v is not None} if isinstance(content, dict) else content

    def __getitem__(self, name: str) -> Any:
        if name in type(self).model_fields or name in (self.model_extra or {}):
            return getattr(self, name)
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    @classmethod
    def read(cls: type[AnyRecord], path: Path) -> AnyRecord:
        """The record that the file `path` holds.

        Raises:
            InputError: it cannot be read, or is not what facesim writes.
        """
        return validated(cls, path, read_json(path))

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        write_json(path, self.model_dump(mode="json"))


def read_json(path: Path) -> Any:
    """What a JSON file of a run holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise InputError(f"cannot read {path}: it is nested too deep to be JSON of facesim's; {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; {REMEDY}") from None


def validated(model: type[AnyRecord], path: Path, content: Any) -> AnyRecord:
    """`content`, which is from `path`, as a record.

    Raises:
        InputError: it is not what facesim writes; the message names the first field that is wrong.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its content"
        raise InputError(f"{path} is not what facesim writes: {field}: {problem['msg']}; {REMEDY}") from None
