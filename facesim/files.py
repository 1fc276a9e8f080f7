"""Files that are written whole or not at all, and files that are appended to, whatever room the disk has."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from facesim.errors import InputError


def read_toml(path: str | Path, option: str) -> dict[str, Any]:
    """What the TOML file that a user gave as `option` holds.

    Raises:
        InputError: it cannot be read.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise InputError(f"{option} {path} cannot be read as TOML: its values are nested too deep") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{option} {path} cannot be read as TOML: {error}") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def append(path: Path, content: bytes) -> bytes:
    """Append to a file what fits on its disk; return the rest."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        return _kept_if_full(error, content)
    try:
        return written(file, content)
    finally:
        os.close(file)


def written(file: int, content: bytes) -> bytes:
    """Write to an open file what fits on its disk; return the rest."""
    try:
        return content[os.write(file, content) :]
    except OSError as error:
        return _kept_if_full(error, content)


def _kept_if_full(error: OSError, content: bytes) -> bytes:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return content
