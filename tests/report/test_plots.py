"""What every plot is drawn with."""

from __future__ import annotations

import pytest

from facesim.report.plots.drawing import HALF_PAGE_IN, drawing, legend


def test_many_names_above_a_plot_do_not_make_its_axes_flat():
    heights = {}
    for count in (1, 3, 9):
        with drawing("names", "curves with names", (HALF_PAGE_IN, 3.4)) as (figure, _):
            axes = figure.subplots()
            for number in range(count):
                axes.plot([1, 2], [number, 1], label=f"strategy {number} on ml.c5.{number}xlarge, 2 ps")
            legend(axes)
        heights[count] = axes.get_position().height * figure.get_figheight()

    assert heights[9] == pytest.approx(heights[3], rel=0.1) and heights[1] > heights[3]
