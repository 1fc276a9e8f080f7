"""The networks: a backbone, from pixels to features, and a head, from features to logits.

`MODELS` and `HEADS` name them without importing Keras. Adding a backbone is one module with a `features` and one line;
another package adds one by an entry point of `facesim.models` or `facesim.heads`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.own_model import OwnModel
from facesim.util.registry import Registry, loaded

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Model:
    """A backbone, as far as it is known without Keras.

    features: from images (batch, height, width, channels), pixels 0..255, to features (batch, dimensions), both Keras
        tensors; or where that function is, `module:function`.
    summary: one line for listings.
    dimensions: of its embedding, by the images' height and width in pixels.
    """

    features: str | Callable[[Any], Any]
    summary: str
    dimensions: Callable[[int], int]


@dataclass(frozen=True)
class Head:
    """A head: whether its logits are scaled cosines, what it does, and its margin.

    margin: from the true identity's cosine (n,) and the margin to the cosine that training uses in its place, in
        `keras.ops`; or where that function is, `module:function`.
    sampled: whether each update is made of some identities alone (`facesim.models.sampling`); for cosines only.
    """

    cosine: bool
    summary: str
    margin: str | Callable[[Any, float], Any] | None = None
    sampled: bool = False


def _always(dimensions: int) -> Callable[[int], int]:
    return lambda image_size: dimensions


def _flattened(image_size: int) -> int:
    """64 channels after three 3x3 convolutions with stride 2 and no padding."""
    for _ in range(3):
        image_size = (image_size - 3) // 2 + 1
    return 64 * image_size**2


MODELS: Registry[Model] = Registry(
    "network",
    "facesim.models",
    {
        "paper-cnn": Model(
            "facesim.models.paper_cnn:features",
            "the paper's network as published: 3 convolutions, dense 1024",
            _always(1024),
        ),
        "plain-cnn": Model(
            "facesim.models.plain_cnn:features",
            "3 convolutions, nothing random, no batch statistics: for checks",
            _flattened,
        ),
        "compact-cnn": Model(
            "facesim.models.compact_cnn:features",
            "a small sensible one: 4 blocks, global average pooling",
            _always(160),
        ),
        "resnet-small": Model(
            "facesim.models.resnet_small:features",
            "3 residual stages, 128-d embedding: few photographs, CPUs",
            _always(128),
        ),
        "texture": Model(
            "facesim.models.texture:features",
            "local binary patterns and one layer that learns, 128-d embedding: few photographs, any light",
            _always(128),
        ),
        "texture-resnet": Model(
            "facesim.models.texture_resnet:features",
            "texture and resnet-small side by side, 256-d embedding",
            _always(256),
        ),
        "mobilefacenet": Model(
            "facesim.models.mobilefacenet:features", "MobileFaceNet (Chen et al., 2018), 128-d embedding", _always(128)
        ),
        "resnet50": Model(
            "facesim.models.resnet50:features",
            "ResNet-50 (He et al., 2016), untrained, 512-d embedding: for GPUs",
            _always(512),
        ),
        "efficientnet-b0": Model(
            "facesim.models.efficientnet_b0:features",
            "EfficientNet-B0 (Tan and Le, 2019), untrained, 512-d embedding: for GPUs",
            _always(512),
        ),
    },
)

HEADS: Registry[Head] = Registry(
    "head",
    "facesim.heads",
    {
        "softmax": Head(False, "a linear classifier"),
        "cosine": Head(True, "scaled cosines between the embedding and each identity's centre (Wang et al., 2017)"),
        "cosface": Head(
            True, "cosines, with a margin on the cosine in training (Wang et al., 2018)", "facesim.models.heads:cosface"
        ),
        "arcface": Head(
            True, "cosines, with a margin on the angle in training (Deng et al., 2019)", "facesim.models.heads:arcface"
        ),
        "partial-fc": Head(
            True,
            "arcface for very many people: an update is of a sample of them, --sample-rate (An et al., 2022)",
            "facesim.models.heads:arcface",
            sampled=True,
        ),
    },
)


def build(
    name: str,
    image_shape: tuple[int, int, int],
    identities: int,
    *,
    head: str = "softmax",
    margin_scale: float = 30.0,
    augment: bool = False,
) -> keras.Model:
    """Build network `name`, or a user's own (`facesim.models.own`), for uint8 images of `image_shape` (height, width,
    channels) and `identities` classes.

    The model takes pixels as they are stored, 0..255, scales them itself, and returns logits, float32 (batch,
    identities): with a cosine head, `margin_scale` times the cosine. With `augment` it alters images at random while it
    trains, and only then. Its last layer is the head; what that layer takes is the image's embedding. After
    `keras.utils.set_random_seed` its parameters are the same, to rounding, on every framework.
    """
    from facesim.models.framework import load_keras

    keras = load_keras()
    from facesim.models import heads, own
    from facesim.models.augmentation import Augmentation
    from facesim.models.draws import drawn_alike

    with nullcontext() if keras.config.backend() == TENSORFLOW else drawn_alike():
        images = keras.Input(image_shape, dtype="uint8")
        pixels = Augmentation(dtype="float32")(images) if augment else images
        if own_model := OwnModel.find(name):
            features = own.features(own_model, pixels, identities)
        else:
            features = loaded(MODELS[name].features)(pixels)
        kind = HEADS[head]
        logits = heads.logits(features, identities, margin_scale if kind.cosine else None, kind.sampled)
        return keras.Model(images, logits, name=network_name(name))


def network_name(name: str) -> str:
    """What Keras calls network `name`."""
    own_model = OwnModel.find(name)
    return own_model.short if own_model else name.replace("-", "_")


def is_network(called: str, name: str) -> bool:
    """Whether what Keras calls `called` is network `name`; a user's own is known by its content."""
    own_model = OwnModel.find(name)
    return own_model.is_called(called) if own_model else called == network_name(name)


