"""What is searched: options of an experiment, each with a range or a list of values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from facesim.spec.data import DataSpec
from facesim.spec.job import options
from facesim.spec.options import flag
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: What is searched where nothing else is named.
DEFAULT = {"learning_rate": "1e-5..1e-2", "batch": "16,32,64"}

#: A range whose ends are so many times apart is searched on a logarithmic scale.
_LOG_FROM = 10.0


@dataclass(frozen=True)
class Axis:
    """The values of one option: from `low` to `high`, or one of `choices`."""

    name: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def logarithmic(self) -> bool:
        return self.low is not None and self.high is not None and 0 < self.low * _LOG_FROM <= self.high

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values by which it is known whether the option may have all of them."""
        return self.choices or (self.low, self.high)

    @property
    def whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def distribution(self) -> BaseDistribution:
        """The values as Optuna has them."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        assert self.low is not None and self.high is not None
        if self.whole:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.logarithmic)
        return distributions.FloatDistribution(self.low, self.high, log=self.logarithmic)

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def read_space(given: Mapping[str, str | Sequence[Any]]) -> dict[str, Axis]:
    """Axes by the option that they are of. A value is a range (`1e-5..1e-2`), values with commas between, or a list.

    Raises:
        InputError: an option is unknown, cannot be searched, or a range or value is none of the option's.
    """
    return {(axis := _axis(name, value)).name: axis for name, value in given.items()}


def read_texts(texts: Sequence[str]) -> dict[str, str]:
    """`learning-rate=1e-5..1e-2`, as the command line has an axis, by option.

    Raises:
        InputError: it is none, or an option is given twice.
    """
    space: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or name in space:
            problem = "is given twice" if equals else "says no values: write learning-rate=1e-5..1e-2 or batch=16,32,64"
            raise InputError(f"--search {text!r} {problem}", field="search", value=text)
        space[name] = value
    return space


def _axis(name: str, value: str | Sequence[Any]) -> Axis:
    option = options().get(name)
    searched = [one.name for one in options().values() if one.path[0] == "experiment" and one.name not in _FIXED]
    if name not in searched:
        message = f"--search {flag(name)[2:]} cannot be searched, only {', '.join(flag(one)[2:] for one in searched)}"
        raise InputError(message, field=name, allowed=searched)
    assert option is not None

    def read(text: Any) -> Any:
        try:
            if option.kind is bool:
                return {"yes": True, "true": True, "no": False, "false": False}[str(text).lower()]
            number = option.kind(text)
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError("not finite")
            if isinstance(text, bool) or (isinstance(text, float) and number != text):
                raise ValueError("another number than was given")
            return number
        except (ValueError, KeyError, TypeError):
            allowed = {bool: "yes or no", int: "a whole number", float: "a number"}.get(option.kind, "a text")
            message = f"--search {flag(name)[2:]}: {text!r} is no value of it: it must be {allowed}"
            raise InputError(message, field=name, value=text, allowed=allowed) from None

    if not isinstance(value, Sequence):
        message = f"--search {flag(name)[2:]} is {value!r}; it has to be a range, such as '1e-5..1e-2', or a list"
        raise InputError(message, field=name, value=value)
    if isinstance(value, str) and ".." in value and option.kind in (int, float):
        low, high = (read(part.strip()) for part in value.split("..", 1))
        if not low < high:
            message = f"--search {flag(name)[2:]}: the range {value} is empty: its first end must be the lower one"
            raise InputError(message, field=name, value=value)
        return Axis(name, low, high)
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
    choices = tuple(dict.fromkeys(read(part) for part in parts))
    if len(choices) < 2:
        message = f"--search {flag(name)[2:]}: one value is nothing to search; give it as {flag(name)} instead"
        raise InputError(message, field=name, value=value)
    return Axis(name, choices=choices)


#: Options of which every trial has the same value: they choose the images, or the work that trials are compared by.
_FIXED = {*DataSpec.model_fields, "recipe", "pretrained", "evaluate_every", "epochs"}
