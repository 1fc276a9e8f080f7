"""Executes a CreateTrainingJob request on this machine: one container a host, as SageMaker would run it.

The request is AWS' own (botocore's CreateTrainingJob), so what runs here is what would be sent there: its image, entry
point, hyperparameters, channels, checkpoints, instance types and counts, instance groups, environment, time limits.
Each host sees /opt/ml as on SageMaker. What differs is what an instance type has: `shapes` says how much of this
machine a host of each type is given.

What happens is reported as events, dictionaries with `time_unix_s` and `event`:

    state       state (one of SageMaker's secondary states), reason (text, may be empty), attempt (1, 2, ...)
    log         host, line: what a host printed, in its order
    stats       host, and what the engine measures of it: cpu_percent (0-100 % of the CPUs it was given), cpu_count
                (those CPUs), cpu_s, memory_bytes, memory_percent, net_sent_bytes, net_received_bytes, disk_read_bytes,
                disk_written_bytes (totals since the host's start)
    hung        task (the host), for_s, limit_s, silent, doing: it has used no processor for so long, and is killed
    checkpoint_failed  task (the host), why: its checkpoints cannot be stored for now; told once until they can be
    host_ended  host, exit_code, oom (killed for want of memory)
    node_ended  the last one: outcome (completed, failed or stopped), state (the last of the states), reason (of a
                failure: the host's, from /opt/ml/output/failure), host_exit_codes

A terminal state comes right before `node_ended`. A stop gives Stopping, Uploading, Stopped; a time limit gives
Stopping, Uploading, and MaxRuntimeExceeded or MaxWaitTimeExceeded as the terminal state, with outcome `stopped`; an
interruption gives Interrupted, then Starting again; so does a host that something outside kills, while the request
allows another attempt (RetryStrategy, or managed spot training).
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import clock
from cluster.containers import engine
from cluster.containers.engine import EngineError
from cluster.containers.host import HostContainer, HostShape, Surroundings, give, user_for
from cluster.containers.opt_ml import hosts_of, lay_out
from cluster.containers.processors import processors_of
from cluster.containers.transfer import Store, Transfer

#: SageMaker's secondary states, as far as a job can be in them here.
STARTING, DOWNLOADING, TRAINING, INTERRUPTED, UPLOADING = (
    "Starting", "Downloading", "Training", "Interrupted", "Uploading")  # fmt: skip
STOPPING, STOPPED, COMPLETED, FAILED = "Stopping", "Stopped", "Completed", "Failed"
MAX_RUNTIME_EXCEEDED, MAX_WAIT_TIME_EXCEEDED = "MaxRuntimeExceeded", "MaxWaitTimeExceeded"

#: How the job ends after such a command; a limit that was reached is its own terminal state.
_TERMINAL = {"completed": COMPLETED, "failed": FAILED, "stop": STOPPED, "kill": STOPPED}

#: How the engine tells that a container's process 1 was killed.
_SIGKILLED = 137

#: How long the other hosts may take to end when one has failed: nothing that they could still save is complete.
_FAILED_GRACE_S = 10.0


@dataclass(frozen=True)
class _Command:
    """What the job is to do, or what happened to a host: from outside, or by the threads that watch it."""

    name: str
    host: str = ""
    exit_code: int = 0
    oom: bool = False
    grace_s: float = 0.0
    again_after_s: float = 0.0
    why: str = ""


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
        frozen_s: a host that uses no processor at all for so long is frozen, and killed; None: it is waited for.

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
        frozen_s: float | None = None,
    ):
        self._request, self._directory, self._shapes = request, directory.resolve(), shapes
        self._sampling_s, self._grace_s, self._frozen_s = sampling_s, grace_s, frozen_s
        self.name: str = request["TrainingJobName"]
        self._id = f"{self.name}-{uuid.uuid4().hex[:8]}"
        self._hosts = hosts_of(request["ResourceConfig"], self._directory)
        self._transfer = Transfer(request, store, self._directory, self._hosts)
        self._client = engine.connect()
        with engine.answering():
            self._check()
            engine.sweep(self._client)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._containers: dict[str, HostContainer] = {}
        self._threads: list[threading.Thread] = []
        self._ends: dict[str, _Command] = {}  # of this attempt's hosts, in their order
        self._retries_left = request.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0)
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

    def interrupt(self, notice_s: float | None = None, again_after_s: float = 0.0) -> None:
        """Take the capacity away, as on a spot reclaim, and give it back after `again_after_s`: every host gets
        SIGTERM, SIGKILL after `notice_s` (None: the grace; 0: SIGKILL alone), and the job starts again with its
        checkpoints.

        Returns at once; without effect unless the job is training.
        """
        grace_s = self._grace_s if notice_s is None else notice_s
        self._commands.put(_Command("interrupt", grace_s=grace_s, again_after_s=again_after_s))

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
        removed = self._remove()
        shutil.rmtree(self._directory, ignore_errors=True)
        if removed:
            self._guard.dismiss()
        self._client.close()

    def _remove(self) -> bool:
        """Remove containers and network; False where the engine does not do it now: then the guard does."""
        try:
            with engine.answering():
                engine.remove(self._client, self._id)
        except EngineError:
            return False
        return True

    # The course of the job, in a thread of its own

    def _run(self) -> None:
        try:
            with engine.answering():
                state, reason = self._course()
        except EngineError as error:
            state, reason = FAILED, str(error)
        except Exception as error:
            traceback.print_exc()
            state, reason = FAILED, f"{type(error).__name__}: {error}"
        finally:
            self._ended.set()
            self._remove()
        outcome = {COMPLETED: "completed", FAILED: "failed"}.get(state, "stopped")
        self._enter(state, reason)
        codes = {host: end.exit_code for host, end in self._ends.items()}
        self._tell("node_ended", outcome=outcome, state=state, reason=reason, host_exit_codes=codes)

    def _course(self) -> tuple[str, str]:
        """Attempts until one ends for good; the terminal state and, of a failure, the reason."""
        while True:
            self._attempt += 1
            self._start()
            command = self._watch()
            if command.name not in ("interrupt", "lost"):
                break
            self._enter(INTERRUPTED, f"{command.host} was killed" if command.name == "lost" else "")
            self._end_hosts(command.grace_s)
            self._take_down()
            self._transfer.check_kept()  # the next attempt begins with them
            ended_meanwhile = self._wait_for_capacity(command.again_after_s)
            if ended_meanwhile:
                command = ended_meanwhile
                break
        reason = self._reason() if command.name == "failed" else ""
        if command.name not in ("completed", "failed"):
            self._enter(STOPPING)
        if command.name != "completed":
            grace_s = {"kill": 0.0, "failed": min(self._grace_s, _FAILED_GRACE_S)}.get(command.name, self._grace_s)
            self._end_hosts(grace_s)
        self._enter(UPLOADING)
        self._take_down()
        self._transfer.upload_results()
        return _TERMINAL.get(command.name, command.name), reason

    def _start(self) -> None:
        self._enter(STARTING)
        self._ends = {}
        network = self._client.networks.create(
            f"{self._id}-{self._attempt}",
            driver="bridge",
            internal=self._request.get("EnableNetworkIsolation", False),
            labels=engine.labels(self._id),
        )
        self._enter(DOWNLOADING)
        user = user_for(self._client)
        channels = self._transfer.download_channels()
        for folder in channels.values():
            give(folder, user)
        for host in self._hosts:
            lay_out(host, self._hosts, self._request)
            if self._transfer.has_checkpoints:
                self._transfer.restore_checkpoints(host)
        self._enter(TRAINING)
        surroundings = Surroundings(
            self._client,
            network,
            f"{self._id}-{self._attempt}",
            engine.labels(self._id),
            self._cpus,
            channels,
            user,
        )
        shapes = [self._shapes[host.instance_type] for host in self._hosts]
        for host, shape, processors in zip(self._hosts, shapes, processors_of(shapes, int(self._cpus))):
            self._containers[host.name] = HostContainer(host, shape, processors, self._request, surroundings)
        self._since = time.monotonic()
        self._ended = threading.Event()
        for name, container in self._containers.items():
            self._in_thread(self._follow, name, container)
            self._in_thread(self._sample, name, container)
        if self._transfer.has_checkpoints:
            self._in_thread(self._transfer.keep_checkpoints, self._ended, self._not_kept)

    def _command(self, timeout_s: float | None) -> _Command:
        """The next command.

        Raises:
            queue.Empty: there is none within `timeout_s`.
            EngineError: hosts cannot be followed any more.
        """
        command = self._commands.get(timeout=timeout_s)
        if command.name == "unfollowed":
            raise EngineError(command.why)
        return command

    def _watch(self) -> _Command:
        """Wait for the end of this attempt, and return why it ends."""
        while True:
            try:
                command = self._command(timeout_s=self._time_left())
            except queue.Empty:
                return _Command(self._limit_reached())
            if command.name == "host_ended":
                self._ends[command.host] = command
                if _was_lost(command) and self._may_start_again():
                    return _Command("lost", command.host)
                if command.exit_code != 0:
                    return _Command("failed")
                if len(self._ends) == len(self._hosts):
                    return _Command("completed")
            else:
                return command

    def _may_start_again(self) -> bool:
        """Whether the request allows another attempt when a host is lost; that is then one less."""
        if self._request.get("EnableManagedSpotTraining"):
            return True  # as often as capacity goes, until the time is over
        self._retries_left -= 1
        return self._retries_left >= 0

    def _end_hosts(self, grace_s: float) -> None:
        """SIGTERM to the hosts that still run, SIGKILL to those that are there after the grace; a kill shortens it."""
        deadline, postponed = time.monotonic() + grace_s, []
        if grace_s > 0:
            self._signal("SIGTERM", self._running())
        while self._running():
            left = deadline - time.monotonic()
            if left <= 0:
                self._signal("SIGKILL", self._running())
            try:
                command = self._command(timeout_s=max(left, 0.0) or 60.0)
            except queue.Empty:
                continue
            if command.name == "host_ended":
                self._ends[command.host] = command
            elif command.name in ("stop", "kill"):
                if command.name == "kill":
                    deadline = 0.0
                postponed.append(command)
        for command in postponed:
            self._commands.put(command)  # it came while an interruption ended the hosts: it is still to be obeyed

    def _take_down(self) -> None:
        """Remove this attempt's containers and network, once its last checkpoints are stored, or cannot be. Without
        effect the second time.
        """
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
                command = self._command(timeout_s=max(0.0, min(left, limit if limit is not None else left)))
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
        limits_s = [condition["MaxRuntimeInSeconds"] - trained] if "MaxRuntimeInSeconds" in condition else []
        if "MaxWaitTimeInSeconds" in condition:
            limits_s.append(condition["MaxWaitTimeInSeconds"] - (time.monotonic() - self._began))
        return max(0.0, min(limits_s)) if limits_s else None

    def _limit_reached(self) -> str:
        limit = self._request["StoppingCondition"].get("MaxWaitTimeInSeconds")
        waited = limit is not None and time.monotonic() - self._began >= limit
        return MAX_WAIT_TIME_EXCEEDED if waited else MAX_RUNTIME_EXCEEDED

    def _running(self) -> list[str]:
        return [host.name for host in self._hosts if host.name not in self._ends]

    def _reason(self) -> str:
        """Why the first host that failed did: in its own words, where it left some."""
        end = next(end for end in self._ends.values() if end.exit_code != 0)
        place = next(host.place for host in self._hosts if host.name == end.host)
        with contextlib.suppress(OSError):
            failure = (place / "output" / "failure").read_text(encoding="utf-8", errors="replace").strip()
            if failure:
                return failure[:1024]
        if _was_lost(end):
            return f"{end.host} was killed from outside, and no other attempt is left"
        return f"{end.host} ended with exit code {end.exit_code}" + (" (out of memory)" if end.oom else "")

    def _signal(self, name: str, hosts: list[str]) -> None:
        for host in hosts:
            if host in self._containers:
                self._containers[host].signal(name)

    # What runs beside: threads of one attempt

    def _in_thread(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _follow(self, host: str, container: HostContainer) -> None:
        """Tell what a host prints; then that it ended, and to the course of the job as well."""
        from docker.errors import NotFound

        try:
            with engine.answering():
                for line in container.lines():
                    self._tell("log", host=host, line=line)
                try:
                    code, oom = container.wait()
                except NotFound:  # somebody has removed it
                    code, oom = _SIGKILLED, False
        except EngineError as error:
            self._commands.put(_Command("unfollowed", host, why=str(error)))
            return
        self._tell("host_ended", host=host, exit_code=code, oom=oom)
        self._commands.put(_Command("host_ended", host, code, oom))

    def _sample(self, host: str, container: HostContainer) -> None:
        used_s, since_s = -1.0, time.monotonic()
        for measured in container.measurements(self._ended, self._sampling_s):
            self._tell("stats", host=host, **measured)
            now_s = time.monotonic()
            if measured["cpu_s"] > used_s:
                used_s, since_s = measured["cpu_s"], now_s
            elif self._frozen_s is not None and now_s - since_s > self._frozen_s:
                seconds = {"for_s": now_s - since_s, "limit_s": self._frozen_s}
                self._tell("hung", task=host, silent=True, doing="supervising", **seconds)
                container.signal("SIGKILL")
                since_s = now_s

    def _not_kept(self, host: str, why: str) -> None:
        self._tell("checkpoint_failed", task=host, why=why)

    # Small things

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

    def _enter(self, state: str, reason: str = "") -> None:
        self._state = state
        self._tell("state", state=state, reason=reason, attempt=self._attempt)

    def _tell(self, event: str, **details: Any) -> None:
        self._events.put({"time_unix_s": clock.time_unix_s(), "event": event, **details})


def _was_lost(end: _Command) -> bool:
    """Whether a host ended as if its machine had gone: killed, and not for what it did itself."""
    return end.exit_code == _SIGKILLED and not end.oom
