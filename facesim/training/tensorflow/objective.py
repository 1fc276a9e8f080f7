"""What training minimises: cross-entropy on the head's logits, with the margin that the head asks for.

A margin makes the true identity's logit smaller in training than the model says, so that the model has to say it more
clearly than it needs to when it is used.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from facesim.models import HEADS
from facesim.spec.experiment import Experiment
from facesim.util.registry import loaded

#: Labels, int32 (n,), and logits, float32 (n, identities) -> losses, float32 (n,).
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def loss_for(experiment: Experiment) -> Loss:
    """The loss of the experiment's head, margin and label smoothing."""
    margin = HEADS[experiment.head].margin
    with_margin = loaded(margin) if margin else None

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if with_margin:
            true = tf.gather(logits, labels, batch_dims=1)
            change = experiment.margin_scale * with_margin(true / experiment.margin_scale, experiment.margin) - true
            logits += change[:, None] * tf.one_hot(labels, tf.shape(logits)[1])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if experiment.label_smoothing:
            # Szegedy et al. (2016): the share of the truth that is spread over all identities, written without it.
            true = tf.gather(logits, labels, batch_dims=1)
            losses += experiment.label_smoothing * (true - tf.reduce_mean(logits, axis=1))
        return losses

    return loss
