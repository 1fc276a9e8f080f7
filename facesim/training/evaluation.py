"""How good a network is on examples: the one evaluation that every framework, strategy, split and report uses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cluster.pulse import progressed
from facesim.training.protocols import Evaluation

_BATCH = 256


def evaluate(
    logits_of: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, indices: np.ndarray
) -> Evaluation:
    """Evaluate on `images[indices]`, uint8 (n, height, width, channels), with `labels[indices]`, int32 (n,).

    `logits_of` gives the logits, float (n, identities), of some images.
    """
    correct, loss = 0, 0.0
    for some in np.split(indices, range(_BATCH, len(indices), _BATCH)):
        logits, truth = logits_of(images[some]).astype(np.float64), labels[some]
        progressed()
        highest = logits.max(axis=1)
        spread = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
        loss += float(np.sum(spread - logits[np.arange(len(some)), truth]))
        correct += int(np.count_nonzero(np.argmax(logits, axis=1) == truth))
    return Evaluation(correct / len(indices), loss / len(indices))
