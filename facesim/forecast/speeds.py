"""Seconds of an update for many shapes at once: the formulas of `laws`, fed from a profile and from what hosts are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facesim.forecast import laws
from facesim.forecast.constants import constants
from facesim.forecast.hosts import HostType, host
from facesim.forecast.profile_data import Profile
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

#: What chief and servers take of a worker's processors is felt above this part of all workers' time.
_FELT = 0.02


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
        self.linked_host = self.worker_host.copy()  # of workers on hosts of several types the slowest link counts
        for row in self.where(lambda shape: bool(shape.other_workers)):
            used = [kinds[name] for name, _ in shapes[row].worker_hosts]
            self.linked_host[row] = min(used, key=lambda kind: kind.base_bytes_per_s)
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
        self.sending_s = self.sending_of(profile) / self.ratio
        self.served_s = self.served_of(profile, self.worker_batch) / self.ratio
        self.sum_bytes, self.multiply_s = np.full(len(shapes), float(profile.trained_bytes)), np.zeros(len(shapes))
        self._sum(self.where(lambda shape: shape.summed and not shape.kind.averaging))
        chief_s = profile.cpu_s_per_update.get("chief", 0.0) / profile.machine.cores
        self.chief_s, self.dispatch_s = chief_s / self.ratio, max(profile.dispatch_s, chief_s) / self.ratio
        self.network_assumed = np.array([kind.network_assumed for kind in self.server_host])
        self.asynchronous = np.array([shape.kind.asynchronous for shape in shapes])
        for row in self.where(lambda shape: bool(shape.other_workers)):
            slower = self._slower(row)
            for each in (self.compute_s, self.served_s, self.sending_s):
                each[row] *= slower

    def _sum(self, rows: NDArray[np.intp]) -> None:
        """What workers sum that add up their gradients. Of factors each multiplies those of all, not its own alone.

        On hosts of several types workers sum the gradients themselves: their products might not be equal.
        """
        workers, alike = self.workers[rows], [not self.shapes[row].other_workers for row in rows]
        batches, place = np.unique(np.where(alike, workers * self.worker_batch[rows], 0.0), return_inverse=True)
        loads = [self.profile.summed(batch) for batch in batches]
        self.sum_bytes[rows] = np.array([load.push_bytes for load in loads])[place]
        here_s = np.array([load.push_flops for load in loads])[place] / (1e9 * self.profile.machine.sgemm_gflops)
        self.multiply_s[rows] = (1 - 1 / workers) * here_s / self.ratio[rows]
        self.compute_s += self.multiply_s

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
        return np.maximum(profile.step_s(batch) - profile.optimizer_s, 0.0) + Table.sending_of(profile)

    @staticmethod
    def sending_of(profile: Profile) -> float:
        """Of `served_of` the part that is beside computing."""
        whole = float(profile.step_s(np.array(profile.batch))) - profile.optimizer_s
        return max(profile.undivided_worker_cpu_s / profile.machine.cores - max(whole, 0.0), 0.0)

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


@dataclass(frozen=True)
class _Way:
    """What pulling, or pushing, for one update needs, in seconds: of each server's core, and of each host with servers
    its processors, if it has a worker, too, and its link, (rows, servers) each; of a worker's own link, of which so
    much is hidden behind what its processor has to do with the bytes, (rows,).
    """

    core_s: Array
    processors_s: Array
    link_s: Array
    own_link_s: Array
    hidden_s: Array


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
        self.bound = np.full(size, COMPUTE)
        for servers, asynchronous in sorted(set(zip(table.servers.tolist(), table.asynchronous.tolist()))):
            if servers:
                rows = np.flatnonzero((table.servers == servers) & (table.asynchronous == asynchronous))
                self._served(table, rows, servers, base, asynchronous)
        self._summed(table, base)
        self._mirrored(table)
        self._bounded_by_cores(table)
        self._on_one_host(table)

    def _served(self, table: Table, rows: NDArray[np.intp], servers: int, base: bool, asynchronous: bool) -> None:
        profile = table.profile
        # What is pushed depends on how many examples a worker has: an array of (rows, servers) of everything.
        batches, place = np.unique(table.worker_batch[rows], return_inverse=True)
        service_s = np.array([profile.service_s(servers, batch) for batch in batches])[place].swapaxes(0, 1)
        loads = np.array([profile.loads(servers, batch) for batch in batches])[place]
        pull_messages, push_messages, pull_bytes, push_bytes, _ = np.moveaxis(loads, -1, 0)
        workers, own_hosts = table.workers[rows], table.own_hosts[rows]
        # Servers are dealt out to hosts: `on[row, server, host]`.
        number = np.arange(servers)
        hosts = np.where(own_hosts, servers, np.minimum(servers, workers))
        on = number[:, None] % hosts[:, None, None] == number
        flows = np.minimum(workers * table.flow()[rows], table.link(base=base, servers=True)[rows])
        own_link = np.minimum(servers * table.flow()[rows], table.link(base=base, servers=False)[rows])
        cpu_s = np.array([profile.cpu_s_of_service(batch) for batch in batches])[place]
        beside = np.where(own_hosts, 0.0, cpu_s / profile.machine.cores / table.ratio[rows])
        sent_bytes = (pull_bytes + push_bytes).sum(1)
        pull, push = (
            _Way(
                core_s=each_s / table.server_core[rows][:, None],
                processors_s=np.einsum("rs,rsh->rh", each_s * beside[:, None], on),
                link_s=np.einsum("rs,rsh->rh", each_bytes / flows[:, None], on),
                own_link_s=each_bytes.sum(1) / own_link,
                hidden_s=table.sending_s[rows] * each_bytes.sum(1) / sent_bytes,
            )
            for each_s, each_bytes in zip(service_s, (pull_bytes, push_bytes))
        )
        makers = 1.0 if asynchronous else workers
        remote = np.where(own_hosts, 1.0, 1.0 - 1.0 / workers)  # on each host with servers sits a worker
        update = self._asynchronous if asynchronous else self._synchronous
        self.update_s[rows], self.idle_s[rows] = update(table, rows, pull, push)
        first_s = np.where(own_hosts, 0.0, table.chief_s[rows]) + pull.processors_s[:, 0] + push.processors_s[:, 0]
        out_s, in_s = (each.link_s.max(1) * remote for each in (pull, push))
        if not asynchronous:  # which uses a link in one direction after the other
            out_s = out_s + in_s
        parts = np.stack([(pull.core_s + push.core_s).max(1), out_s, in_s, np.where(asynchronous, first_s, 0.0)])
        demand_s = parts[:3].max(0)
        self.offered[rows] = workers * demand_s / (table.served_s[rows] + self.idle_s[rows] + demand_s)
        self.link_bytes[rows] = np.maximum(pull_bytes, push_bytes).max(1) * remote * makers
        sent = pull_bytes + push_bytes + constants("grpc_message").values["bytes"] * (pull_messages + push_messages)
        self.wire_bytes[rows] = sent.sum(1) * makers
        # What chief and servers need of the first host takes its worker's time, if not that of all.
        felt = asynchronous & (first_s > _FELT * workers * self.update_s[rows])
        bottleneck = np.array([SERVER_CPU, NETWORK_OUT, NETWORK_IN, HOST_CPU])[parts.argmax(0)]
        self.bound[rows] = np.where(
            parts.max(0) * makers > self.update_s[rows] / 2, bottleneck, np.where(felt, HOST_CPU, COMPUTE)
        )

    @staticmethod
    def _synchronous(table: Table, rows: NDArray[np.intp], pull: _Way, push: _Way) -> tuple[Array, Array]:
        """Seconds of an update that all workers make together, and those that one waits for its step."""
        profile, server = table.profile, table.profile.served
        workers, idle_s = table.workers[rows], table.dispatch_s[rows]
        remote = np.where(table.own_hosts[rows], 1.0, 1.0 - 1.0 / workers)
        waiting = [table.shapes[row].backup_workers for row in rows]
        # The chief hands out a step before a worker pulls, and hears of it after it has pushed: of all of them.
        chief_s = np.where(table.own_hosts[rows], 0.0, (workers - 1) * table.chief_s[rows] / 2)
        barrier_s = []
        for way in (pull, push):
            link_s = np.maximum(workers * way.link_s.max(1), way.own_link_s) * remote - way.hidden_s
            processors_s = workers[:, None] * way.processors_s
            processors_s[:, 0] += chief_s
            barrier_s.append(np.max([workers * way.core_s.max(1), processors_s.max(1), link_s], axis=0))
        update_s = laws.ps_sync_step_s(
            table.served_s[rows] + idle_s, profile.cv, workers, *barrier_s, waiting, server.overlap
        )
        # When all gradients are there, the servers apply their sum, and only then the next step begins.
        return update_s + profile.optimizer_s / table.servers[rows] / table.server_core[rows], idle_s

    @staticmethod
    def _asynchronous(table: Table, rows: NDArray[np.intp], pull: _Way, push: _Way) -> tuple[Array, Array]:
        """Seconds an update of workers that wait for none of the others, and those that one waits for its step."""
        server, servers = table.profile.served, pull.core_s.shape[1]
        workers, own_hosts = table.workers[rows][:, None], table.own_hosts[rows][:, None]
        computing_s, chief_s = table.served_s[rows][:, None], table.chief_s[rows][:, None]
        # How much of a worker sits on each host with servers: the first on the first, of the others, alike, a part.
        number = np.arange(servers)
        another = ((number > 0) & (number < workers)) / np.maximum(workers - 1, 1)
        here = np.where(own_hosts, 0.0, np.stack(np.broadcast_arrays(number == 0, another)))
        first = np.array([1.0, 0.0])[:, None, None]

        def stations(
            core: ArrayLike, out: ArrayLike, into: ArrayLike, processors: ArrayLike, apart: ArrayLike
        ) -> Array:
            """(2, rows, stations): each server's core, its host's links and processors, those of a chief apart."""
            groups = zip((core, out, into, processors, apart), (*[servers] * 4, 1))
            return np.concatenate([np.broadcast_to(each, (2, len(rows), size)) for each, size in groups], axis=-1)

        beside_s = here * computing_s + np.where(own_hosts, 0.0, chief_s * (number == 0))
        apart_s = np.where(own_hosts, chief_s + first * computing_s, 0.0)
        free_s = np.where(own_hosts[:, 0], 1 - first[..., 0], 1 - here.sum(-1)) * computing_s[:, 0]
        pause_s = table.dispatch_s[rows] - chief_s[:, 0]
        needs, more_s = [], []
        for way in (pull, push):
            far_s = (1 - here) * way.link_s
            near_s = here * far_s.sum(-1, keepdims=True)  # of a worker beside a server, to or from the others
            links = (far_s, near_s) if way is pull else (near_s, far_s)
            needs.append(stations(way.core_s, *links, way.processors_s, 0.0))
            # A worker's own link, which nobody delays, is longer at it than each of several servers' links.
            own_s = (way.own_link_s * far_s.sum(-1) / way.link_s.sum(-1))[..., None]
            links = (np.maximum(own_s - each, 0.0) - way.hidden_s[:, None] for each in links)
            more_s.append(stations(0.0, *links, 0.0, 0.0))
        steps_s, slower = laws.shared_hosts_step_s(
            free_s + pause_s, stations(0.0, 0.0, 0.0, beside_s, apart_s), *needs, workers[:, 0],
            more_s, server.overlap, server.latency,
        )  # fmt: skip
        per_s = np.concatenate([np.ones_like(workers), workers - 1], axis=1).T / steps_s
        update_s = 1 / per_s.sum(0)
        at_chief = np.where(own_hosts[:, 0], slower[..., -1], slower[..., 3 * servers])
        return update_s, (per_s * (pause_s + chief_s[:, 0] * at_chief)).sum(0) * update_s

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
        """Tasks of synchronous workers that share a host share its cores: X <= c / (CPU-seconds an update). (Of
        asynchronous ones it follows from their network.)

        All CPU-seconds are of the profile's machine. The first host has the chief, and servers are dealt out to hosts.
        """
        profile, used = table.profile, table.profile.cpu_s_per_update
        rows = np.flatnonzero((table.servers > 0) & ~table.asynchronous)
        if not used or not len(rows):
            return
        workers, servers, own_hosts = table.workers[rows], table.servers[rows], table.own_hosts[rows]
        cores = profile.machine.cores * table.ratio[rows]
        whole_s = (table.served_s * table.ratio)[rows]
        least_s = float(Table.served_of(profile, np.array([profile.batch]))[0])
        worker = profile.undivided_worker_cpu_s * whole_s / max(least_s, 1e-12)
        cpu_s = {count: profile.servers_cpu_s(count) for count in set(servers.tolist())}
        chief, server = used.get("chief", 0.0), np.array([cpu_s[count] for count in servers.tolist()]) / servers
        of_first = np.where(own_hosts, 0.0, server * np.ceil(servers / workers))
        # An update is a step of each worker, but the optimiser's work is done once.
        of_servers = of_first + np.maximum(0.0, (workers - 1) * (of_first - profile.optimizer_s / servers))
        least = (worker + workers * chief + of_servers) / cores
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
