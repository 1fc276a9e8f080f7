"""Keeps TensorFlow's talk about the machine off a command's output."""

import os
import signal
import threading

from facesim.models.framework import load_keras


def hush_tensorflow() -> None:
    """Import TensorFlow and Keras without what its libraries print while they load, that no setting silences.

    Ctrl-C meanwhile ends the command at once, with exit code 130: an exception in the middle of these imports can be
    taken for a library that is missing.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    errors, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)

    def interrupted(*_: object) -> None:
        os.write(errors, b"facesim: interrupted\n")
        os._exit(130)

    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupted) if ours else None
    os.dup2(nowhere, 2)
    try:
        load_keras()  # before TensorFlow, which imports Keras, too
        import tensorflow  # noqa: F401
    finally:
        os.dup2(errors, 2)
        if ours:
            signal.signal(signal.SIGINT, before)
        os.close(errors)
        os.close(nowhere)
