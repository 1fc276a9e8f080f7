"""A network in a file of the user's, before a job starts: kept by its content, and tried."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

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
    """The dimensions of the embedding of an experiment's own network, which is tried when they are first asked for.

    Raises:
        InputError: a training could not use it.
    """
    own_model = OwnModel.find(experiment.model)
    assert own_model is not None
    shape = [experiment.image_size, experiment.image_size, experiment.channels]
    # Beside the folder, which is sent to other machines.
    tried_as = f"{own_model.sha256}-{own_model.function}-{'x'.join(map(str, shape))}-{identities}"
    file = kept_in(own_model).with_name(f"{tried_as}.json")
    try:
        return int(json.loads(read_text(file))["dimensions"])
    except (OSError, ValueError, KeyError, TypeError):  # not tried yet
        pass
    command = python("facesim.models.own", str(own_model), json.dumps(shape), str(identities))
    environment = without_settings(os.environ) | {"FACESIM_CACHE": str(cache_folder())}
    try:
        tried = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TRIED_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise InputError(f"--model {own_model.path}: it was not built and used within {_TRIED_WITHIN_S} s") from None
    last = (tried.stdout.strip().splitlines() or [""])[-1]
    try:
        result = json.loads(last)
    except ValueError:
        end = (tried.stderr.strip().splitlines() or ["no output"])[-1]
        raise InputError(f"--model {own_model.path}: its process ended with {tried.returncode} ({end})") from None
    if "error" in result:
        raise InputError(f"--model {result['error']}", field="model", value=f"{own_model.path}:{own_model.function}")
    write_json(file, result)
    return int(result["dimensions"])


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
