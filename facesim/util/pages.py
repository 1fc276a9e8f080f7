"""HTML pages that need nothing else: how their templates are found and filled in, and what they look like."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def page_environment(folder: Path) -> jinja2.Environment:
    """What fills in the templates of `folder`. They extend `page.html` here, whose blocks are `title`, `style`, which
    adds to the shared style, and `content`; its script is the only one that runs on a page. Whatever comes from data or
    the user is escaped; a name that a template misses is an error.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(script=Markup(script), script_sha256=sha256)
    return environment
