"""HTML pages that need nothing else: how their templates are found and filled in, and what they look like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def page_environment(folder: Path) -> jinja2.Environment:
    """What fills in the templates of `folder`. They may extend `page.html` here, whose blocks are `head`, `title`,
    `style`, which adds to the shared style, `content` and `script`. Whatever comes from data or the user is escaped; a
    name that a template misses is an error.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
