"""The formulas of the forecast: speed of each strategy from what one machine can measure. Pure NumPy, vectorised.

Words: w workers, p servers, S parameter bytes; seconds, bytes, updates a second everywhere. Arguments may be arrays
that broadcast against each other, unless it says otherwise; where stations matter, they are the last axis. "Ours" marks
what is no one else's formula but derived, or chosen, here.

asynchronous  workers at parameter servers that do not wait for each other
synchronous   barriers, rings and trees: replicas that make every update, or average, together
cloud         networks that burst, spot capacity
overlap       activities that overlap in part
"""

from facesim.forecast.laws.asynchronous import (
    capacity_updates_per_s,
    compute_from_step_s,
    drain_s,
    exact_mva,
    knee_updates_per_s,
    mean_staleness,
    mixed_updates_per_s,
    ps_async_step_s,
    sequential_step_s,
    service_s,
    shared_hosts_step_s,
    stretch,
)
from facesim.forecast.laws.cloud import bucket_spent_bytes, burst_transfer_s, spot_stretch, two_phase_s
from facesim.forecast.laws.overlap import overlapped
from facesim.forecast.laws.synchronous import (
    allreduce_s,
    allreduce_step_s,
    barrier_transfer_s,
    local_sgd_step_s,
    mirrored_step_s,
    order_statistic,
    ps_sync_step_s,
    ring_s,
    slowest_s,
    tree_s,
)

__all__ = [
    "allreduce_s", "allreduce_step_s", "barrier_transfer_s", "bucket_spent_bytes", "burst_transfer_s",
    "capacity_updates_per_s",
    "compute_from_step_s", "drain_s", "exact_mva", "knee_updates_per_s", "local_sgd_step_s", "mean_staleness",
    "mirrored_step_s", "mixed_updates_per_s", "order_statistic", "overlapped", "ps_async_step_s", "ps_sync_step_s",
    "ring_s", "sequential_step_s", "service_s", "shared_hosts_step_s", "slowest_s", "spot_stretch",
    "stretch", "tree_s", "two_phase_s",
]  # fmt: skip
