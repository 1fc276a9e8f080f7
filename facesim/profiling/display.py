"""What is shown of a profile: progress while it is measured, and what it says."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from facesim.forecast.profile_data import Profile
from facesim.profiling.profile import Silent, Watcher
from facesim.util.words import count_text


def make_watcher(console: Console, quiet: bool) -> Watcher:
    """The watcher that suits `console`; a quiet one says nothing."""
    if quiet:
        return Silent()
    return _Live(console) if console.is_terminal else _Lines(console)


class _Lines(Silent):
    """A line when something begins."""

    def __init__(self, console: Console):
        self._console = console

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def measuring(self, what: str, number: int, count: int) -> None:
        self._say(f"[{number}/{count}] measuring {what}")

    def noticed(self, text: str) -> None:
        self._say(f"notice: {text}")


class _Live(_Lines):
    """A line that is redrawn in place, with the time that has passed."""

    def __init__(self, console: Console):
        super().__init__(console)
        self._display: Live | None = None
        self._begin = time.monotonic()
        self._share, self._text = 0.0, ""

    def preparing(self, what: str, done: int, due: int) -> None:
        self._share, self._text = done / due, f"data: {what} {done}/{due}"
        self.tick()
        if done == due:
            self._hide()

    def measuring(self, what: str, number: int, count: int) -> None:
        self._share, self._text = (number - 1) / count, f"[{number}/{count}] measuring {what}"
        self.tick()

    def noticed(self, text: str) -> None:
        self._hide()
        super().noticed(text)

    def tick(self) -> None:
        if self._display is None:
            self._display = Live(console=self._console, auto_refresh=False, transient=True)
            self._display.start()
        line = Table.grid(padding=(0, 1))
        minutes, seconds = divmod(round(time.monotonic() - self._begin), 60)
        bar = ProgressBar(total=1.0, completed=self._share, width=30)
        line.add_row(bar, Text(self._text), f"{minutes}:{seconds:02d}")
        self._display.update(line, refresh=True)

    def close(self) -> None:
        self._hide()

    def _hide(self) -> None:
        if self._display:
            self._display.stop()
            self._display = None


def lines_of(profile: Profile) -> Iterator[str]:
    """The profile in words, a line each."""
    machine, server, fixed = profile.machine, profile.server, profile.fixed
    convolution = f", {machine.convolution_gflops:.0f} in a convolution" if machine.convolution_gflops else ""
    yield (
        f"{machine.processor or 'this machine'}, {count_text(machine.cores, 'core')}: {machine.sgemm_gflops:.0f} "
        f"GFLOP/s in sgemm{convolution}"
    )
    yield (
        f"{profile.model}, {profile.framework}, {profile.precision}: {profile.param_bytes / 1e6:.1f} MB of parameters "
        f"in {count_text(sum(each.trainable for each in profile.variables), 'variable')}"
    )
    for each in profile.compute:
        parts = ""
        if each.forward_s is not None and each.backward_s is not None:
            parts = f", forward {1e3 * each.forward_s:.1f}, backward {1e3 * each.backward_s:.1f}"
        repeats = " ".join(f"{1e3 * repeat:.1f}" for repeat in each.repeats_s)
        yield (
            f"a step of {count_text(each.batch, 'image')}: {1e3 * each.step_s:.1f} ms (spread {100 * each.cv:.0f} %; "
            f"processes: {repeats}{parts})"
        )
    yield f"the optimiser's part of it: {1e3 * profile.optimizer_s:.1f} ms"
    if server and server.saturation_s:
        yield (
            f"a parameter server needs {1e3 * server.saturation_s:.1f} ms of a core for an update "
            f"({1e3 * server.update_s:.1f} ms, {1e6 * server.message_s:.0f} us a message, {1e9 * server.byte_s:.2f} ms "
            "a MB)"
        )
    if server:
        yield f"overlap p {server.overlap:.2f}, latency m {server.latency:.2f}"
        for name, seconds in profile.parts_s.items():
            yield f"    {name:34} {1e3 * seconds:7.1f} ms"
        yield "CPU of an update: " + ", ".join(
            f"{role} {1e3 * seconds:.0f} ms" for role, seconds in profile.cpu_s_per_update.items()
        )
    yield (
        f"ring: {1e6 * profile.ring.alpha_s:.0f} us a round, {1e9 * profile.ring.byte_s:.2f} ms a MB, overlap p "
        f"{profile.ring.overlap:.2f}"
    )
    yield (
        f"fixed: start {fixed.start_s:.1f} s, first step {fixed.first_step_s:.1f} s, an evaluation "
        f"{fixed.evaluation_s:.2f} s, a checkpoint {fixed.checkpoint_s:.2f} s, the end {fixed.upload_s:.2f} s"
    )
    yield from (f"note: {note}" for note in profile.notes)
    if profile.disturbed:
        yield "disturbed: measure again with --fresh when the machine has nothing else to do"
