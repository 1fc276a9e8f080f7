"""Everything that is looked at before jobs start: one list of checks, for a run, for one that goes on, for a dry run.

Each check takes all jobs and yields what a user should know, in words, and what cannot go well, as errors. Errors of
all checks are reported together. Nothing is started, and nothing is left behind.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.billing.catalogue import instance
from facesim.billing.market import market
from facesim.data.unseen import UnseenData
from facesim.preflight.framework import check_framework
from facesim.preflight.head import check_head
from facesim.preflight.inputs import Inputs, data_notices, prepare_all
from facesim.preflight.leakage import check_unseen, trained_images
from facesim.preflight.memory import check_memory, head_bytes, head_checkpoint_bytes
from facesim.runs.directory import Run
from facesim.spec.faults import check_network, check_room
from facesim.spec.job import Job
from facesim.util.disk import free_bytes, is_full, no_room, probe
from facesim.util.errors import CredentialsError, InputError, reason
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.backends.base import Request

#: What a run directory takes at least: what it keeps in reserve, and the first of its files.
_RUN_BYTES = 400_000
#: What a folder for checkpoints has to take: less is no room for any.
_CHECKPOINT_BYTES = 1_000_000
#: What is there if a machine has NVIDIA GPUs: on Linux, and on Linux in Windows.
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
#: GPUs older than NVIDIA's Ampere, the first that computes in bfloat16.
_WITHOUT_BFLOAT16 = ("V100", "T4")


@dataclass(frozen=True, eq=False)
class Planned:
    """A job that is to run, its run directory, what it reads, and the exact request that would run it.

    `inputs` and `request` are None where they could not be made, which is an error already.
    """

    job: Job
    directory: Path
    inputs: Inputs | None = None
    request: Request | None = None


@dataclass(frozen=True, eq=False)
class Cleared:
    """Jobs that may start. `notices` has what a user should know before, by the check that found it."""

    planned: tuple[Planned, ...]
    notices: dict[str, list[str]]

    def all_notices(self) -> list[str]:
        """All notices, each once."""
        return list(dict.fromkeys(notice for notices in self.notices.values() for notice in notices))


Check = Callable[[Sequence[Planned]], Iterator[str | InputError]]


def preflight(
    jobs: Sequence[Job],
    directories: Sequence[Path],
    progress: Callable[[str, int, int], None] = lambda *_: None,
    *,
    to_run: bool = True,
) -> Cleared:
    """Prepare what jobs read, render the requests that would run them in `directories`, and check everything.

    `to_run` is whether they are to be run, and not only shown: placeholders in a request are then an error.

    Raises:
        InputError: something cannot be used, or would not go well; the message has every such thing.
    """
    problems: list[InputError] = []
    planned = tuple(_plan(jobs, directories, progress, problems))
    notices: dict[str, list[str]] = {}
    for name, check in CHECKS.items():
        for finding in check(planned):
            if isinstance(finding, InputError):
                problems.append(finding)
            else:
                notices.setdefault(name, []).append(finding)
    if requested := [text for one in planned for text in getattr(one.request, "notices", ())]:
        notices["request"] = requested
    placeholders = [text for one in planned for text in getattr(one.request, "placeholders", ())]
    if to_run:
        problems += map(CredentialsError, placeholders)
    elif placeholders:
        notices["placeholders"] = placeholders
    if problems:
        raise together(problems)
    return Cleared(planned, notices)


def together(problems: Iterable[InputError]) -> InputError:
    """One error for several, each of them reported once."""
    by_text = {str(problem): problem for problem in problems}
    first, *others = by_text.values()
    if not others:
        return first
    return InputError(
        f"{len(by_text)} things are wrong:" + "".join(f"\n- {text}" for text in by_text),
        field=first.field,
        value=first.value,
        allowed=first.allowed,
        remedy=first.remedy,
        problems=(first, *others),
    )


def _plan(
    jobs: Sequence[Job],
    directories: Sequence[Path],
    progress: Callable[[str, int, int], None],
    problems: list[InputError],
) -> Iterator[Planned]:
    """Jobs as far as they can be made ready; why some cannot is added to `problems`."""
    try:
        inputs: Sequence[Inputs | None] = prepare_all(list(jobs), progress)
    except InputError as error:
        problems.append(error)
        inputs = [None] * len(jobs)
    for job, directory, ready in zip(jobs, directories, inputs, strict=True):
        request = None
        if ready is not None:
            try:
                request = job.backend.open().render(job, directory, ready)
            except InputError as error:
                problems.append(error)
        yield Planned(job, directory, ready, request)


def _refused(check: Callable[..., Any], *arguments: Any) -> Iterator[str | InputError]:
    """What a function that returns notices, or nothing, says; its InputError, if it raises one."""
    try:
        yield from check(*arguments) or ()
    except InputError as error:
        yield error


def _data(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """What is not used of the data, and how it is read and split."""
    ready = [(one.job, one.inputs) for one in planned if one.inputs]
    yield from _refused(data_notices, [job for job, _ in ready], [inputs for _, inputs in ready])


def _split(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether there are images to train on and to test on."""
    for one in planned:
        if one.inputs and not isinstance(one.inputs.data, UnseenData):
            yield from _refused(
                lambda inputs, job: inputs.data.split(job.experiment.data_spec) and None, one.inputs, one.job
            )


