"""How good a network is on examples: the one evaluation that every framework, strategy, split and report uses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cluster.pulse import progressed
from facesim.training.protocols import Evaluation

_BATCH = 256

#: Logits that are widened at a time: of very many identities those of one batch would take more than the network.
_NUMBERS = 2**22


def evaluate(
    logits_of: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, indices: np.ndarray
) -> Evaluation:
    """Evaluate on `images[indices]`, uint8 (n, height, width, channels), with `labels[indices]`, int32 (n,).

    `logits_of` gives the logits, float (n, identities), of some images.
    """
    correct, loss = 0, 0.0
    for some in np.split(indices, range(_BATCH, len(indices), _BATCH)):
        scores, truths = logits_of(images[some]), labels[some]
        progressed()
        rows = max(1, _NUMBERS // scores.shape[1])
        for first in range(0, len(some), rows):
            logits, truth = scores[first : first + rows].astype(np.float64), truths[first : first + rows]
            highest = logits.max(axis=1)
            spread = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
            loss += float(np.sum(spread - logits[np.arange(len(truth)), truth]))
            correct += int(np.count_nonzero(np.argmax(logits, axis=1) == truth))
    return Evaluation(correct / len(indices), loss / len(indices))
