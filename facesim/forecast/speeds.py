"""Seconds of an update for many shapes at once: the formulas of `laws`, fed from a profile and from what hosts are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facesim.forecast import laws
from facesim.forecast.constants import constants
from facesim.forecast.hosts import HostType, host
from facesim.forecast.profile_data import Profile, Server
from facesim.forecast.shapes import ClusterShape
from facesim.forecast.simulate import simulate_barriers
from facesim.util.errors import InputError

Array = NDArray[np.float64]

#: What sets the pace of a job.
Bound = Literal["compute", "server CPU", "host CPU", "network in", "network out", "start-up"]
BOUNDS: tuple[Bound, ...] = get_args(Bound)
COMPUTE, SERVER_CPU, HOST_CPU, NETWORK_IN, NETWORK_OUT, START_UP = range(len(BOUNDS))

#: So many synchronous updates are simulated where workers are not alike: their mean is within 0.1 %.
_BARRIERS = 4000

#: How much of a message has passed a link on average when the next one comes.
_OF_A_MESSAGE = 0.5

#: How often a server's speed and that of the worker beside it, which depend on each other, are found from each other.
_ROUNDS = 3


class Table:
    """The shapes as arrays, and what their hosts are; a row for each shape."""

    def __init__(self, profile: Profile, shapes: Sequence[ClusterShape], known: Mapping[str, HostType], batch: int):
        self.profile, self.shapes, self.batch = profile, shapes, batch
        kinds = {name: host(name, known) for name in {kind for shape in shapes for kind, _ in shape.groups}}
        for kind in kinds.values():
            if kind.relative_speed is None:
                gpu = ", which computes on a GPU" if kind.gpus else ""
                raise InputError(
                    f"nobody knows how fast {kind.name} trains{gpu}: give relative_speed for it "
                    f"with --instances FILE, or take one of "
                    f"{', '.join(name for name, each in known.items() if each.relative_speed)}"
                )
        self.kinds = kinds
        self.worker_host = [kinds[shape.instance_type] for shape in shapes]
        # Of workers on hosts of several types the slowest link, or the speed that is least known, counts.
        self.linked_host, self.doubted_host = self.worker_host.copy(), self.worker_host.copy()
        for row in self.where(lambda shape: bool(shape.other_workers)):
            used = [kinds[name] for name, _ in shapes[row].worker_hosts]
            self.linked_host[row] = min(used, key=lambda kind: kind.base_bytes_per_s)
            self.doubted_host[row] = max(used, key=lambda kind: kind.speed_half_width)
        self.own_hosts = np.array([shape.served and shape.ps_instance_type is not None for shape in shapes])
        self.server_host = [
            kinds[shape.ps_instance_type] if shape.served and shape.ps_instance_type else self.linked_host[row]
            for row, shape in enumerate(shapes)
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
        self.served_s = self.served_of(profile, self.worker_batch) / self.ratio
        self.sum_bytes, self.multiply_s = np.full(len(shapes), float(profile.trained_bytes)), np.zeros(len(shapes))
        for row in self.where(lambda shape: shape.summed and not shape.kind.averaging):
            self._sums(row)
        chief_s = profile.cpu_s_per_update.get("chief", 0.0) / profile.machine.cores
        self.chief_s, self.dispatch_s = chief_s / self.ratio, max(profile.dispatch_s, chief_s) / self.ratio
        self.network_assumed = np.array([kind.network_assumed for kind in self.server_host])
        self.asynchronous = np.array([shape.kind.asynchronous for shape in shapes])
        for row in self.where(lambda shape: bool(shape.other_workers)):
            slower = self._slower(row)
            self.compute_s[row] *= slower
            self.served_s[row] *= slower

    def _sums(self, row: int) -> None:
        """What workers sum that add up their gradients. Of factors each multiplies those of all, not its own alone.

        On hosts of several types workers sum the gradients themselves: their products might not be equal.
        """
        workers, mixed = self.workers[row], bool(self.shapes[row].other_workers)
        load = self.profile.summed(0.0 if mixed else workers * self.worker_batch[row])
        here_s = load.push_flops / (1e9 * self.profile.machine.sgemm_gflops)
        self.sum_bytes[row], self.multiply_s[row] = load.push_bytes, (1 - 1 / workers) * here_s / self.ratio[row]
        self.compute_s[row] += self.multiply_s[row]

    def _slower(self, row: int) -> float:
        """For workers on hosts of several types: how many times as long as the first's a step would be of workers that,
        all alike, are as fast as these together. What holds for workers that are alike holds for such.
        """
        shape, profile = self.shapes[row], self.profile
        names, counts = zip(*shape.worker_hosts)
        times = self.ratio[row] / self._ratio([self.kinds[name] for name in names])
        if not self.asynchronous[row]:
            local = shape.local_steps if shape.kind.averaging else 1
            updates_s = simulate_barriers(
                np.repeat(times, counts), 0.0, _BARRIERS * local,
                cv=profile.cv, backup_workers=shape.backup_workers, local_steps=local,
            )  # fmt: skip
            needed, cv = shape.workers - shape.backup_workers, profile.cv / local**0.5
            return float(updates_s.mean() / local / laws.slowest_s(1.0, cv, shape.workers, needed))
        server, dispatch_s = profile.served, self.dispatch_s[row]
        demands_s = [each / self.server_core[row] for each in profile.service_s(shape.ps, self.batch)]
        constants_of_step = (*demands_s, server.overlap, server.latency)
        per_s = laws.mixed_updates_per_s(self.served_s[row] * times + dispatch_s, counts, *constants_of_step)
        alike_s = laws.compute_from_step_s(
            shape.workers / per_s, *demands_s, shape.workers, server.overlap, server.latency
        )
        return max(alike_s - dispatch_s, 0.0) / self.served_s[row]

    @staticmethod
    def served_of(profile: Profile, batch: Array) -> Array:
        """Seconds that a worker's step of `batch` takes on the profile's machine where the optimiser is the servers':
        never less than its CPU time over its cores, of which sending and receiving are a part that depends on no batch.
        """
        whole = float(profile.step_s(np.array(profile.batch))) - profile.optimizer_s
        sending_s = profile.undivided_worker_cpu_s / profile.machine.cores - max(whole, 0.0)
        return np.maximum(profile.step_s(batch) - profile.optimizer_s, 0.0) + max(sending_s, 0.0)

    def _ratio(self, kinds: Sequence[HostType]) -> Array:
        """How many times as fast as the machine of the profile each whole host is."""
        reference = constants("reference_core").values["sgemm_gflops"]
        speeds = np.array([kind.relative_speed for kind in kinds], dtype=float)
        return speeds * reference / self.profile.machine.sgemm_gflops

    def link(self, *, base: bool, servers: bool) -> Array:
        """Bytes a second that the links of the servers' (else the workers') hosts carry, in one of two phases."""
        kinds = self.server_host if servers else self.linked_host
        return np.array([kind.base_bytes_per_s if base else kind.peak_bytes_per_s for kind in kinds])

    def flow(self) -> Array:
        return np.array([kind.flow_bytes_per_s for kind in self.linked_host])

    def where(self, wanted: Callable[[ClusterShape], bool]) -> NDArray[np.intp]:
        """The places of the shapes that are `wanted`."""
        return np.array([place for place, each in enumerate(self.shapes) if wanted(each)], dtype=int)


class Speeds:
    """What an update of each shape takes in one phase of the network, `base` or burst, and what that consists of.

    `update_s` are seconds an update; `idle_s` those that a worker waits for its next step; `link_bytes` what one update
    sends over the busiest link, `wire_bytes` over all; `offered` the load that workers would offer to the busiest
    server or link if none waited; `bound` indexes `BOUNDS`.
    """

    def __init__(self, table: Table, base: bool):
        size = len(table.shapes)
        self.update_s, self.idle_s = table.compute_s.copy(), table.dispatch_s.copy()
        self.link_bytes, self.wire_bytes = np.zeros(size), np.zeros(size)
        self.offered = np.zeros(size)
        self._near_per_s, self._far_per_s = np.zeros(size), np.zeros(size)  # steps of a worker beside a server, or not
        self.bound = np.full(size, COMPUTE)
        for servers in sorted(set(table.servers[table.servers > 0])):
            self._served(table, np.flatnonzero(table.servers == servers), int(servers), base)
        self._summed(table, base)
        self._mirrored(table)
        self._bounded_by_cores(table)
        self._on_one_host(table)

    def _served(self, table: Table, rows: NDArray[np.intp], servers: int, base: bool) -> None:
        profile, server = table.profile, table.profile.served
        # What is pushed depends on how many examples a worker has: an array of (rows, servers) of everything.
        batches, place = np.unique(table.worker_batch[rows], return_inverse=True)
        pull_cpu_s, push_cpu_s = np.array([profile.service_s(servers, batch) for batch in batches])[place].swapaxes(
            0, 1
        )
        loads = np.array([profile.loads(servers, batch) for batch in batches])[place]
        pull_messages, push_messages, pull_bytes, push_bytes, _ = np.moveaxis(loads, -1, 0)
        workers, own_hosts, asynchronous = table.workers[rows], table.own_hosts[rows], table.asynchronous[rows]
        # Beside a server sits one worker, whose bytes do not use the link.
        remote = np.where(own_hosts, 1.0, 1.0 - np.minimum(1.0, servers / workers) / servers)
        flows = np.minimum(workers * table.flow()[rows], table.link(base=base, servers=True)[rows])
        own_link = np.minimum(servers * table.flow()[rows], table.link(base=base, servers=False)[rows])
        whole_s = [sent.sum(1) / own_link for sent in (pull_bytes, push_bytes)]  # over a worker's own link
        chief_s, dispatch_s, step_s = table.chief_s[rows], table.dispatch_s[rows], np.full_like(workers, np.inf)
        # That worker also sends to, and hears from, the other servers over the link of its host.
        beside = np.where(own_hosts | ~asynchronous, 0.0, (1 - 1 / servers) / workers)
        cores = np.array([table.server_host[row].cores for row in rows])
        shares = np.where(own_hosts | ~asynchronous | (not profile.cpu_s_per_update), 0.0, (1 - 1 / workers) / cores)
        busy = np.zeros_like(workers)
        # All share a processor. On the link of the only server one message follows the other; those of several share
        # the link of the worker that they go to or come from, so that each has several under way.
        of_a_message = _OF_A_MESSAGE if servers == 1 else 0.0
        served = np.repeat([0.0, of_a_message, of_a_message], servers)
        for _ in range(_ROUNDS):
            # A worker has a thread for each core of its host; while it computes, server and chief get a fair share.
            slower = 1 + shares * busy
            # The chief's processor serves one worker after another; those of a barrier it has to serve all at once.
            queue = laws.stretch(np.where(asynchronous, workers / step_s, 0.0), chief_s * slower, workers, 1.0) - 1
            self.idle_s[rows] = slower * (dispatch_s + chief_s * queue)
            compute_s = table.served_s[rows] + self.idle_s[rows]
            (pull_cpu, pull_link), (push_cpu, push_link) = (
                (
                    cpu_s * (slower / table.server_core[rows])[:, None],
                    (sent * remote[:, None] + beside[:, None] * others.sum(1, keepdims=True)) / flows[:, None],
                )
                for cpu_s, sent, others in (
                    (pull_cpu_s, pull_bytes, push_bytes),
                    (push_cpu_s, push_bytes, pull_bytes),
                )
            )
            # A server is three stations side by side: its processor, its link out and its link in.
            nothing = np.zeros_like(pull_link)
            pull_s = np.concatenate([pull_cpu, pull_link, nothing], axis=1)
            push_s = np.concatenate([push_cpu, nothing, push_link], axis=1)
            step_s = _async_step_s(server, compute_s, pull_s, push_s, workers, tuple(whole_s), served)
            busy = np.minimum(table.served_s[rows] / step_s, 1.0)
        # A barrier's link is used in one direction after the other.
        both = np.where(asynchronous, 0.0, push_link.max(1))
        parts = np.stack([(pull_cpu + push_cpu).max(1), pull_link.max(1) + both, push_link.max(1)])
        waiting = [table.shapes[row].backup_workers for row in rows]
        barrier = [np.maximum(workers * each.max(1), least * remote) for each, least in zip((pull_s, push_s), whole_s)]
        # When all gradients are there, the servers apply their sum, and only then the next step begins.
        sync_s = laws.ps_sync_step_s(compute_s, profile.cv, workers, *barrier, waiting, server.overlap)
        sync_s += profile.optimizer_s / servers / table.server_core[rows]
        # A worker beside the only server uses no link; beside one of several it waits for the others' as all do.
        links = np.ones(pull_s.shape[1])
        links[servers:] = servers > 1
        near_s = tuple(each * (1 - 1 / servers) for each in whole_s)
        near_step_s = _async_step_s(server, compute_s, pull_s * links, push_s * links, workers, near_s, served)
        near = np.where(own_hosts, 0.0, np.minimum(servers, workers))
        self._near_per_s[rows], self._far_per_s[rows] = 1 / near_step_s, 1 / step_s
        alone_s = 1 / (near / near_step_s + (workers - near) / step_s)
        # However fast these are, the servers serve no more than they can.
        self.update_s[rows] = np.where(asynchronous, np.maximum(alone_s, parts[0]), sync_s)
        demand_s = (pull_s + push_s).max(1)
        self.offered[rows] = workers * demand_s / (compute_s + demand_s)
        gradients = np.where(asynchronous, 1.0, workers)
        self.link_bytes[rows] = np.maximum(pull_bytes, push_bytes).max(1) * remote * gradients
        sent = pull_bytes + push_bytes + constants("grpc_message").values["bytes"] * (pull_messages + push_messages)
        self.wire_bytes[rows] = sent.sum(1) * gradients
        bottleneck = np.array([SERVER_CPU, NETWORK_OUT, NETWORK_IN])[parts.argmax(0)]
        self.bound[rows] = np.where(
            parts.max(0) * np.where(asynchronous, 1.0, workers) > self.update_s[rows] / 2, bottleneck, COMPUTE
        )

    def _summed(self, table: Table, base: bool) -> None:
        """Strategies without servers whose workers add up gradients, or average parameters."""
        profile, rows = table.profile, table.where(lambda shape: shape.summed)
        if not len(rows):
            return
        workers, compute_s = table.workers[rows], table.compute_s[rows]
        core = table.ratio[rows] * profile.machine.cores / [table.worker_host[row].cores for row in rows]
        link = np.minimum(table.link(base=base, servers=False), table.flow())[rows]
        # Every byte is copied and added by a core, and sent; the slower of the two sets the pace.
        rate = np.minimum(link, core / max(profile.ring.byte_s, 1e-15))
        averaged = np.array([table.shapes[row].kind.averaging for row in rows])
        size_bytes = table.sum_bytes[rows]
        exchange_s = laws.ring_s(size_bytes, workers, rate, profile.ring.alpha_s / core)
        local = np.where(averaged, [table.shapes[row].local_steps for row in rows], 1)
        summed_s = laws.allreduce_step_s(compute_s, profile.cv, workers, exchange_s, profile.ring.overlap)
        local_s = laws.local_sgd_step_s(compute_s, profile.cv, workers, exchange_s, local)
        self.update_s[rows] = np.where(averaged, local_s, summed_s)
        self.link_bytes[rows] = 2 * (workers - 1) / workers * size_bytes / local
        self.wire_bytes[rows] = workers * self.link_bytes[rows]
        self.offered[rows] = exchange_s / local / (compute_s + exchange_s / local)
        slow = exchange_s / local > self.update_s[rows] / 2
        self.bound[rows] = np.where(slow, np.where(link <= rate, NETWORK_OUT, HOST_CPU), COMPUTE)

    def _mirrored(self, table: Table) -> None:
        """Replicas that share one host, whose cores they divide."""
        rows = table.where(lambda shape: shape.mirrored)
        if len(rows):
            copies = table.profile.ring.byte_s * table.profile.gradient_bytes / table.ratio[rows]
            together_s = table.workers[rows] * table.compute_s[rows]
            self.update_s[rows] = together_s + 2 * (table.workers[rows] - 1) * copies

    def _bounded_by_cores(self, table: Table) -> None:
        """Tasks that share a host share its cores: X <= c / (CPU-seconds an update).

        All CPU-seconds are of the profile's machine. The first host has the chief, and servers are dealt out to hosts.
        """
        profile, used = table.profile, table.profile.cpu_s_per_update
        rows = np.flatnonzero(table.servers > 0)
        if not used or not len(rows):
            return
        workers, servers, own_hosts = table.workers[rows], table.servers[rows], table.own_hosts[rows]
        cores = profile.machine.cores * table.ratio[rows]
        whole_s = (table.served_s * table.ratio)[rows]
        least_s = float(Table.served_of(profile, np.array([profile.batch]))[0])
        worker = profile.undivided_worker_cpu_s * whole_s / max(least_s, 1e-12)
        chief, server = used.get("chief", 0.0), used.get("ps", 0.0) / servers
        hosts = np.minimum(servers, workers)  # with servers
        of_first = np.where(own_hosts, 0.0, server * np.ceil(servers / workers)) + chief
        of_others = np.where(own_hosts, 0.0, server * np.maximum(servers / workers, 1.0))
        # An update of all together is a step of each worker, but the optimiser's work is done once.
        joint_server = (
            of_first - chief + np.maximum(0.0, (workers - 1) * (of_first - chief - profile.optimizer_s / servers))
        )
        joint_s = (worker + workers * chief + joint_server) / cores
        counts = np.stack([np.ones_like(workers), np.where(own_hosts, 0.0, hosts - 1), np.zeros_like(workers)], axis=-1)
        counts[:, 2] = workers - counts.sum(axis=-1)
        beside = np.stack([of_first, of_others, np.zeros_like(workers)], axis=-1)
        near = np.where(own_hosts, self._far_per_s[rows], self._near_per_s[rows])
        free_per_s = np.stack([near, near, self._far_per_s[rows]], axis=-1)
        shared = laws.shared_hosts_updates_per_s(free_per_s, counts, beside, worker, cores)
        least = np.where(table.asynchronous[rows], 1 / shared, joint_s)
        self.bound[rows] = np.where(least > 1.02 * self.update_s[rows], HOST_CPU, self.bound[rows])
        self.update_s[rows] = np.maximum(self.update_s[rows], least)

    def _on_one_host(self, table: Table) -> None:
        """All tasks on one host, whose cores do the work of all: as `_bounded_by_cores`, of every worker and server."""
        rows = np.array([place for place, shape in enumerate(table.shapes) if shape.one_host], dtype=int)
        if not len(rows):
            return
        used, profile = table.profile.cpu_s_per_update, table.profile
        makers = np.where(table.asynchronous[rows], 1.0, table.workers[rows])
        least_s = makers * table.compute_s[rows]
        if used.get("worker"):
            scale = table.compute_s[rows] * table.ratio[rows] / profile.step_s(np.array([profile.batch]))
            cpu_s = makers * (used["worker"] * scale + used.get("ps", 0.0)) + used.get("chief", 0.0)
            cpu_bound_s = cpu_s / (profile.machine.cores * table.ratio[rows])
            least_s = np.where(table.servers[rows] > 0, cpu_bound_s, least_s)
        self.bound[rows] = np.where(least_s > self.update_s[rows], HOST_CPU, self.bound[rows])
        self.update_s[rows] = np.maximum(self.update_s[rows], least_s)


def _async_step_s(
    server: Server,
    compute_s: Array,
    pull_s: Array,
    push_s: Array,
    workers: Array,
    least_s: tuple[Array, ...],
    served: Array,
) -> Array:
    if server.overlap == server.latency == 1:
        return laws.sequential_step_s(compute_s, pull_s, push_s, workers, least_s, served)
    return laws.ps_async_step_s(compute_s, pull_s, push_s, workers, server.overlap, server.latency, least_s, served)
