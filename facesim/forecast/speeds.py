"""Seconds of an update for many shapes at once: the formulas of `laws`, fed from a profile and from what hosts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facesim.forecast import laws
from facesim.forecast.constants import constants
from facesim.forecast.hosts import HostType, host
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape
from facesim.util.errors import InputError

Array = NDArray[np.float64]

#: What sets the pace of a job.
Bound = Literal["compute", "server CPU", "host CPU", "network in", "network out", "start-up"]
BOUNDS: tuple[Bound, ...] = get_args(Bound)
COMPUTE, SERVER_CPU, HOST_CPU, NETWORK_IN, NETWORK_OUT, START_UP = range(len(BOUNDS))


class Table:
    """The shapes as arrays, and what their hosts are; a row for each shape."""

    def __init__(self, profile: Profile, shapes: Sequence[ClusterShape], known: Mapping[str, HostType], batch: int):
        self.profile, self.shapes, self.batch = profile, shapes, batch
        kinds = {name: host(name, known) for name in {kind for shape in shapes for kind, _ in shape.groups}}
        for kind in kinds.values():
            if kind.relative_speed is None:
                raise InputError(
                    f"nobody knows how fast {kind.name} trains, which computes on a GPU: give relative_speed for it "
                    f"with --instances FILE, or take one of "
                    f"{', '.join(name for name, each in known.items() if each.relative_speed)}"
                )
        self.kinds = kinds
        self.worker_host = [kinds[shape.instance_type] for shape in shapes]
        self.own_hosts = np.array([shape.served and shape.ps_instance_type is not None for shape in shapes])
        self.server_host = [
            kinds[shape.ps_instance_type] if shape.served and shape.ps_instance_type else kinds[shape.instance_type]
            for shape in shapes
        ]
        self.workers = np.array([shape.replicas for shape in shapes], dtype=float)
        self.servers = np.array([shape.ps if shape.served else 0 for shape in shapes])
        self.ratio = self._ratio(self.worker_host)
        # One core of a server's host against one of the profile's machine.
        cores = profile.machine.cores
        self.server_core = self._ratio(self.server_host) * cores / [each.cores for each in self.server_host]
        joint = np.array([shape.kind.joint for shape in shapes])
        needed = self.workers - np.array([shape.backup_workers for shape in shapes])
        self.worker_batch = np.where(joint, np.ceil(batch / np.maximum(needed, 1)), batch)
        self.compute_s = profile.step_s(self.worker_batch) / self.ratio
        self.network_assumed = np.array([kind.network_assumed for kind in self.server_host])
        self.asynchronous = np.array([shape.strategy == "ps-async" for shape in shapes])

    def _ratio(self, kinds: Sequence[HostType]) -> Array:
        """How many times as fast as the machine of the profile each whole host is."""
        reference = constants("reference_core").values["sgemm_gflops"]
        speeds = np.array([kind.relative_speed for kind in kinds], dtype=float)
        return speeds * reference / self.profile.machine.sgemm_gflops

    def link(self, *, base: bool, servers: bool) -> Array:
        """Bytes a second that the links of the servers' (else the workers') hosts carry, in one of two phases."""
        kinds = self.server_host if servers else self.worker_host
        return np.array([kind.base_bytes_per_s if base else kind.peak_bytes_per_s for kind in kinds])

    def flow(self) -> Array:
        return np.array([kind.flow_bytes_per_s for kind in self.worker_host])

    def where(self, *strategies: str) -> NDArray[np.intp]:
        return np.array([place for place, each in enumerate(self.shapes) if each.strategy in strategies], dtype=int)


class Speeds:
    """What an update of each shape takes in one phase of the network, `base` or burst, and what that consists of.

    `update_s` are seconds an update; `link_bytes` what one update sends over the busiest link, `wire_bytes` over all;
    `offered` the load that workers would offer to the busiest server or link if none waited; `bound` indexes `BOUNDS`.
    """

    def __init__(self, table: Table, base: bool):
        size = len(table.shapes)
        self.update_s = table.compute_s.copy()
        self.link_bytes, self.wire_bytes = np.zeros(size), np.zeros(size)
        self.offered = np.zeros(size)
        self.bound = np.full(size, COMPUTE)
        for servers in sorted(set(table.servers[table.servers > 0])):
            self._served(table, np.flatnonzero(table.servers == servers), int(servers), base)
        self._summed(table, base)
        self._mirrored(table)
        self._bounded_by_cores(table)

    def _served(self, table: Table, rows: NDArray[np.intp], servers: int, base: bool) -> None:
        profile, server = table.profile, table.profile.server
        loads = profile.loads(servers)
        pulls = np.array([[load.pull_messages, load.pull_bytes] for load in loads], dtype=float).T
        pushes = np.array([[load.push_messages, load.push_bytes] for load in loads], dtype=float).T
        factor = 1.0 / table.server_core[rows] * _saturation(profile)
        workers, own = table.workers[rows], table.own_hosts[rows]
        # Beside a server sits one worker, whose bytes do not use the link.
        remote = np.where(own, 1.0, 1.0 - np.minimum(1.0, servers / workers) / servers)
        flows = np.minimum(workers * table.flow()[rows], table.link(base=base, servers=True)[rows])

        def service(load: Array) -> tuple[Array, Array]:
            cpu = factor[:, None] * (server.message_s * load[0] + server.byte_s / 2 * load[1])
            return cpu, load[1] * (remote / flows)[:, None]

        (pull_cpu, pull_link), (push_cpu, push_link) = service(pulls), service(pushes)
        # A server is three stations side by side: its processor, its link out and its link in.
        nothing = np.zeros_like(pull_link)
        pull_s = np.concatenate([pull_cpu, pull_link, nothing], axis=1)
        push_s = np.concatenate([push_cpu, nothing, push_link], axis=1)
        own_link = np.minimum(servers * table.flow()[rows], table.link(base=base, servers=False)[rows])
        least_s = max(pulls[1].sum(), pushes[1].sum()) * remote / own_link
        parts = np.stack([(pull_cpu + push_cpu).max(1), pull_link.max(1), push_link.max(1)])
        compute_s, asynchronous = table.compute_s[rows], table.asynchronous[rows]
        if server.overlap == server.latency == 1:
            step_s = laws.sequential_step_s(compute_s, pull_s, push_s, workers, least_s)
        else:
            step_s = laws.ps_async_step_s(compute_s, pull_s, push_s, workers, server.overlap, server.latency, least_s)
        waiting = [table.shapes[row].backup_workers for row in rows]
        barrier = [np.maximum(workers * each.max(1), least_s) for each in (pull_s, push_s)]
        sync_s = laws.ps_sync_step_s(compute_s, profile.cv, workers, *barrier, waiting, server.overlap)
        self.update_s[rows] = np.where(asynchronous, step_s / workers, sync_s)
        demand_s = (pull_s + push_s).max(1)
        self.offered[rows] = workers * demand_s / (compute_s + demand_s)
        gradients = np.where(asynchronous, 1.0, workers)
        self.link_bytes[rows] = np.maximum(pulls[1], pushes[1]).max() * remote * gradients
        self.wire_bytes[rows] = (pulls[1].sum() + pushes[1].sum()) * gradients
        bottleneck = np.array([SERVER_CPU, NETWORK_OUT, NETWORK_IN])[parts.argmax(0)]
        self.bound[rows] = np.where(
            parts.max(0) * np.where(asynchronous, 1.0, workers) > self.update_s[rows] / 2, bottleneck, COMPUTE
        )

    def _summed(self, table: Table, base: bool) -> None:
        """Strategies without servers whose workers add up gradients, or average parameters."""
        profile, rows = table.profile, table.where("allreduce", "local-sgd")
        if not len(rows):
            return
        workers, compute_s = table.workers[rows], table.compute_s[rows]
        core = table.ratio[rows] * profile.machine.cores / [table.worker_host[row].cores for row in rows]
        link = np.minimum(table.link(base=base, servers=False), table.flow())[rows]
        # Every byte is copied and added by a core, and sent; the slower of the two sets the pace.
        rate = np.minimum(link, core / max(profile.ring.byte_s, 1e-15))
        exchange_s = laws.ring_s(profile.param_bytes, workers, rate, profile.ring.alpha_s / core)
        averaged = np.isin(rows, table.where("local-sgd"))
        local = np.where(averaged, [table.shapes[row].local_steps for row in rows], 1)
        summed_s = laws.allreduce_step_s(compute_s, profile.cv, workers, exchange_s, profile.ring.overlap)
        local_s = laws.local_sgd_step_s(compute_s, profile.cv, workers, exchange_s, local)
        self.update_s[rows] = np.where(averaged, local_s, summed_s)
        self.link_bytes[rows] = 2 * (workers - 1) / workers * profile.param_bytes / local
        self.wire_bytes[rows] = workers * self.link_bytes[rows]
        self.offered[rows] = exchange_s / local / (compute_s + exchange_s / local)
        slow = exchange_s / local > self.update_s[rows] / 2
        self.bound[rows] = np.where(slow, np.where(link <= rate, NETWORK_OUT, HOST_CPU), COMPUTE)

    def _mirrored(self, table: Table) -> None:
        """Replicas that share one host, whose cores they divide."""
        rows = table.where("mirrored")
        if len(rows):
            copies = table.profile.ring.byte_s * table.profile.param_bytes / table.ratio[rows]
            together_s = table.workers[rows] * table.compute_s[rows]
            self.update_s[rows] = together_s + 2 * (table.workers[rows] - 1) * copies

    def _bounded_by_cores(self, table: Table) -> None:
        """Tasks that share a host share its cores: X <= c / (CPU-seconds an update)."""
        used = table.profile.cpu_s_per_update
        rows = np.flatnonzero(table.servers > 0)
        if not used or not len(rows):
            return
        workers, servers = table.workers[rows], table.servers[rows]
        joint = ~table.asynchronous[rows]
        # Of one update: a worker makes one of w of them, or its part of each one.
        scale = table.compute_s[rows] * table.ratio[rows] / table.profile.step_s(np.array([table.profile.batch]))
        worker = used.get("worker", 0.0) * np.where(joint, scale, 1 / workers)
        server = used.get("ps", 0.0) / servers * np.where(joint, workers, 1.0)
        beside = (
            worker + used.get("chief", 0.0) + np.where(table.own_hosts[rows], 0.0, server * np.ceil(servers / workers))
        )
        cores = table.profile.machine.cores
        most = laws.capacity_updates_per_s(cores * table.ratio[rows], np.maximum(beside, 1e-12))
        least_s = 1 / most
        self.bound[rows] = np.where(least_s > self.update_s[rows], HOST_CPU, self.bound[rows])
        self.update_s[rows] = np.maximum(self.update_s[rows], least_s)


def _saturation(profile: Profile) -> float:
    """By what the saturation test corrects the servers' constants."""
    server = profile.server
    if server.saturation_s is None:
        return 1.0
    (load,) = profile.loads(1)
    messages, sent = load.pull_messages + load.push_messages, load.pull_bytes + load.push_bytes
    told = server.message_s * messages + server.byte_s / 2 * sent
    return server.saturation_s / told if told else 1.0
