"""A table that somebody published, shown beside a study's own numbers: the `[published]` part of a study file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from facesim.report.cells import AUDIT_WORDS, NOTHING, cell_text
from facesim.report.measures import measures
from facesim.report.rows import Row
from facesim.report.words import estimated
from facesim.util.errors import InputError
from facesim.util.words import count_text

#: In place of the name of a measure: whether the replicas trained together.
_AUDIT = "trained_together"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedLine(_Closed):
    """What was published under a name, a value a column; `measure` is that of facesim's that is meant, if any."""

    label: str
    values: tuple[str, ...]
    measure: str | None = None


class Published(_Closed):
    """A published table with its source, and notes on what its numbers are."""

    source: str
    columns: tuple[str, ...]
    lines: tuple[PublishedLine, ...]
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_a_table(self) -> Published:
        known = {_AUDIT, *measures(None)}
        for line in self.lines:
            if len(line.values) != len(self.columns):
                raise ValueError(
                    f"{line.label!r} has {count_text(len(line.values), 'value')} and the table "
                    f"{count_text(len(self.columns), 'column')}"
                )
            if line.measure is not None and line.measure not in known:
                raise ValueError(f"{line.measure!r} is no measure; there are {', '.join(sorted(known))}")
        return self

    @classmethod
    def read(cls, content: Any, where: str) -> Published:
        """From a file's content.

        Raises:
            InputError: it is no such table; `where` begins the message.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, ("published", *problem["loc"])))
            raise InputError(f"{where}: {place}: {problem['msg'].removeprefix('Value error, ')}") from None

    def beside(self, rows: tuple[Row, ...]) -> list[tuple[str, ...]]:
        """The table with a column for each row of a comparison: its heading, and its lines."""
        heading = ("", *self.columns, *(f"here: {row.label}" for row in rows))
        return [heading, *((line.label, *line.values, *(_measured(row, line) for row in rows)) for line in self.lines)]


def _measured(row: Row, line: PublishedLine) -> str:
    if line.measure == _AUDIT:
        return AUDIT_WORDS.get(row.audit, row.audit or NOTHING)
    if line.measure is None:
        return NOTHING
    measure, estimate = row.measures[line.measure], row.estimate(line.measure)
    if estimate is not None and line.measure == "held_out_accuracy":  # whose interval no other line of this table has
        return estimated(estimate, measure.unit)
    return cell_text(row, line.measure, measure)
