"""The network of an earlier run as the start of another (`--pretrained`): found, checked, and kept by its content.

Everything but its head is taken (`facesim.models.take_backbone`). What a run starts from lies in the cache folder, so
that it can be sent to other machines, and does not change while the run lasts:

    cache_dir/pretrained/<SHA-256 of the file>/model.keras
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import zipfile
from pathlib import Path
from typing import NamedTuple

from facesim.models import is_network
from facesim.runs.directory import Run, find_run
from facesim.runs.record import read_json
from facesim.spec.experiment import Experiment
from facesim.util.errors import InputError
from facesim.util.files import check_fits_memory
from facesim.util.folders import make_own_folder

FILE = "model.keras"


class Pretrained(NamedTuple):
    """A trained network: what `facesim.models.build` called it, the images that it takes, (height, width, channels),
    and the run that trained it, None where there is but the file.
    """

    file: Path
    network: str
    image_shape: tuple[int, ...]
    run: Run | None


def find_pretrained(source: str) -> Pretrained:
    """The network that `source` names: a run directory, or a .keras file.

    Raises:
        InputError: there is none, or it is not one that facesim saved.
    """
    path = Path(source)
    file = path if os.path.isfile(path) else find_run(path).model_file
    if not file.is_file():
        raise InputError(f"--pretrained {source} has no model: name a run that has completed, or a .keras file")
    try:
        with zipfile.ZipFile(file) as archive:
            check_fits_memory(archive, file)
            config = json.loads(archive.read("config.json"))["config"]
        network, image_shape = config["name"], tuple(config["layers"][0]["config"]["batch_shape"][1:])
    except InputError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib or json, each with errors of its own
        raise InputError(
            f"--pretrained {source} is not a model that facesim saved: {type(error).__name__}: {error}"
        ) from None
    run = Run(file.parent)
    return Pretrained(file, network, image_shape, run if run.job_file.is_file() else None)


def is_of_rendered_people(file: Path) -> bool:
    """Whether the record beside a network says that it was trained on rendered people alone: `facesim pretrain` leaves
    such a record, FILE.json, with the network's SHA-256.
    """
    try:
        record = read_json(file.with_name(file.name + ".json"))
        known = isinstance(record, dict) and bool(record.get("rendered"))
        return known and record.get("sha256") == hashlib.sha256(file.read_bytes()).hexdigest()
    except (InputError, OSError):
        return False


def keep_pretrained(experiment: Experiment, image_shape: tuple[int, int, int], cache_dir: Path) -> Path | None:
    """The folder with the network that an experiment on images of `image_shape` starts from; None if from nothing.

    Raises:
        InputError: there is no such network, or it does not fit the experiment's.
    """
    if experiment.pretrained is None:
        return None
    pretrained = find_pretrained(experiment.pretrained)
    if not is_network(pretrained.network, experiment.model) or pretrained.image_shape != image_shape:
        given, wanted = ("x".join(map(str, shape)) for shape in (pretrained.image_shape, image_shape))
        raise InputError(
            f"--pretrained {experiment.pretrained} is a {pretrained.network.replace('_', '-')} for images of {given}, "
            f"and this would train a {experiment.model} on {wanted}: give both the same --model and --image-size"
        )
    return _kept(pretrained.file, cache_dir / "pretrained")


def _kept(file: Path, folder: Path) -> Path:
    try:
        content = file.read_bytes()
        directory = folder / hashlib.sha256(content).hexdigest()
        if not (directory / FILE).exists():
            new = folder / f".{uuid.uuid4().hex}"
            make_own_folder(folder.parent)
            new.mkdir(parents=True)
            try:
                (new / FILE).write_bytes(content)
                os.replace(new, directory)
            except OSError:
                if not (directory / FILE).exists():  # else another process was faster
                    raise
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot keep {file} in {folder}: {error.strerror}; is there room, and may you write?"
        ) from None
    return directory
