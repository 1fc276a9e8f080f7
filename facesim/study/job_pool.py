"""Jobs of a study at the same time: a thread each, on processors of its own where they share this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from facesim.runs.directory import Run
from facesim.spec.job import Job
from facesim.study.observers import Observer
from facesim.util.errors import FacesimError, InputError
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.backends.base import Execution

_Work, _Done = TypeVar("_Work"), TypeVar("_Done")

#: Jobs at the same time; more are a slip of the finger.
MOST_PARALLEL = 64

#: The processors of one place; empty: it is not bound to any.
Place = frozenset[int]


def places_for(jobs: Sequence[Job], parallel: int) -> list[Place]:
    """Where jobs run, `parallel` at a time: equal shares of this machine's processors, if any of the jobs uses it.

    Raises:
        InputError: the jobs cannot run at the same time here.
    """
    if isinstance(parallel, bool) or not isinstance(parallel, int) or not 1 <= parallel <= MOST_PARALLEL:
        message = f"--parallel {parallel!r} is not allowed: it must be a whole number from 1 to {MOST_PARALLEL}"
        raise InputError(message, field="parallel", value=parallel, allowed=f"1 to {MOST_PARALLEL}")
    flag = f"--parallel {parallel}"
    if parallel == 1 or all(job.backend.elsewhere for job in jobs):
        return [Place()] * parallel
    if emulated := next(
        (job.backend.name for job in jobs if job.backend.own_hosts and not job.backend.elsewhere), None
    ):
        raise InputError(
            f"{flag} is not possible with --backend {emulated}: its containers share all of this machine; leave it out",
            field="parallel",
            value=parallel,
        )
    if not hasattr(os, "sched_setaffinity"):
        raise InputError(
            f"{flag} needs a system that binds processes to processors, as Linux does: leave it out, or use a backend "
            "whose jobs run elsewhere",
            field="parallel",
            value=parallel,
        )
    cpus = sorted(os.sched_getaffinity(0))
    share = len(cpus) // parallel
    if not share:
        raise InputError(
            f"{flag} is too many: there are {count_text(len(cpus), 'CPU')} here, and each job needs one of its own",
            field="parallel",
            value=parallel,
            allowed=f"1 to {len(cpus)}",
        )
    return [Place(cpus[share * number : share * (number + 1)]) for number in range(parallel)]


class JobPool:
    """Runs the jobs of a study: in this thread, or in as many threads as there are `places`.

    `stop` and `kill` reach every execution that is running, and no other job begins.

    Attributes:
        stopped: no other job may begin.
        left: names of the jobs that would have begun after that.
        problems: why jobs could not begin.
    """

    def __init__(self, places: Sequence[Place]):
        self._places = places
        self.stopped = False
        self.left: list[str] = []
        self.problems: list[FacesimError] = []
        self._killed = False
        self._running: list[Execution] = []
        self._turns = Lock()

    @property
    def size(self) -> int:
        return len(self._places)

    def each(self, work: Sequence[_Work], do: Callable[[_Work, int], _Done]) -> list[_Done]:
        """`do` every piece of work with its number, from 1; what came of each."""
        numbered = list(zip(work, range(1, len(work) + 1), strict=True))
        if self.size == 1:
            return [do(piece, number) for piece, number in numbered]
        free: SimpleQueue[Place] = SimpleQueue()
        for place in self._places:
            free.put(place)

        def settle() -> None:
            # Of this thread alone; what it starts, and what that starts, is bound alike.
            if place := free.get():
                os.sched_setaffinity(0, place)

        with ThreadPoolExecutor(self.size, thread_name_prefix="job", initializer=settle) as pool:
            futures = [pool.submit(do, piece, number) for piece, number in numbered]
            return [future.result() for future in futures]

    @contextmanager
    def running(self, execution: Execution) -> Iterator[None]:
        """Within it, `stop` and `kill` reach an execution, too."""
        self._running.append(execution)
        try:
            if self.stopped:  # meanwhile
                (execution.kill if self._killed else execution.stop)()
            yield
        finally:
            self._running.remove(execution)

    def stop(self) -> None:
        self.stopped = True
        for execution in list(self._running):
            execution.stop()

    def kill(self) -> None:
        self.stopped = self._killed = True
        for execution in list(self._running):
            execution.kill()

    def turns(self, observer: Observer, run: Run | None = None) -> Observer:
        """An observer that hears of one thing after the other, though several runs go on: of `run`, if given."""
        return observer if self.size == 1 else _Turn(observer, run, self._turns)


class _Turn(Observer):
    """Passes on what happens to one run, while no other run's observer does."""

    def __init__(self, observer: Observer, run: Run | None, lock: Lock):
        self._observer, self._run, self._lock = observer, run, lock

    def _pass_on(self, call: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            if self._run is not None:
                self._observer.turn(self._run)
            call(*arguments)

    def noticed(self, text: str) -> None:
        self._pass_on(self._observer.noticed, text)

    def started(self, run: Run, position: int, jobs: int) -> None:
        self._pass_on(self._observer.started, run, position, jobs)

    def happened(self, event: Any) -> None:
        self._pass_on(self._observer.happened, event)

    def tick(self) -> None:
        self._pass_on(self._observer.tick)

    def ended(self, run: Run, result: Any) -> None:
        self._pass_on(self._observer.ended, run, result)

    def given_up(self, directory: Path) -> None:
        self._pass_on(self._observer.given_up, directory)

    def interrupted(self) -> None:
        self._pass_on(self._observer.interrupted)
