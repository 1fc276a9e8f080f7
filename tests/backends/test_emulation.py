"""How a machine is divided among the hosts that it plays."""

from __future__ import annotations

import math
import re

import pytest

from cluster.containers.host import quota
from cluster.containers.processors import processors_of
from facesim.backends.emulation import emulate, emulation_of, unequal_hosts
from facesim.spec.job import make_job
from facesim.util.errors import InputError

GIB = 2**30


def test_hosts_of_a_size_that_is_given_are_scaled_by_one_factor():
    hosts = {"ml.m5.2xlarge": 4, "ml.c5.xlarge": 2}

    emulation = emulate(hosts, 2, 16 * GIB, host_cpus=1, host_gbps=0.3)

    assert emulation.cpu_factor == pytest.approx(0.3)  # a tenth of the machine is not for hosts
    for shape in emulation.shapes.values():
        assert shape.cpus == pytest.approx(0.3)
        assert shape.bandwidth_bits_per_s == pytest.approx(0.09e9)


def test_a_machine_that_is_large_enough_gives_what_was_asked_for():
    (shape,) = emulate({"ml.m5.2xlarge": 1}, 8, 64 * GIB, host_cpus=2, host_gbps=1.0).shapes.values()

    assert (shape.cpus, shape.bandwidth_bits_per_s) == (2, 1e9)


@pytest.mark.parametrize(
    ("host_cpus", "count", "machine", "factor", "processors"),
    [
        (1, 2, 2, 0.9, [(0,), (1,)]),
        (1, 3, 2, 0.5, [(0,), (1,), (0,)]),  # two thirds each would be more than the first can give to two
        (1, 1, 2, 1.0, [(0,)]),
        (3, 2, 4, 0.5, [(0, 1, 2), (0, 1, 3)]),
        (8, 2, 2, 0.9 / 8, [(0, 1), (0, 1)]),
    ],
)
def test_a_host_runs_on_as_many_processors_as_it_has(host_cpus, count, machine, factor, processors):
    emulation = emulate({"ml.m5.2xlarge": count}, machine, 16 * GIB, host_cpus=host_cpus)

    assert emulation.cpu_factor == pytest.approx(factor)
    assert processors_of([*emulation.shapes.values()] * count, machine) == processors


@pytest.mark.parametrize("option", ["host_cpus", "host_gbps"])
def test_a_host_must_have_something(option):
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')}.*greater than 0"):
        make_job(backend="docker", **{option: 0})


@pytest.mark.parametrize("cpus", [0.01, 0.05, 1 / 3, 1, 7.5])
def test_processors_are_given_out_in_short_periods_as_the_kernel_allows_them(cpus):
    limits = quota(cpus)

    assert limits["cpu_quota"] / limits["cpu_period"] == pytest.approx(cpus, rel=0.01)
    assert limits["cpu_quota"] >= 1000 and 1000 <= limits["cpu_period"] <= 1_000_000
    assert cpus < 0.1 or limits["cpu_period"] == 10_000


def docker(workers: int, **options):
    return make_job(backend="docker", strategy="allreduce", workers=workers, **options)


@pytest.mark.parametrize("cpus", [1, 2, 3, 16])
@pytest.mark.parametrize("options", [{}, {"host_cpus": 3.0, "host_gbps": 1.0}, {"instance_type": "ml.c5.xlarge"}])
def test_hosts_that_a_machine_scales_unlike_are_told_with_what_makes_them_alike(cpus, options):
    jobs = [docker(workers, **options) for workers in (1, 2, 3, 7)]

    told = unequal_hosts(jobs, cpus)

    given = re.search(r"--host-cpus ([\d.]+) --host-gbps ([\d.]+)", told)
    host_cpus, host_gbps = map(float, given.groups())
    alike = [docker(job.shape.workers, **{**options, "host_cpus": host_cpus, "host_gbps": host_gbps}) for job in jobs]
    assert {round(emulation_of(job, cpus, math.inf).cpu_factor, 6) for job in alike} == {1.0}
    assert unequal_hosts(alike, cpus) is None
    most = emulation_of(jobs[-1], cpus, math.inf)  # computing compares with communicating as it did
    (shape,) = most.shapes.values()
    assert host_gbps / host_cpus == pytest.approx(shape.bandwidth_bits_per_s / 1e9 / shape.cpus, rel=0.01)


def test_the_shares_of_hosts_that_are_unlike_are_named():
    told = unequal_hosts([docker(workers) for workers in (1, 2, 4)], 2)

    assert "0.225 (for 1 ml.m5.2xlarge) to 0.0563 (for 4 ml.m5.2xlarge)" in told
    assert "--host-cpus 0.45 --host-gbps 0.141 makes" in told


def test_hosts_of_jobs_with_clusters_of_one_size_are_alike():
    jobs = [make_job(backend="docker", workers=2), docker(2), make_job(backend="docker", strategy="ps-async")]

    assert unequal_hosts(jobs, 2) is None  # of a single process, too
