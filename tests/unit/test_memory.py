"""What a head for many people takes, told before training, and refused where it cannot fit."""

from __future__ import annotations

import psutil
import pytest

from facesim.models import HEADS, MODELS
from facesim.preflight.memory import NOTABLE_SHARE, check_memory, head_bytes, head_checkpoint_bytes, head_memory
from facesim.spec.job import make_job
from facesim.util.errors import InputError

HERE = psutil.virtual_memory().total


def people_for(share: float, **options) -> int:
    """How many people's head takes so much of this machine."""
    job = make_job(**options)
    return int(share * HERE / (sum(kind.total for kind in head_memory(job, 1_000_000)) / 1_000_000))


@pytest.mark.parametrize(
    ("name", "size"), [*((name, 64) for name in MODELS), ("plain-cnn", 32), ("plain-cnn", 113), ("paper-cnn", 32)]
)
def test_the_dimensions_of_every_embedding_are_known_without_building_it(name, size):
    pytest.importorskip("keras")
    from facesim import models

    network = models.embedder(models.build(name, (size, size, 3), 2))

    assert network.output_shape[-1] == MODELS[name].dimensions(size)


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_its_parameters_gradient_two_moments_and_logits(head):
    (memory,) = head_memory(make_job(model="resnet-small", head=head, batch=512, sample_rate=0.25), 1_000_000)

    weights = 128 if HEADS[head].cosine else 129
    computed = 250_000 if HEADS[head].sampled else 1_000_000
    assert memory[:4] == (4_000_000 * weights, 4 * computed * weights, 8_000_000 * weights, 3 * 4 * 512 * computed)


def test_servers_and_workers_of_a_sampled_head_exchange_its_sample_and_the_chief_evaluates_all():
    job = make_job(model="resnet-small", head="partial-fc", strategy="ps-async", batch=64, sample_rate=0.01)

    server, workers, chief = head_memory(job, 100_000)
    (alone,) = head_memory(make_job(model="resnet-small", head="partial-fc", batch=64, sample_rate=0.01), 100_000)

    whole, sample = 4 * 128 * 100_000, 4 * 128 * 1000
    assert server[:4] == (whole, sample, 2 * whole, 0)
    assert workers[:4] == (sample, sample, 0, 3 * 4 * 64 * 1000)
    assert (chief.parameters, chief.logits) == (2 * whole, 4 * 256 * 100_000)
    assert alone.logits == chief.logits


@pytest.mark.parametrize("strategy", ["single", "ps-async", "ps-sync", "allreduce"])
@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, 3),
        ({"optimizer": "lion"}, 2),
        ({"optimizer": "sgd", "momentum": 0.9}, 2),
        ({"optimizer": "sgd", "momentum": 0.0}, 1),
    ],
)
def test_a_checkpoint_has_it_once_with_its_moments_whatever_tasks_hold(strategy, options, numbers):
    job = make_job(model="resnet-small", strategy=strategy, **options)

    assert head_bytes(job, 1_000_000) == 4_000_000 * 129
    assert head_checkpoint_bytes(job, 1_000_000) == numbers * 4_000_000 * 129


@pytest.mark.parametrize("head", ["softmax", "partial-fc"])
def test_it_is_what_facesim_models_prints(head):
    pytest.importorskip("keras")
    from facesim.models.size import size

    (memory,) = head_memory(make_job(model="compact-cnn", head=head, batch=64, sample_rate=0.2), 1000)

    assert memory.total == size("compact-cnn", head, (64, 64, 3), 1000, 64, 0.2).head_bytes


def test_replicas_hold_it_each_and_servers_keep_the_moments():
    (memory,) = head_memory(make_job(strategy="allreduce", workers=4, batch=64), 1000)
    server, workers, _ = head_memory(make_job(strategy="ps-async", workers=4, batch=64), 1000)

    assert (memory.copies, memory.logits) == (4, 3 * 4 * 16 * 1000)
    assert (server.moments, server.logits, server.copies) == (2 * server.parameters, 0, 1)
    assert (workers.moments, workers.logits, workers.copies) == (0, 3 * 4 * 64 * 1000, 4)


