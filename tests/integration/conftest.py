"""Trainings that several tests look at: one start of a cluster for each of `TRAINED`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from facesim.runs.directory import Run
from tests.conftest import QUICK, made_once
from tests.integration.cells import CELLS, PREPARED, train_cells

#: A network and a training of which a synchronous strategy must end with the parameters of a single process.
PLAIN = {"model": "plain-cnn", "epochs": 3, "batch": 9, "learning_rate": 0.003, "image_size": 32}
#: Images so large that the parameters of its dense layer, 460 kB, are split over servers; and so low a rate that Adam,
#: which makes much of little gradients, does not make much of rounding either.
LARGE = PLAIN | {"image_size": 128, "learning_rate": 0.0003}
#: From the network of another training: of which of `TRAINED`, and what it is called there. It has little to learn, so
#: its gradients are little, too. Its batches are so small that parameter servers make the dense layer's gradient.
FROM = PLAIN | {"learning_rate": 0.0003, "batch": 4, "pretrained": ("to start from", "small")}
#: By some seeds an activation is so near to 0 that rounding decides whether it is passed on; by this one none is.
LARGE_FROM = LARGE | {"pretrained": ("to start from", "large"), "seed": 2}
#: In two precisions at once: parameter servers send rounded what is computed with rounded.
MIXED = PLAIN | {"precision": "bfloat16"}
HALF = PLAIN | {"precision": "float16", "epochs": 1}  # which processors are slow in
#: A network with moving statistics, so slow that its parameters stay what they were: how its images are normalised in
#: the end depends on nothing but how many batches the statistics have learnt from.
STATISTICS = PLAIN | {"model": "compact-cnn", "batch": 8, "learning_rate": 1e-9}
#: A network that is not facesim's, by an optimiser without a rate for each parameter; and by one that steps by signs,
#: which rounding may turn.
OWN_FILE = Path(__file__).with_name("own_network.py")
OWN = PLAIN | {"model": f"{OWN_FILE}:build", "optimizer": "sgd", "learning_rate": 0.02}
OWN_BY_SIGNS = OWN | {"optimizer": "lion", "learning_rate": 0.0003}
#: Half of the people in each update, and a head so large that it is split over servers. Its slope is so steep that at a
#: higher rate it makes much of rounding.
SAMPLED = LARGE | {"head": "partial-fc", "sample_rate": 0.5, "batch": 4, "optimizer": "sgd", "learning_rate": 0.0001}
#: Fewer examples in a batch than there are workers.
FEW = PLAIN | {"batch": 1, "epochs": 1}
#: Where the images are.
CACHES = {"memory": PLAIN, "disk": PLAIN | {"cache": "disk"}, "none": PLAIN | {"cache": "none"}}
#: As commands with `QUICK` train.
AS_COMMANDS = {str(flag)[2:].replace("-", "_"): value for flag, value in zip(QUICK[::2], QUICK[1::2], strict=True)}
#: A strategy, the shape of its cluster, and trainings by name. One asynchronous worker is never late.
TRAINED = {
    "to start from": ("single", {}, {"small": PLAIN | {"seed": 1}, "large": LARGE | {"seed": 1}}),
    "single": (
        "single",
        {},
        CACHES
        | {"from": FROM, "mixed": MIXED, "large": LARGE, "large, from": LARGE_FROM}
        | {"own": OWN, "own, by signs": OWN_BY_SIGNS, "statistics": STATISTICS, "sampled": SAMPLED}
        | {"few": FEW, "12 epochs": AS_COMMANDS | {"epochs": 12}, "6 epochs": AS_COMMANDS | {"epochs": 6}},
    ),
    "mirrored": ("mirrored", {}, {"memory": PLAIN, "from": FROM, "own": OWN, "sampled": SAMPLED}),
    "ps-sync": ("ps-sync", {}, {"memory": PLAIN, "from": FROM, "own": OWN, "statistics": STATISTICS, "few": FEW}),
    # One worker: halves of a batch would be rounded otherwise.
    "ps-sync, alone": ("ps-sync", {"workers": 1}, {"mixed": MIXED, "half": HALF}),
    "ps-sync, split": ("ps-sync", {"ps": 2}, {"large": LARGE, "large, from": LARGE_FROM, "sampled": SAMPLED}),
    "allreduce": ("allreduce", {}, {"memory": PLAIN, "from": FROM, "own": OWN, "sampled": SAMPLED, "mixed": MIXED}),
    "ps-async, many": ("ps-async", {"workers": 4, "ps": 2}, {"statistics": STATISTICS}),
    "ps-async, alone in groups": (
        "ps-async",
        {"workers": 1, "ps": 2, "steps_per_dispatch": 3},
        CACHES | {"from": FROM, "mixed": MIXED, "own": OWN, "own, by signs": OWN_BY_SIGNS, "sampled": SAMPLED},
    ),
    "local-sgd": ("local-sgd", {}, {"memory": PLAIN, "own": OWN, "own, by signs": OWN_BY_SIGNS, "mixed": MIXED}),
    "independent": ("independent", {}, {"own": OWN}),
}


@pytest.fixture(scope="session")
def trained(shared, faces, loaded) -> Callable[[str], dict[str, Run]]:
    """The runs of one of `TRAINED`, by their names; trained once for all tests."""

    @cache
    def train(which: str) -> dict[str, Run]:
        strategy, shape, trainings = TRAINED[which]

        def make(folder: Path) -> None:
            cells = {name: options | {"data": str(faces)} for name, options in trainings.items()}
            for options in cells.values():
                if "pretrained" in options:
                    another, name = options["pretrained"]
                    options["pretrained"] = str(train(another)[name].directory)
            train_cells(folder, strategy, shape, cells, PREPARED if which == "ps-async, many" else {})

        folder = made_once(shared / f"trained {which}", make)
        return {name: Run(folder / CELLS / name) for name in trainings}

    return train