def take_backbone(model: keras.Model, file: Path) -> None:
    """Give `model` the parameters and batch statistics of the model in a .keras file, all but the head's.

    Only numbers are read from the file. What the model draws at random stays as it is.

    Raises:
        InputError: the file holds no such network.
    """
    import keras

    from facesim.models.augmentation import Augmentation
    from facesim.util.errors import InputError

    pixels = next((layer.output for layer in model.layers if isinstance(layer, Augmentation)), model.input)
    backbone = keras.Model(pixels, model.layers[-1].input)
    seeds = [v for v in backbone.non_trainable_variables if v.path.endswith("seed_generator_state")]
    drawn = [seed.numpy() for seed in seeds]
    try:
        backbone.load_weights(file)
    except Exception as error:  # as in `load`
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{file} does not fit the network {model.name}: {reason}") from None
    for seed, value in zip(seeds, drawn, strict=True):
        seed.assign(value)


def load(path: Path, name: str = "") -> keras.Model:
    """The model that a run saved, with facesim's own layers known to Keras, and what the file of the network `name`
    defines, if that is a user's own.

    Raises:
        InputError: there is no file, it is not a Keras model, or the code of the user's network is not here.
    """
    from facesim.models.framework import load_keras
    from facesim.util.errors import InputError
    from facesim.util.files import check_fits_memory, open_regular

    keras = load_keras()
    from facesim.models import augmentation, heads, own  # noqa: F401  importing makes their layers known to Keras

    own_model = OwnModel.find(name)
    known = own.objects_of(own_model) if own_model else {}
    try:
        if not path.exists():
            raise InputError(f"there is no model {path}; name a run that has completed")
        open_regular(path).close()
        with zipfile.ZipFile(path) as archive:
            check_fits_memory(archive, path)
        return keras.saving.load_model(path, custom_objects=known, compile=False)
    except InputError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib, json or Keras, each with errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} is not a model that facesim can load: {reason}; name one that a completed run saved"
        ) from None


def embedder(model: keras.Model) -> keras.Model:
    """The same network up to its embedding: images in, what its head takes out, (batch, dimensions)."""
    import keras

    return keras.Model(model.input, model.layers[-1].input, name=f"{model.name}_embedding")
