"""`facesim profile`: what it measures on this machine, what it keeps, and that nothing is left of it."""

from __future__ import annotations

import os
import shlex
import signal
import statistics
import subprocess
import sys
import uuid
from typing import Any

import pytest

from facesim.cli.profile import profile as profile_command
from facesim.data.unseen import UnseenData
from facesim.forecast.model import forecast_job
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape
from facesim.planning.profiles import how_to_have_one
from facesim.preflight.inputs import Inputs, prepare_inputs
from facesim.profiling import summing
from facesim.profiling.profile import profile_file, profile_of
from facesim.profiling.stages import measure_job
from facesim.spec.job import make_job
from facesim.util.errors import FacesimError
from tests.conftest import PATIENCE_S, carrying, facesim_here, wait_until
from tests.support.kernels import keep

SMALL = {"model": "plain-cnn", "image_size": 32, "batch": 8}


@pytest.fixture(scope="module")
def figures() -> list[Any]:
    """What the stages of `measured` found, in order."""
    return []


@pytest.fixture(scope="module")
def measured(faces, figures) -> Profile:
    def kept(*arguments):
        found = measure_job(*arguments)
        figures.append(found.figures)
        return found

    flags = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", value)]
    with pytest.MonkeyPatch.context() as hurried:
        # What other tests disturb is not measured again: that would be disturbed as well.
        hurried.setattr("facesim.profiling.profile._WITHIN_S", 0.0)
        hurried.setattr("facesim.profiling.profile.REPEATS", 2)
        # How long loading takes is measured, too: what other tests have `loaded` is for another environment.
        hurried.setenv("LOADED_BY", "each process")
        hurried.setattr("facesim.profiling.profile.measure_job", kept)
        command = facesim_here("profile", "--data", faces, *flags, "--json")
    assert command.code == 0, command.errors
    return Profile.model_validate_json(command.output)


@pytest.mark.slow
def test_it_measures_what_a_forecast_needs(measured):
    assert [each.batch for each in measured.compute] == [1, 2, 8]
    for each in measured.compute:
        assert len(each.repeats_s) == 2
        assert min(each.repeats_s) <= each.step_s <= max(each.repeats_s)
        assert each.forward_s > 0
    assert 1 <= measured.machine.cores <= os.cpu_count()
    assert 0 < measured.in_step_share <= 1
    assert measured.machine.sgemm_gflops > 1
    assert measured.machine.convolution_gflops > 1
    assert measured.server.saturation_s > 0
    assert measured.server.message_s > 0
    # A server that workers ask all the time is not slower than one worker that waits for each answer.
    assert measured.server.saturated_updates_per_s > 0.8 / measured.parts_s["a step that computes nothing"]
    assert set(measured.cpu_s_per_update) == {"chief", "worker", "ps"}
    assert all(seconds > 0 for seconds in measured.cpu_s_per_update.values())
    assert measured.ring.byte_s > 0
    assert measured.ring.overlap == 1  # all its gradients are summed at once, when the last of them is there
    assert 0 < measured.fixed.load_s < measured.fixed.start_s
    assert measured.fixed.evaluation_s == pytest.approx(16 * measured.fixed.evaluation_image_s)
    assert measured.examples == 64
    assert measured.disturbed == any("programs used" in note or "hypervisor" in note for note in measured.notes)


@pytest.mark.slow
def test_the_machine_is_compared_with_others_where_its_steps_are_measured(measured, figures):
    alone = [each["kernels"] for each in figures if "steps_s" in each]

    assert len(alone) == 2 == len(figures) - 2  # beside sums over processes and a parameter server
    assert measured.machine.sgemm_gflops == pytest.approx(statistics.mean(each["sgemm_gflops"] for each in alone))


@pytest.mark.slow
def test_its_variables_are_the_network_s(measured):
    trained = [each for each in measured.variables if each.trainable]

    assert measured.param_bytes == sum(each.sent_bytes for each in trained)
    assert trained[0].shape[:2] == (3, 3)
    assert trained[-1].shape == (8,)  # as many as there are people
    assert [each.factor_rows for each in trained] == [0] * 6 + [1, 0]  # the dense layer's kernel, and its bias
    pull_s, push_s = measured.service_s(1)
    assert pull_s.sum() + push_s.sum() == pytest.approx(measured.server.saturation_s)


@pytest.mark.slow
def test_it_is_kept_and_used_again_also_for_more_images_of_the_same_kind(measured, faces, monkeypatch):
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("facesim.profiling.profile.measure_job", started)

    again, file = profile_of(make_job(data=str(faces), **SMALL))
    more, same_file = profile_of(make_job(data=str(faces), held_out=0.5, **SMALL))

    assert again == measured
    assert same_file == file
    assert (more.examples, more.compute) == (40, measured.compute)
    assert more.fixed.evaluation_s == pytest.approx(40 * measured.fixed.evaluation_image_s)
    with pytest.raises(AssertionError, match="a process was started"):
        profile_of(make_job(data=str(faces), **SMALL | {"batch": 16}))


