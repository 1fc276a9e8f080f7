"""Samples as TensorBoard reads them, written where neither TensorBoard nor TensorFlow need be installed: on a host.

A file has the records of a TFRecord file, each an `Event` (tensorflow, `core/util/event.proto`): its time (field 1, a
double), and either the version of the format (3, a text), or a step (2) and a summary (5), of which the only value (1)
has a tag (1) and a number (2, a float).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from facesim.metrics.files import SampleTail
from facesim.metrics.points import Point, Points

#: Names the folder for these files, in the environment of a host that is to write them.
FOLDER = "FACESIM_TENSORBOARD"

_DOUBLE, _FLOAT, _LENGTH, _SUM = (struct.Struct(f"<{code}") for code in "dfQI")
_LARGEST_FLOAT = 3.4028234663852886e38


class EventFiles:
    """The event files of a host, a folder for each of its nodes.

    A file is called the same, and begins with what was measured before an interruption, each time that the host starts:
    of several that are uploaded in turn the newest has everything.

    Raises, also in `update`:
        OSError: they cannot be written.
        InputError: samples cannot be read.
    """

    def __init__(self, samples: Path, folder: Path, host: str):
        self._tail = SampleTail(samples)
        self._folder, self._name = folder, f"events.out.tfevents.0.{host}"
        self._points: Points | None = None
        self._files: dict[str, BinaryIO] = {}

    def update(self) -> None:
        """Add what has been measured since the last time."""
        samples = self._tail.new()
        if not samples:
            return
        if self._points is None:
            self._points = Points(min(one.time_unix_s for one in samples))
        for point in self._points.of(samples):
            self._file(point).write(_record(_scalar(point)))
        for file in self._files.values():
            file.flush()

    def _file(self, point: Point) -> BinaryIO:
        if point.node not in self._files:
            place = self._folder / point.node
            place.mkdir(parents=True, exist_ok=True)
            file = self._files[point.node] = (place / self._name).open("wb")
            file.write(_record(b"\x09" + _DOUBLE.pack(point.time_unix_s) + b"\x1a" + _sized(b"brain.Event:2")))
        return self._files[point.node]


def _scalar(point: Point) -> bytes:
    fits = abs(point.value) <= _LARGEST_FLOAT or not math.isfinite(point.value)
    number = point.value if fits else math.copysign(math.inf, point.value)
    value = b"\x0a" + _sized(point.metric.encode()) + b"\x15" + _FLOAT.pack(number)
    step = b"\x10" + _varint(max(0, point.step))
    return b"\x09" + _DOUBLE.pack(point.time_unix_s) + step + b"\x2a" + _sized(b"\x0a" + _sized(value))


def _record(content: bytes) -> bytes:
    from facesim.data.tfrecord import checksum  # with NumPy and Pillow, which a monitor does without

    length = _LENGTH.pack(len(content))
    return length + _SUM.pack(checksum(length)) + content + _SUM.pack(checksum(content))


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, the highest bit where others follow."""
    encoded = b""
    while number > 127:
        encoded, number = encoded + bytes([number & 127 | 128]), number >> 7
    return encoded + bytes([number])