def test_a_small_head_is_not_worth_a_word():
    assert list(check_memory([make_job()], [1000])) == []


def test_a_large_head_is_told_once_with_its_parts():
    job = make_job(model="resnet-small", head="arcface")

    (warning,) = check_memory([job, job], [people_for(NOTABLE_SHARE * 1.1, model="resnet-small", head="arcface")] * 2)

    assert warning.startswith("single: the arcface head for ")
    assert f"GiB of the {HERE / 2**30:,.1f} GiB of this machine (parameters " in warning


def test_a_head_that_cannot_fit_is_refused_with_what_to_do():
    people = people_for(0.6, model="resnet-small")

    assert list(check_memory([make_job(model="resnet-small")], [people]))
    with pytest.raises(InputError, match=r"in 2 replicas\): it cannot fit. Use fewer people"):
        list(check_memory([make_job(model="resnet-small", strategy="allreduce")], [people]))


class TestHosts:
    """Each host of a cluster has a memory of its own, which the tasks on it share."""

    PEOPLE = 5_000_000  # their head of `resnet-small` is 2.4 GiB, and has as many gradients and twice as many moments

    @staticmethod
    def check(people: int = PEOPLE, **options) -> list[str]:
        job = make_job(**{"model": "resnet-small", "backend": "sagemaker", **options})
        return list(check_memory([job], [people]))

    def test_servers_of_a_smaller_type_do_not_have_the_memory_of_the_workers(self):
        with pytest.raises(InputError, match=r"takes 9\.6 GiB of the 8\.0 GiB of ml\.m5\.large \(.*it cannot fit"):
            self.check(strategy="ps-async", ps_instance_type="ml.m5.large")

    def test_servers_share_the_head(self):
        told = self.check(strategy="ps-async", ps_instance_type="ml.m5.large", ps=4)

        assert any("takes 2.4 GiB of the 8.0 GiB of ml.m5.large" in notice for notice in told)

    def test_servers_of_a_larger_type_leave_the_workers_hosts_their_memory(self):
        options = {"people": 7_000_000, "strategy": "ps-async", "workers": 1}

        with pytest.raises(InputError, match=r"of the 32\.0 GiB of ml\.m5\.2xlarge"):  # worker, chief and server
            self.check(**options)
        assert self.check(**options, ps_instance_type="ml.m5.24xlarge")

    def test_workers_on_one_host_count_each(self):
        options = {"strategy": "allreduce", "workers": 4}

        (one,) = self.check(**options)
        assert "in " not in one.partition("moments")[2]
        with pytest.raises(InputError, match=r"of ml\.m5\.2xlarge .*, in 4 replicas\): it cannot fit"):
            self.check(**options, workers_per_host=4)

    def test_replicas_of_one_process_count_each(self):
        with pytest.raises(InputError, match=r"in 4 replicas\): it cannot fit"):
            self.check(strategy="mirrored", workers=4)

    def test_a_container_has_its_share_of_this_machine(self):
        """The four that are to have 384 GiB each have four fifths of this machine together, or less."""
        options = {"strategy": "allreduce", "workers": 4, "model": "resnet-small"}
        options |= {"backend": "docker", "instance_type": "ml.m5.24xlarge"}

        with pytest.raises(InputError, match=r"GiB of a container on this machine \(.*it cannot fit"):
            self.check(people_for(1.0, **options), **options)

    def test_a_pod_has_the_memory_that_it_is_given(self):
        options = {"backend": "kubernetes", "strategy": "allreduce"}

        assert self.check(**options)
        with pytest.raises(InputError, match=r"of the 4\.0 GiB of a host \("):
            self.check(**options, pod_memory_gib=4)
        assert self.check(50_000_000, **options, pod_memory_gib=300)
