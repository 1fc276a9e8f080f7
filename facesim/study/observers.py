"""Observers hear how a study goes, to show it, or to write it down. A study takes any number of them.

An observer that fails hears nothing more, and the study continues. One that raises `EndRun` ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import clock
from facesim.runs.directory import Run
from facesim.runs.events import Event
from facesim.runs.records import Result
from facesim.util.errors import doing, reason
from facesim.util.files import json_content
from facesim.util.folders import local_path

if TYPE_CHECKING:
    from facesim.study.plan import StudyPlan


class EndRun(Exception):
    """Raised by an observer to end the run that goes on, as Ctrl-C would: it saves, and is `Stopped`."""


class Observer:
    """Hears how a study goes. Subclasses have the methods that they need; these do nothing."""

    def preparing(self, what: str, done: int, due: int) -> None:
        """The data is being made ready: `done` of `due` of `what`, such as decoding."""

    def noticed(self, text: str) -> None:
        """There is something that the user should know."""

    def planned(self, plan: StudyPlan) -> None:
        """The jobs of the study are known, and which of them are to be run. Nothing has begun."""

    def turn(self, run: Run) -> None:
        """The next calls are about this run. Runs take turns where several go on at the same time."""

    def started(self, run: Run, position: int, jobs: int) -> None:
        """A run begins, number `position`, from 1, of `jobs`."""

    def happened(self, event: Event) -> None:
        """Something happened to the run that goes on."""

    def tick(self) -> None:
        """A moment of that run has passed."""

    def ended(self, run: Run, result: Result) -> None:
        """The run has ended."""

    def given_up(self, directory: Path) -> None:
        """The job whose run is in this folder is over for this study, without `ended`: it cannot begin, another command
        has completed it, or it cannot be followed any more.
        """

    def interrupted(self) -> None:
        """The user has asked for an end, with Ctrl-C or SIGTERM. No other run begins; the one that went on may have
        completed nevertheless.
        """


class Together(Observer):
    """Passes everything on to several observers. One that fails is left out from then on, and the others hear of it."""

    def __init__(self, observers: Iterable[Observer]):
        self._observers = list(observers)

    def _pass_on(self, call: Callable[[Observer], None]) -> None:
        working, failures = [], []
        ending: EndRun | None = None
        for observer in self._observers:
            try:
                call(observer)
                working.append(observer)
            except EndRun as end:
                working.append(observer)
                ending = end
            except BrokenPipeError:  # nobody reads what it writes any more
                continue
            except Exception as error:
                failures.append(f"{type(observer).__name__} failed and is told nothing more: {_what(error)}")
        self._observers = working
        for text in failures:
            self.noticed(text)
        if ending:
            raise ending

    def preparing(self, what: str, done: int, due: int) -> None:
        self._pass_on(lambda observer: observer.preparing(what, done, due))

    def noticed(self, text: str) -> None:
        self._pass_on(lambda observer: observer.noticed(text))

    def planned(self, plan: StudyPlan) -> None:
        self._pass_on(lambda observer: observer.planned(plan))

    def turn(self, run: Run) -> None:
        self._pass_on(lambda observer: observer.turn(run))

    def started(self, run: Run, position: int, jobs: int) -> None:
        self._pass_on(lambda observer: observer.started(run, position, jobs))

    def happened(self, event: Event) -> None:
        self._pass_on(lambda observer: observer.happened(event))

    def tick(self) -> None:
        self._pass_on(lambda observer: observer.tick())

    def ended(self, run: Run, result: Result) -> None:
        self._pass_on(lambda observer: observer.ended(run, result))

    def given_up(self, directory: Path) -> None:
        self._pass_on(lambda observer: observer.given_up(directory))

    def interrupted(self) -> None:
        self._pass_on(lambda observer: observer.interrupted())


class Interrupted(Observer):
    """Remembers that the user has asked for an end: what would follow the runs is not to be begun.

    Attributes:
        heard: whether that has happened.
    """

    def __init__(self) -> None:
        self.heard = False

    def interrupted(self) -> None:
        self.heard = True


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {reason(error)}"


class JsonLines(Observer):
    """Writes what happens to a file as it happens: a JSON object a line, with `what` happened and `time_unix_s`.

    Raises:
        FacesimError: the file cannot be written.
    """

    def __init__(self, file: Path | str):
        self._file = local_path(file)
        self._run_id: str | None = None
        self._append("")

    def _append(self, text: str) -> None:
        with doing(f"write {self._file}", "name another file"), self._file.open("a", encoding="utf-8") as file:
            file.write(text)

    def _write(self, what: str, **details: Any) -> None:
        content = {"time_unix_s": clock.time_unix_s(), "what": what, **details}
        self._append(json.dumps(json_content(content)) + "\n")

    def preparing(self, what: str, done: int, due: int) -> None:
        self._write("preparing", phase=what, done=done, due=due)

    def noticed(self, text: str) -> None:
        self._write("noticed", text=text)

    def planned(self, plan: StudyPlan) -> None:
        jobs = [{"name": due.name, "directory": str(due.directory), "fate": due.fate.value} for due in plan.dues]
        self._write("planned", jobs=jobs)

    def turn(self, run: Run) -> None:
        self._run_id = run.id

    def started(self, run: Run, position: int, jobs: int) -> None:
        self._run_id = run.id
        self._write("started", run_id=run.id, directory=str(run.directory), position=position, jobs=jobs)

    def happened(self, event: Event) -> None:
        self._write("happened", run_id=self._run_id, event=event.model_dump(mode="json", exclude_none=True))

    def ended(self, run: Run, result: Result) -> None:
        self._write("ended", run_id=run.id, result=result.model_dump(mode="json"))
