"""Keeps TensorFlow's talk about the machine off a command's output."""

import os


def hush_tensorflow() -> None:
    """Have TensorFlow, which must not be imported yet, report errors only."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
