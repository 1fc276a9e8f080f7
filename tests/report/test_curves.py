"""Runs on several subsets of the data: learning curves, and comparisons among runs of the same size only."""

from __future__ import annotations

import pytest

from facesim.report import compare, to_json
from facesim.report.html import render
from tests.report.test_pages import printed


@pytest.fixture
def sizes(make_run):
    """single and ps-async on 2, 5 and 10 images of each of 40 people, three seeds each: the more, the better."""
    return [
        make_run(
            strategy,
            seed,
            name=f"{strategy}-{images}-{seed}",
            accuracy=accuracy + seed - (strategy == "ps-async"),
            subset=f"images={images}",
            result={
                "data": {
                    "identities": 40,
                    "training_examples": 20 * images,
                    "held_out_examples": 20 * images,
                    "chance_accuracy": 0.025,
                }
            },
        )
        for images, accuracy in ((10, 90.0), (2, 40.0), (5, 70.0))
        for strategy in ("single", "ps-async")
        for seed in range(3)
    ]


def test_a_curve_has_a_point_a_size_from_small_to_large(sizes):
    comparison = compare(sizes)

    assert [curve.label for curve in comparison.curves] == ["single", "ps-async"]
    points = comparison.curves[0].points
    assert [(point.size, point.training_examples) for point in points] == [
        ("images=2", 40),
        ("images=5", 100),
        ("images=10", 200),
    ]
    assert [point.accuracy.mean for point in points] == pytest.approx([0.41, 0.71, 0.91])
    assert points[0].interval == pytest.approx((0.41 - 0.02484, 0.41 + 0.02484), abs=1e-4)


def test_strategies_are_compared_at_the_same_size_only(sizes):
    comparison = compare(sizes)

    assert [(c.row.label, c.reference.label) for c in comparison.contrasts] == [
        (f"ps-async (images={size})", f"single (images={size})") for size in (2, 5, 10)
    ]
    assert all(contrast.accuracy.mean == pytest.approx(-0.01) for contrast in comparison.contrasts)
    assert comparison.warnings == ()


def test_the_verdict_and_the_table_tell_the_curve(sizes):
    comparison = compare(sizes)

    assert comparison.headlines[0].text == (
        "single: held-out accuracy 41.0 % with 40 training images, 91.0 % with 200."
    )
    shown = printed(comparison, width=120)
    assert "training images" in shown
    assert "200 of 40 people" in shown
    assert "41.0 % (38.5 to 43.5)" in shown


@pytest.mark.slow
def test_the_page_has_the_curves_as_table_and_plot_and_json_has_their_points(sizes):
    comparison = compare(sizes)

    page = render(comparison)
    assert "<h2>Learning curves</h2>" in page
    assert 'id="curve-plot' in page
    (single, _) = to_json(comparison)["learning_curves"]
    assert [point["training_examples"] for point in single["points"]] == [40, 100, 200]


def test_with_people_and_images_both_varied_each_number_of_people_has_a_curve(make_run):
    runs = [
        make_run(
            name=f"{people}-{images}",
            subset=f"identities={people},images={images}",
            result={"data": {"identities": people, "training_examples": people * images, "held_out_examples": 9}},
        )
        for people in (10, 20)
        for images in (4, 8)
    ]

    comparison = compare(runs)

    assert [curve.label for curve in comparison.curves] == ["single, 10 identities", "single, 20 identities"]
    assert [[point.training_examples for point in curve.points] for curve in comparison.curves] == [[40, 80], [80, 160]]


def test_runs_of_one_size_have_no_curve(make_run):
    comparison = compare([make_run("single", subset="images=5"), make_run("ps-async", subset="images=5")])

    assert comparison.curves == ()
    assert len(comparison.contrasts) == 1
