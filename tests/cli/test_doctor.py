"""What doctor says of the machine: what this process may use of it."""

from __future__ import annotations

import os

import pytest

from cluster.hosted.cgroup import free_memory_bytes
from facesim.cli import doctor


def test_doctor_tells_what_this_process_may_use(monkeypatch):
    """As with taskset, and in a container."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1}, raising=False)
    monkeypatch.setattr(doctor, "free_memory_bytes", lambda: 1_500_000_000)

    cores, memory = doctor._machine()

    assert (cores.level, cores.finding.partition(";")[0]) == ("note", "1")
    assert (memory.level, memory.finding.partition(";")[0]) == ("note", "1.5 GB available")


VERSION_2 = {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 500\ninactive_file 200\n"}
VERSION_1 = {
    "memory/memory.limit_in_bytes": "1000",
    "memory/memory.usage_in_bytes": "700",
    "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (VERSION_2, 500),
        (VERSION_1, 500),
        (VERSION_2 | {"memory.current": "1300"}, 0),
        (VERSION_2 | {"memory.max": "max"}, None),
        ({}, None),
    ],
    ids=["version 2", "version 1", "nothing left", "no limit", "no group"],
)
def test_what_a_container_may_still_take_is_its_limit_without_what_it_holds(tmp_path, files, free):
    (tmp_path / "memory").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    assert free_memory_bytes(tmp_path) == free
