"""Networks in files of users' (`facesim.spec.own_model`): kept by their content, loaded, and put under facesim's head.

A file defines `function(image_shape, identities) -> keras.Model`: from images of `image_shape` (height, width,
channels), pixels 0..255, to one number for each identity. Its classifier, the last layer with parameters, is replaced
by facesim's head; what that layer takes is the embedding.

A file is code, and is only run where the user has named it with --model: then its content is kept,

    cache_dir/networks/<digits of its SHA-256>/<name>.py

and a run's network is loaded from there, wherever the run came from. A task finds it in the folder that its environment
names, because other machines have no such cache. Whatever is run has the SHA-256 that the job has.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from facesim.spec.own_model import OwnModel, sha256_of
from facesim.util.errors import InputError
from facesim.util.folders import cache_folder

if TYPE_CHECKING:
    import keras

#: The variable of a task's environment with the folder that holds the file.
ENVIRONMENT = "FACESIM_NETWORK"


def kept_in(own_model: OwnModel) -> Path:
    """The folder that keeps the file, or would."""
    return cache_folder() / "networks" / own_model.sha256


def source_file(own_model: OwnModel) -> Path:
    """The file with the network's content.

    Raises:
        InputError: it is not here.
    """
    for folder in filter(None, (os.environ.get(ENVIRONMENT), kept_in(own_model))):
        for file in sorted(Path(folder).glob("*.py")):
            if sha256_of(file) == own_model.sha256:
                return file
    raise InputError(
        f"the network is code in a file, {own_model.path}, which was not used on this machine as it was then (SHA-256 "
        f"{own_model.sha256}...): look at that file, and if you trust it, name it once, facesim run --dry-run --model "
        f"{own_model.path}:{own_model.function}"
    )


def build_own(own_model: OwnModel, image_shape: tuple[int, int, int], identities: int) -> keras.Model:
    """What the user's function returns.

    Raises:
        InputError: the file or the function fails, or returns something else than a network.
    """
    import keras

    file = source_file(own_model)
    try:
        made = _function(own_model, file)(image_shape, identities)
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{own_model.path}: {own_model.function} failed{_line(error, file)}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, keras.Model):
        raise InputError(f"{own_model.path}: {own_model.function} returned {type(made).__name__}, not a keras.Model")
    return made


def features(own_model: OwnModel, pixels: keras.KerasTensor, identities: int) -> keras.KerasTensor:
    """The features (batch, dimensions) that the user's network takes from `pixels` (batch, height, width, channels).

    Raises:
        InputError: it is no network with a classifier for so many identities; the message says what it is.
    """
    import keras

    shape = tuple(pixels.shape[1:])
    model = build_own(own_model, shape, identities)
    subject = f"{own_model.path}: the network of {own_model.function}"
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(f"{subject} must be functional or sequential, from one tensor of images to one of numbers")
    if tuple(inputs[0].shape[1:]) != shape:
        raise InputError(
            f"{subject} takes images of {tuple(inputs[0].shape[1:])}, not of {shape}: use the image_shape given"
        )
    classifier = outputs[0]._keras_history.operation
    while not getattr(classifier, "weights", ()) and not isinstance(classifier, keras.layers.InputLayer):
        classifier = _only_input(classifier, subject)._keras_history.operation  # softmax, dropout
    taken = None if isinstance(classifier, keras.layers.InputLayer) else _only_input(classifier, subject)
    if taken is None or tuple(outputs[0].shape[1:]) != (identities,) or len(taken.shape) != 2:
        raise InputError(
            f"{subject} ends in {type(classifier).__name__} with the shape {tuple(outputs[0].shape[1:])}; its last "
            f"layer with parameters must be the classifier, keras.layers.Dense(identities), on features (batch, "
            f"dimensions)"
        )
    backbone = keras.Model(inputs[0], taken, name=own_model.short)
    return backbone(keras.ops.cast(pixels, inputs[0].dtype))


def layers_of(own_model: OwnModel) -> dict[str, type]:
    """The layers that the user's file defines, by name, as Keras needs them to load a saved network.

    Raises:
        InputError: the file is not here, or cannot be loaded.
    """
    import keras

    module = _module(own_model, source_file(own_model))
    return {
        name: kind for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, keras.Layer)
    }


def _only_input(operation: Any, subject: str) -> keras.KerasTensor:
    taken = operation.input
    if isinstance(taken, (list, tuple, dict)):
        raise InputError(
            f"{subject} joins several tensors after its last layer with parameters; end in a Dense(identities)"
        )
    return taken


def _function(own_model: OwnModel, file: Path) -> Callable[..., Any]:
    function = getattr(_module(own_model, file), own_model.function, None)
    if not callable(function):
        defined = [key for key, value in vars(_module(own_model, file)).items() if inspect.isfunction(value)]
        raise InputError(
            f"{own_model.path} has no function {own_model.function}; it has {', '.join(defined) or 'none'}"
        )
    return function


def _module(own_model: OwnModel, file: Path) -> ModuleType:
    name = f"facesim_network_{own_model.sha256}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None  # it ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever the user's code raises
            del sys.modules[name]
            alone = "; the file alone is sent to other machines: put into it what it imports from files beside it"
            remedy = alone if isinstance(error, ImportError) else ""
            raise InputError(
                f"{own_model.path} cannot be loaded{_line(error, file)}: {type(error).__name__}: {error}{remedy}"
            ) from error
    return sys.modules[name]


def _line(error: BaseException, file: Path) -> str:
    """Where in the user's file an error came up, in words."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(file):
            line = frame.tb_lineno
        frame = frame.tb_next
    return f" (line {line})" if line else ""


def _try(text: str, image_shape: tuple[int, int, int], identities: int) -> dict[str, int]:
    """Build the network, use it, and save and load its parameters, as a training would: what it is, in numbers.

    Raises:
        InputError: something of that fails.
    """
    from facesim import models

    own_model = OwnModel.find(text)
    assert own_model is not None
    network = models.build(text, image_shape, identities)
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (2, *image_shape), np.uint8)
    try:
        outputs = np.asarray(network(images, training=True)), np.asarray(network(images, training=False))
        with tempfile.TemporaryDirectory() as folder:
            network.save(Path(folder) / "model.keras")
            models.load(Path(folder) / "model.keras", text)
    except InputError as error:
        raise InputError(
            f"{own_model.path}: what the network of {own_model.function} saved cannot be loaded: {error}"
        ) from error
    except Exception as error:  # whatever the user's layers raise
        raise InputError(
            f"{own_model.path}: the network of {own_model.function} cannot be used: {type(error).__name__}: {error}"
        ) from error
    if not all(np.isfinite(values).all() for values in outputs):
        raise InputError(
            f"{own_model.path}: the network of {own_model.function} gives numbers that are not finite for random images"
        )
    dimensions = int(network.layers[-1].input.shape[-1])
    return {"dimensions": dimensions, "parameters": int(network.count_params())}


if __name__ == "__main__":  # in a process of its own: it loads TensorFlow, and runs the user's code
    try:
        print(json.dumps(_try(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))))
    except InputError as error:
        print(json.dumps({"error": str(error)}))
