"""Rows that were tested on other images: their accuracies are not compared, in words, numbers, tests or plots."""

from __future__ import annotations

import json

import pytest

from facesim.baselines.record import FILE
from facesim.report import compare, to_json
from facesim.report.html import render
from facesim.spec.data import DataSpec
from tests.report.test_comparison import texts
from tests.report.test_pages import Page, printed

OTHER_IMAGES = [
    {"min_images": 5},
    {"image_size": 48},
    {"channels": 1},
    {"held_out": 0.5},
    {"max_bad_files": 0.5},
    {"data": "others"},
    {"label_feature": "who"},
    {"image_feature": "face"},
    {"subset": "images=5"},
]


def three(make_run, name, accuracy=92.0, tested=None, result=None, **options):
    """Three seeds of a row; `tested` names the images that they were tested on, by what stands before the seed."""
    return [
        make_run(
            "single",
            seed,
            name=f"{name}-{seed}",
            accuracy=accuracy + 0.5 * seed + 0.1 * len(name) * seed,
            result={"data": data(f"{tested}-{seed}" if tested else None), **(result or {})},
            **options,
        )
        for seed in range(3)
    ]


def data(tested, content=None):
    facts = {"identities": 40, "training_examples": 320, "held_out_examples": 80, "chance_accuracy": 0.025}
    return {**facts, "tested_sha256": tested, "content_sha256": content}


@pytest.mark.parametrize("options", OTHER_IMAGES, ids=lambda options: next(iter(options)))
def test_an_option_that_makes_other_test_images_ends_the_comparison_of_accuracies(make_run, options):
    comparison = compare([*three(make_run, "a"), *three(make_run, "bb", accuracy=82.0, **options)])

    contrasts = comparison.contrasts
    assert [contrast.accuracy for contrast in contrasts] == [None] * len(contrasts)
    assert [contrast.time_to_accuracy for contrast in contrasts] == [None] * len(contrasts)
    # The page of one such comparison is that of all, and its plots take long.
    page = [render(comparison)] if "data" in options else []
    for shown in (printed(comparison, width=200), json.dumps(to_json(comparison)), *page):
        assert "p = " not in shown
        assert "accurate" not in shown.replace("accurate as", "")
    if "subset" not in options:  # sizes of data are not put side by side at all
        (name,) = options
        finding = texts(comparison.findings, "held-out accuracy")
        assert "were not tested on the same images" in finding
        assert f"{name.replace('_', ' ')} " in finding


@pytest.mark.parametrize("options", [{"min_images": 5}, {"max_bad_files": 0.5}, {"data": "a-copy"}])
def test_the_same_images_by_other_options_are_compared(make_run, options):
    runs = [*three(make_run, "a", tested="t"), *three(make_run, "bb", accuracy=82.0, tested="t", **options)]

    (contrast,) = compare(runs).contrasts

    assert contrast.accuracy.p < 0.05
    assert contrast.other_images is None


def test_a_folder_whose_content_changed_is_another_row_and_not_compared(make_run):
    runs = [
        make_run("single", seed, name=f"{content}-{seed}", result={"data": data(f"{content}-{seed}", content)})
        for content in ("before", "after")
        for seed in range(3)
    ]

    comparison = compare(runs)

    assert [row.label for row in comparison.rows] == [
        "single (data with SHA-256 before)",
        "single (data with SHA-256 after)",
    ]
    assert "were others when the one and when the other ran (seeds 0, 1, 2)" in texts(comparison.findings)
    assert comparison.contrasts[0].accuracy is None


def test_what_only_one_side_has_on_record_is_not_compared(make_run):
    runs = [make_run("single", seed) for seed in range(3)]
    runs += [make_run("ps-async", seed, result={"data": data(f"t-{seed}")}) for seed in range(3)]

    comparison = compare(runs)

    assert comparison.contrasts[0].accuracy is None
    assert "only one of them has on record" in texts(comparison.findings)


def test_where_nothing_is_on_record_the_statement_says_what_it_rests_on(study, make_run):
    assert "is taken from their options" in texts(compare(study).findings, "held-out accuracy")

    runs = [make_run(strategy, seed, name=f"{strategy}-r{seed}", result={"data": data(f"t-{seed}")})
            for strategy in ("single", "ps-async") for seed in range(3)]  # fmt: skip
    assert "is taken from their options" not in texts(compare(runs).findings, "held-out accuracy")


