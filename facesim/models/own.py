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

import hashlib
import importlib.util
import inspect
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from facesim.spec.own_model import OwnModel, sha256_of
from facesim.util.errors import InputError
from facesim.util.folders import cache_folder
from facesim.util.words import count_text

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

#: The variable of a task's environment with the folder that holds the file.
ENVIRONMENT = "FACESIM_NETWORK"

#: Methods of `keras.Model` that say what is computed and trained, of which facesim uses Keras' own.
_OF_KERAS = ("call", "compute_loss", "train_step")


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

    file, settings = source_file(own_model), _settings()
    try:
        function = _function(own_model, file)
        with redirect_stdout(sys.stderr):  # what a command prints may be JSON
            made = function(image_shape, identities)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise InputError(
            f"{own_model.path}: {own_model.function} failed{_line(error, file)}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, keras.Model):
        raise InputError(f"{own_model.path}: {own_model.function} returned {type(made).__name__}, not a keras.Model")
    if changed := [f"{name} {now}" for name, now in _settings().items() if now != settings[name]]:
        raise InputError(
            f"{own_model.path} sets Keras' {' and '.join(changed)}: settings of all layers are facesim's "
            f"(--precision), leave them out"
        )
    return made


def _settings() -> dict[str, str]:
    """Keras' settings that hold for every layer."""
    import keras

    config = keras.config
    return {
        "dtype policy": config.dtype_policy().name,
        "floatx": config.floatx(),
        "image data format": config.image_data_format(),
    }


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
        raise InputError(
            f"{subject} must be functional or sequential, from one tensor of images to one of numbers; begin it with "
            f"keras.Input(image_shape)"
        )
    if replaced := [name for name in _OF_KERAS if not _defined_by_keras(type(model), name)]:
        raise InputError(
            f"{subject} has its own {' and '.join(replaced)}, which would not be used: its layers and how they are "
            f"connected are all that is taken of it"
        )
    if tuple(inputs[0].shape[1:]) != shape:
        raise InputError(
            f"{subject} takes images of {tuple(inputs[0].shape[1:])}, not of {shape}: use the image_shape given"
        )
    if inputs[0].shape[0] is not None:
        raise InputError(
            f"{subject} takes {count_text(inputs[0].shape[0], 'image')} at a time; begin it with "
            "keras.Input(image_shape)"
        )
    classifier = outputs[0]._keras_history.operation
    while not getattr(classifier, "weights", ()) and not isinstance(classifier, keras.layers.InputLayer):
        classifier = _only_input(classifier, subject)._keras_history.operation  # softmax, dropout
    taken = None if isinstance(classifier, keras.layers.InputLayer) else _only_input(classifier, subject)
    is_dense = isinstance(classifier, keras.layers.Dense)
    if taken is None or not is_dense or tuple(outputs[0].shape[1:]) != (identities,) or len(taken.shape) != 2:
        raise InputError(
            f"{subject} ends in {type(classifier).__name__} with the shape {tuple(outputs[0].shape[1:])}; its last "
            f"layer with parameters must be the classifier, keras.layers.Dense(identities), on features (batch, "
            f"dimensions), and in no model within the model"
        )
    backbone = keras.Model(inputs[0], taken, name=own_model.short)
    return backbone(keras.ops.cast(pixels, inputs[0].dtype))


def objects_of(own_model: OwnModel) -> dict[str, Any]:
    """The classes and functions that the user's file defines, by name, as Keras needs them to load a saved network.

    Raises:
        InputError: the file is not here, or cannot be loaded.
    """
    import keras

    # Keras looks here first, also for what it calls "relu" itself.
    return {
        name: value
        for name, value in vars(_module(own_model, source_file(own_model))).items()
        if (isinstance(value, type) or inspect.isfunction(value)) and not hasattr(keras.activations, name)
    }


def _defined_by_keras(kind: type, method: str) -> bool:
    return next(base for base in kind.__mro__ if method in vars(base)).__module__.partition(".")[0] == "keras"


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
        code, spec = _code(own_model, file), importlib.util.spec_from_file_location(name, file)
        assert spec is not None  # it ends in .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with _drawing_as_before(), redirect_stdout(sys.stderr):
                exec(code, vars(module))
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            del sys.modules[name]
            raise _cannot_be_loaded(own_model, file, error) from error
    return sys.modules[name]


def _code(own_model: OwnModel, file: Path) -> CodeType:
    """What the user's file says, not what Python may have kept of an earlier one."""
    try:
        return compile(file.read_bytes(), file, "exec")
    except (SyntaxError, ValueError) as error:
        raise _cannot_be_loaded(own_model, file, error) from error


def _cannot_be_loaded(own_model: OwnModel, file: Path, error: BaseException) -> InputError:
    alone = "; the file alone is sent to other machines: put into it what it imports from files beside it"
    remedy = alone if isinstance(error, ImportError) else ""
    return InputError(f"{own_model.path} cannot be loaded{_line(error, file)}: {type(error).__name__}: {error}{remedy}")


@contextmanager
def _drawing_as_before() -> Iterator[None]:
    """Let a file that is loaded in it set no seed: initial parameters are drawn by that of the run."""
    import numpy as np

    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


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


def tried(text: str, image_shape: tuple[int, int, int], identities: int) -> dict[str, int | bool]:
    """Build the network, use it, and save and load its parameters, as a training would: what it is, in numbers, and
    whether the user compiled it.

    Raises:
        InputError: something of that fails, or another network would be trained than the user's.
    """
    from facesim import models

    own_model = OwnModel.find(text)
    assert own_model is not None
    subject = f"{own_model.path}: the network of {own_model.function}"
    _code(own_model, source_file(own_model))  # what is no Python is told before TensorFlow is loaded, for some seconds
    network = _drawn(text, image_shape, identities, seed=0)
    initial = _initial(network)
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (2, *image_shape), np.uint8)
    try:
        network(images, training=False)  # first as it is written, whose errors are easier to read
        outputs, without_gradient = _trained_on(network, images)
        in_use = np.asarray(network(images, training=False))
    except Exception as error:  # whatever the user's layers raise
        raise InputError(f"{subject} cannot be used: {type(error).__name__}: {error}") from error
    try:
        with tempfile.TemporaryDirectory() as folder:
            network.save(Path(folder) / "model.keras")
            loaded = np.asarray(models.load(Path(folder) / "model.keras", text)(images, training=False))
    except Exception as error:  # as before
        raise InputError(
            f"{own_model.path}: what the network of {own_model.function} saved cannot be loaded: {error}. Each layer's "
            f"get_config must return what its __init__ takes, and a function in a layer needs a name"
        ) from error
    if not np.isfinite([outputs, in_use]).all():
        raise InputError(f"{subject} gives numbers that are not finite for random images")
    if not np.allclose(loaded, in_use, atol=1e-4, rtol=1e-4):
        raise InputError(
            f"{subject} answers otherwise once it is saved and loaded: each layer's get_config must return all that "
            f"its __init__ takes"
        )
    if without_gradient:
        raise InputError(
            f"{subject} has parameters that cannot be trained, for the loss has no gradient in them: "
            f"{', '.join(without_gradient[:5])}; leave them out, or set trainable=False for their layers"
        )
    if len(network.losses) > sum(variable.regularizer is not None for variable in network.trainable_variables):
        raise InputError(
            f"{subject} adds losses of its own (add_loss, or an activity_regularizer), which would not be trained on: "
            f"leave them out; regularizers of parameters, such as kernel_regularizer, are trained on"
        )
    if any(variable.constraint for variable in network.trainable_variables):
        raise InputError(f"{subject} has constraints of parameters, which would not be kept: leave them out")
    again, other = (_initial(_drawn(text, image_shape, identities, seed)) for seed in (0, 1))
    if initial != again:
        raise InputError(
            f"{subject} is another one each time that it is built: draw its initial parameters with Keras' "
            f"initializers, which follow from --seed, so that every worker starts from the same ones"
        )
    if initial[-1] == other[-1]:
        raise InputError(f"{subject} is the same whatever --seed is, because the function sets a seed: leave that out")
    dimensions = int(network.layers[-1].input.shape[-1])
    compiled = build_own(own_model, image_shape, identities).compiled
    return {"dimensions": dimensions, "parameters": int(network.count_params()), "compiled": compiled}


