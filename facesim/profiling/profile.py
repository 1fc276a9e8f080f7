"""The profile of an experiment on this machine: measured in a few minutes, kept in the user's cache folder, reused.

    profile_of(job) -> facesim.forecast.profile_data.Profile

Everything is measured with the code that trains, in processes that are started as those of a run are:

1. sums over 2, 3 and 4 processes, for strategies whose workers add up;
2. three processes one after another, each of which trains alone: steps at three batches, and what surrounds them; and,
   right after the steps, kernels that compare this machine with others, for it may not always be as fast;
3. where the framework has them, a cluster of a parameter server, on a core of its own where there are two, and four
   workers: the parts of a step, CPU time of each role, and the saturation test, in which workers compute nothing;
4. where the framework is another than TensorFlow, the kernels, which are TensorFlow's.

What differs between frameworks is in `of_tensorflow`, `of_torch` and `of_jax`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cluster.hosted.cgroup import available_cpus
from facesim.backends.kernels import cpu_features
from facesim.backends.local import BACKEND
from facesim.data.cache import signals_interrupt
from facesim.forecast.placement import Variable as Placed
from facesim.forecast.placement import balanced
from facesim.forecast.profile_data import (
    SCHEMA_VERSION,
    WORKERS,
    Compute,
    FixedTimes,
    Machine,
    Profile,
    Ring,
    Server,
    Variable,
)
from facesim.metrics.collectors import NotHere
from facesim.metrics.collectors.nvml import Gpus
from facesim.metrics.machine import machine
from facesim.models import HEADS
from facesim.preflight.framework import check_framework
from facesim.preflight.head import check_head
from facesim.preflight.inputs import Inputs, prepare_inputs
from facesim.profiling import fits, summing
from facesim.profiling.stages import SMALL_COUNTS, SMALL_SIZE, Measured, cores_apart, measure_job
from facesim.spec.backends import Local
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.spec.job import Job, flat
from facesim.spec.own_model import network
from facesim.spec.recovery import Recovery
from facesim.spec.remote import refuse_remote
from facesim.spec.shape import Shape
from facesim.spec.strategies import AllReduce, PsAsync, Single, Strategy
from facesim.util.disk import writing_to
from facesim.util.errors import InputError
from facesim.util.folders import cache_folder, is_kept, make_own_folder

#: Processes in which the step is measured anew.
REPEATS = 3
#: A stage that was disturbed is measured again as long as the whole takes no longer than this.
_WITHIN_S = 300.0
#: The server of the saturation test is the bottleneck when its core was at least so busy.
_SATURATED = 0.85
#: A step that is shorter than this part of its computing alone was not measured as that was: something disturbed one.
_CONSISTENT = 0.9
#: The part of an experiment that speed depends on. Data is in it by what images and classes it has.
MATTERS = (
    "model", "head", "batch", "augment", "mirror_test", "precision", "cache", "weight_decay", "clip_norm",
    "label_smoothing", "optimizer", "momentum",
)  # fmt: skip
#: What decides the shape of its images.
OF_IMAGES = ("image_size", "channels")


class Watcher(Protocol):
    """Shows how far the measuring of a profile is."""

    def preparing(self, what: str, done: int, due: int) -> None: ...

    def measuring(self, what: str, number: int, count: int) -> None: ...

    def noticed(self, text: str) -> None: ...

    def tick(self) -> None: ...

    def close(self) -> None: ...


class Silent:
    """A watcher that shows nothing."""

    def preparing(self, what: str, done: int, due: int) -> None:
        pass

    def measuring(self, what: str, number: int, count: int) -> None:
        pass

    def noticed(self, text: str) -> None:
        pass

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


SILENT = Silent()


def profile_of(job: Job, *, fresh: bool = False, watcher: Watcher = SILENT) -> tuple[Profile, Path]:
    """The profile of the job's experiment on this machine, and the file that it is in; measured if there is none yet,
    or if it is to be `fresh`.

    Raises:
        InputError: the data cannot be used, the cache folder cannot be written, or the job's framework is not there or
            not measured.
        FacesimError: a process that measures failed.
    """
    check_measurable(job)
    check_framework(job)
    refuse_remote(
        job.experiment.data,
        ": no profile can be measured of it here; name one with --profile, or give images of this machine as --data",
    )
    inputs = prepare_inputs(_job(job, Single()), watcher.preparing)
    inputs.data.split(job.experiment.data_spec)  # so that a wrong part or share is told before minutes of measuring
    BACKEND.choose_kernels([job], watcher.noticed)
    file = profile_file(job, inputs)
    if is_kept(file) and not fresh:
        try:
            kept = Profile.load(file)
        except InputError as damaged:
            watcher.noticed(f"{damaged}; it is measured again")
        else:
            return of_these_images(kept, job, inputs), file
    try:
        make_own_folder(file.parent)
    except OSError as error:
        raise InputError(
            f"cannot write to {file.parent}: {error.strerror}; name a folder that you may write to with FACESIM_CACHE"
        ) from None
    with signals_interrupt(), tempfile.TemporaryDirectory(prefix="facesim-profile-") as folder:
        profile = _measured(job, inputs, Path(folder), watcher)
        with writing_to(file.parent, "make room there, or name another folder with FACESIM_CACHE"):
            profile.save(file)
    return profile, file


def check_measurable(job: Job) -> None:
    """Look whether profiles, and forecasts from them, are of a job's framework, and its strategy can train its head.

    Raises:
        InputError: they are not.
    """
    allowed = [name for name, framework in FRAMEWORKS.available() if framework.measured]
    if job.framework not in allowed:
        remedy = f"give one of {', '.join(allowed)}, or run the job"
        raise InputError(
            f"there are no profiles, and no forecasts, of --framework {job.framework}: {remedy}",
            field="framework",
            value=job.framework,
            allowed=allowed,
            remedy=remedy,
        )
    check_head(job)


def saved_profile(job: Job, inputs: Inputs) -> Profile | None:
    """The profile of the job's experiment on this machine, if there is one that can be read; nothing is measured."""
    try:
        FRAMEWORKS[job.framework].check()  # what is not installed was not measured either
        file = profile_file(job, inputs)
        return of_these_images(Profile.load(file), job, inputs) if is_kept(file) else None
    except InputError:
        return None


