"""Keras as facesim's networks are made for it, whatever a user's keras.json or environment say."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from facesim.util.errors import InputError

#: What Keras takes for its folder: the settings in it are facesim's.
_HOME = Path(__file__).with_name("keras_home")

#: The backend that this process was told to use, if it was.
_chosen: list[str] = []


def load_keras(backend: str | None = None) -> ModuleType:
    """Import Keras with facesim's settings: float32, channels last, on TensorFlow unless this process was told another
    `backend` before.

    In a process that has Keras already, all but the backend are set now.

    Raises:
        InputError: this process has imported Keras with another backend.
    """
    settings = json.loads((_HOME / "keras.json").read_text(encoding="utf-8"))
    if backend:
        _chosen[:] = [backend]
    wanted = _chosen[0] if _chosen else settings["backend"]
    if "keras" not in sys.modules:
        for name in [name for name in os.environ if name.startswith("KERAS_")]:
            del os.environ[name]
        os.environ |= {"KERAS_HOME": str(_HOME), "KERAS_BACKEND": wanted}
    import keras

    loaded_on = keras.config.backend()
    if loaded_on != wanted:
        raise InputError(
            f"Keras was imported with the backend {loaded_on} in this process, and facesim's networks need {wanted}: "
            "import facesim in a process of its own"
        )
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_epsilon(settings["epsilon"])
    keras.config.set_image_data_format(settings["image_data_format"])
    return keras


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Within it, importing one of these packages fails as if it was not installed, unless it has been imported before.

    Keras imports what it would wrap, accept or draw with, if it is there, which takes a fifth of the time or more.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  what Python takes for "there is none"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


if __name__ == "__main__":  # whether they can be imported, and which they are
    loaded = load_keras()
    import tensorflow

    print(tensorflow.__version__, loaded.__version__)
