"""What a job reads, made ready before anything is started: its data, and the network that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facesim.data.parts import PARTS
from facesim.data.prepare import prepare
from facesim.data.prepared import PreparedData
from facesim.data.subsets import take_subset
from facesim.data.unseen import UnseenData
from facesim.preflight.own_model import keep_own_model, own_model_notes
from facesim.preflight.pretrained import keep_pretrained
from facesim.spec.experiment import Experiment
from facesim.spec.job import Job
from facesim.spec.remote import remote
from facesim.spec.subset import Subset
from facesim.util import unused
from facesim.util.folders import cache_folder

#: Names of what training tasks read: a prepared data set, the network that training starts from, and the code of a
#: network of the user's own.
DATA, PRETRAINED, NETWORK = "data", "pretrained", "network"


@dataclass(frozen=True, eq=False)
class Inputs:
    """A job's data; if it starts from a network, the folder of `facesim.preflight.pretrained` that holds it; and if its
    network is the user's own, the folder of `facesim.models.own` with its code. `notes` say what of a network is not
    used.
    """

    data: PreparedData | UnseenData
    pretrained: Path | None = None
    network: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def folders(self) -> dict[str, Path]:
        """The folders here that training tasks read, by what they hold."""
        data = None if isinstance(self.data, UnseenData) else self.data.directory
        folders = {DATA: data, PRETRAINED: self.pretrained, NETWORK: self.network}
        return {name: folder.resolve() for name, folder in folders.items() if folder}


def prepare_inputs(job: Job, progress: Callable[[str, int, int], None]) -> Inputs:
    """What the job reads: made now, or found in the user's cache folder (`FACESIM_CACHE` names another).

    Raises:
        InputError: the data or the network cannot be used.
    """
    return _with_network(job, _data_of(job, progress))


def prepare_all(jobs: list[Job], progress: Callable[[str, int, int], None]) -> list[Inputs]:
    """What each job of a study reads; jobs that read the same images have them prepared once.

    Raises:
        InputError: the data or the network cannot be used.
    """
    ready: dict[Hashable, PreparedData | UnseenData] = {}
    inputs = []
    for job in jobs:
        experiment = job.experiment
        # Whether a subset can be tested depends on the part that is.
        tested = _tested_part(experiment) if experiment.subset else None
        data_key = (experiment.data_spec.images, experiment.cache != "none", tested)
        if data_key not in ready:
            ready[data_key] = _data_of(job, progress)
        inputs.append(_with_network(job, ready[data_key]))
    return inputs


def _data_of(job: Job, progress: Callable[[str, int, int], None]) -> PreparedData | UnseenData:
    return job.backend.open().look_at_data(job) if remote(job.experiment.data) else prepare_data(job, progress)


def _with_network(job: Job, data: PreparedData | UnseenData) -> Inputs:
    network = keep_own_model(job.experiment, len(data.names))
    pretrained = keep_pretrained(job.experiment, data.image_shape, cache_folder())
    return Inputs(data, pretrained, network, own_model_notes(job.experiment, len(data.names)))


def data_notices(jobs: Sequence[Job], inputs: Sequence[Inputs]) -> list[str]:
    """What a user should know before jobs start: what is not used of their inputs, and how the data is read and split.

    Raises:
        InputError: a job asks for a split that its data does not have.
    """
    notices: dict[str, None] = dict.fromkeys(note for one in inputs for note in one.notes)
    for job, data in zip(jobs, (one.data for one in inputs), strict=True):
        if data.unused:
            notices[f"{data.name}: not used: {unused.in_words(data.unused)}"] = None
        notices |= dict.fromkeys(f"{data.name}: {note}" for note in data.notes_for(job.experiment.data_spec))
    return list(notices)


def prepare_data(job: Job, progress: Callable[[str, int, int], None]) -> PreparedData:
    """The job's data, decoded and ready.

    Raises:
        InputError: the data cannot be used.
    """
    experiment = job.experiment
    whole = prepare(
        experiment.data,
        test=experiment.test,
        split=experiment.split,
        image_size=experiment.image_size,
        channels=experiment.channels,
        max_bad_files=experiment.max_bad_files,
        min_images=experiment.min_images,
        decoded=experiment.cache != "none",
        image_feature=experiment.image_feature,
        label_feature=experiment.label_feature,
        cache_dir=cache_folder(),
        progress=progress,
    )
    if experiment.subset is None:
        return whole
    return take_subset(whole, Subset.parse(experiment.subset), experiment.seed, _tested_part(experiment))


def _tested_part(experiment: Experiment) -> int | None:
    """The part of the data's own split that a run is tested on; None: a share of its training images."""
    return None if experiment.validation else PARTS.index(experiment.test_part)
