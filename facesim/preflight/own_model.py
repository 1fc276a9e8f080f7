"""A network in a file of the user's, before a job starts: kept by its content, and tried."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from cluster.surroundings import python, without_settings
from facesim.models.own import kept_in
from facesim.spec.experiment import Experiment
from facesim.spec.own_model import OwnModel, sha256, source_of
from facesim.util.errors import InputError
from facesim.util.files import read_text, write_json
from facesim.util.folders import cache_folder, make_own_folder

#: Seconds in which a network must have been built and used twice.
_TRIED_WITHIN_S = 300


def keep_own_model(experiment: Experiment, identities: int) -> Path | None:
    """The folder with the file of an experiment's own network, which has been tried for so many people; None where its
    network is one of facesim's.

    Raises:
        InputError: the file is not here as the job has it, or a training could not use the network.
    """
    own_model = OwnModel.find(experiment.model)
    if own_model is None:
        return None
    folder = kept_in(own_model)
    if not list(folder.glob("*.py")):
        _keep(own_model, folder)
    own_model_dimensions(experiment, identities)
    return folder


def own_model_dimensions(experiment: Experiment, identities: int) -> int:
    """The dimensions of the embedding of an experiment's own network.

    Raises:
        InputError: a training could not use it.
    """
    return int(_tried(experiment, identities)["dimensions"])


def own_model_notes(experiment: Experiment, identities: int) -> tuple[str, ...]:
    """What of a user's own network is not used, where the experiment has one and a training could use it.

    Raises:
        InputError: a training could not.
    """
    own_model = OwnModel.find(experiment.model)
    if own_model is None or not _tried(experiment, identities)["compiled"]:
        return ()
    return (
        f"{own_model.path}: what {own_model.function} gives compile() is not used: --optimizer, --learning-rate and "
        f"--head say how the network is trained.",
    )


def _tried(experiment: Experiment, identities: int) -> dict[str, Any]:
    """What `facesim.models.own` found of a network, which is tried when that is first asked for."""
    own_model = OwnModel.find(experiment.model)
    assert own_model is not None
    shape = [experiment.image_size, experiment.image_size, experiment.channels]
    # Beside the folder, which is sent to other machines.
    tried_as = f"{own_model.sha256}-{own_model.function}-{'x'.join(map(str, shape))}-{identities}"
    file = kept_in(own_model).with_name(f"{tried_as}.json")
    try:
        known = json.loads(read_text(file))
        return {name: int(known[name]) for name in ("dimensions", "compiled")}
    except (OSError, ValueError, KeyError, TypeError):  # not tried yet
        pass
    command = python("facesim.models.own", str(own_model), json.dumps(shape), str(identities))
    environment = without_settings(os.environ) | {"FACESIM_CACHE": str(cache_folder().absolute())}
    limits: dict[str, Any] = {"capture_output": True, "text": True, "timeout": _TRIED_WITHIN_S}
    try:
        # In an empty folder: what lies in the user's is not where it is trained.
        with tempfile.TemporaryDirectory() as empty:
            tried = subprocess.run(command, env=environment, cwd=empty, **limits)
    except subprocess.TimeoutExpired:
        raise InputError(f"--model {own_model.path}: it was not built and used within {_TRIED_WITHIN_S} s") from None
    try:
        result = json.loads(tried.stdout)
    except ValueError:
        end = (tried.stderr.strip().splitlines() or ["nothing"])[-1]
        message = f"--model {own_model.path}: its process ended with {tried.returncode} and gave no answer"
        raise InputError(f"{message}; it last printed: {end}") from None
    if "error" in result:
        raise InputError(f"--model {result['error']}", field="model", value=f"{own_model.path}:{own_model.function}")
    write_json(file, result)
    return result


def _keep(own_model: OwnModel, folder: Path) -> None:
    try:
        source = source_of(Path(own_model.path))
    except ValueError as error:
        raise InputError(f"--model {error}", field="model", value=str(own_model)) from None
    if sha256(source) != own_model.sha256:
        raise InputError(
            f"--model {own_model.path}: the file is another one than the job has (SHA-256 {own_model.sha256}...); put "
            f"that back",
            field="model",
            value=str(own_model),
        )
    try:
        make_own_folder(folder.parent.parent)
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{os.getpid()}"
        new.write_bytes(source)
        os.replace(new, folder / Path(own_model.path).name)
    except OSError as error:
        raise InputError(
            f"cannot keep {own_model.path} in {folder}: {error.strerror}; is there room, and may you write?"
        ) from None
