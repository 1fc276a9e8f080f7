"""How good a model is on examples: the one evaluation that every strategy, split and report uses."""

import keras
import numpy as np
import tensorflow as tf

from cluster.pulse import progressed
from facesim.training.protocols import Evaluation
from facesim.training.tensorflow.step import compiled

_BATCH = 256


class KerasEvaluator:
    """Evaluates one model, compiling its forward pass once. With `mirror`, on each image and its mirror image."""

    def __init__(self, model: keras.Model, mirror: bool = False):
        def forward(images: tf.Tensor) -> tf.Tensor:
            logits = model(images, training=False)
            return (logits + model(images[:, :, ::-1], training=False)) / 2 if mirror else logits

        self._forward = compiled(forward)

    def __call__(self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Evaluation:
        """Evaluate on `images[indices]`, uint8 (n, height, width, channels), with `labels[indices]`, int32 (n,)."""
        correct, loss = 0, 0.0
        for some in np.split(indices, range(_BATCH, len(indices), _BATCH)):
            logits = self._forward(tf.constant(images[some]))
            progressed()
            truth = labels[some]
            loss += float(tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)))
            correct += int(np.count_nonzero(np.argmax(logits.numpy(), axis=1) == truth))
        return Evaluation(correct / len(indices), loss / len(indices))
