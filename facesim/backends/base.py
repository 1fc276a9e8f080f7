"""What a backend is: it renders a job into the exact request that would run it, runs that, and says what happens to it.

A dry run prints what `render` returns and `submit` takes nothing else, so a dry run cannot lie.

`Backend` has a verb for everything that facesim asks of one. Two have no default, `render` and `submit`; the defaults
of the others suit a backend whose jobs run on this machine, under the command that submitted them. What a backend can
do is declared by its `facesim.spec.backends.BackendSpec`; nobody asks which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from facesim.billing.bill import price_usd
from facesim.billing.catalogue import instance
from facesim.data.unseen import UnseenData
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import Event
from facesim.spec.backends import BackendSpec
from facesim.spec.job import Job
from facesim.util.errors import StillRunning


class Request(Protocol):
    """Everything that would run a job, as data."""

    def to_json(self) -> str: ...


class Execution(Protocol):
    """A job that was submitted."""

    def events(self, tick_s: float) -> Iterator[Event | dict[str, Any] | None]:
        """What happens, in order, until nothing of it runs any more; None when `tick_s` pass without an event.

        An event may be as `cluster` tells it, a dict that `facesim.runs.events.event_of` takes. The last is a
        `NodeEnded`.
        """

    def stop(self) -> None:
        """Drain: training ends after its current step and saves. Returns at once; may be repeated."""

    def kill(self) -> None:
        """End at once. Returns at once; may be repeated."""

    def close(self) -> None:
        """End what may still run, wait for it and free what it held. Idempotent."""


class Attached(NamedTuple):
    """A run that is followed again.

    execution: what follows it; None if it has ended, and all of it is here.
    recorded: another command records its events and writes its result: here it is only shown.
    """

    run: Run
    execution: Execution | None = None
    recorded: bool = False


class LeftRunning(StillRunning):
    """The user stopped following a run, which goes on."""

    exit_code = 130


@dataclass(frozen=True)
class Target:
    """A run that a command names: by its directory, or by the name that a backend gave it which keeps its own list.

    Attributes:
        backend: the one that runs it, with its options: which region, for example.
        name: the run's id, or the backend's name for it.
        run: its directory; None where there is none on this machine.
    """

    backend: BackendSpec
    name: str
    run: Run | None = None


@dataclass(frozen=True)
class Status:
    """How a run is. What is not known is None.

    Attributes:
        state: a `facesim.runs.states.RunState`.
        running: whether something of it runs now.
        process: who runs it, in words.
        began_unix_s: when it was submitted for the first time.
        total_s: seconds for which it has gone on, over all the times that it was submitted.
        held_out_accuracy: a share, 0-1: the newest, or that of the end.
        tested_in_words: what it was measured on: `held-out` images, or `validation` ones.
        spans: the states that it was in: name, begin and end in seconds since 1970, end None while it goes on.
        measurement: how its numbers came to be, a `facesim.runs.states.Measurement`, once it has some.
        notes: what else there is to say, in words: why it failed, what it cost, what to do.
        description: what the backend itself says of it, in its own terms.
    """

    name: str
    backend: str
    state: str
    running: bool | None = None
    directory: str | None = None
    strategy: str | None = None
    seed: int | None = None
    process: str | None = None
    began_unix_s: float | None = None
    total_s: float | None = None
    epoch: int | None = None
    epochs: int | None = None
    images_per_s: float | None = None
    loss: float | None = None
    held_out_accuracy: float | None = None
    tested_in_words: str | None = None
    left_s: float | None = None
    spans: tuple[tuple[str, float, float | None], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    measurement: str | None = None
    notes: tuple[str, ...] = ()
    description: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Everything that is known, as JSON has it."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) not in (None, (), {})}


@dataclass(frozen=True)
class Line:
    """A line that a task, or a host, printed; `time_unix_s` where that was recorded."""

    source: str
    text: str
    time_unix_s: float | None = None


@dataclass(frozen=True)
class Cancelled:
    """What came of cancelling a run. ended: it had ended before, and nothing was done."""

    name: str
    state: str
    ended: bool


class HostMemory(NamedTuple):
    """The bytes of memory of a host, and whose they are, in words."""

    of: str
    bytes: float


class Finding(NamedTuple):
    """What a check found. `level` is ok, note (works, with a limit worth knowing) or fail."""

    name: str
    level: str
    finding: str


class Backend(ABC):
    """One way to run jobs."""

    #: How long a run may take to end after it was asked to, in seconds: it saves, and leaves what it found.
    ends_within_s: float = 60.0

    def check(self, job: Job) -> None:  # noqa: B027 - most need nothing
        """Look whether what the job needs is there. Starts nothing.

        Raises:
            InputError: it is not; the message says what to do.
        """

    def host_memory(self, job: Job, instance_type: str) -> HostMemory:
        """What the tasks on a host of the job have together, of its hosts of an instance type, where hosts have memory
        of their own (`BackendSpec.own_hosts`).
        """
        return HostMemory(instance_type, instance(instance_type).memory_gib * 2**30)

    def unequal(self, jobs: Sequence[Job]) -> str | None:
        """Why the times of these jobs, of one study, do not compare here, and what to do, in words; None if they do."""
        return None

    def examine(self, job: Job) -> Iterator[Finding]:
        """Look whether jobs like this one can run here, and yield every finding. Starts nothing."""
        yield from ()

    def look_at_data(self, job: Job) -> UnseenData:
        """What can be known here of data that hosts read themselves, at an address of one of `BackendSpec.reads`.

        Raises:
            InputError: there is none, or it cannot be used.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no addresses")

    def estimate(self, requests: Sequence[Any], max_cost_usd: float | None) -> str | None:
        """What these requests can cost together, in words; None where they cost nothing.

        Raises:
            InputError: it is more than `max_cost_usd`.
        """
        return None

    def limits_s(self, job: Job) -> tuple[float | None, float | None]:
        """After how many seconds a job is ended: of having its hosts, and from its submission on; None: it is not."""
        return job.max_run_s, job.max_wait_s

    def affordable_s(self, job: Job, usd: float) -> float:
        """For how many seconds a job may have its hosts so that it costs no more than so many dollars; 0 or less where
        it would cost more in any case.

        Raises:
            FacesimError: nobody can tell, because what it reads cannot be used.
        """
        return usd / price_usd(job.groups, 1)

    def foreign_prices(self, job: Job) -> str | None:
        """That a job's dollars are by the prices of another place than where it runs, in words; None where they are
        not.

        Raises:
            InputError: nobody can tell where it runs.
        """
        return None

    def kernels(self, job: Job) -> str | None:
        """The name in `facesim.backends.kernels.KERNELS` of what the job's tasks compute with; None where this backend
        does not set it, or no TensorFlow computes.
        """
        return None

    def choose_kernels(self, jobs: Sequence[Job], tell: Callable[[str], None]) -> bool:
        """Choose them by measurement where that is left to be done before `jobs` start, and `tell` the user. Returns
        whether it was: then requests that were rendered before have to be rendered again.
        """
        return False

    @abstractmethod
    def render(self, job: Job, directory: Path, inputs: Inputs) -> Request:
        """The request that runs `job` in run directory `directory` on what it reads. Starts nothing.

        Raises:
            InputError: this backend cannot run the job here.
        """

    def manifest(self, request: Mapping[str, Any]) -> str | None:
        """A request, as its JSON has it, in a form that another tool takes: what a dry run prints unless it is asked
        for JSON. None where there is no such form.
        """
        return None

    def loaded(self, job: Job, request: Any) -> AbstractContextManager[None]:
        """Within it what all runs of this kind begin with is loaded, where this backend can load it once for several:
        a study keeps it from before the time of its first such run until its end. Starts nothing of the job.
        """
        return nullcontext()

    @abstractmethod
    def submit(self, run: Run, request: Any) -> Execution:
        """Start what was rendered and return at once."""

    def attach(self, target: Target, output: Path) -> Attached:
        """The run of `target`, and what follows it to its end. A run that has no directory yet gets one in `output`.

        Raises:
            InputError: it can be followed by nobody any more, or not from here.
        """
        from facesim.backends.watching import watch

        return watch(target)

    def can_follow(self, target: Target) -> bool:
        """Whether a run that has no result goes on there, or has ended there, so that `attach` brings it to its end.

        Raises:
            FacesimError: it cannot be asked.
        """
        return False

    def status(self, target: Target) -> Status:
        """How a run is.

        Raises:
            InputError: what it left cannot be read.
        """
        from facesim.backends.watching import status

        return status(target)

    def logs(self, target: Target, source: str | None = None, follow: bool = False) -> Iterator[Line]:
        """What its tasks, or hosts, printed: all of them, or `source` alone. With `follow` also what comes until it
        has ended.

        Raises:
            InputError: there is no such task or host.
        """
        from facesim.backends.watching import lines

        return lines(target, source, follow)

    def cancel(self, target: Target) -> Cancelled:
        """Have a run saved and ended. Harmless when repeated.

        Raises:
            InputError: nothing of it runs, though it has not ended; or who runs it cannot be known from here.
            FacesimError: it does not end in time.
        """
        from facesim.backends.watching import cancel

        return cancel(target, self.ends_within_s)

    def jobs(self, backend: BackendSpec) -> list[Status]:
        """The newest of facesim's runs that this backend itself has a list of; none where run directories are the only
        one.
        """
        return []
