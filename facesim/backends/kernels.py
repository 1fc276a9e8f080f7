"""Which kernels TensorFlow computes with, chosen by measurement once on a machine.

TensorFlow has two sets of kernels for processors, its own, of the library Eigen, and oneDNN's, and takes oneDNN's by
itself only on some processors. Which are faster differs between processors by up to twice; what they compute is the
same to rounding. So both are measured, at the first start on a machine, with the step that trains, and the faster are
kept in the user's cache folder. All runs of a machine then compute with the same.

Hosts of a job in containers do not measure: it would be paid for, and two hosts could choose differently. They take
`FIXED`. Networks of the user's own have `OF_OWN_MODELS` everywhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, cast

from cluster.hosted.cgroup import available_cpus
from cluster.lifeline import start_child
from cluster.surroundings import cluster_environment, python
from facesim.backends.tasks import environment_of
from facesim.metrics.machine import cpu_model
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.job import Job, make_job
from facesim.spec.own_model import OwnModel
from facesim.util.errors import InputError
from facesim.util.files import read_text, write_json
from facesim.util.folders import cache_folder, make_own_folder

#: What TensorFlow finds in the environment, by the name of the kernels that it then has.
KERNELS: dict[str, dict[str, str]] = {
    "default": {},  # TensorFlow's own choice
    "onednn": {"TF_ENABLE_ONEDNN_OPTS": "1"},
    "eigen": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}
#: An option's value, not a name: those that are faster on this machine.
AUTO = "auto"
#: What is taken where nothing is measured.
FIXED = "onednn"
#: What networks of the user's own have. oneDNN's, of TensorFlow 2.21 at least, overwrite memory that is not theirs in a
#: training step with a strided 1 x 1 convolution of an image's three channels: "double free", or SIGBUS.
OF_OWN_MODELS = "eigen"

#: The precisions in which kernels are measured.
PRECISIONS = ("float32", "bfloat16")
#: How often each set is measured, in turn with the other. A set that is so many times as slow is not measured again.
_ROUNDS, _HOPELESS = 5, 1.5
#: By how much a set has to be faster than `FIXED` to be chosen: less is noise.
_FASTER = 1.05
#: How far, relatively, the losses of two sets' first steps may differ.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
#: How long a process may take to load TensorFlow, to compile or to answer, on a machine that is busy.
_PATIENCE_S = 120.0
#: How often it is looked whether another process has measured.
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Choice:
    """The kernels that were chosen.

    step_s: seconds of a training step by precision and kernels, medians of rounds; without those that cannot train in
        a precision, or whose results were not the same.
    machine: what the choice holds for.
    """

    kernels: str
    step_s: Mapping[str, Mapping[str, float]]
    machine: Mapping[str, Any]

    def __str__(self) -> str:
        comparisons = []
        for precision, by_kernels in self.step_s.items():
            step_s = by_kernels.get(self.kernels)
            others = [seconds for kernels, seconds in by_kernels.items() if kernels != self.kernels]
            if step_s and others:
                comparisons.append(f"{min(others) / step_s:.2f} times as fast as the others in {precision}")
        return f"{self.kernels}" + (f": {', '.join(comparisons)}" if comparisons else "")


def asked(job: Job) -> str | None:
    """What a job's tasks are to compute with: a name in `KERNELS`, or `AUTO`; None where no TensorFlow computes.

    Raises:
        InputError: oneDNN's, which a network of the user's own must not have.
    """
    if job.framework != TENSORFLOW:
        return None
    name, own_model = job.shape.kernels, OwnModel.find(job.experiment.model)
    if own_model is None:
        return name
    if name == "onednn":
        raise InputError(
            f"--kernels onednn is not possible with --model {own_model.path}:{own_model.function}: oneDNN's kernels "
            f"overwrite memory in the training of some networks of one's own; give --kernels {OF_OWN_MODELS}",
            field="kernels",
            value=name,
            allowed=[OF_OWN_MODELS],
        )
    return OF_OWN_MODELS


def unmeasured(job: Job) -> str | None:
    """The same where nothing is measured: `FIXED` in place of `AUTO`."""
    name = asked(job)
    return FIXED if name == AUTO else name


def environment(name: str | None) -> dict[str, str]:
    """What the processes of a job must find, which compute with the kernels of this name."""
    return {} if name is None else KERNELS[name]


#: What was chosen by this process, by file: so a study has one choice also where nothing can be kept.
_chosen: dict[Path, Choice] = {}


def chosen() -> Choice | None:
    """What was chosen for this machine; None if nothing was measured yet."""
    file = _file()
    if file not in _chosen:
        with suppress(OSError, ValueError, TypeError):
            choice = Choice(**json.loads(read_text(file)))
            if choice.kernels in KERNELS and choice.machine == _machine():
                _chosen[file] = choice
    return _chosen.get(file)


def choose() -> Choice:
    """The same, measured now, in some ten seconds, if it was not before."""
    if (earlier := chosen()) is not None:
        return earlier
    file = _file()
    with _alone(file):
        return chosen() or _measured(file)


def _measured(file: Path) -> Choice:
    step_s = measure()
    choice = _chosen[file] = Choice(fastest(step_s), step_s, _machine())
    if step_s:  # where nothing could be measured it is tried again next time
        with suppress(OSError):  # a cache that takes nothing costs the time to measure again
            make_own_folder(file.parent)
            write_json(file, asdict(choice))
    return choice


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let one process at a time measure what is kept in a file, for two would disturb each other. One that has waited
    as long as measuring may take goes on; so does one whose file system has no locks.
    """
    with ExitStack() as held:
        with suppress(OSError):
            make_own_folder(file.parent)
            lock = held.enter_context(file.with_suffix(".lock").open("wb"))
            until_s = time.monotonic() + _PATIENCE_S
            while not _locked(lock) and time.monotonic() < until_s:
                time.sleep(_PAUSE_S)
        yield


