"""How a training task gets its examples: from the prepared images, by index.

Images were decoded, in parallel and once, when the data was prepared (`facesim.data.prepare`). Each replica reads that
file with TensorFlow's own operations, so this works unchanged in a remote worker, and keeps the pixels as bytes. A
batch then is a vector of indices (`facesim.training.batches`).
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from facesim.data.prepare import PreparedData

#: In its working directory every task leaves its index in this file, so that a graph can tell which worker executes it.
TASK_INDEX_FILE = "task_index"

#: Records that are read from disk at the same time.
_READERS = 8


class ExampleSource:
    """The prepared images as a replica's graph reaches them; `cache` is `memory` or `disk`.

    With `memory` the whole file is read once and a batch is one gather; with `disk` each batch reads its own records,
    so that memory holds a batch, and the system's page cache as much of the file as there is room for.
    """

    def __init__(self, data: PreparedData, cache: str):
        self._path = os.path.abspath(data.images.filename)
        self._shape = data.image_shape
        self._count = len(data.labels)
        self._in_memory = cache == "memory"

    def dataset(self) -> tf.data.Dataset:
        """What a replica iterates over: for ever the same element, which it hands to `take`."""
        files = tf.data.Dataset.from_tensors((self._path, TASK_INDEX_FILE))
        return files.map(self._open).cache().repeat()

    def _open(self, path: tf.Tensor, index_file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        task_index = tf.strings.to_number(tf.io.read_file(index_file), tf.int32)
        if not self._in_memory:
            return path, task_index
        pixels = tf.io.decode_raw(tf.io.read_file(path), tf.uint8)
        return tf.reshape(pixels, (self._count, *self._shape)), task_index

    def take(self, element: tuple[tf.Tensor, tf.Tensor], indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The images of `indices`, int64 (n,), uint8 (n, height, width, channels), and the task's index, int32 ()."""
        held, task_index = element
        if self._in_memory:
            return tf.gather(held, indices), task_index
        size = int(np.prod(self._shape))

        def record(index: tf.Tensor) -> tf.data.Dataset:
            return tf.data.FixedLengthRecordDataset(held, size, header_bytes=index * size, buffer_size=size).take(1)

        records = tf.data.Dataset.from_tensor_slices(indices).interleave(
            record, cycle_length=_READERS, num_parallel_calls=_READERS, deterministic=True
        )
        batch = records.batch(tf.size(indices, tf.int64)).get_single_element()
        return tf.reshape(tf.io.decode_raw(batch, tf.uint8), (-1, *self._shape)), task_index


def index_batch(indices: np.ndarray, labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """One batch as a replica takes it: indices, int64 (n,), and their labels, int32 (n,)."""
    return tf.constant(indices, tf.int64), tf.constant(labels[indices], tf.int32)
