"""What is told or refused before jobs run, and how their numbers are marked afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from facesim.backends.base import Attached
from facesim.preflight.checks import CHECKS, Planned
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.study.runner import attach, dry_run
from facesim.util.errors import InputError


@pytest.mark.parametrize(("backend", "message"), [("local", True), ("docker", True), ("sagemaker", False)])
def test_it_is_told_where_a_gpu_that_is_named_is_not_emulated(faces, tmp_path, backend, message):
    jobs = [
        make_job(backend=backend, data=str(faces), image_size=32, instance_type="ml.g5.xlarge", seed=n) for n in (0, 1)
    ]

    notices = set(CHECKS["accelerators"]([Planned(job, tmp_path) for job in jobs]))

    assert len(notices) == message
    assert all(f"--backend {backend} does not emulate" in text for text in notices)


def test_a_dry_run_refuses_what_a_run_would_refuse(faces, tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"total": 10}))

    with pytest.raises(InputError, match="it cannot fit"):
        dry_run([make_job(data=str(faces), image_size=32)], tmp_path)


class Ended:
    """An execution that fails at once."""

    def events(self, tick_s: float) -> Iterator[dict[str, Any]]:
        yield {"event": "node_ended", "outcome": "failed", "reason": "no reason"}

    def stop(self) -> None: ...

    kill = close = stop


@pytest.mark.parametrize("emulated", [True, False])
def test_a_run_of_which_a_part_was_emulated_is_emulated(tmp_path, emulated):
    run = Run.create(tmp_path / "one", make_job(backend="sagemaker"))
    run.record("submitted")
    if emulated:
        run.record("emulated", endpoint="http://127.0.0.1:5055")
    run.record("submitted")  # it goes on at AWS

    result = attach(Attached(run, Ended()))

    assert result.measurement == ("emulated" if emulated else "measured")
