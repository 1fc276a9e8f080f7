"""Whether a job's framework is installed, and has the layers of the job's network. Frameworks are imported in a process
of its own only.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from cluster.surroundings import python
from facesim.models import HEADS, MODELS
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.spec.job import Job
from facesim.util.errors import InputError


def check_framework(job: Job) -> None:
    """Look whether this machine can train a job with the framework that it names.

    facesim's own networks are known to be trained by every framework; one of another package is tried, on an image.

    Raises:
        InputError: it cannot.
    """
    name, experiment = job.framework, job.experiment
    try:
        FRAMEWORKS[name].check()
    except InputError as error:
        raise InputError(f"--framework {name}: {error}", field="framework", value=name) from None
    builtin = MODELS.is_builtin(experiment.model) and HEADS.is_builtin(experiment.head)
    if name == TENSORFLOW or builtin:
        return
    wanted = (name, experiment.model, experiment.head, str(experiment.image_size), str(experiment.channels))
    tried = subprocess.run(python(__name__, *wanted), capture_output=True, text=True)
    if tried.returncode:
        why = (tried.stderr.strip() or f"its process ended with {tried.returncode}").splitlines()[-1]
        raise InputError(
            f"--framework {name} cannot train the network {experiment.model} with the head {experiment.head}: {why}; "
            f"use --framework {TENSORFLOW}, or another network",
            field="framework",
            value=name,
        )


def _try(framework: str, model: str, head: str, image_size: str, channels: str) -> None:
    from facesim.models.framework import load_keras

    load_keras(framework)
    import numpy as np

    from facesim import models

    shape = (int(image_size), int(image_size), int(channels))
    network, images = models.build(model, shape, 2, head=head), np.zeros((1, *shape), np.uint8)
    if framework == "jax":  # which compiles what it trains
        import jax

        variables = (
            [each.value for each in some] for some in (network.trainable_variables, network.non_trainable_variables)
        )
        jax.eval_shape(partial(network.stateless_call, training=True), *variables, images)
    else:
        network(images, training=True)


if __name__ == "__main__":
    _try(*sys.argv[1:])
