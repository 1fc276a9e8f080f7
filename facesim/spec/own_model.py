"""A network of the user's own: `--model path/to/file.py:function`, known by the file's content.

In a job it is `path/to/file.py:function@3f2a...`, with the first digits of the file's SHA-256. So two contents are two
networks, whatever the file is called, and a run that is continued keeps the one that it began with.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from facesim.spec.options import NameIn
from facesim.util.files import open_regular, why_unread

_DIGITS = 24

_TEXT = re.compile(rf"(?P<path>.+\.py):(?P<function>[^\W\d]\w*)(@(?P<sha256>[0-9a-f]{{{_DIGITS}}}))?", re.DOTALL)

_WANTED = "a Python file and a function in it, file.py:build"

#: More than any source file has.
_MOST_BYTES = 1 << 20


class OwnModel(NamedTuple):
    """A function in a file, and the first digits of the SHA-256 of the file's content."""

    path: str
    function: str
    sha256: str

    @classmethod
    def find(cls, text: str) -> OwnModel | None:
        """What `text` names; None where it is no file and function. Without a SHA-256 in it the file is read.

        Raises:
            ValueError: the file cannot be read.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        path = os.path.expanduser(match["path"])
        return cls(path, match["function"], match["sha256"] or sha256_of(Path(path)))

    def __str__(self) -> str:
        return f"{self.path}:{self.function}@{self.sha256}"

    @property
    def short(self) -> str:
        """What tells it from others in a name: letters, digits and underscores."""
        return _as_name(f"{Path(self.path).stem}_{self.function}_{self.sha256[:8]}")

    def is_called(self, short: str) -> bool:
        """Whether `short` is that of the same function in the same content, whatever the file is called."""
        return short.endswith(_as_name(f"_{self.function}_{self.sha256[:8]}"))


def _as_name(text: str) -> str:
    return re.sub(r"\W", "_", text, flags=re.ASCII)


def sha256_of(file: Path) -> str:
    """The first digits of the SHA-256 of a file of source code.

    Raises:
        ValueError: it cannot be read, or is too large to be one.
    """
    return sha256(source_of(file))


def source_of(file: Path) -> bytes:
    """The content of a file of source code.

    Raises:
        ValueError: it cannot be read, or is too large to be one.
    """
    try:
        with open_regular(file) as opened:
            source = opened.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: {why_unread(error)}; name {_WANTED}") from None
    if len(source) > _MOST_BYTES:
        raise ValueError(f"{file} has more than {_MOST_BYTES:,} bytes, which no source file has")
    return source


def sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:_DIGITS]


def network(model: str) -> str:
    """What tells a network from others wherever its file lies, `build@3f2a...`; of one that is no file, its name."""
    match = _TEXT.fullmatch(model)
    return f"{match['function']}@{match['sha256']}" if match and match["sha256"] else model


class NameOrFile(NameIn):
    """The name of a network, or a file and a function in it."""

    open = True

    def __call__(self, name: str) -> str:
        own_model = OwnModel.find(name)
        if own_model is None and name.partition(":")[0].endswith(".py"):
            raise ValueError(f"must be one of {', '.join(self.registry)}, or {_WANTED}")
        return super().__call__(name) if own_model is None else str(own_model)
