"""Training metrics as lines in a log, for readers who see nothing of a run but what it prints.

The training task prints `facesim: epoch=3; loss=0.61; ...` when an epoch ends. SageMaker reads such lines with
`METRIC_DEFINITIONS` and keeps the values as the job's algorithm metrics.
"""

from __future__ import annotations

import re

#: The file of a run's metrics that holds what was announced, until what hosts recorded of the same is home.
FILE = "live.jsonl"

#: Names of the schema that are announced.
ANNOUNCED = (
    "epoch",
    "examples",
    "updates",
    "images_per_s",
    "loss",
    "running_accuracy",
    "held_out_accuracy",
    "held_out_loss",
    "training_accuracy",
)

#: As CreateTrainingJob's AlgorithmSpecification takes them.
METRIC_DEFINITIONS = [{"Name": name, "Regex": f"facesim:.* {name}=([-+0-9.eEinfa]+);"} for name in ANNOUNCED]

_LINE = re.compile(r"facesim:(( \w+=[-+0-9.eEinfa]+;)+)")
_VALUE = re.compile(r" (\w+)=([^;]+);")


def announcement(values: dict[str, float]) -> str | None:
    """The line that announces `values`, or None: only the end of an epoch, and of the training, is announced."""
    if not values.keys() & {"epoch", "training_accuracy"}:
        return None
    return "facesim:" + "".join(f" {name}={_text(values[name])};" for name in ANNOUNCED if name in values)


def _text(value: float) -> str:
    """A count to its last digit: updates tell which step the rest is of."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def announced(line: str) -> dict[str, float]:
    """What a line of a log announces; nothing if it does not."""
    match = _LINE.search(line)
    return {name: float(value) for name, value in _VALUE.findall(match[1])} if match else {}
