"""`facesim profile`, `plan` and the forecast that a run is held against, with other frameworks than TensorFlow."""

from __future__ import annotations

import math

import pytest

from facesim.forecast.profile_data import Profile
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.profile import saved_profile
from facesim.spec.job import make_job
from tests.conftest import facesim_here, parse
from tests.frameworks.conftest import OTHERS, need

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

SMALL = ("--model", "plain-cnn", "--image-size", 32, "--batch", 8)


@pytest.mark.parametrize("framework", OTHERS)
def test_a_profile_of_a_framework_is_measured_and_planned_from(framework, faces, own_cache, monkeypatch):
    need(framework)
    monkeypatch.setattr("facesim.profiling.profile._WITHIN_S", 0.0)
    monkeypatch.setattr("facesim.profiling.profile.REPEATS", 2)
    options = ("--framework", framework, "--data", faces, *SMALL)

    measured = Profile.model_validate(parse(facesim_here("profile", *options, "--json")))
    planned = parse(facesim_here("plan", *options, "--workers", "1..4", "--epochs", 5, "--json"))

    assert (measured.framework, measured.server) == (framework, None)
    assert framework in measured.versions
    assert [each.batch for each in measured.compute] == [1, 2, 8]
    assert all(each.forward_s > 0 and len(each.repeats_s) == 2 for each in measured.compute)
    assert measured.ring.byte_s > 0 and measured.ring.overlap >= 1
    assert measured.optimizer_s > 0 and measured.machine.sgemm_gflops > 1
    assert 0 < measured.fixed.load_s < measured.fixed.start_s and measured.fixed.checkpoint_s > 0
    assert measured.param_bytes == 4 * sum(math.prod(each.shape) for each in measured.variables)  # all are trained
    assert planned["profile"]["framework"] == framework
    assert {row["shape"]["strategy"] for row in planned["rows"]} == {"single", "allreduce", "local-sgd"}
    job = make_job(framework=framework, data=str(faces), model="plain-cnn", image_size=32, batch=8)
    other = job.model_copy(update={"framework": "tensorflow"})
    assert saved_profile(job, prepare_inputs(job, lambda *_: None)) == measured
    assert saved_profile(other, prepare_inputs(other, lambda *_: None)) is None
