"""HTML pages that need nothing else: how their templates are found and filled in, and what they look like."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.util.words import count_text

if TYPE_CHECKING:
    import jinja2

_FROM_RIGHT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
_RUN_FROM_RIGHT = re.compile(f"[{_FROM_RIGHT}](?:[ '.-]*[{_FROM_RIGHT}])*")


def page_environment(folder: Path) -> jinja2.Environment:
    """What fills in the templates of `folder`. They extend `page.html` here, whose blocks are `title`, `style`, which
    adds to the shared style, and `content`; its script is the only one that runs on a page. Whatever comes from data or
    the user is escaped, and isolated where it is written from right to left; a name that a template misses is an
    error.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_isolated,
    )
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(script=Markup(script), script_sha256=sha256, count_text=count_text)
    return environment


def _isolated(value: Any) -> Any:
    """A text as HTML in which names that are written from right to left turn nothing beside them around."""
    from markupsafe import Markup, escape

    if type(value) is not str or not _RUN_FROM_RIGHT.search(value):
        return value
    return Markup(_RUN_FROM_RIGHT.sub(r"<bdi>\g<0></bdi>", str(escape(value))))
