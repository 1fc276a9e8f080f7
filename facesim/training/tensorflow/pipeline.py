"""How a training task gets its examples: from the prepared images, by index.

Images were decoded, in parallel and once, when the data was prepared (`facesim.data.prepare`). Each replica reads that
file with TensorFlow's own operations, so this works unchanged in a remote worker, and keeps the pixels as bytes. A
batch then is a vector of indices (`facesim.training.batches`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from facesim.data.prepared import PreparedData
from facesim.data.stored import FILES, TURNS

#: In its working directory every task leaves its index in this file, so that a graph can tell which worker executes it.
TASK_INDEX_FILE = "task_index"

#: Files that are read and decoded at the same time.
_READERS = 8

#: For a function that is written in TensorFlow's operations: autograph would write a translation of it to a file in the
#: temporary folder, which is left there by a process that is ended.
_as_written = tf.autograph.experimental.do_not_convert


class ExampleSource:
    """TensorFlow's `facesim.training.protocols.InputPipeline`: the prepared images as a replica's graph reaches them.

    `cache` is `memory`, `disk` or `none`.

    With `memory` the whole file is read once and a batch is one gather. With `disk` the file is mapped, so that a batch
    reads its own images, and the system keeps as much of the file in memory as there is room for, once for all tasks.
    With `none` each batch reads and decodes its own image files, so that nothing needs room for what is decoded.
    """

    def __init__(self, data: PreparedData, cache: str):
        self._directory = os.path.abspath(data.directory)
        self._file = os.path.join(self._directory, "images.u8")
        self._shape = data.image_shape
        self._count = len(data.labels)
        self._open, self._take = {
            "memory": (self._load, tf.gather),
            "disk": (self._map, tf.gather),
            "none": (self._list, self._decode),
        }[cache]

    @_as_written
    def dataset(self) -> tf.data.Dataset:
        """What a replica iterates over: for ever the same element, which it hands to `take`."""
        directory = tf.data.Dataset.from_tensors((self._directory, TASK_INDEX_FILE))
        element = directory.map(
            lambda path, index_file: (self._open(path), tf.strings.to_number(tf.io.read_file(index_file), tf.int32))
        )
        # There is nothing to tune, and the thread that would do it is asleep for seconds when an iterator is to end.
        fixed = tf.data.Options()
        fixed.autotune.enabled = False
        return element.cache().repeat().with_options(fixed)

    def take(self, element: tuple[Any, tf.Tensor], indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The images of `indices`, int64 (n,), uint8 (n, height, width, channels), and the task's index, int32 ()."""
        held, task_index = element
        return self._take(held, indices), task_index

    def _load(self, directory: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_raw(tf.io.read_file(tf.strings.join([directory, "/images.u8"])), tf.uint8)
        return tf.reshape(pixels, (self._count, *self._shape))

    def _map(self, _: tf.Tensor) -> tf.Tensor:
        shape = (self._count, *self._shape)
        return tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=shape, memory_region_name=self._file)

    def _list(self, directory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        paths = tf.strings.split(tf.io.read_file(tf.strings.join([directory, f"/{FILES}"])), "\0")[:-1]
        absolute = tf.equal(tf.strings.substr(paths, 0, 1), "/")  # others lie in the folder itself
        paths = tf.where(absolute, paths, tf.strings.join([directory, "/", paths]))
        turns = tf.io.decode_raw(tf.io.read_file(tf.strings.join([directory, f"/{TURNS}"])), tf.uint8)
        return tf.ensure_shape(paths, (self._count,)), tf.reshape(turns, (self._count, 4))

    @_as_written
    def _decode(self, listed: tuple[tf.Tensor, tf.Tensor], indices: tf.Tensor) -> tf.Tensor:
        paths, turns = (tf.gather(some, indices) for some in listed)
        pictures = tf.data.Dataset.from_tensor_slices((paths, turns)).map(
            lambda path, turn: decoded(path, turn, self._shape), num_parallel_calls=_READERS, deterministic=True
        )
        batch = pictures.batch(tf.size(indices, tf.int64)).get_single_element()
        return tf.ensure_shape(batch, (None, *self._shape))


def decoded(path: tf.Tensor, turns: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """One image file, uint8 of `shape`, as `facesim.data.decode` has it but for rounding; `turns` is as in `stored`."""
    content = tf.io.read_file(path)

    def on_white() -> tf.Tensor:
        colours, opacity = tf.split(tf.cast(tf.image.decode_png(content, channels=4), tf.float32), (3, 1), axis=2)
        return tf.cast(tf.round(255 + (colours - 255) * opacity / 255), tf.uint8)

    def opaque() -> tf.Tensor:
        return tf.cond(
            tf.io.is_jpeg(content),
            lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),  # as Pillow does
            lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
        )

    transparent, transposed, mirrored, upside_down = tf.unstack(tf.cast(turns, tf.bool))
    picture = tf.ensure_shape(tf.cond(transparent, on_white, opaque), (None, None, 3))
    for wanted, turned in (
        (transposed, lambda some: tf.transpose(some, (1, 0, 2))),
        (mirrored, lambda some: tf.reverse(some, (1,))),
        (upside_down, lambda some: tf.reverse(some, (0,))),
    ):
        picture = tf.cond(wanted, lambda turned=turned, some=picture: turned(some), lambda some=picture: some)
    if shape[2] == 1:
        picture = tf.image.rgb_to_grayscale(picture)
    return _fitted(picture, shape)


def _fitted(picture: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Scaled to fit into `shape`, its aspect ratio kept, in the middle of black."""
    height, width = shape[:2]
    sides, room = tf.cast(tf.shape(picture)[:2], tf.float64), tf.constant((height, width), tf.float64)
    fitting = tf.maximum(tf.round(sides * tf.reduce_min(room / sides)), 1)
    inner = tf.cast(fitting, tf.int32)

    def resized() -> tf.Tensor:
        pixels = tf.image.resize(picture, inner, tf.image.ResizeMethod.LANCZOS3, antialias=True)
        return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)

    pixels = tf.cond(tf.reduce_all(tf.shape(picture)[:2] == inner), lambda: picture, resized)
    top, left = tf.unstack(tf.cast(tf.round((room - fitting) / 2), tf.int32))
    return tf.ensure_shape(tf.image.pad_to_bounding_box(pixels, top, left, height, width), shape)


def index_batch(indices: np.ndarray, labels: np.ndarray, *classes: np.ndarray) -> tuple[tf.Tensor, ...]:
    """One batch as a replica takes it: indices, int64 (n,), and their labels, int32 (n,).

    With the `classes`, ascending (k,), that the update of a sampled head is made of, labels are places among them, and
    they come last, int32 (k,).
    """
    places = labels[indices]
    for chosen in classes:
        places = np.searchsorted(chosen, places)
    return tf.constant(indices, tf.int64), tf.constant(places, tf.int32), *(tf.constant(each) for each in classes)
