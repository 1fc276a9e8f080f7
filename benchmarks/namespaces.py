"""Hosts of a job without a container engine: each in a network namespace with a shaped link, its processors by quota.

For the benchmark of the forecast where no engine answers. It needs Linux, root, `ip` and `tc` of iproute2, and the
kernel's token bucket (tbf). What a host runs is what a container runs, from the same request and the same /opt/ml; the
files of the system are this machine's, and memory is not limited.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster import clock
from cluster.containers.bandwidth import limit_egress
from cluster.containers.host import HostShape, quota
from cluster.containers.opt_ml import INTERFACE, Host, hosts_of, lay_out
from cluster.containers.processors import processors_of
from cluster.hosted.contract import ROOT
from facesim.backends.collect_results import collect_results
from facesim.backends.docker import DockerBackend
from facesim.backends.emulation import emulation_of
from facesim.backends.log_stream import LogStream
from facesim.backends.training_job import TrainingJob
from facesim.runs.directory import Run
from facesim.spec.backends import Docker
from facesim.spec.job import Job
from facesim.util.errors import FacesimError

_CGROUPS = Path("/sys/fs/cgroup")
_ETC = Path("/etc/netns")
_PACKAGES = Path(__file__).resolve().parents[1]
_GRACE_S = 15.0

#: Binds each of /opt/ml's folders, in the mount namespace that `ip netns exec` has made, then becomes the host.
_ENTER = """
set -e
mkdir -p /opt/ml
mount --bind "$1" /opt/ml
shift
while [ "$1" != -- ]; do mount --bind "$2" "/opt/ml/input/data/$1"; shift 2; done
shift
exec "$@"
"""


def why_not() -> str | None:
    """Why hosts cannot be namespaces here; None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces with shaped links need Linux and root"
    missing = [tool for tool in ("ip", "tc", "mount", "taskset") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} is missing: install iproute2 and util-linux"
    name = f"fs{secrets.token_hex(3)}"
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        try:
            limit_egress(name, 1e6)
        finally:
            _ip("link", "del", name)
    except Exception as error:  # netlink's errors have no common base that is known without pyroute2
        return f"the kernel does not shape a link with tbf: {error}"
    return None


class NamespacesBackend(DockerBackend):
    """Runs a job's request with each host in a network namespace."""

    def check(self, job: Job) -> None:
        if reason := why_not():
            raise FacesimError(reason)

    def submit(self, run: Run, request: TrainingJob) -> NamespacesExecution:  # type: ignore[override]
        run.plan_file.write_text(request.to_json())
        return NamespacesExecution(run, request)


