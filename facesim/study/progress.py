"""What a study shows while it goes on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from facesim.metrics.progress import Progress, clock_time
from facesim.runs.directory import Run
from facesim.runs.events import Event
from facesim.runs.messages import in_words
from facesim.runs.records import Result
from facesim.runs.states import RunState
from facesim.study.observers import Observer
from facesim.study.plan import StudyPlan, plan_lines
from facesim.study.time_left import TimeLeft

_LINE_EVERY_S = 5.0


def display(console: Console) -> Observer:
    """The display that suits `console`."""
    return _Live(console) if console.is_terminal else _Lines(console)


class _Course(Progress):
    """How far one of several runs is, and what it is called among them."""

    def __init__(self, run: Run, position: int, jobs: int, name: str | None = None):
        super().__init__(run)
        job = run.job()
        strategy, seed = job.strategy.name, job.experiment.seed
        usual = name in (None, f"{strategy}-seed{seed}")
        self.title = f"[{position}/{jobs}] " + (f"{strategy}, seed {seed}" if usual else str(name))
        self.begin_s = time.monotonic()

    def figures(self) -> str:
        return super().figures() or ("training" if self.training else "starting")


class _Courses(Observer):
    """The runs that go on, and the time that the study takes until its end."""

    def __init__(self, console: Console):
        self._console = console
        self._plan: StudyPlan | None = None
        self._left, self._stopped = TimeLeft(()), False
        self._courses: dict[str, _Course] = {}
        self._course: _Course

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def planned(self, plan: StudyPlan) -> None:
        self._plan, self._left = plan, TimeLeft(plan.dues)
        if len(plan.dues) > 1:
            for line in plan_lines(plan):
                self._print(line)

    def turn(self, run: Run) -> None:
        self._course = self._courses.get(run.id, getattr(self, "_course", None))  # type: ignore[assignment]

    def started(self, run: Run, position: int, jobs: int) -> None:
        names = {due.directory.name: due.name for due in self._plan.dues} if self._plan else {}
        name = names.get(run.id) if len(names) > 1 else None
        self._course = self._courses[run.id] = _Course(run, position, jobs, name)

    def ended(self, run: Run, result: Result) -> None:
        self._courses.pop(run.id, None)
        # What was cut short tells nothing of how long others take.
        self._left.ended(run.id, result.total_s if result.state is RunState.COMPLETED else None)
        self._stopped = self._stopped or result.state is RunState.STOPPED

    def given_up(self, directory: Path) -> None:
        self._courses.pop(directory.name, None)
        self._left.ended(directory.name, None)

    def study_left(self) -> str:
        """How long the study goes on, in words; empty while nobody knows, and where it has one job."""
        courses = {name: (time.monotonic() - course.begin_s, course.left_s) for name, course in self._courses.items()}
        several = self._plan is not None and len(self._plan.dues) > 1 and not self._stopped
        left_s = self._left.seconds(courses) if several else None
        return "" if left_s is None else f"the study: about {clock_time(left_s)} left"


class Notices(_Courses):
    """A line for what the user should know, and none of how far it is: for commands whose output is for machines."""

    def _say(self, text: str) -> None:
        self._print(text)

    def noticed(self, text: str) -> None:
        self._say(f"notice: {text}")

    def happened(self, event: Event) -> None:
        if text := in_words(event):
            self._say(f"{self._course.title}: {text}")


class _Lines(Notices):
    """The same, a line when something begins or ends, and one every few seconds of training."""

    def __init__(self, console: Console):
        super().__init__(console)
        self._last_line = 0.0

    def _say(self, text: str) -> None:
        super()._say(text)
        self._last_line = time.monotonic()

    def preparing(self, what: str, done: int, due: int) -> None:
        if done == due or time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._say(f"data: {what} {done}/{due}")

    def started(self, run: Run, position: int, jobs: int) -> None:
        super().started(run, position, jobs)
        self._say(f"{self._course.title}: starting in {run.directory}")

    def tick(self) -> None:
        if self._course.update() and time.monotonic() - self._last_line > _LINE_EVERY_S:
            study = self.study_left()
            self._say(f"{self._course.title}: {self._course.figures()}{f' ({study})' if study else ''}")

    def ended(self, run: Run, result: Result) -> None:
        super().ended(run, result)
        study = self.study_left()
        self._say(f"{self._course.title}: {_end(result)}{f'; {study}' if study else ''}")


class _Live(_Courses):
    """A display that is redrawn in place; each run leaves one line when it ends."""

    def __init__(self, console: Console):
        super().__init__(console)
        self._display: Live | None = None

    def _show(self, what: RenderableType) -> None:
        if self._display is None:
            self._display = Live(console=self._console, auto_refresh=False, transient=True)
            self._display.start()
        self._display.update(what, refresh=True)

    def _hide(self) -> None:
        if self._display:
            self._display.stop()
            self._display = None

    def preparing(self, what: str, done: int, due: int) -> None:
        self._show(Group(Text(f"data: {what} {done}/{due}"), _bar(done / due)))
        if done == due:
            self._hide()

    def noticed(self, text: str) -> None:
        self._hide()
        self._print(f"notice: {text}")

    def started(self, run: Run, position: int, jobs: int) -> None:
        super().started(run, position, jobs)
        self.tick()

    def happened(self, event: Event) -> None:
        if text := in_words(event):
            self._console.print(f"{self._course.title}: {text}", markup=False, highlight=False)

    def tick(self) -> None:
        self._course.update()
        shown: list[RenderableType] = []
        for course in self._courses.values():
            since = clock_time(time.monotonic() - course.begin_s)
            shown += [
                Text(course.title, style="bold").append(f"   {since}", style="dim"),
                _bar(course.share),
                Text(course.figures()),
            ]
        if len(self._courses) == 1:
            shown.append(_tasks(self._course))
        if study := self.study_left():
            shown.append(Text(study, style="dim"))
        self._show(Group(*shown))

    def ended(self, run: Run, result: Result) -> None:
        super().ended(run, result)
        self._hide()
        style = {RunState.COMPLETED: "green", RunState.FAILED: "red"}.get(result.state, "yellow")
        self._console.print(Text(f"{self._course.title}: ", style="bold").append(_end(result), style=style))


def _tasks(course: _Course) -> Table:
    tasks = Table(box=None, pad_edge=False)
    for heading in ("task", "CPU % of host", "memory MB"):
        tasks.add_column(heading, justify="left" if heading == "task" else "right", style="dim")
    for name, values in sorted(course.tasks.items()):
        tasks.add_row(Text(name), f"{values['cpu_percent']:.0f}", f"{values['memory_bytes'] / 1e6:.0f}")
    return tasks


def _bar(share: float) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(total=1.0, completed=share, width=60), f"{share:.0%}")
    return line


def _end(result: Result) -> str:
    if result.state is RunState.FAILED:
        return f"Failed: {result.failure}"
    text = f"{result.state.value} after {clock_time(result.total_s or 0.0)}"
    if result.held_out_accuracy is not None:
        text += f", {result.tested_in_words} accuracy {result.held_out_accuracy:.3f}"
    if result.images_per_s is not None:
        text += f", {result.images_per_s:.0f} images/s"
    if disturbances := result.disturbances:
        text += f"; disturbed: {' and '.join(disturbances)}"
    return text
