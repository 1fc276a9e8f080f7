"""A module that makes the process which loads it take its time between its last word and its end."""

import os
import time

_exit = os._exit


def _exit_later(code: int) -> None:
    time.sleep(1.0)
    _exit(code)


os._exit = _exit_later
