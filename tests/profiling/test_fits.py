"""From seconds to constants: what the formulas give, the fits find again."""

from __future__ import annotations

import numpy as np
import pytest

from facesim.forecast.laws import overlapped, ring_s
from facesim.profiling import fits
from facesim.profiling.profile import _server, batches_of


def test_three_sets_of_variables_tell_what_an_update_a_message_and_a_byte_cost():
    update_s, message_s, byte_s = 2e-3, 5e-5, 1.4e-9
    sizes = [(28, 2 * 19_400_000), (300, 2 * 38_400), (4, 2 * 512)]
    loads = [fits.Load(m, sent, update_s + message_s * m + byte_s / 2 * sent) for m, sent in sizes]

    assert fits.server_constants(loads) == pytest.approx((update_s, message_s, byte_s), rel=1e-6)


def test_a_server_whose_messages_explain_everything_costs_nothing_a_byte_and_never_less():
    loads = [fits.Load(100, 2e6, 0.010), fits.Load(300, 1e4, 0.035), fits.Load(4, 5e2, 0.0005)]

    update_s, message_s, byte_s = fits.server_constants(loads)

    assert message_s > 0 and update_s >= 0
    assert byte_s == 0


@pytest.mark.parametrize("cores", [2, 8])
def test_a_ring_s_constants_do_not_depend_on_how_many_cores_its_processes_shared(cores):
    alpha_s, byte_s = 4e-5, 6e-10
    peers, sizes = zip(*((n, size) for n in (2, 3, 4) for size in (65_536, 2**21, 2**24)))
    seconds = [max(1, n / cores) * float(ring_s(s, n, 1 / byte_s, alpha_s)) for n, s in zip(peers, sizes)]

    assert fits.ring_constants(peers, sizes, seconds, cores) == pytest.approx((alpha_s, byte_s), rel=1e-6)


@pytest.mark.parametrize("p", [1.0, 1.76, 4.0])
def test_the_overlap_is_found_that_makes_the_step(p):
    compute_s, pull_s, push_s = 0.06, 0.01, 0.025
    step_s = float(overlapped(compute_s / 3, pull_s, p) + overlapped(compute_s * 2 / 3, push_s, p))

    assert fits.overlap(step_s, compute_s, pull_s, push_s) == pytest.approx(p, abs=1e-3)


def test_a_step_longer_than_its_parts_does_not_overlap_and_one_shorter_than_any_overlaps_most():
    assert fits.overlap(0.2, 0.06, 0.01, 0.02) == 1.0
    assert fits.overlap(0.01, 0.06, 0.01, 0.02) == pytest.approx(8.0)


def test_the_spread_is_that_of_a_sample():
    assert fits.spread([1.0, 2.0, 3.0]) == pytest.approx(0.5)
    assert fits.spread([1.0]) == 0.0


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 32, 100])
def test_three_batches_are_measured_among_them_that_of_the_job(batch):
    batches = batches_of(batch)

    assert len(set(batches)) == 3
    assert batches == sorted(batches)
    assert batch in batches
    assert np.all(np.array(batches) >= 1)


def cluster(step_s: float, compute_s: float) -> dict:
    """What the processes of a cluster report of a step that takes so long, with so long a computation."""
    parts = {"dispatch": 0.002, "dispatch, pull": 0.007, "compute (in the chief's process)": compute_s}
    saturated = {"update_s": 0.011, "alone_s": 0.022, "cpu_s": {"ps": 0.010}}
    by_messages = {"update_s": 0.009, "alone_s": 0.02, "cpu_s": {"ps": 0.008}}
    by_updates = {"update_s": 0.002, "alone_s": 0.003, "cpu_s": {"ps": 0.002}}
    return {
        "parts_s": parts, "saturated": saturated, "saturated_by_messages": by_messages,
        "saturated_by_updates": by_updates, "cores": 1,
        "alone": {"median_s": step_s + 0.002}, "together": {"drain_steps": 1.0},
    }  # fmt: skip


def test_what_a_disturbed_machine_tells_of_overlap_is_not_believed(profile):
    believed, _ = _server(profile.variables, 32, cluster(step_s=0.060, compute_s=0.060), profile.machine, limited=False)
    doubted, notes = _server(
        profile.variables, 32, cluster(step_s=0.030, compute_s=0.080), profile.machine, limited=False
    )

    assert believed.overlap > 1.5
    assert doubted.overlap == 1.0
    assert any("cannot be told" in note for note in notes)
    assert doubted.saturation_s == pytest.approx(0.010)
    assert doubted.latency == pytest.approx(2.0)
