"""CloudWatch's points as the schema's samples."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pytest

from facesim.metrics.collectors.cloudwatch import NAMESPACE, PERIOD_S, CloudWatch, Host

MINUTE = int(time.time()) // PERIOD_S * PERIOD_S - 30 * PERIOD_S


@pytest.fixture
def cloudwatch(account):
    return account.client("cloudwatch")


def put(cloudwatch, name: str, value: float, minute: int = 0, *, dimension: str = "Host", whose: str = "job/algo-1"):
    cloudwatch.put_metric_data(
        Namespace=NAMESPACE,
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": dimension, "Value": whose}],
                "Timestamp": datetime.fromtimestamp(MINUTE + minute * PERIOD_S, timezone.utc),
                "Value": value,
            }
        ],
    )


def read(cloudwatch, hosts: dict[str, Host], minutes: int = 5, **options) -> list[tuple]:
    points = CloudWatch(cloudwatch, "job", hosts, **options).points(MINUTE, MINUTE + minutes * PERIOD_S)
    return [(int(point.time_unix_s - MINUTE) // PERIOD_S, *point[1:]) for point in points]


def test_what_counts_a_hundred_for_each_becomes_percent_of_the_host(cloudwatch):
    put(cloudwatch, "CPUUtilization", 600)
    put(cloudwatch, "MemoryUtilization", 30)
    put(cloudwatch, "DiskUtilization", 2)
    put(cloudwatch, "GPUUtilization", 320)
    put(cloudwatch, "GPUMemoryUtilization", 100)

    assert read(cloudwatch, {"algo-1": Host(vcpus=8, gpus=4)}) == [
        (0, "algo-1", "host", "cpu_percent", 75.0),
        (0, "algo-1", "host", "memory_percent", 30.0),
        (0, "algo-1", "host", "disk_percent", 2.0),
        (0, "algo-1", "host", "gpu_percent", 80.0),
        (0, "algo-1", "host", "gpu_memory_percent", 25.0),
    ]


def test_each_host_is_normalised_by_its_own(cloudwatch):
    for host in ("algo-1", "algo-2"):
        put(cloudwatch, "CPUUtilization", 200, whose=f"job/{host}")

    read_points = read(cloudwatch, {"algo-1": Host(8, 0), "algo-2": Host(2, 0)})

    assert {point[1]: point[4] for point in read_points} == {"algo-1": 25.0, "algo-2": 100.0}


def test_hosts_of_other_jobs_are_not_looked_at(cloudwatch):
    put(cloudwatch, "CPUUtilization", 100, whose="job-2/algo-1")
    put(cloudwatch, "CPUUtilization", 100, whose="job/algo-10")

    assert read(cloudwatch, {"algo-1": Host(1, 0)}) == []


def test_minutes_without_a_point_are_left_out(cloudwatch):
    put(cloudwatch, "CPUUtilization", 10, 0)
    put(cloudwatch, "CPUUtilization", 30, 3)

    assert [(point[0], point[4]) for point in read(cloudwatch, {"algo-1": Host(1, 0)})] == [(0, 10.0), (3, 30.0)]


def test_algorithm_metrics_belong_to_the_training(cloudwatch):
    put(cloudwatch, "held_out_accuracy", 0.5, dimension="TrainingJobName", whose="job")

    assert read(cloudwatch, {"algo-2": Host(1, 0), "algo-10": Host(1, 0), "algo-1": Host(1, 0)}) == [
        (0, "algo-1", "chief", "held_out_accuracy", 0.5)
    ]


def test_of_a_total_the_last_in_the_minute_counts(cloudwatch):
    for value in (1, 2, 3):
        put(cloudwatch, "epoch", value, dimension="TrainingJobName", whose="job")

    assert read(cloudwatch, {"algo-1": Host(1, 0)}) == [(0, "algo-1", "chief", "epoch", 3.0)]


@pytest.mark.parametrize("page", [1, 3, 100])
def test_every_page_is_read(cloudwatch, page):
    for minute in range(7):
        put(cloudwatch, "CPUUtilization", minute, minute)
        put(cloudwatch, "MemoryUtilization", minute, minute)

    samples = read(cloudwatch, {"algo-1": Host(1, 0)}, minutes=7, page=page)

    assert sorted(samples) == sorted(
        (minute, "algo-1", "host", name, float(minute))
        for minute in range(7)
        for name in ("cpu_percent", "memory_percent")
    )


def test_more_hosts_than_one_call_may_ask_for(cloudwatch):
    hosts = {f"algo-{number}": Host(2, 0) for number in range(1, 201)}
    put(cloudwatch, "CPUUtilization", 100, whose="job/algo-200")

    assert read(cloudwatch, hosts, minutes=1) == [(0, "algo-200", "host", "cpu_percent", 50.0)]
