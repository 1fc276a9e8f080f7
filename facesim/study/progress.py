"""What a study shows while it goes on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

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
from facesim.spec.data import DataSpec
from facesim.study.observers import Observer

_LINE_EVERY_S = 5.0


def display(console: Console) -> Observer:
    """The display that suits `console`."""
    return _Live(console) if console.is_terminal else _Lines(console)


class _Course(Progress):
    """How far one of several runs is, and what it is called among them."""

    def __init__(self, run: Run, position: int, jobs: int):
        super().__init__(run)
        job = run.job()
        self.title = f"[{position}/{jobs}] {job.strategy.name}, seed {job.experiment.seed}"

    def figures(self) -> str:
        return super().figures() or ("training" if self.training else "starting")


class _Lines(Observer):
    """A line when something begins or ends, and one every few seconds of training."""

    def __init__(self, console: Console):
        self._console = console
        self._last_line = 0.0

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._last_line = time.monotonic()

    def preparing(self, what: str, done: int, due: int) -> None:
        if done == due or time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._say(f"data: {what} {done}/{due}")

    def noticed(self, text: str) -> None:
        self._say(f"notice: {text}")

    def started(self, run: Run, position: int, jobs: int) -> None:
        self._course = _Course(run, position, jobs)
        self._say(f"{self._course.title}: starting in {run.directory}")

    def happened(self, event: Event) -> None:
        if text := in_words(event):
            self._say(f"{self._course.title}: {text}")

    def tick(self) -> None:
        if self._course.update() and time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._say(f"{self._course.title}: {self._course.figures()}")

    def ended(self, run: Run, result: Result) -> None:
        self._say(f"{self._course.title}: {_end(result)}")


class _Live(Observer):
    """A display that is redrawn in place; each run leaves one line when it ends."""

    def __init__(self, console: Console):
        self._console = console
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
        self._console.print(f"notice: {text}", markup=False, highlight=False, soft_wrap=True)

    def started(self, run: Run, position: int, jobs: int) -> None:
        self._course = _Course(run, position, jobs)
        self._begin = time.monotonic()
        self.tick()

    def happened(self, event: Event) -> None:
        if text := in_words(event):
            self._console.print(f"{self._course.title}: {text}", markup=False, highlight=False)

    def tick(self) -> None:
        course = self._course
        course.update()
        tasks = Table(box=None, pad_edge=False)
        for heading in ("task", "CPU % of host", "memory MB"):
            tasks.add_column(heading, justify="left" if heading == "task" else "right", style="dim")
        for name, values in sorted(course.tasks.items()):
            tasks.add_row(name, f"{values['cpu_percent']:.0f}", f"{values['memory_bytes'] / 1e6:.0f}")
        title = Text(course.title, style="bold").append(f"   {clock_time(time.monotonic() - self._begin)}", style="dim")
        self._show(Group(title, _bar(course.share), Text(course.figures()), tasks))

    def ended(self, run: Run, result: Result) -> None:
        self._hide()
        style = {RunState.COMPLETED: "green", RunState.FAILED: "red"}.get(result.state, "yellow")
        self._console.print(Text(f"{self._course.title}: ", style="bold").append(_end(result), style=style))


def _bar(share: float) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(total=1.0, completed=share, width=60), f"{share:.0%}")
    return line


def _end(result: Result) -> str:
    if result.state is RunState.FAILED:
        return f"Failed: {result.failure}"
    text = f"{result.state.value} after {clock_time(result.total_s or 0.0)}"
    if result.held_out_accuracy is not None:
        tested = DataSpec.of(result.job.get("experiment", {})).tested_in_words
        text += f", {tested} accuracy {result.held_out_accuracy:.3f}"
    if result.images_per_s is not None:
        text += f", {result.images_per_s:.0f} images/s"
    if disturbances := result.disturbances:
        text += f"; disturbed: {' and '.join(disturbances)}"
    return text
