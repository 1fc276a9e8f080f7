"""How long, how costly, how sure: clusters that nobody has run, from what one machine can measure. No TensorFlow here.

profile_data  what was measured on one machine: `Profile`
hosts         the types of hosts: the catalogue's, and the user's from a TOML file
shapes        what a job would run on: `ClusterShape`
placement     messages and bytes of each parameter server, from the variables
laws          the formulas, each with its source
speeds        the formulas for many shapes at once
model         `forecast_job`: time by phase, dollars, interval, what bounds it, what was assumed
intervals     how far off such forecasts were
simulate      event simulation, for what formulas cannot: stragglers, mixed hosts, spot, the order of updates
replay        accuracy of a cluster: orders of updates for a replay in one process, and what follows from it
constants     constants with source and date, in `constants.json`
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package can be called, too: `facesim.forecast(...)` is `facesim.api.forecast`."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return import_module("facesim.api").forecast(*given, **named)


sys.modules[__name__].__class__ = _Callable
