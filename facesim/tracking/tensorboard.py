"""TensorBoard: event files, a folder for each run and in it one for each node, and HParams of all runs."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.text import metadata as text
from tensorboard.summary.writer.record_writer import RecordWriter

from facesim.runs.states import RunState
from facesim.tracking.tracker import Point, TrackedRun, Tracker
from facesim.util.errors import doing

_EVENTS = "events.out.tfevents"
_STATUS = {RunState.COMPLETED: api_pb2.STATUS_SUCCESS, RunState.UNFINISHED: api_pb2.STATUS_RUNNING}


class _Events:
    """One event file. TensorBoard's own writer would load TensorFlow where that is installed."""

    def __init__(self, folder: Path, time_unix_s: float):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{_EVENTS}.{int(time_unix_s):010d}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((folder / name).open("wb"))
        self._write(event_pb2.Event(wall_time=time_unix_s, file_version="brain.Event:2"))

    def _write(self, event: event_pb2.Event) -> None:
        self._records.write(event.SerializeToString())

    def add(self, summary: summary_pb2.Summary, time_unix_s: float, step: int = 0) -> None:
        self._write(event_pb2.Event(wall_time=time_unix_s, step=step, summary=summary))

    def scalar(self, tag: str, value: float, time_unix_s: float, step: int) -> None:
        self.add(summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)]), time_unix_s, step)

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()


class TensorBoard(Tracker):
    """Event files in folder `tensorboard`; a run that is sent again takes the place of its earlier files."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._place = folder / "tensorboard"
        with doing(f"write to {self._place}", "name another folder with --output"):
            self._place.mkdir(parents=True, exist_ok=True)

    @property
    def place(self) -> str:
        return str(self._place)

    def start(self, run: TrackedRun) -> None:
        self._run = run
        self._files: dict[str, _Events] = {}
        for earlier in (self._place / run.id).rglob(f"{_EVENTS}.*"):
            earlier.unlink()
        session = summary_v2.hparams_pb(run.parameters, trial_id=run.id, start_time_secs=run.launched_unix_s)
        self._of("").add(session, run.launched_unix_s)
        self._of("").flush()

    def _of(self, node: str) -> _Events:
        if node not in self._files:
            self._files[node] = _Events(self._place / self._run.id / node, self._run.launched_unix_s)
        return self._files[node]

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._of(point.node).scalar(point.metric, point.value, point.time_unix_s, point.step)
        for file in self._files.values():
            file.flush()

    def end(self, run: TrackedRun, report: Path | None) -> None:
        file = self._of("")
        for name, value in run.results.items():
            file.scalar(name, value, run.ended_unix_s, 0)
        lines = "\n".join(f"- {name}: {value}" for name, value in run.tags.items())
        file.add(_text("run", lines), run.ended_unix_s)
        status = _STATUS.get(run.state, api_pb2.STATUS_FAILURE)
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=run.ended_unix_s)
        data = hparams.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
        value = summary_pb2.Summary.Value(tag=hparams.SESSION_END_INFO_TAG, metadata=data, tensor=hparams.NULL_TENSOR)
        file.add(summary_pb2.Summary(value=[value]), run.ended_unix_s)
        if report:
            shutil.copyfile(report, self._place / run.id / report.name)
        for each in self._files.values():
            each.close()


def _text(tag: str, markdown: str) -> summary_pb2.Summary:
    """A text as TensorBoard's text dashboard shows it."""
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[markdown.encode()])
    metadata = text.create_summary_metadata(display_name=tag, description="")
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
