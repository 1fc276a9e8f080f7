"""The networks. `MODELS` names them without importing Keras; adding one is one module with a `build` and one line."""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import keras


class Model(NamedTuple):
    """A network, as far as it can be told without Keras."""

    module: str
    summary: str


MODELS: dict[str, Model] = {
    "paper-cnn": Model("facesim.models.paper_cnn", "the paper's network as published: 3 convolutions, dense 1024"),
    "plain-cnn": Model("facesim.models.plain_cnn", "3 convolutions, nothing random, no batch statistics: for checks"),
    "compact-cnn": Model("facesim.models.compact_cnn", "a small sensible one: 4 blocks, global average pooling"),
}


def build(name: str, image_shape: tuple[int, int, int], identities: int) -> "keras.Model":
    """Build network `name` for uint8 images of `image_shape` (height, width, channels) and `identities` classes.

    The model takes pixels as they are stored, 0..255, scales them itself, and returns logits (batch, identities).
    """
    return import_module(MODELS[name].module).build(image_shape, identities)