@pytest.mark.slow
def test_a_forecast_can_be_made_from_it(measured):
    forecast = forecast_job(measured, ClusterShape(strategy="ps-async", workers=2), epochs=3)

    assert 0 < forecast.low_s <= forecast.time_s <= forecast.high_s


@pytest.mark.slow
def test_processes_of_a_ring_are_measured_and_one_that_fails_is_named(faces, tmp_path):
    job = make_job(strategy="allreduce", workers=4, data=str(faces), image_size=32)
    inputs = prepare_inputs(job, lambda *_: None)
    ring = dict.fromkeys(("chief", "worker"), summing.new_ring())

    def measured(name: str, target: str) -> list[dict]:
        return measure_job(job, tmp_path / name, inputs, dict.fromkeys(ring, target), lambda: None, ring).figures

    found = measured("ring", "facesim.profiling.of_tensorflow:measure_sums")

    assert sorted({row["peers"] for row in found}) == [2, 3, 4]
    assert len(found) == 9
    assert all(row["seconds"] > 0 for row in found)
    with pytest.raises(FacesimError, match=r"could not be profiled: (chief|worker)-\d: ValueError: no ruler"):
        measured("bad", "tests.profiling.failing:measure")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(faces, cache, tmp_path):
    token, temporary = uuid.uuid4().hex, tmp_path / "temporary"
    temporary.mkdir()
    environment, kept = os.environ | {"TMPDIR": str(temporary), "TOKEN": token}, set(cache.glob("profiles/*"))
    command = [sys.executable, "-m", "facesim", "profile", "--data", str(faces), "--model", "plain-cnn"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(temporary.glob("facesim-profile-*/*/logs/worker-0.log")))

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "interrupted" in errors
    assert not carrying(token)
    assert list(temporary.iterdir()) == []
    assert set(cache.glob("profiles/*")) == kept


def test_what_a_user_got_wrong_is_told_before_anything_starts(tmp_path):
    missing = facesim_here("profile", "--data", tmp_path / "nowhere")
    unknown = facesim_here("profile", "--model", "no-such-network")

    assert (missing.code, unknown.code) == (2, 2)
    assert "nowhere" in missing.errors
    assert "no-such-network" in unknown.errors


@pytest.mark.usefixtures("own_cache")
def test_a_part_that_the_data_has_not_is_told_and_nothing_is_measured_again(profile, faces, monkeypatch):
    keep()
    job = make_job(data=str(faces), image_size=32)
    kept = profile_file(job, prepare_inputs(job, lambda *_: None))
    kept.parent.mkdir(parents=True)
    profile.save(kept)
    monkeypatch.setattr("facesim.profiling.profile.measure_job", lambda *_: pytest.fail("it is measured"))

    command = facesim_here("profile", "--data", faces, "--image-size", "32", "--test-part", "val")

    assert command.code == 2 and "--test-part val: the data has no split of its own" in command.errors
    assert Profile.load(kept) == profile


def test_a_profile_says_what_it_is_in_words(profile):
    from facesim.profiling.display import lines_of

    text = "\n".join(lines_of(profile.model_copy(update={"disturbed": True, "notes": ("a note",)})))

    assert "a step of 32 images: 60.0 ms" in text
    assert "20.0 ms of a core for an update" in text
    assert "note: a note" in text
    assert "--fresh" in text


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_norm": 5.0, "weight_decay": 0.01, "label_smoothing": 0.1},
        {"recipe": "modern", "batch": 32, "head": "softmax"},
        {"recipe": "modern", "augment": False, "image_size": 64},
        {"data": "my photos; rm -r *", "min_images": 5, "max_bad_files": 0.5},
        {"subset": "identities=20", "seed": 3, "test": "others"},
        {"channels": 1, "mirror_test": True, "cache": "disk"},
        {"optimizer": "sgd", "momentum": 0.5},
        {"head": "partial-fc", "sample_rate": 0.3},
        {"kernels": "eigen"},
    ],
)
def test_the_command_that_is_said_to_make_a_profile_makes_that_one(options):
    job = make_job(**options)

    program, command, *words = shlex.split(how_to_have_one(job))

    assert (program, command) == ("facesim", "profile")
    asked = profile_command.make_context(command, words).params
    again = make_job(**{name: value for name, value in asked.items() if name not in ("fresh", "as_json")})
    files = []
    for each in (job, again):
        experiment = each.experiment
        shape = (experiment.image_size, experiment.image_size, experiment.channels)
        files.append(profile_file(each, Inputs(UnseenData(experiment.data, shape, ()))))
    assert files[0] == files[1]
    assert again.experiment.data_spec.images == job.experiment.data_spec.images
