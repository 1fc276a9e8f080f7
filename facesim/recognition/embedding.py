"""Images to embeddings, by the model that a run saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facesim import models
from facesim.data.decode import BadFile, Wanted, decode, decode_bytes, read_image, shows_nothing
from facesim.data.rendering import RenderSpec
from facesim.runs.directory import Run
from facesim.util.errors import InputError
from facesim.util.unused import printable
from facesim.util.words import count_text

if TYPE_CHECKING:
    import keras

_BATCH = 256


class Embedder:
    """A run's saved model, with what the run's job says about its images.

    Raises InputError if the run has no model, or one that is not its job's.
    """

    def __init__(self, run: Run):
        self.experiment = run.job().experiment
        self.model = models.load(run.model_file, self.experiment.model)
        size, channels = self.experiment.image_size, self.experiment.channels
        if (self.model.name, self.model.input_shape[1:]) != (
            models.network_name(self.experiment.model),
            (size, size, channels),
        ):
            network, taken = self.model.name.replace("_", "-"), "x".join(map(str, self.model.input_shape[1:]))
            raise InputError(
                f"{run.directory} is damaged: its model is a {network} for images of {taken}, and its job is a "
                f"{self.experiment.model} on {size}x{size}x{channels}; name the run that saved it"
            )
        if not _has_head(self.model):
            raise InputError(
                f"{run.model_file} is no network that facesim trained: it does not end in a classifier on embeddings; "
                f"name the run that saved it"
            )
        self._network = models.embedder(self.model)
        self._wanted = Wanted(size, channels, None, RenderSpec(), lambda *_: None)

    @property
    def identities(self) -> int:
        """How many people the model was trained on."""
        return self.model.output_shape[-1]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Unit embeddings, float32 (n, dimensions), of images uint8 (n, height, width, channels).

        With `mirror_test` of an image and its mirror image together: normalised, added, normalised.

        Raises:
            InputError: they are not numbers: nothing that is compared by them would mean anything.
        """
        embeddings = _unit(self._run(self._network, images))
        if self.experiment.mirror_test:
            embeddings = _unit(embeddings + _unit(self._run(self._network, images, mirrored=True)))
        if wrong := int((~np.isfinite(embeddings)).any(axis=1).sum()):
            raise InputError(
                f"the model's embeddings of {wrong:,} of {count_text(len(images), 'image')} are not finite numbers: it "
                "is damaged, or its training diverged; name another run"
            )
        return embeddings

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The likeliest identities, int (n,), as the training evaluates them."""
        logits = self._run(self.model, images)
        if self.experiment.mirror_test:
            logits = logits + self._run(self.model, images, mirrored=True)
        return logits.argmax(axis=1)

    def read(self, paths: list[Path]) -> np.ndarray:
        """Image files as the model takes them, uint8 (n, height, width, channels).

        Raises:
            InputError: a file is missing or is no image that can be read.
        """
        experiment = self.experiment
        return np.stack([read_image(path, experiment.image_size, experiment.channels) for path in paths])

    def embed_readable(self, paths: list[Path]) -> tuple[np.ndarray, dict[Path, str]]:
        """Unit embeddings of the image files that can be read and show something, in order, and why the others do not.

        Raises:
            InputError: none does.
        """
        embeddings, unread = [], {}
        for at in range(0, len(paths), _BATCH):
            pictures = []
            for path in paths[at : at + _BATCH]:
                picture = decode(path, path.parent, self._wanted)
                if isinstance(picture, BadFile):
                    unread[path] = picture.reason
                elif shows_nothing(picture):
                    unread[path] = "of one colour, or nearly, so it shows nobody"
                else:
                    pictures.append(picture)
            if pictures:
                embeddings.append(self.embed(np.stack(pictures)))
        if not embeddings:
            path, reason = next(iter(unread.items()))
            raise InputError(f"none of {count_text(len(paths), 'file')} can be used, {printable(str(path))}: {reason}")
        return np.concatenate(embeddings), unread

    def decoded(self, images: list[bytes], name: str) -> np.ndarray:
        """The same of encoded images, out of a file called `name`.

        Raises:
            InputError: one is no image that can be read.
        """
        pictures = []
        for number, image in enumerate(images):
            picture = decode_bytes(image, f"{name} image {number}", self._wanted)
            if isinstance(picture, BadFile):
                raise InputError(f"{picture.path} cannot be read: {picture.reason}; get the file again")
            pictures.append(picture)
        return np.stack(pictures)

    def _run(self, model: keras.Model, images: np.ndarray, mirrored: bool = False) -> np.ndarray:
        outputs = []
        for at in range(0, len(images), _BATCH):
            some = images[at : at + _BATCH]
            outputs.append(
                np.asarray(model(np.ascontiguousarray(some[:, :, ::-1] if mirrored else some), training=False))
            )
        return np.concatenate(outputs)


def _has_head(model: keras.Model) -> bool:
    """Whether a network's last layer makes logits (n, identities) of embeddings (n, dimensions)."""
    try:
        head = model.layers[-1]
        return len(head.input.shape) == 2 and tuple(model.output.shape) == (None, head.units)
    except (AttributeError, IndexError, ValueError):  # several outputs, a layer that is none, or is used twice
        return False


def _unit(vectors: np.ndarray) -> np.ndarray:
    """In double precision, in which the length of no vector is too large. What is no number stays none."""
    with np.errstate(invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