def profile_file(job: Job, inputs: Inputs) -> Path:
    """Where the profile of an experiment on this machine is kept."""
    name = network(job.experiment.model)
    experiment = job.experiment.model_dump(include=_matters(job)) | {"model": name}
    data = {"image_shape": list(inputs.data.image_shape), "identities": len(inputs.data.names)}
    key = {
        "schema": SCHEMA_VERSION, "machine": _machine(job), "framework": job.framework, "experiment": experiment,
        "data": data,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "profiles" / f"{re.sub('[-@]', '_', name)}-{digest[:16]}.json"


def _matters(job: Job) -> set[str]:
    """The part of the experiment that speed depends on."""
    return set(MATTERS) & flat(job).keys() | ({"sample_rate"} if HEADS[job.experiment.head].sampled else set())


def _machine(job: Job) -> dict[str, Any]:
    """What this machine and its software are, as far as a job's speed depends on them."""
    facts = machine(FRAMEWORKS[job.framework].packages) | {"cores": _cores(), "kernels": BACKEND.kernels(job)}
    facts |= {"cpu_features": cpu_features(), "gpus": _gpus()}
    return {name: value for name, value in facts.items() if name != "memory_bytes"}


def _gpus() -> list[Any] | None:
    """How many GPUs there are, and which of them programs see; None where there are none."""
    try:
        return [len(Gpus().all), os.environ.get("CUDA_VISIBLE_DEVICES")]
    except NotHere:
        return None


def _cores() -> int:
    """Those that this process, and all that it starts, may use: fewer than the machine's in a container, or where it is
    kept to some of them.
    """
    return max(1, round(available_cpus()))


def of_these_images(profile: Profile, job: Job, inputs: Inputs) -> Profile:
    """A profile that may have been measured with other images of the same kind, for so many as there are here.

    Raises:
        InputError: the data is read by hosts alone, so that nobody knows how many there are.
    """
    train, held_out = inputs.data.split(job.experiment.data_spec)
    fixed = profile.fixed
    if fixed.evaluation_image_s:  # what somebody wrote by hand may not say it
        fixed = fixed.model_copy(update=_evaluations_s(fixed, len(train), len(held_out)))
    return profile.model_copy(update={"examples": len(train), "fixed": fixed})


def _evaluations_s(fixed: FixedTimes, train: int, held_out: int) -> dict[str, float]:
    return {
        "evaluation_s": held_out * fixed.evaluation_image_s,
        "upload_s": train * fixed.evaluation_image_s + fixed.save_s,
    }


def _job(job: Job, strategy: Strategy, shape: Shape | None = None) -> Job:
    """The job's experiment by another strategy, on this machine."""
    experiment = job.experiment.model_copy(update={"pretrained": None})
    return Job(
        experiment=experiment,
        strategy=strategy,
        framework=job.framework,
        shape=(shape or Shape()).model_copy(update={"kernels": job.shape.kernels}),
        recovery=Recovery(),
        backend=Local(),
        sampling_s=0.5,
    )


def batches_of(batch: int) -> list[int]:
    """Three batches of a worker: that of an update by one, a quarter and a sixteenth, as many workers divide it."""
    chosen = {batch, max(1, batch // 4), max(1, batch // 16)}
    return sorted(chosen | {batch * factor for factor in (2, 4)[: 3 - len(chosen)]})


class _Stages:
    """Measures one stage after another, and again what was disturbed while there is time."""

    def __init__(self, count: int, watcher: Watcher):
        self._count, self._watcher = count, watcher
        self._number = 0
        self._begin = time.monotonic()
        self.disturbances: dict[str, None] = {}

    def run(self, what: str, measure: Callable[[str], Measured]) -> Any:
        """What `measure` found, which is given a name for a folder of its own."""
        self._number += 1
        best: Measured | None = None
        for attempt in (1, 2):
            self._watcher.measuring(what, self._number, self._count)
            begin = time.monotonic()
            measured = measure(f"{self._number}-{attempt}")
            if best is None or measured.disturbance < best.disturbance:
                best = measured
            now = time.monotonic()
            if not measured.load.disturbances or now - self._begin + (now - begin) > _WITHIN_S:
                break
            if attempt == 1:
                self._watcher.noticed(
                    f"disturbed while measuring {what}: {' and '.join(measured.load.disturbances)}; again"
                )
        assert best is not None
        for disturbance in best.load.disturbances:
            self.disturbances[f"{what}: {disturbance}"] = None
        return best.figures


def _measured(job: Job, inputs: Inputs, folder: Path, watcher: Watcher) -> Profile:
    begin = time.monotonic()
    framework, serves = FRAMEWORKS[job.framework], job.framework in PsAsync.trainers
    by_itself = job.framework == TENSORFLOW  # it has the kernels
    count = 1 + REPEATS + serves + (not by_itself)
    stages, batches, cores = _Stages(count, watcher), batches_of(job.experiment.batch), _cores()
    alone, peers = _job(job, Single()), _job(job, AllReduce(), Shape(workers=max(summing.PEERS)))

    def sums(name: str) -> Measured:
        more = dict.fromkeys(peers.strategy.tasks(peers.shape), summing.new_ring())
        targets = dict.fromkeys(more, f"{framework.measured}:measure_sums")
        return measure_job(peers, folder / name, inputs, targets, watcher.tick, more)

    def computing(name: str, whole: bool) -> Measured:
        targets, more = {"chief": f"{framework.measured}:measure"}, {"chief": (batches, whole)}
        return measure_job(alone, folder / name, inputs, targets, watcher.tick, more)

    def kernels(name: str) -> Measured:
        by_tensorflow = Job(shape=alone.shape, sampling_s=alone.sampling_s)
        targets = {"chief": "facesim.profiling.comparing:measure"}
        return measure_job(by_tensorflow, folder / name, inputs, targets, watcher.tick)

    def serving(name: str) -> Measured:
        served = _job(job, PsAsync(), Shape(workers=WORKERS, ps=1))
        server, others = cores_apart()
        serve = "facesim.profiling.serving:serve"
        targets = {"chief": "facesim.profiling.serving:measure", "worker": serve, "ps": serve}
        more = {"chief": (others,), "worker": (others,), "ps": (server,)}
        return measure_job(served, folder / name, inputs, targets, watcher.tick, more)

    ring = stages.run("sums over processes", sums)
    first = stages.run("training alone", lambda name: computing(name, True))
    others = [stages.run("training alone, again", lambda name: computing(name, False)) for _ in range(1, REPEATS)]
    cluster = stages.run("a parameter server", serving) if serves else None
    compared = [each["kernels"] for each in (first, *others)] if by_itself else [stages.run("kernels", kernels)]

    train, held_out = first["examples"], first["held_out"]
    fixed = FixedTimes(
        start_s=statistics.median(each["start_s"] for each in (first, *others)),
        load_s=statistics.median(each["load_s"] for each in (first, *others)),
        first_step_s=statistics.median(each["first_step_s"] for each in (first, *others)) + first["first_evaluation_s"],
        evaluation_image_s=first["evaluation_image_s"],
        checkpoint_s=first["checkpoint_s"],
        save_s=first["save_s"],
    )
    alpha_s, byte_s = fits.ring_constants(*zip(*((row["peers"], row["bytes"], row["seconds"]) for row in ring)), cores)
    facts = machine(framework.packages)
    medians = {name: statistics.median(each[name] for each in compared) for name in compared[0]}
    here = Machine(processor=facts["cpu_model"], cores=cores, **medians)
    factor_rows = iter(cluster["factor_rows"] if cluster else ())
    variables = tuple(
        Variable(**each, factor_rows=next(factor_rows, 0.0) if each["trainable"] else 0.0)
        for each in first["variables"]
    )
    server, notes = (
        _server(variables, job.experiment.batch, cluster, here, bool(job.experiment.clip_norm))
        if cluster
        else (None, [])
    )
    return Profile(
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        versions={name: facts[name] for name in dict.fromkeys(("python", *framework.packages, "keras", "facesim"))},
        framework=job.framework,
        machine=here,
        model=job.experiment.model,
        precision=job.experiment.precision,
        batch=job.experiment.batch,
        examples=train,
        identities=len(inputs.data.names),
        options=job.experiment.model_dump(include=_matters(job).union(OF_IMAGES) - {"model", "batch", "precision"}),
        compute=tuple(_compute(batch, place, first, others) for place, batch in enumerate(batches)),
        optimizer_s=first["optimizer_s"],
        variables=variables,
        server=server,
        ring=Ring(alpha_s=alpha_s, byte_s=byte_s, overlap=first["ring_overlap"]),
        fixed=fixed.model_copy(update=_evaluations_s(fixed, train, held_out)),
        measured_s=time.monotonic() - begin,
        disturbed=bool(stages.disturbances),
        notes=(*notes, *stages.disturbances),
        **(_of_cluster(cluster) if cluster else {}),
    )


def _of_cluster(cluster: dict[str, Any]) -> dict[str, Any]:
    """What a cluster of a parameter server shows beside its server."""
    together, parts_s = cluster["together"], cluster["parts_s"]
    return {
        "in_step_share": float(np.clip(together["staleness"] / (WORKERS - 1), 0.05, 1)),
        "dispatch_s": parts_s["dispatch"],
        "drain_steps": together["drain_steps"],
        "cpu_s_per_update": together["cpu_s"],
        "worker_cpu_s": cluster["alone"]["cpu_s"]["worker"],
        "parts_s": parts_s,
    }


def _compute(batch: int, place: int, first: dict[str, Any], others: list[dict[str, Any]]) -> Compute:
    """A step of one batch. Its spread is that within a process; how processes differ is in `repeats_s`."""
    processes = [each["steps_s"][place] for each in (first, *others)]
    means = [statistics.fmean(times) for times in processes]
    parts = first["parts_s"][place]
    return Compute(
        batch=batch,
        step_s=statistics.median(means),
        forward_s=parts["forward_s"],
        backward_s=max(0.0, parts["both_s"] - parts["forward_s"]),
        cv=statistics.median(fits.spread(times) for times in processes),
        repeats_s=tuple(means),
    )


def _server(
    variables: tuple[Variable, ...], batch: int, cluster: dict[str, Any], here: Machine, limited: bool
) -> tuple[Server, list[str]]:
    """What an update costs a server, and notes on how that was measured. Where the gradients' norm is `limited`, each
    is a message.

    A server's service of an update is its CPU time for it, by the utilisation law: it has a core of its own, and where
    workers of the same machine could not keep that busy, it would have served more.
    """
    held = [each.placed(batch) for each in variables]
    small = Placed((SMALL_SIZE,), 4 * SMALL_SIZE, 4 * SMALL_SIZE)
    tests = [(balanced(held, 1, packs_pushes=not limited), cluster["saturated"])]
    tests += [(balanced([small] * count, 1, packs=False), cluster[name]) for name, count in SMALL_COUNTS.items()]
    loads = []
    for (load,), test in tests:
        messages, sent_bytes = load.pull_messages + load.push_messages, load.pull_bytes + load.push_bytes
        used_s = test["cpu_s"]["ps"]
        products_s = min(load.push_flops / here.core_flops_per_s, used_s / 2)  # some cores multiply bfloat16 faster
        loads.append(fits.Load(messages, sent_bytes, used_s - products_s))
    update_s, message_s, byte_s = fits.server_constants(loads)
    saturated = cluster["saturated"]
    service_s = saturated["cpu_s"]["ps"]
    parts = cluster["parts_s"]
    pulling_s = max(0.0, parts["dispatch, pull"] - parts["dispatch"])
    idle_s = max(service_s, saturated["alone_s"] - parts["dispatch"])
    pushing_s = max(0.0, idle_s - pulling_s)
    step_s = cluster["alone"]["median_s"] - parts["dispatch"]
    computing_s = parts["compute (in the chief's process)"]
    overlap, latency = 1.0, 1.0
    if cluster["cores"]:  # on one core nothing overlaps, and the worker's own work takes its time from the server's
        overlap = fits.overlap(step_s, computing_s, pulling_s, pushing_s)
        latency = idle_s / service_s
    server = Server(
        update_s=update_s,
        message_s=message_s,
        byte_s=byte_s,
        saturation_s=service_s,
        saturated_updates_per_s=1 / saturated["update_s"],
        overlap=overlap,
        latency=latency,
    )
    busy, notes = service_s / saturated["update_s"], []
    if step_s < _CONSISTENT * computing_s:
        server = server.model_copy(update={"overlap": 1.0})
        notes.append("a step took less than its computing alone: what overlaps cannot be told, nothing is assumed to")
    if cluster["cores"] == 0:
        notes.append("the parameter server shared the cores with its workers: it could not be given one of its own")
    elif busy < _SATURATED:
        notes.append(
            f"workers of this machine kept the server's core {100 * busy:.0f} % busy: its CPU time shows what it can do"
        )
    return server, notes
