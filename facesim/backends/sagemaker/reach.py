"""What AWS cannot be asked for, for how long already, and what the user is told of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress

from facesim.backends.sagemaker.session import Account, CredentialsError, DeniedError, RefusedError
from facesim.runs.events import Event, OutOfReach
from facesim.util.errors import FacesimError

#: How often an event says that AWS cannot be asked, while the reason stays the same.
_TELL_AGAIN_S = 300.0


class Reach:
    """Remembers failures by what was asked for, until that has gone well."""

    def __init__(self, account: Account):
        self._account = account
        #: Since when it has been denied, when an event last said so, and why.
        self._failures: dict[str, tuple[float, float, str]] = {}

    def __contains__(self, what: str) -> bool:
        """Whether AWS could be asked for it the last time, or has not been asked yet."""
        return what not in self._failures

    def reached(self, what: str) -> None:
        self._failures.pop(what, None)

    def failed(self, what: str, error: FacesimError) -> Iterator[Event]:
        """Tell now and then that it failed. Credentials are read again, for the user may have signed in."""
        now, why = time.monotonic(), str(error)
        since, reported_s, previous = self._failures.get(what, (now, -math.inf, ""))
        if now - reported_s > _TELL_AGAIN_S or why != previous:
            reported_s = now
            yield OutOfReach(what=what, why=why)
        if not isinstance(error, (DeniedError, RefusedError)):
            since = now  # it may still go well
        self._failures[what] = (since, reported_s, why)
        if isinstance(error, CredentialsError):
            with suppress(FacesimError):  # the next attempt tells
                self._account.renew()

    def denied_s(self, what: str) -> float:
        """For how long AWS has denied it for a reason that does not pass by itself."""
        return time.monotonic() - self._failures[what][0] if what in self._failures else 0.0
