"""Keras as facesim's networks are made for it, whatever a user's keras.json or environment say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

from facesim.util.errors import InputError

#: What Keras takes for its folder: the settings in it are facesim's.
_HOME = Path(__file__).with_name("keras_home")


def load_keras() -> ModuleType:
    """Import Keras with facesim's settings: TensorFlow, float32, channels last.

    In a process that has Keras already, all but the backend are set now.

    Raises:
        InputError: this process has imported Keras with another backend.
    """
    if "keras" not in sys.modules:
        for name in [name for name in os.environ if name.startswith("KERAS_")]:
            del os.environ[name]
        os.environ["KERAS_HOME"] = str(_HOME)
    import keras

    settings = json.loads((_HOME / "keras.json").read_text(encoding="utf-8"))
    backend = keras.config.backend()
    if backend != settings["backend"]:
        raise InputError(
            f"Keras was imported with the backend {backend} in this process, and facesim's networks need "
            f"{settings['backend']}: import facesim in a process of its own"
        )
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_epsilon(settings["epsilon"])
    keras.config.set_image_data_format(settings["image_data_format"])
    return keras


if __name__ == "__main__":  # whether they can be imported, and which they are
    loaded = load_keras()
    import tensorflow

    print(tensorflow.__version__, loaded.__version__)
