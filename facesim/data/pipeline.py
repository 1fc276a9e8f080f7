"""How a training task gets its examples: the prepared images, read once by whoever computes with them, then by index.

Images were decoded, in parallel and once, when the data was prepared (`facesim.data.prepare`). Each replica reads that
file with TensorFlow's own operations, so this works unchanged in a remote worker, and keeps the pixels as bytes. A
batch then is a vector of indices (`facesim.training.batches`), and making it is one gather inside the training step.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from facesim.data.prepare import PreparedData

#: In its working directory every task leaves its index in this file, so that a graph can tell which worker executes it.
TASK_INDEX_FILE = "task_index"


def resident_images(data: PreparedData) -> tf.data.Dataset:
    """A dataset whose every element is (all images, task index): uint8 (n, height, width, channels) and int32 ().

    It reads the file on the first `next` and hands out the same memory, uncopied, ever after.
    """
    shape = (len(data.labels), *data.image_shape)
    path = os.path.abspath(data.images.filename)

    def read(name: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.reshape(tf.io.decode_raw(tf.io.read_file(name), tf.uint8), shape)
        return images, tf.strings.to_number(tf.io.read_file(TASK_INDEX_FILE), tf.int32)

    return tf.data.Dataset.from_tensors(path).map(read).cache().repeat()


def index_batch(indices: np.ndarray, labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """One batch as a replica takes it: indices, int64 (n,), and their labels, int32 (n,)."""
    return tf.constant(indices, tf.int64), tf.constant(labels[indices], tf.int32)


#: The signature of `index_batch`, for compiling a step once for batches of every size.
INDEX_BATCH = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.int32))
