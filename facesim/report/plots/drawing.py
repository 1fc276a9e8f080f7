"""What every plot is drawn with: one look, the rows' colours, and an SVG that can stand inside an HTML page.

Text and axes take the page's colour, light or dark. Matplotlib's object interface only: no window, no global figure.
Identifiers are prefixed by plot, so that several SVGs can share a page.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from facesim.report.comparison import Comparison

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, safe for the colour-blind, in an order that keeps neighbours apart.
STRATEGY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

#: Stands for the page's text colour until the SVG is written.
INK = "#010203"

#: How wide plots are, beside another and alone. On a phone, where the first fill its width and the others scroll, no
#: text is smaller than 9 pixels.
HALF_PAGE_IN, PAGE_IN = 5.1, 12.6

_POINTS = 240  # more than a plot has pixels to show

_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "text.parse_math": False,  # names come from data
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(
        (
            "text.color",
            "axes.labelcolor",
            "axes.edgecolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        INK,
    ),
}


def colours(comparison: Comparison) -> list[str]:
    """The colour of each row, the same in every plot and in the page."""
    return [STRATEGY_COLOURS[index % len(STRATEGY_COLOURS)] for index in range(len(comparison.rows))]


@contextmanager
def drawing(name: str, title: str, size_inches: tuple[float, float]) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on; on leaving, the list holds its SVG."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    svg: list[str] = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a matplotlibrc of the user's says
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=size_inches, layout="constrained")
        canvas = FigureCanvasSVG(figure)
        yield figure, svg
        tips = _number_tips(figure)
        text = io.StringIO()
        with warnings.catch_warnings():
            # Matplotlib measures letters that its font lacks as boxes; it is the page's fonts that show them.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            # Laid out while it is saved, a figure would be drawn twice.
            if layout := figure.get_layout_engine():
                layout.execute(figure)
                figure.set_layout_engine(None)
            canvas.print_figure(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg.append(_embeddable(text.getvalue(), name, title, tips))


#: Begins the group identifier of what has a tip, until it is numbered.
_TIP = "tip:"


def tip(artist: Artist, text: str) -> None:
    """What a reader sees who points at a part of a plot, and hears where the page is read out."""
    artist.set_gid(f"{_TIP}{text}")


def _number_tips(figure: Figure) -> list[str]:
    """The texts of all tips of a figure, whose artists then have `tip-0`, ... as group identifiers."""
    artists = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(_TIP))
    tips = []
    for artist in artists:
        tips.append(artist.get_gid().removeprefix(_TIP))
        artist.set_gid(f"tip-{len(tips) - 1}")
    return tips


def _embeddable(svg: str, name: str, title: str, tips: Sequence[str]) -> str:
    """Without the XML prolog, with identifiers of its own, in the page's text colour, as wide as the page allows."""
    svg = svg[svg.index("<svg") :]
    for number, text in enumerate(tips):
        group = f'<g id="tip-{number}">'
        svg = svg.replace(group, f"{group}<title>{escape(text)}</title>", 1)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(
        r' d="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg
    )  # 1/100 pt is finer than a screen
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


#: So many letters fit in a line above the axes.
_LINE_LETTERS = 48
#: How high a line is, and how many of them a plot's height has room for.
_LINE_IN, _LINES = 0.24, 3


def legend(axes: Axes) -> None:
    """Above the axes, where no curve is; as many names beside each other as fit, and long ones over several lines. Of
    many lines a plot becomes higher, so that its axes do not become flat.
    """
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        across = max(1, min(4, _LINE_LETTERS // (max(map(len, labels)) + 5)))
        names = [textwrap.fill(label, _LINE_LETTERS) for label in labels]
        lines = sum(name.count("\n") + 1 for name in names) / across
        axes.figure.set_figheight(axes.figure.get_figheight() + _LINE_IN * max(0, lines - _LINES))
        axes.legend(
            handles,
            names,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=across,
            handlelength=1.4,
            columnspacing=1.4,
            borderaxespad=0.2,
            borderpad=0.1,
        )


def in_percent(axes: Axes) -> None:
    """The vertical axis from 0 to 1, with percentages at its ticks."""
    from matplotlib.ticker import PercentFormatter

    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=""))


def folded(label: str) -> str:
    return label.replace(" (", "\n(").replace(", ", ",\n")


def thinned(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about `_POINTS` points, evenly chosen, the last kept."""
    step = -(-len(times) // _POINTS)
    if step <= 1:
        return times, values
    kept = [*range(0, len(times) - 1, step), len(times) - 1]
    return times[kept], values[kept]


def apart(curves: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Many curves as one line with gaps, which draws several times as fast as a line each; every one is thinned."""
    import numpy as np

    gap = np.array([np.nan])
    parts = [(np.append(times, gap), np.append(values, gap)) for times, values in (thinned(*curve) for curve in curves)]
    return tuple(np.concatenate(column) for column in zip(*parts))  # type: ignore[return-value]
