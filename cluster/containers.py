"""Executes a CreateTrainingJob request on this machine: one container a host, as SageMaker would run it.

The request is AWS' own (botocore's CreateTrainingJob), so what runs here is what would be sent there: its image, entry
point, hyperparameters, channels, checkpoints, instance types and counts, instance groups, environment, time limits.
Each host sees /opt/ml as on SageMaker. What differs is what an instance type has: `shapes` says how much of this
machine a host of each type is given.

What happens is told as events, dictionaries with `time_unix_s` and `event`:

    state       state (one of SageMaker's secondary states), reason (text, may be empty), attempt (1, 2, ...)
    log         host, line: what a host printed, in its order
    stats       host, and what the engine measures of it: cpu_percent (0-100 % of the CPUs it was given), cpu_count
                (those CPUs), cpu_s, memory_bytes, memory_percent, net_sent_bytes, net_received_bytes, disk_read_bytes,
                disk_written_bytes (totals since the host's start)
    host_ended  host, exit_code, oom (killed for want of memory)
    node_ended  the last one: outcome (completed, failed or stopped), state (the last of the states), reason (of a
                failure: the host's, from /opt/ml/output/failure), host_exit_codes

A terminal state comes right before `node_ended`. A stop gives Stopping, Uploading, Stopped; a time limit gives
Stopping, Uploading, and MaxRuntimeExceeded or MaxWaitTimeExceeded as the terminal state, with outcome `stopped`; an
interruption gives Interrupted, then Starting again.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import tarfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cluster import engine
from cluster.contract import by_number
from cluster.engine import EngineError

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.models.networks import Network

#: SageMaker's secondary states, as far as a job can be in them here.
STARTING, DOWNLOADING, TRAINING, INTERRUPTED, UPLOADING = (
    "Starting", "Downloading", "Training", "Interrupted", "Uploading")  # fmt: skip
STOPPING, STOPPED, COMPLETED, FAILED = "Stopping", "Stopped", "Completed", "Failed"
MAX_RUNTIME_EXCEEDED, MAX_WAIT_TIME_EXCEEDED = "MaxRuntimeExceeded", "MaxWaitTimeExceeded"

#: How the job ends when it was told, or found, this; a limit that was reached is its own terminal state.
_TERMINAL = {"completed": COMPLETED, "failed": FAILED, "stop": STOPPED, "kill": STOPPED}

_INTERFACE = "eth0"
_SYNC_S = 2.0
#: How long the other hosts may take to end when one has failed: nothing that they could still save is complete.
_FAILED_GRACE_S = 10.0


class Store(Protocol):
    """Where the URIs of a request lead. Its methods may be called by several threads."""

    def download(self, uri: str, directory: Path) -> None:
        """Put every file below `uri` into `directory`, which exists. Nothing below `uri` is no error."""

    def upload(self, directory: Path, uri: str) -> None:
        """Put every file below `directory` under `uri`, over what is there; what else is there stays.

        Called again and again for checkpoints, so it should pass over a file that it has already put there unchanged.
        """


@dataclass(frozen=True)
class HostShape:
    """What a host of an instance type is given of this machine. None is no limit."""

    cpus: float
    memory_bytes: int | None = None
    bandwidth_bits_per_s: float | None = None


@dataclass(frozen=True)
class _Host:
    """One host of the request. `place` becomes its /opt/ml."""

    name: str
    instance_type: str
    group: str
    place: Path


@dataclass(frozen=True)
class _Command:
    """What the job is told from outside, or by the threads that watch it."""

    name: str
    host: str = ""
    exit_code: int = 0
    notice: bool = True
    again_after_s: float = 0.0


class ContainerJob:
    """A request that is being executed. Making one starts it and returns at once.

    Args:
        request: the CreateTrainingJob request.
        store: where its channels, checkpoints and results are. Results are put where SageMaker puts them:
            `S3OutputPath/TrainingJobName/output/` gets `model.tar.gz` (every host's /opt/ml/model) and `output.tar.gz`
            (every host's /opt/ml/output/data).
        directory: an empty or new folder for the hosts' /opt/ml; removed by `close`. The engine must see it, too.
        shapes: by instance type, for each in the request.
        sampling_s: seconds between `stats` of a host; the engine measures once a second at the most.
        grace_s: seconds between SIGTERM and SIGKILL.

    Raises:
        EngineError: no engine answers, the image is missing, or the request asks for what cannot be done here.
    """

    def __init__(
        self,
        request: dict[str, Any],
        store: Store,
        directory: Path,
        *,
        shapes: Mapping[str, HostShape],
        sampling_s: float = 1.0,
        grace_s: float = 120.0,
    ):
        self._request, self._store, self._directory, self._shapes = request, store, directory.resolve(), shapes
        self._sampling_s, self._grace_s = sampling_s, grace_s
        self.name: str = request["TrainingJobName"]
        self._id = f"{self.name}-{uuid.uuid4().hex[:8]}"
        self._hosts = _hosts_of(request["ResourceConfig"], self._directory)
        self._client = engine.connect()
        self._check()
        engine.sweep(self._client)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._containers: dict[str, Container] = {}
        self._network: Network | None = None
        self._threads: list[threading.Thread] = []
        self._restored: dict[str, Any] = {}  # what was in each host's checkpoint folder when it was started
        self._exit_codes: dict[str, int] = {}
        self._attempt, self._training_s, self._state = 0, 0.0, ""
        self._ended = threading.Event()  # the present attempt has
        self._began = time.monotonic()
        self._closed = False
        self._guard = engine.Guard(self._id, self._directory)
        self._thread = threading.Thread(target=self._run, name=self._id, daemon=True)
        self._thread.start()

    # From outside

    def events(self, tick_s: float) -> Iterator[dict[str, Any] | None]:
        """What happens, in order, until nothing of the job runs any more; None when `tick_s` pass without an event."""
        while True:
            try:
                event = self._events.get(timeout=tick_s)
            except queue.Empty:
                yield None
                continue
            yield event
            if event["event"] == "node_ended":
                return

    def stop(self) -> None:
        """SIGTERM to every host, SIGKILL after the grace; results are uploaded. Returns at once; may be repeated."""
        self._commands.put(_Command("stop"))

    def kill(self) -> None:
        """End every host at once. Returns at once; may be repeated."""
        self._commands.put(_Command("kill"))

    def interrupt(self, notice: bool = True, again_after_s: float = 0.0) -> None:
        """Take the capacity away, as on a spot reclaim, and give it back after `again_after_s`: every host gets SIGTERM
        (unless `notice` is false), SIGKILL after the grace, and the job starts again with its checkpoints.

        Returns at once; without effect unless the job is training.
        """
        self._commands.put(_Command("interrupt", notice=notice, again_after_s=again_after_s))

    def kill_host(self, host: str) -> None:
        """SIGKILL to one host, such as `algo-2`: what a crash of its machine looks like to the others."""
        self._signal("SIGKILL", [host])

    def close(self) -> None:
        """End what may still run, wait for it, and remove containers, network and `directory`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.kill()
        self._thread.join()
        engine.remove(self._client, self._id)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._guard.dismiss()
        self._client.close()

    # The course of the job, in a thread of its own

    def _run(self) -> None:
        try:
            ended, reason = self._course()
        except Exception as error:
            traceback.print_exc()
            ended, reason = FAILED, f"{type(error).__name__}: {error}"
        finally:
            self._ended.set()
            engine.remove(self._client, self._id)
        outcome = {COMPLETED: "completed", FAILED: "failed"}.get(ended, "stopped")
        self._enter(ended, reason)
        self._tell("node_ended", outcome=outcome, state=ended, reason=reason, host_exit_codes=self._exit_codes)

    def _course(self) -> tuple[str, str]:
        """Attempts until one ends for good; the terminal state and, of a failure, the reason."""
        while True:
            self._attempt += 1
            self._start()
            command = self._watch()
            if command.name != "interrupt":
                break
            self._enter(INTERRUPTED)
            self._end_hosts(self._grace_s if command.notice else 0.0)
            self._take_down()
            command = self._wait_for_capacity(command.again_after_s) or command
            if command.name != "interrupt":
                break
        reason = self._reason() if command.name == "failed" else ""
        if command.name not in ("completed", "failed"):
            self._enter(STOPPING)
        if command.name != "completed":
            grace_s = {"kill": 0.0, "failed": min(self._grace_s, _FAILED_GRACE_S)}.get(command.name, self._grace_s)
            self._end_hosts(grace_s)
        self._enter(UPLOADING)
        self._take_down()
        self._upload_results()
        return _TERMINAL.get(command.name, command.name), reason

    def _start(self) -> None:
        self._enter(STARTING)
        self._exit_codes = {}
        self._network = self._client.networks.create(
            f"{self._id}-{self._attempt}",
            driver="bridge",
            internal=self._request.get("EnableNetworkIsolation", False),
            labels=engine.labels(self._id),
        )
        self._enter(DOWNLOADING)
        channels = {channel["ChannelName"]: channel for channel in self._request.get("InputDataConfig", [])}
        for name, channel in channels.items():
            folder = self._directory / "channels" / name
            if not folder.exists():
                folder.mkdir(parents=True)
                self._store.download(channel["DataSource"]["S3DataSource"]["S3Uri"], folder)
        for host in self._hosts:
            self._lay_out(host, channels)
        self._enter(TRAINING)
        for host in self._hosts:
            self._containers[host.name] = self._start_host(host, list(channels))
        self._since = time.monotonic()
        self._ended = threading.Event()
        for name, container in self._containers.items():
            self._in_thread(self._follow, name, container)
            self._in_thread(self._sample, name, container)
        if "CheckpointConfig" in self._request:
            self._in_thread(self._keep_checkpoints, self._ended)

    def _watch(self) -> _Command:
        """Wait for the end of this attempt, and return why it ends."""
        while True:
            try:
                command = self._commands.get(timeout=self._time_left())
            except queue.Empty:
                return _Command(self._limit_reached())
            if command.name == "host_ended":
                self._note_end(command)
                if command.exit_code != 0:
                    return _Command("failed", command.host, command.exit_code)
                if len(self._exit_codes) == len(self._hosts):
                    return _Command("completed")
            else:
                return command

    def _end_hosts(self, grace_s: float) -> None:
        """SIGTERM to the hosts that still run, SIGKILL to those that are there after the grace; a kill shortens it."""
        deadline, again = time.monotonic() + grace_s, []
        if grace_s > 0:
            self._signal("SIGTERM", self._running())
        while self._running():
            left = deadline - time.monotonic()
            if left <= 0:
                self._signal("SIGKILL", self._running())
            try:
                command = self._commands.get(timeout=max(left, 0.0) or 60.0)
            except queue.Empty:
                continue
            if command.name == "host_ended":
                self._note_end(command)
            elif command.name in ("stop", "kill"):
                if command.name == "kill":
                    deadline = 0.0
                again.append(command)
        for command in again:
            self._commands.put(command)  # it came while an interruption ended the hosts: it is still to be obeyed

    def _take_down(self) -> None:
        """Remove this attempt's containers and network, its last checkpoints kept. Without effect the second time."""
        if not self._containers:
            return
        self._training_s += time.monotonic() - self._since
        self._ended.set()
        engine.remove(self._client, self._id)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._containers.clear()

    def _wait_for_capacity(self, seconds: float) -> _Command | None:
        """Wait until there is capacity again; the command if the job is ended meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            left, limit = deadline - time.monotonic(), self._time_left()
            try:
                command = self._commands.get(timeout=max(0.0, min(left, limit if limit is not None else left)))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    return None
                return _Command(self._limit_reached())
            if command.name in ("stop", "kill"):
                return command

    def _time_left(self) -> float | None:
        """Seconds until the next of the request's limits is reached; None without a limit."""
        condition = self._request.get("StoppingCondition", {})
        trained = self._training_s + (time.monotonic() - self._since if self._state == TRAINING else 0.0)
        lefts = [condition["MaxRuntimeInSeconds"] - trained] if "MaxRuntimeInSeconds" in condition else []
        if "MaxWaitTimeInSeconds" in condition:
            lefts.append(condition["MaxWaitTimeInSeconds"] - (time.monotonic() - self._began))
        return max(0.0, min(lefts)) if lefts else None

    def _limit_reached(self) -> str:
        limit = self._request["StoppingCondition"].get("MaxWaitTimeInSeconds")
        waited = limit is not None and time.monotonic() - self._began >= limit
        return MAX_WAIT_TIME_EXCEEDED if waited else MAX_RUNTIME_EXCEEDED

    def _note_end(self, command: _Command) -> None:
        self._exit_codes[command.host] = command.exit_code

    def _running(self) -> list[str]:
        return [host.name for host in self._hosts if host.name not in self._exit_codes]

    def _reason(self) -> str:
        """Why the first host that failed did: in its own words, where it left some."""
        host, code = next((host, code) for host, code in self._exit_codes.items() if code != 0)
        place = next(each.place for each in self._hosts if each.name == host)
        with contextlib.suppress(OSError):
            own = (place / "output" / "failure").read_text(encoding="utf-8", errors="replace").strip()
            if own:
                return own[:1024]
        return f"{host} ended with exit code {code}" + (" (killed)" if code == 137 else "")

    # Hosts

    def _lay_out(self, host: _Host, channels: dict[str, Any]) -> None:
        """Make what the host will see as /opt/ml, as it is when an instance starts."""
        shutil.rmtree(host.place, ignore_errors=True)
        for folder in ("input/config", "model", "output/data", "checkpoints", *(f"input/data/{c}" for c in channels)):
            (host.place / folder).mkdir(parents=True)
        groups: dict[str, list[_Host]] = {}
        for each in self._hosts:
            groups.setdefault(each.group, []).append(each)
        resources = {
            "current_host": host.name,
            "current_instance_type": host.instance_type,
            "current_group_name": host.group,
            "hosts": sorted(each.name for each in self._hosts),
            "instance_groups": [
                {
                    "instance_group_name": name,
                    "instance_type": members[0].instance_type,
                    "hosts": sorted(each.name for each in members),
                }
                for name, members in groups.items()
            ],
            "network_interface_name": _INTERFACE,
        }
        inputs = {
            name: {
                "TrainingInputMode": channel.get(
                    "InputMode", self._request["AlgorithmSpecification"]["TrainingInputMode"]
                ),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
            for name, channel in channels.items()
        }
        contents = {
            "resourceconfig": resources,
            "hyperparameters": self._request.get("HyperParameters", {}),
            "inputdataconfig": inputs,
        }
        for name, content in contents.items():
            (host.place / "input" / "config" / f"{name}.json").write_text(json.dumps(content, indent=1))
        if "CheckpointConfig" in self._request:
            self._store.download(self._request["CheckpointConfig"]["S3Uri"], host.place / "checkpoints")
            self._restored[host.name] = _snapshot(host.place / "checkpoints")

    def _start_host(self, host: _Host, channels: list[str]) -> Container:
        algorithm, shape = self._request["AlgorithmSpecification"], self._shapes[host.instance_type]
        checkpoints = self._request.get("CheckpointConfig", {}).get("LocalPath", "/opt/ml/checkpoints")
        mounts = {str(host.place): {"bind": "/opt/ml", "mode": "rw"}} | {
            str(self._directory / "channels" / name): {"bind": f"/opt/ml/input/data/{name}", "mode": "ro"}
            for name in channels
        }
        if checkpoints != "/opt/ml/checkpoints":
            mounts[str(host.place / "checkpoints")] = {"bind": checkpoints, "mode": "rw"}
        container = self._client.containers.create(
            algorithm["TrainingImage"],
            entrypoint=algorithm.get("ContainerEntrypoint"),
            command=algorithm.get("ContainerArguments"),
            name=f"{self._id}-{self._attempt}-{host.name}",
            hostname=host.name,
            environment={
                "HOME": "/tmp",
                **self._request.get("Environment", {}),
                "TRAINING_JOB_NAME": self.name,
            },
            labels=engine.labels(self._id),
            volumes=mounts,
            # Not root where we are not, so that what it writes can be removed.
            user=f"{os.getuid()}:{os.getgid()}",
            nano_cpus=int(min(shape.cpus, self._cpus) * 1e9),
            mem_limit=shape.memory_bytes,
            memswap_limit=shape.memory_bytes,
            **self._in_network(host.name),
        )
        container.start()
        if shape.bandwidth_bits_per_s:
            self._limit_bandwidth(host, container, shape.bandwidth_bits_per_s)
        return container

    def _in_network(self, host: str) -> dict[str, Any]:
        from docker.types import EndpointConfig

        assert self._network is not None
        version = self._client.api._version
        return {
            "network": self._network.name,
            "networking_config": {self._network.name: EndpointConfig(version, aliases=[host])},
        }

    def _limit_bandwidth(self, host: _Host, container: Container, bits_per_s: float) -> None:
        """From a container beside the host, which may set up the network that it shares with it; the host may not."""
        from docker.errors import ContainerError

        try:
            self._client.containers.run(
                self._request["AlgorithmSpecification"]["TrainingImage"],
                entrypoint=["python3", "-m", "cluster.bandwidth"],
                command=[_INTERFACE, f"{bits_per_s:.0f}"],
                name=f"{self._id}-{self._attempt}-{host.name}-bandwidth",
                labels=engine.labels(self._id),
                network_mode=f"container:{container.id}",
                cap_drop=["ALL"],
                cap_add=["NET_ADMIN"],
                user="0:0",
                remove=True,
                stderr=True,
            )
        except ContainerError as error:
            container.reload()
            if container.status != "running":
                return  # it has ended, which is told otherwise; then there is no network to limit
            said = error.stderr.decode(errors="replace").strip().splitlines() if error.stderr else ["no word why"]
            raise EngineError(f"the bandwidth of {host.name} cannot be limited: {said[-1]}") from None

    def _signal(self, number: str, hosts: list[str]) -> None:
        from docker.errors import APIError

        for host in hosts:
            container = self._containers.get(host)
            if container is not None:
                with contextlib.suppress(APIError):  # it has ended
                    container.kill(number)

    # What runs beside: threads of one attempt

    def _in_thread(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _follow(self, host: str, container: Container) -> None:
        """Tell what a host prints; then that it ended, and to the course of the job as well."""
        rest = b""
        for chunk in container.logs(stream=True, follow=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._tell("log", host=host, line=line.decode(errors="replace"))
        if rest:
            self._tell("log", host=host, line=rest.decode(errors="replace"))
        code = container.wait()["StatusCode"]
        container.reload()
        self._tell("host_ended", host=host, exit_code=code, oom=container.attrs["State"]["OOMKilled"])
        self._commands.put(_Command("host_ended", host, code))

    def _sample(self, host: str, container: Container) -> None:
        """Tell what the engine measures of a host, which it does once a second."""
        from docker.errors import APIError

        before: dict[str, Any] | None = None
        cpus, due = self._cpus_of(host), time.monotonic() + self._sampling_s
        while not self._ended.is_set() and host not in self._exit_codes:
            # Not as a stream, which goes on, silent, when the container has ended. It takes the engine up to a second.
            try:
                now = container.stats(stream=False, one_shot=True)
            except (APIError, ValueError):
                return  # it has been removed, perhaps while the engine measured, which then answers nothing
            if time.monotonic() < due or not now.get("memory_stats"):
                self._ended.wait(0.2)
                continue
            self._tell("stats", host=host, **_usage(now, before, cpus))
            before, due = now, time.monotonic() + self._sampling_s - 0.5

    def _keep_checkpoints(self, ended: threading.Event) -> None:
        """Upload what the hosts put into their checkpoint folders while they run, and once more at the end."""
        uri = self._request["CheckpointConfig"]["S3Uri"]
        seen = self._restored
        while True:
            last = ended.wait(_SYNC_S)
            for host in self._hosts:
                folder = host.place / "checkpoints"
                now = _snapshot(folder)
                if now != seen[host.name]:
                    with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile: next time
                        self._store.upload(folder, uri)
                        seen[host.name] = now
            if last:
                return

    # Small things

    def _upload_results(self) -> None:
        results = self._directory / "results"
        results.mkdir(exist_ok=True)
        for name, part in (("model", "model"), ("output", "output/data")):
            with tarfile.open(results / f"{name}.tar.gz", "w:gz", compresslevel=1) as archive:
                for host in self._hosts:
                    for path in sorted((host.place / part).iterdir()):
                        archive.add(path, path.name)
        self._store.upload(
            results, f"{self._request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output"
        )

    def _check(self) -> None:
        """Raise EngineError for what can be known to be impossible before anything is started."""
        from docker.errors import ImageNotFound

        image = self._request["AlgorithmSpecification"].get("TrainingImage", "")
        try:
            self._client.images.get(image)
        except ImageNotFound:
            raise EngineError(f"the engine has no image {image}; make it with `facesim image build`") from None
        missing = {host.instance_type for host in self._hosts} - self._shapes.keys()
        if missing:
            raise EngineError(f"no shape is given for {', '.join(sorted(missing))}")
        for channel in self._request.get("InputDataConfig", []):
            source = channel["DataSource"].get("S3DataSource", {})
            if source.get("S3DataDistributionType", "FullyReplicated") != "FullyReplicated":
                raise EngineError(f"channel {channel['ChannelName']}: only FullyReplicated can be done here")
        self._cpus = float(self._client.info()["NCPU"])

    def _cpus_of(self, name: str) -> float:
        instance_type = next(host.instance_type for host in self._hosts if host.name == name)
        return min(self._shapes[instance_type].cpus, self._cpus)

    def _enter(self, state: str, reason: str = "") -> None:
        self._state = state
        self._tell("state", state=state, reason=reason, attempt=self._attempt)

    def _tell(self, event: str, **details: Any) -> None:
        self._events.put({"time_unix_s": time.time(), "event": event, **details})


def _hosts_of(resources: dict[str, Any], directory: Path) -> list[_Host]:
    """The hosts of a ResourceConfig, by number. Groups take turns, for SageMaker does not number them in order."""
    if "InstanceGroups" in resources:
        waiting = [
            [(group["InstanceType"], group["InstanceGroupName"])] * group["InstanceCount"]
            for group in resources["InstanceGroups"]
        ]
        kinds = []
        while any(waiting):
            kinds.extend(group.pop() for group in waiting if group)
    else:
        kinds = [(resources["InstanceType"], "homogeneousCluster")] * resources["InstanceCount"]
    names = by_number([f"algo-{number}" for number in range(1, len(kinds) + 1)])
    return [_Host(name, *kind, directory / name) for name, kind in zip(names, kinds)]


def _snapshot(folder: Path) -> list[tuple[str, int, int]]:
    """What tells whether anything in a folder has changed."""
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def _usage(now: dict[str, Any], before: dict[str, Any] | None, cpus: float) -> dict[str, float]:
    """What the engine's figures of one moment, and of the one before, mean."""
    memory = now["memory_stats"]
    # As Docker's own command has it: pages of files that nobody uses are not in use. (Control groups 1 and 2.)
    unused = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    used, cpu_ns = memory["usage"] - unused, now["cpu_stats"]["cpu_usage"]["total_usage"]
    usage = {
        "cpu_count": cpus,
        "cpu_s": cpu_ns / 1e9,
        "memory_bytes": used,
        "memory_percent": 100 * used / memory["limit"],
    }
    if before:
        seconds = _seconds(now["read"]) - _seconds(before["read"])
        used_s = (cpu_ns - before["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
        if seconds > 0:
            usage["cpu_percent"] = min(100.0, max(0.0, 100 * used_s / (seconds * cpus)))
    networks = now.get("networks", {}).values()
    usage["net_sent_bytes"] = sum(network["tx_bytes"] for network in networks)
    usage["net_received_bytes"] = sum(network["rx_bytes"] for network in networks)
    moved = now.get("blkio_stats", {}).get("io_service_bytes_recursive") or []
    for name, operation in (("disk_read_bytes", "read"), ("disk_written_bytes", "write")):
        usage[name] = sum(entry["value"] for entry in moved if entry["op"].lower() == operation)
    return usage


def _seconds(stamp: str) -> float:
    """Seconds of an RFC 3339 time with nanoseconds, such as 2026-11-23T05:13:11.417778904Z."""
    whole, fraction = stamp.rstrip("Z").split(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction}")
