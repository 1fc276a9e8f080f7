"""What an audit leaves: its verdict as JSON, and as one HTML page that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facesim.audit.verdict import Verdict
from facesim.audit.watch import Watched
from facesim.util.files import write_json, write_text
from facesim.util.pages import page_environment
from facesim.util.unused import printable

_TEMPLATE = "audit.html"


def write(command: Sequence[str], watched: Watched, judgement: Verdict, folder: Path) -> Path:
    """Write audit.json and audit.html to a folder, and return where the page is."""

    content: dict[str, Any] = {
        "command": [printable(word) for word in command],
        "exit_code": watched.exit_code,
        "interrupted": watched.interrupted,
        "seconds": watched.seconds,
        "counted": watched.counted,
        "verdict": judgement.verdict,
        "evidence": judgement.evidence,
        "processes": [{**asdict(one), "command": printable(one.command)} for one in watched.processes],
    }
    write_json(folder / "audit.json", content)
    environment = page_environment(Path(__file__).parent)
    shown = environment.get_template(_TEMPLATE).render(command_line=shlex.join(content["command"]), **content)
    write_text(folder / "audit.html", shown)
    return folder / "audit.html"
