"""What another machine cannot be asked for, for how long already, and what the user is told of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from facesim.runs.events import Event, OutOfReach
from facesim.util.errors import FacesimError

#: How often an event says that something cannot be asked for, while the reason stays the same.
_TELL_AGAIN_S = 300.0


class Reach:
    """Remembers failures by what was asked for, until that has gone well.

    Args:
        denials: errors that will be the same the next time.
        bad_credentials: errors that new credentials may end; `renew` then uses those that there are now, for the user
            may have signed in again.
    """

    def __init__(
        self,
        denials: tuple[type[FacesimError], ...],
        bad_credentials: type[FacesimError],
        renew: Callable[[], None],
    ):
        self._denials, self._bad_credentials, self._renew = denials, bad_credentials, renew
        #: Since when it has been denied, when an event last said so, and why.
        self._failures: dict[str, tuple[float, float, str]] = {}

    def __contains__(self, what: str) -> bool:
        """Whether it could be asked for the last time, or has not been asked for yet."""
        return what not in self._failures

    def reached(self, what: str) -> None:
        self._failures.pop(what, None)

    def failed(self, what: str, error: FacesimError) -> Iterator[Event]:
        """Tell now and then that it failed, and see to it that it may go well the next time."""
        now, why = time.monotonic(), str(error)
        since, reported_s, previous = self._failures.get(what, (now, -math.inf, ""))
        if now - reported_s > _TELL_AGAIN_S or why != previous:
            reported_s = now
            yield OutOfReach(what=what, why=why)
        if not isinstance(error, self._denials):
            since = now  # it may still go well
        self._failures[what] = (since, reported_s, why)
        if isinstance(error, self._bad_credentials):
            with suppress(FacesimError):  # the next attempt tells
                self._renew()

    def denied_s(self, what: str) -> float:
        """For how long it has been denied for a reason that does not pass by itself."""
        return time.monotonic() - self._failures[what][0] if what in self._failures else 0.0
