"""A study's jobs: every combination of what varies, without what would be the same job again."""

from __future__ import annotations

import dataclasses

import pytest

from facesim.spec.study import Study
from facesim.util.errors import InputError


def refusal(job):
    return job.strategy.name, job.shape.workers, job.experiment.seed


def test_the_default_study_is_one_job():
    (job,) = Study().jobs()

    assert refusal(job) == ("single", 2, 0)


def test_every_combination_is_a_job_the_seed_varying_slowest():
    study = Study({"epochs": 2}, {"strategy": ["ps-async", "allreduce"], "workers": [2, 4]}, seeds=2)

    assert [refusal(job) for job in study.jobs()] == [
        (strategy, workers, seed) for seed in (0, 1) for strategy in ("ps-async", "allreduce") for workers in (2, 4)
    ]
    assert {job.experiment.epochs for job in study.jobs()} == {2}


def test_what_means_nothing_to_a_strategy_makes_no_job_of_it_again():
    study = Study({}, {"strategy": ["single", "local-sgd"], "local_steps": [4, 8], "workers": [2, 3]})

    assert [(job.strategy.name, job.strategy.options, job.shape.workers) for job in study.jobs()] == [
        ("single", {}, 2),
        *[("local-sgd", {"local_steps": steps}, workers) for steps in (4, 8) for workers in (2, 3)],
    ]


@pytest.mark.parametrize(
    ("axes", "jobs"),
    [
        ({"strategy": ["single", "allreduce"], "workers_per_host": [1, 2]}, 3),
        ({"strategy": ["mirrored", "ps-async"], "workers_per_host": [1, 2]}, 3),
        ({"strategy": ["allreduce", "ps-async"], "ps_instance_type": ["ml.m5.large", "ml.m5.xlarge"]}, 3),
    ],
)
def test_machines_that_a_strategy_does_not_have_make_no_job_of_it_again(axes, jobs):
    assert len(Study({}, axes).jobs()) == jobs


def test_an_option_goes_to_the_strategies_that_have_it():
    single, local = Study({"local_steps": 4, "epochs": 2}, {"strategy": ["single", "local-sgd"]}).jobs()

    assert (single.strategy.options, local.strategy.options) == ({}, {"local_steps": 4})


def test_an_option_goes_to_the_backends_that_have_it():
    local, there = Study({"bucket": "faces"}, {"backend": ["local", "sagemaker"]}).jobs()

    assert (local.backend.name, there.backend.bucket) == ("local", "faces")


def test_a_value_that_is_given_twice_counts_once():
    assert len(Study({}, {"subset": ["images=5", "images=5", None]}, seeds=[3, 3]).jobs()) == 2


@pytest.mark.parametrize(
    "given, field, message",
    [
        ({"base": {"backup_workers": 1}, "axes": {"strategy": ["single", "ps-async"]}}, "backup_workers",
         "--backup-workers 1 means nothing to --strategy single or ps-async"),
        ({"base": {"bucket": "faces"}}, "bucket", "--bucket 'faces' means nothing to --backend local"),
        ({"axes": {"workers": [1, 2]}}, "workers", "several values of --workers mean nothing to --strategy single"),
        ({"axes": {"batch": []}}, "batch", "--batch has no values"),
        ({"seeds": 0}, "seeds", "--seeds has no values"),
        ({"seeds": 10**12}, "seeds", "--seeds are 1,000,000,000,000, and 10,000 jobs are allowed"),
        ({"axes": {"batch": range(1, 301), "epochs": range(1, 101)}}, "batch", "these options make 30,000 jobs"),
        ({"base": {"batch": 8}, "axes": {"batch": [8, 16]}}, "batch", "--batch has one value for all jobs and several"),
        ({"base": {"seed": 3}}, "seed", "--seed is what --seeds says in a study"),
        ({"axes": {"batch": [0]}}, "batch", "--batch 0 is not allowed"),
        ({"axes": {"strategy": ["ps-asink"]}}, "strategy", "did you mean ps-async"),
        ({"base": {"epohs": 3}}, "epohs", "did you mean --epochs"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_is_refused_with_the_field(given, field, message):
    with pytest.raises(InputError, match=message) as refused:
        Study(**given).jobs()

    assert refused.value.field == field


def test_every_wrong_option_is_named_with_its_value_and_what_is_allowed():
    with pytest.raises(InputError) as refused:
        Study({"batch": 0, "held_out": 2.0}).jobs()

    facts = [(one.field, one.value, one.allowed) for one in refused.value.problems]
    assert facts == [("held_out", 2.0, "less than 1"), ("batch", 0, "greater than or equal to 1")]


def test_a_study_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Study().seeds = 3