def _drawn(text: str, image_shape: tuple[int, int, int], identities: int, seed: int) -> keras.Model:
    from facesim import models
    from facesim.models.framework import load_keras

    load_keras().utils.set_random_seed(seed)
    return models.build(text, image_shape, identities)


def _initial(network: keras.Model) -> list[bytes]:
    """Digests of the initial values of all variables, and of the head's kernel, which is drawn last."""
    values = [*network.variables, network.layers[-1].kernel]
    return [hashlib.sha256(value.numpy().tobytes()).digest() for value in values]


def _trained_on(network: keras.Model, images: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The outputs in training, and the trainable parameters that these have no gradient in, by name."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def step(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
        with tf.GradientTape() as tape:
            outputs = network(images, training=True)
        return outputs, tape.gradient(outputs, [variable.value for variable in network.trainable_variables])

    outputs, gradients = step(images)
    pairs = zip(network.trainable_variables, gradients, strict=True)
    return outputs.numpy(), [variable.path for variable, gradient in pairs if gradient is None]


if __name__ == "__main__":  # in a process of its own: it loads TensorFlow, and runs the user's code
    # What the code prints, also when the process ends, is not taken for the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        result: dict[str, Any] = tried(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
    except InputError as error:
        result = {"error": str(error)}
    with answer:
        print(json.dumps(result), file=answer)
