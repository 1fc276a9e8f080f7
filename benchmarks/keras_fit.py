"""The yardstick: plain `model.fit` of the same network, data and batch, as a user would write it. Prints images/s."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import keras
import numpy as np

from facesim import models
from facesim.data import PreparedData, stratified_split


class _EpochTimes(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(time.perf_counter() - self._begin)


def main(directory: str, model_name: str, batch: int, epochs: int, precision: str = "float32") -> None:
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    data = PreparedData.load(Path(directory))
    train, _ = stratified_split(data.labels, 0.2, 0)
    images, labels = np.asarray(data.images)[train], data.labels[train]
    model = models.build(model_name, data.image_shape, len(data.names))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    times = _EpochTimes()
    model.fit(images, labels, batch_size=batch, epochs=epochs + 1, verbose=0, callbacks=[times])
    print(len(train) * epochs / sum(times.seconds[1:]))  # the first epoch compiles


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