class NamespacesExecution:
    """A request that is being executed, and comes home into `run`."""

    def __init__(self, run: Run, request: TrainingJob):
        self._run, self._request, job = run, request.request, run.job()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._emulation = emulation_of(job, len(os.sched_getaffinity(0)), memory)
        self._scratch = run.directory / ".hosts"
        self._hosts = hosts_of(self._request["ResourceConfig"], self._scratch.resolve())
        self._channels = {
            channel["ChannelName"]: request.uploads[channel["DataSource"]["S3DataSource"]["S3Uri"]]
            for channel in self._request.get("InputDataConfig", [])
        }
        self._name = f"fs{secrets.token_hex(2)}"
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped = False
        self._made_root = not ROOT.exists()

    def events(self, tick_s: float) -> Iterator[dict[str, Any] | None]:
        yield {"event": "emulation", **self._emulation.facts()}
        self._tell("state", state="Starting")
        self._start()
        self._tell("state", state="Training")
        stream, ends = LogStream(self._run), dict[str, int]()
        while len(ends) < len(self._hosts):
            try:
                event = self._events.get(timeout=tick_s)
            except queue.Empty:
                yield None
                continue
            if event["event"] == "log":
                if log_event := stream.add(event["host"], event["line"], event["time_unix_s"]):
                    yield log_event
            elif event["event"] == "ended":
                ends[event["host"]] = event["code"]
                if event["code"] != 0:
                    self._signal(signal.SIGTERM)
            else:
                yield event
        collect_results(*self._left(), self._run)
        stream.settle()
        failed = [f"{host} ended with exit code {code}" for host, code in ends.items() if code != 0]
        outcome = "stopped" if self._stopped else "failed" if failed or self._run.outcome() is None else "completed"
        yield {"event": "node_ended", "outcome": outcome, "reason": "; ".join(failed)}

    def stop(self) -> None:
        self._stopped = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._stopped = True
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_GRACE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for host in self._hosts:
            _ip("netns", "del", self._namespace(host), check=False)
            shutil.rmtree(_ETC / self._namespace(host), ignore_errors=True)
            _remove_group(self._namespace(host))
        if self._made_root:
            with contextlib.suppress(OSError):
                ROOT.rmdir()
        _ip("link", "del", self._name, check=False)
        self._let_pass("-D")
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _namespace(self, host: Host) -> str:
        return f"{self._name}-{host.name}"

    def _start(self) -> None:
        """All hosts on one bridge, each link shaped at both ends."""
        _ip("link", "add", self._name, "type", "bridge")
        _ip("link", "set", self._name, "up")
        self._let_pass("-I")
        addresses = {host.name: f"10.213.77.{number}" for number, host in enumerate(self._hosts, 1)}
        names = "".join(f"{address} {name}\n" for name, address in addresses.items())
        for number, host in enumerate(self._hosts, 1):
            namespace, outside, inside = self._namespace(host), f"{self._name}o{number}", f"{self._name}i{number}"
            lay_out(host, self._hosts, self._request)
            _ip("netns", "add", namespace)
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            _ip("link", "set", outside, "master", self._name, "up")
            _ip("link", "set", inside, "netns", namespace, "name", INTERFACE)
            for words in (("addr", "add", f"{addresses[host.name]}/24", "dev", INTERFACE), ("link", "set", "lo", "up")):
                _ip("-n", namespace, *words)
            _ip("-n", namespace, "link", "set", INTERFACE, "up")
            (_ETC / namespace).mkdir(parents=True, exist_ok=True)
            (_ETC / namespace / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
            shape = self._emulation.shapes[host.instance_type]
            assert shape.bandwidth_bits_per_s is not None
            limit_egress(outside, shape.bandwidth_bits_per_s)
            limit = [
                sys.executable,
                "-m",
                "cluster.containers.bandwidth",
                INTERFACE,
                f"{shape.bandwidth_bits_per_s:.0f}",
            ]
            subprocess.run(
                ["ip", "netns", "exec", namespace, *limit], check=True, stdout=subprocess.DEVNULL, cwd=_PACKAGES
            )
        shapes = [self._emulation.shapes[host.instance_type] for host in self._hosts]
        usable = sorted(os.sched_getaffinity(0))
        for host, places in zip(self._hosts, processors_of(shapes, len(usable))):
            self._launch(host, [usable[place] for place in places])

    def _let_pass(self, change: str) -> None:
        """A firewall, such as one that an engine sets up, may look at what crosses a bridge, and drop it."""
        if shutil.which("iptables"):
            rule = ["FORWARD", "-i", self._name, "-o", self._name, "-j", "ACCEPT"]
            subprocess.run(["iptables", change, *rule], capture_output=True)

    def _launch(self, host: Host, processors: list[int]) -> None:
        algorithm = self._request["AlgorithmSpecification"]
        entry = [sys.executable, *algorithm["ContainerEntrypoint"][1:], *algorithm["ContainerArguments"]]
        mounts = [word for name, folder in self._channels.items() for word in (name, str(Path(folder).resolve()))]
        join = _group(self._namespace(host), self._emulation.shapes[host.instance_type])
        self._processes[host.name] = process = subprocess.Popen(
            [
                *("sh", "-c", f'echo $$ > {join} && exec "$@"', "join"),
                *("taskset", "--cpu-list", ",".join(map(str, processors))),
                *("ip", "netns", "exec", self._namespace(host)),
                *("sh", "-c", _ENTER, "enter", str(host.place), *mounts, "--", *entry),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=_PACKAGES,
            env={
                **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
                "HOME": "/tmp",
                "PYTHONPATH": str(_PACKAGES),
                **self._request.get("Environment", {}),
                "TRAINING_JOB_NAME": self._request["TrainingJobName"],
            },
        )
        threading.Thread(target=self._follow, args=(host.name, process), daemon=True).start()

    def _follow(self, host: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._tell("log", host=host, line=line.decode(errors="replace").rstrip("\n"))
        self._tell("ended", host=host, code=process.wait())

    def _left(self) -> tuple[Path, Path]:
        """What the hosts left, in one folder each for results and for models."""
        output, model = self._scratch / "output", self._scratch / "model"
        for folder in (output, model):
            folder.mkdir(parents=True, exist_ok=True)
        for host in self._hosts:
            shutil.copytree(host.place / "output" / "data", output, dirs_exist_ok=True)
            shutil.copytree(host.place / "model", model, dirs_exist_ok=True)
        return output, model

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(number)

    def _tell(self, event: str, **details: Any) -> None:
        self._events.put({"time_unix_s": clock.time_unix_s(), "event": event, **details})


def _ip(*words: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise FacesimError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _group(name: str, shape: HostShape) -> Path:
    """A control group with the processors of a shape; the file that a process joins it by."""
    limits = quota(shape.cpus)
    if (_CGROUPS / "cgroup.controllers").exists():
        folder = _CGROUPS / name
        folder.mkdir()
        (folder / "cpu.max").write_text(f"{limits['cpu_quota']} {limits['cpu_period']}")
    else:
        folder = _CGROUPS / "cpu" / name
        folder.mkdir()
        (folder / "cpu.cfs_period_us").write_text(str(limits["cpu_period"]))
        (folder / "cpu.cfs_quota_us").write_text(str(limits["cpu_quota"]))
    return folder / "cgroup.procs"


def _remove_group(name: str) -> None:
    for folder in (_CGROUPS / name, _CGROUPS / "cpu" / name):
        if folder.is_dir():
            folder.rmdir()


class Namespaces(Docker):
    """Where a job runs, with the docker backend's options and request."""

    summary = "this machine, each host a network namespace"
    implementation = "benchmarks.namespaces:BACKEND"


BACKEND = NamespacesBackend()