def _memory(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether heads for so many people fit."""
    for one in planned:
        if one.inputs:
            yield from _refused(check_memory, [one.job], [len(one.inputs.data.names)])


def _frameworks(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether what trains is installed where it is this machine's, and can have the network."""
    here = [one.job for one in planned if one.job.backend.frameworks is None]
    for job in {(job.framework, job.experiment.model, job.experiment.head): job for job in here}.values():
        yield from _refused(check_framework, job)


def _heads(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether strategies and frameworks can train the heads."""
    for one in planned:
        yield from _refused(check_head, one.job)


def _accelerators(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether instances have as many GPUs as replicas are to compute on, and whether these are there at all: jobs on
    this machine train with what it has.
    """
    for one in planned:
        if one.job.backend.elsewhere:
            yield from _devices(one.job)
        for name, _ in one.job.groups if not one.job.backend.elsewhere else ():
            if gpu := instance(name).accelerator:
                yield (
                    f"{name} has a GPU ({gpu}), which --backend {one.job.backend.name} does not emulate: it trains "
                    f"with what this machine has, and its times say nothing about {name}"
                )


def _precisions(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether hosts compute fast in the precision of a job."""
    for one in planned:
        kind, elsewhere = instance(one.job.shape.instance_type), one.job.backend.elsewhere
        on_gpu = kind.cuda if elsewhere else any(map(Path.exists, _GPU_DEVICES))
        if one.job.experiment.precision == "float16" and not on_gpu:
            where = kind.name if elsewhere else "this machine"
            yield f"{where} has no NVIDIA GPU, and processors are slow in float16: --precision bfloat16 is for them"
        elif one.job.experiment.precision == "bfloat16" and elsewhere and kind.accelerator in _WITHOUT_BFLOAT16:
            yield f"{kind.name} has {kind.accelerator} GPUs, which have no bfloat16: --precision float16 is for them"


def _devices(job: Job) -> Iterator[str | InputError]:
    """What is wrong with the number of GPUs of a host that the job pays for."""
    kind = instance(job.shape.instance_type)
    here = math.ceil(job.replicas / job.hosts)
    named = "--workers-per-host" if job.strategy.distributed else "--workers"
    if kind.gpus and not kind.cuda:
        yield InputError(
            f"{kind.name} has {kind.gpus} {kind.accelerator}, on which facesim does not compute: it would train on the "
            "CPU, for their price; give another --instance-type"
        )
    elif kind.gpus and here > kind.gpus:
        yield InputError(
            f"--strategy {job.strategy.name} has {count_text(here, 'replica')} on a host, and {kind.name} has "
            f"{count_text(kind.gpus, 'GPU')} ({kind.accelerator}): give {named} {kind.gpus} or less, or an "
            "--instance-type with more"
        )
    elif here < kind.gpus:
        yield (
            f"{kind.name} has {count_text(kind.gpus, 'GPU')} ({kind.accelerator}), and --strategy {job.strategy.name} "
            f"computes on {here} of them: all are paid for"
            + (f"; {named} {kind.gpus} uses them" if job.strategy.replicated else "")
        )


def _leakage(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether a network would be tested on images that it was trained on."""
    seen_by = cache(trained_images)  # jobs of a study start from few networks
    for one in planned:
        if one.inputs:
            yield from _refused(check_unseen, [one.job], [one.inputs], seen_by)


def _writable(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether run directories take files, and the folders that users named for checkpoints, where these stay here."""
    for directory in {one.directory.parent: one.directory for one in planned}.values():
        try:
            probe(directory, _RUN_BYTES)
        except (OSError, ValueError) as error:
            full = isinstance(error, OSError) and is_full(error)
            message = f"cannot write the run directory {directory}: {reason(error)}; choose another with --output"
            yield InputError(no_room(directory) if full else message)
    for job in {(one.job.recovery.checkpoint_dir, one.job.backend.name): one.job for one in planned}.values():
        named = job.recovery.checkpoint_dir
        if named is not None and job.backend.elsewhere:
            yield InputError(
                f"--checkpoint-dir {named} means nothing to --backend {job.backend.name}, whose hosts keep checkpoints "
                "where they run: leave it out (a run that goes on does so with --checkpoint-dir '')",
                field="checkpoint_dir",
                value=named,
                remedy="leave it out",
            )
        elif named is not None:
            try:
                probe(Path(named), _CHECKPOINT_BYTES)
            except (OSError, ValueError) as error:
                message = (
                    f"--checkpoint-dir {named} cannot be written: {reason(error)}; name a folder that can, with room"
                )
                yield InputError(message)


def _checkpoints(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether runs that go on find their checkpoints where their jobs have them now."""
    for one in planned:
        run = Run(one.directory)
        if not os.path.isfile(run.job_file):  # it is new
            continue
        there, due = (run.checkpoint_directory(job) for job in (run.job(), one.job))
        if _has_files(there) and not _has_files(due):
            named = one.job.recovery.checkpoint_dir or ""
            remedy = f"move what is in {there} to {due} first, or leave --checkpoint-dir out"
            yield InputError(
                f"with --checkpoint-dir {named!r} {run.directory} would begin anew: its checkpoints are in {there}; "
                + remedy,
                field="checkpoint_dir",
                value=named,
                remedy=remedy,
            )


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def _room(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether the heads alone, which grow with the number of people, leave room for models and checkpoints."""
    needed_bytes: dict[Path, int] = {}
    for one in planned:
        if one.inputs is None or one.job.backend.can_attach:  # its checkpoints are kept elsewhere
            continue
        people, recovery, runs = len(one.inputs.data.names), one.job.recovery, one.directory.parent
        folder = Path(recovery.checkpoint_dir) if recovery.checkpoint_dir else runs
        # A new checkpoint is complete before the oldest goes.
        checkpoints = one.job.models * head_checkpoint_bytes(one.job, people) * (recovery.checkpoint_keep + 1)
        needed_bytes[folder] = needed_bytes.get(folder, 0) + checkpoints
        needed_bytes[runs] = needed_bytes.get(runs, 0) + head_bytes(one.job, people)
    for folder, needed in needed_bytes.items():
        free = free_bytes(folder)
        if needed > free:
            yield (
                f"{folder} has {free / 1e9:.1f} GB free, and the models and checkpoints of "
                f"{count_text(len(planned), 'run')} take {needed / 1e9:.1f} GB for their heads alone: a run whose disk "
                "is full goes on without checkpoints, and fails if it cannot keep its model"
            )


def _faults(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether faults can be done where they are to be."""
    for one in {(one.job.faults, one.job.backend.name, one.directory.parent): one for one in planned}.values():
        yield from _refused(check_room, one.job.faults, one.directory.parent)
        yield from _refused(check_network, one.job.faults, one.job.backend)


def _spot(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether the files that say how capacity behaves can be used, where it is played."""
    for one in planned:
        if one.job.spot and not one.job.backend.owns_capacity:
            yield from _refused(lambda job: market(job.spot, job.hosts, job.experiment.seed) and None, one.job)


def _equipment(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether backends have what jobs need, such as an engine and its image."""
    for one in planned:
        yield from _refused(one.job.backend.open().check, one.job)


def _comparable(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """Whether backends give the hosts of all jobs alike, so that their times compare."""
    for name in dict.fromkeys(one.job.backend.name for one in planned):
        jobs = [one.job for one in planned if one.job.backend.name == name]
        if len(jobs) > 1 and (why := jobs[0].backend.open().unequal(jobs)):
            yield why


def _cost(planned: Sequence[Planned]) -> Iterator[str | InputError]:
    """What jobs can cost together, and whether they may."""
    for name in dict.fromkeys(one.job.backend.name for one in planned if one.job.backend.costs_money):
        paid = [one for one in planned if one.job.backend.name == name and one.request is not None]
        if paid:
            limits = [limit for one in paid if (limit := getattr(one.job.backend, "max_cost", None)) is not None]
            yield from _refused(_estimate, paid, min(limits, default=None))


def _estimate(paid: Sequence[Planned], max_cost_usd: float | None) -> list[str]:
    estimate = paid[0].job.backend.open().estimate([one.request for one in paid], max_cost_usd)
    return [estimate] if estimate else []


#: Every check by its name, in the order in which notices are given.
CHECKS: dict[str, Check] = {
    "data": _data,
    "split": _split,
    "memory": _memory,
    "frameworks": _frameworks,
    "heads": _heads,
    "accelerators": _accelerators,
    "precisions": _precisions,
    "leakage": _leakage,
    "writable": _writable,
    "checkpoints": _checkpoints,
    "room": _room,
    "faults": _faults,
    "spot": _spot,
    "equipment": _equipment,
    "comparable": _comparable,
    "cost": _cost,
}
