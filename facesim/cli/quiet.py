"""Keeps TensorFlow's talk about the machine off a command's output."""

import os

from facesim.models.framework import load_keras


def hush_tensorflow() -> None:
    """Import TensorFlow and Keras without what its libraries print while they load, that no setting silences."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    errors, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        load_keras()  # before TensorFlow, which imports Keras, too
        import tensorflow  # noqa: F401
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(nowhere)
