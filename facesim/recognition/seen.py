"""Whether people on whom a model is evaluated were trained on: by their images, and by what they are called."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import numpy as np

from facesim.data.identity import image_digests
from facesim.data.layouts import natural_key, some
from facesim.data.prepared import PreparedData
from facesim.preflight.inputs import prepare_data
from facesim.spec.job import Job
from facesim.util.errors import InputError

#: How people are called who have no names.
_NUMBERED = re.compile(r"\D*\d+")


def seen_in_training(job: Job, data: PreparedData, notice: Callable[[str], None]) -> bool:
    """Whether images or people of `data` are also in the job's own, where that is at hand; `notice` is called with
    which. A name that is a number, perhaps with letters before it, may be another person's there.
    """
    try:
        if not os.path.exists(job.experiment.data):  # it may have to be downloaded
            return False
        own = prepare_data(job, lambda *_: None)
    except (InputError, ValueError):
        return False
    digests, count = set(image_digests(own, np.arange(len(own.labels)))), len(data.labels)
    if known := sum(digest in digests for digest in image_digests(data, np.arange(count))):
        notice(f"{known:,} of the {count:,} images are in the run's own data: these are no new people")
        return True
    shared = sorted(set(own.names) & set(data.names), key=natural_key)
    people = f"{len(shared):,} of the {len(data.names):,} people are called as people of the run's own data"
    if names := [name for name in shared if not _NUMBERED.fullmatch(name)]:
        notice(f"{people} ({some(names)}): these are no new people. Rename them if they are")
        return True
    if shared:
        notice(f"{people} ({some(shared)}): if they are the same ones, these are no new people")
    return False