def _locked(file: IO[bytes]) -> bool:
    """Whether this process has the lock of the file now. The system takes it back when the process ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fastest(step_s: Mapping[str, Mapping[str, float]]) -> str:
    """The kernels with the shortest steps, over all precisions; `FIXED` unless others are clearly faster."""
    everywhere = [name for name in KERNELS if step_s and all(name in measured for measured in step_s.values())]
    if not everywhere:
        return FIXED if not step_s else "default"
    total = {name: math.prod(measured[name] for measured in step_s.values()) for name in everywhere}
    best = min(total, key=total.__getitem__)
    return FIXED if FIXED in total and total[FIXED] < total[best] * _FASTER else best


def measure(names: Sequence[str] = ("onednn", "eigen")) -> dict[str, dict[str, float]]:
    """Seconds of a training step by precision and kernels: medians of rounds, in which each is measured in turn.

    A set is left out that cannot train in a precision, or whose losses are not those of the first set to rounding.
    """
    with ExitStack() as processes:
        probes = {name: processes.enter_context(_probe(name)) for name in names}
        losses = {name: json.loads(probe.answer() or "{}") for name, probe in probes.items()}
        measured = {}
        for precision in PRECISIONS:
            able = [name for name in names if losses[name].get(precision)]
            rightly = [name for name in able if _same(losses[able[0]][precision], losses[name][precision], precision)]
            measured[precision] = _medians({name: probes[name] for name in rightly}, precision)
    return {precision: by_kernels for precision, by_kernels in measured.items() if by_kernels}


def _same(expected: list[float], actual: list[float], precision: str) -> bool:
    return all(math.isclose(a, b, rel_tol=_TOLERANCE[precision]) for a, b in zip(expected, actual, strict=True))


def _medians(probes: Mapping[str, _Probe], precision: str) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in probes}
    for _ in range(_ROUNDS):
        quickest = min((min(each) for each in seconds.values() if each), default=math.inf)
        for name, probe in probes.items():
            if (not seconds[name] or min(seconds[name]) < _HOPELESS * quickest) and (answer := probe.ask(precision)):
                seconds[name].append(float(answer))
    return {name: statistics.median(each) for name, each in seconds.items() if each}


class _Probe:
    """A process that measures one set of kernels. One that has died, or is silent for too long, answers nothing."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self._process = process

    def ask(self, precision: str) -> str:
        with suppress(OSError):
            stdin = cast(IO[bytes], self._process.stdin)
            stdin.write(f"{precision}\n".encode())
            stdin.flush()
        return self.answer()

    def answer(self) -> str:
        stdout = cast(IO[bytes], self._process.stdout)
        deadline_s = time.monotonic() + _PATIENCE_S
        text = b""
        while not text.endswith(b"\n") and wait([stdout.fileno()], max(0.0, deadline_s - time.monotonic())):
            if not (more := os.read(stdout.fileno(), 65536)):
                return ""
            text += more
        return text.decode().strip()


@contextmanager
def _probe(name: str) -> Iterator[_Probe]:
    quiet = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    arguments = (str(os.getpid()), str(_threads()), *PRECISIONS)
    process = start_child(
        python("facesim.training.tensorflow.kernels", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=cluster_environment(os.environ, {**environment_of(make_job()), **KERNELS[name], **quiet}),
        bufsize=0,
    )
    try:
        yield _Probe(process)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            cast(IO[bytes], pipe).close()


@cache
def _threads() -> int:
    """Those of this process when it first asks: runs that share the machine later have the kernels of all of it."""
    return max(1, round(available_cpus()))


def _machine() -> dict[str, Any]:
    """What the choice depends on."""
    return {
        "cpu_model": cpu_model(),
        "cpu_features_sha256": cpu_features(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": _threads(),
        "tensorflow": version("tensorflow"),
    }


def cpu_features() -> str | None:
    """Of what instructions the processor has: virtual machines call quite different processors alike."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(" ".join(sorted(line.split(":", 1)[1].split())).encode()).hexdigest()[:16]
    return None


def _file() -> Path:
    key = hashlib.sha256(json.dumps(_machine(), sort_keys=True).encode()).hexdigest()
    return cache_folder() / "kernels" / f"{key[:16]}.json"
