"""facesim: the same face-recognition training on one machine and on a cluster, measured and compared honestly.

From Python: `facesim.run`, `facesim.Study`, `facesim.load`, `facesim.compare`, `facesim.forecast`, `facesim.plan`;
`facesim.api` describes them. They are imported when they are first used.
"""

# Nothing may be imported here: `facesim.__main__` has not yet seen to it that the standard library is found before a
# file of the user's that is called like one of its modules. Type checkers know this name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from facesim import audit
    from facesim.api import (
        Comparison,
        EndRun,
        JsonLines,
        Observer,
        Plan,
        Recognizer,
        Run,
        Study,
        Tracking,
        Tuning,
        compare,
        forecast,
        load,
        plan,
        run,
        tune,
    )
    from facesim.util.errors import FacesimError, InputError

try:
    from facesim._version import __version__  # written when it is built or installed, from the tag
except ModuleNotFoundError:
    __version__ = "0.1.dev0"

__all__ = [
    "Comparison",
    "EndRun",
    "FacesimError",
    "InputError",
    "JsonLines",
    "Observer",
    "Plan",
    "Recognizer",
    "Run",
    "Study",
    "Tracking",
    "Tuning",
    "audit",
    "compare",
    "forecast",
    "load",
    "plan",
    "run",
    "tune",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("audit", "forecast"):  # packages; the second can be called
        from importlib import import_module

        return import_module(f"facesim.{name}")
    if name.endswith("Error"):
        from facesim.util import errors as home
    else:
        from facesim import api as home
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
