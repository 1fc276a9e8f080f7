"""What training minimises, in operations that every framework has: cross-entropy on the head's logits, with the margin
that the head asks for.

`facesim.training.tensorflow.objective` is the same in TensorFlow's fused operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from facesim.models import HEADS
from facesim.spec.experiment import Experiment
from facesim.util.registry import loaded

#: Labels, int32 (n,), and logits, float32 (n, identities) -> losses, float32 (n,).
Loss = Callable[[Any, Any], Any]


def loss_for(experiment: Experiment) -> Loss:
    """The loss of the experiment's head, margin and label smoothing."""
    margin = HEADS[experiment.head].margin
    with_margin = loaded(margin) if margin else None

    def loss(labels: Any, logits: Any) -> Any:
        truth = ops.one_hot(labels, logits.shape[1], dtype="float32")
        true = ops.sum(truth * logits, axis=1)
        if with_margin:
            changed = experiment.margin_scale * with_margin(true / experiment.margin_scale, experiment.margin)
            logits = logits + (changed - true)[:, None] * truth
            true = changed
        losses = ops.logsumexp(logits, axis=1) - true
        if experiment.label_smoothing:
            # Szegedy et al. (2016): the share of the truth that is spread over all identities, written without it.
            losses = losses + experiment.label_smoothing * (true - ops.mean(logits, axis=1))
        return losses

    return loss
