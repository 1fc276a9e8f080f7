"""Data sets of Hugging Face's hub, `hf:org/name`, fetched and kept by its library `datasets`, and read from there.

A configuration and a revision may follow: `hf:org/name:configuration@revision`. The library's own variables hold, such
as HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. It needs `pip install 'facesim-cluster[hf]'`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from facesim.data.arrow import content_of
from facesim.data.content import Content, Source, fingerprint
from facesim.data.decode import Wanted
from facesim.data.parts import part_called
from facesim.util.errors import InputError

PREFIX = "hf:"

_NAME = re.compile(
    r"hf:(?P<name>\w[\w.-]*(/\w[\w.-]*)?)(:(?P<configuration>[\w.+-]+))?(@(?P<revision>[\w./+-]+))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def source(text: str, wanted: Wanted) -> Source:
    """The images of the data set that `text` names, fetched unless the library has them.

    Raises:
        InputError: it cannot be fetched.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise InputError(
            f"{text!r} names no data set of the hub. Write hf:organisation/name, with :configuration or @revision "
            f"behind it where they are needed.",
            field="data",
            value=text,
        )
    splits = _fetched(**match.groupdict(), shown=text, wanted=wanted)
    parts = [
        (Path(file["filename"]), part_called(name)) for name, split in splits.items() for file in split.cache_files
    ]
    root = Path(os.path.commonpath([file.parent for file, _ in parts]))
    commit = [f"it is the hub's at commit {root.name}."] if _COMMIT.fullmatch(root.name) else []

    def open_content() -> Content:
        return content_of(parts, root, wanted, paths=True, notes=commit)

    known_by = [fingerprint(root, [file for file, _ in parts]), wanted.features]
    return Source(match["name"], known_by, open_content)


def _fetched(name: str, configuration: str | None, revision: str | None, shown: str, wanted: Wanted) -> dict[str, Any]:
    """The parts of a data set by their names, each in Arrow files that the library keeps."""
    if Path(name).exists():
        raise InputError(
            f"{shown} is a data set of Hugging Face's hub, and there is a folder {name} here, which its library would "
            f"take in its place. Give --data ./{name} for the folder, or start from another folder for the hub."
        )
    try:
        import datasets
    except ModuleNotFoundError:
        remedy = "pip install 'facesim-cluster[hf]'"
        raise InputError(f"{shown} is read by datasets, which is not installed: {remedy}", remedy=remedy) from None
    datasets.disable_progress_bars()
    wanted.progress("downloading", 0, 1)
    try:
        splits = datasets.load_dataset(name, configuration, revision=revision)
    except Exception as error:  # whatever the hub, the network or a damaged file leads to
        first_line = str(error).partition("\n")[0]
        raise InputError(
            f"{shown} could not be fetched: {type(error).__name__}: {first_line}. Check the name and the network; a "
            f"data set that asks for consent needs that given on the hub's page, and HF_TOKEN."
        ) from error
    wanted.progress("downloading", 1, 1)
    return splits