def test_each_row_is_compared_with_the_first_that_was_tested_on_its_images(make_run):
    sizes = {32: 80.0, 48: 90.0}
    runs = [
        make_run(strategy, seed, name=f"{strategy}-{size}-{seed}", image_size=size, accuracy=accuracy + 0.3 * seed)
        for size, accuracy in sizes.items()
        for strategy in ("single", "ps-async")
        for seed in range(3)
    ]

    comparison = compare(runs)

    assert [(c.row.label, c.reference.label, c.accuracy is None) for c in comparison.contrasts] == [
        ("single (image size 48)", "single (image size 32)", True),
        ("ps-async (image size 32)", "single (image size 32)", False),
        ("ps-async (image size 48)", "single (image size 48)", False),
    ]
    assert [comparison.test_of(row) for row in comparison.rows] == ["A", "B", "A", "B"]


@pytest.mark.slow
def test_each_test_has_a_target_of_its_own_and_a_panel_of_its_own(make_run):
    runs = [*three(make_run, "a", accuracy=90.0), *three(make_run, "bb", accuracy=60.0, held_out=0.5)]

    comparison = compare(runs)

    assert [row.target_accuracy for row in comparison.rows] == [
        pytest.approx(0.95 * 0.906),
        pytest.approx(0.95 * 0.607),
    ]
    assert comparison.target_accuracy == comparison.rows[0].target_accuracy
    shown = printed(comparison, width=200)
    assert "images A" in shown and "images B" in shown
    page = render(comparison)
    assert "held-out accuracy (%), on images A" in page and "held-out accuracy (%), on images B" in page
    assert "cannot be compared" in page
    assert page.count('<span class="chip">images A</span>') == page.count('<span class="chip">images B</span>') == 1
    assert len(Page(page).ids) == len(set(Page(page).ids))


@pytest.mark.slow
def test_rows_tested_alike_are_one_panel_without_letters(study):
    comparison = compare(study)

    assert ", on images A" not in render(comparison)
    assert "images A" not in printed(comparison)


def test_classical_methods_are_the_bar_for_rows_tested_on_their_images_only(make_run):
    runs = [
        *three(make_run, "a", accuracy=90.0, tested="t"),
        *three(make_run, "bb", tested="u", accuracy=10.0, held_out=0.5),
    ]
    write_scores(runs[0], held_out=0.2, tested="t", accuracy=0.5)

    comparison = compare(runs)

    assert [method.method for method in comparison.baselines] == ["hog-svm"]
    assert "Below that" not in texts(comparison.findings, "baselines")


def test_scores_on_images_that_have_changed_since_are_left_out(make_run):
    runs = three(make_run, "a", tested="now")
    write_scores(runs[0], held_out=0.2, tested="before", accuracy=0.5)

    assert compare(runs).baselines == ()


def test_rows_are_held_against_a_method_over_the_seeds_that_both_have(make_run):
    runs = three(make_run, "a", accuracy=60.0, tested="t")  # and more with the others of its seeds
    write_scores(runs[0], held_out=0.2, tested="t", accuracy=0.605, seeds=[0])

    comparison = compare(runs)

    told = texts(comparison.findings, "baselines")
    assert "There is no score of seeds 1, 2: rows are held against it over the others." in told
    assert "Below that: single with 60.0 %." in told
    (method,) = to_json(comparison)["baselines"]
    assert (method["by_seed"], method["without"]) == ({"0": 0.605}, [1, 2])


def test_scores_that_lie_in_the_study_of_another_row_count(make_run):
    runs = [*three(make_run, "first/a", tested="t"), *three(make_run, "second/a", tested="t", data="copy")]
    write_scores(runs[0], held_out=0.2, tested="t", accuracy=0.5)

    comparison = compare(runs)

    assert comparison.beside_baselines[0].records[0].run.directory.parent == runs[-1].directory.parent
    assert [(method.method, method.without) for method in comparison.baselines] == [("hog-svm", ())]


def write_scores(run, held_out, tested, accuracy, seeds=range(3)):
    entries = [
        {
            "split": DataSpec(held_out=held_out, seed=seed).model_dump(),
            "sha256": "s",
            "tested_sha256": f"{tested}-{seed}",
            "scores": [
                {"method": "hog-svm", "seed": seed, "accuracy": accuracy, "balanced_accuracy": accuracy, "seconds": 1.0}
            ],
        }
        for seed in seeds
    ]
    (run.directory.parent / FILE).write_text(json.dumps({"entries": entries}))
