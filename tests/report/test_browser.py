"""What a reader of facesim's pages meets in a browser: each page is opened in a headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from facesim.audit import page as audit_page
from facesim.audit.verdict import Verdict
from facesim.audit.watch import Process, Watched
from facesim.forecast.hosts import hosts
from facesim.planning.page import write_page as write_plan
from facesim.planning.search import Axes, Wanted, make_plan
from facesim.report import write_report
from facesim.tuning.findings import Findings
from facesim.tuning.page import write_page as write_findings
from tests.forecast.conftest import profile  # noqa: F401
from tests.report.conftest import write_run
from tests.support.browser import Browser, chromium
from tests.tuning.test_search import search, trial

pytestmark = pytest.mark.slow

PAGES = ("few", "many", "plan", "tuning", "audit")

APART = {"verdict": "apart", "evidence": ["the replicas' variables differ"]}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium is installed, nor a browser made from it")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, profile) -> dict[str, Path]:  # noqa: F811
    """Every kind of page that facesim writes."""
    folder = tmp_path_factory.mktemp("pages")
    few = [
        write_run(folder / f"{strategy}-{seed}", strategy, seed, training_s=training_s + seed, accuracy=92 + seed / 2)
        for strategy, training_s in (("single", 40), ("ps-async", 57))
        for seed in range(3)
    ]
    write_report(few, folder / "few.html")
    many = [
        write_run(folder / f"many-{workers}", "ps-async", 0, workers=workers, training_s=60 - workers, metrics=False)
        for workers in range(1, 9)
    ]
    many += [write_run(folder / "apart", "independent", 0, audit=APART), write_run(folder / "one", "single", 0)]
    write_report(many, folder / "many.html")
    axes = Axes(("single", "ps-async", "allreduce"), ("ml.m5.xlarge", "ml.c5.2xlarge"))
    write_plan(make_plan(profile, axes, Wanted(), epochs=200, known_hosts=hosts()), folder / "plan.html")
    trials = tuple(
        trial(number, None if number == 3 else 0.6 + number / 10, 50.0 + number, learning_rate=0.01 / (number + 1))
        for number in range(4)
    )
    write_findings(Findings(search(), trials, {"learning_rate": 1.0}), folder / "tuning.html")
    processes = [Process(10 + rank, "python train.py --epochs 20", f"rank {rank}", cpu_s=9.5) for rank in (0, 1)]
    watched = Watched(0, interrupted=False, seconds=12.0, processes=processes, reports={}, counted=True)
    audit_page.write(["torchrun", "train.py"], watched, Verdict("apart", ["no process received anything"]), folder)
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_read_it_in_a_window_and_on_a_phone_light_and_dark(browser, pages, name):
    """No rule of axe-core is broken, nothing is loaded from elsewhere, only what may scrolls, and plots can be read."""
    package = pytest.importorskip("axe_core_python", reason="axe-core is not installed")
    axe = Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    for width, dark in ((1280, False), (390, True)):
        with browser.page(pages[name], width, dark=dark) as page:
            page.evaluate(axe)

            broken = page.evaluate(
                "axe.run().then(found => found.violations.map(rule => [rule.id, ...rule.nodes.map(node => node.html)]))"
            )

            assert broken == []
            assert page.requests() == [pages[name].as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") == width
            # The size of a text on the screen: that of its font by how the plot is scaled, turned or not.
            sizes = page.evaluate(
                "[...document.querySelectorAll('svg text')].map(text => { const on = text.getScreenCTM();"
                " return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(on.a, on.b); })"
            )
            assert min(sizes, default=9) >= 9
            plots = page.evaluate("document.querySelectorAll('svg').length")
            assert page.evaluate("document.querySelectorAll('svg[role=img][aria-label]').length") == plots


def test_without_scripts_the_same_is_to_be_read(browser, pages):
    texts = []
    for scripts in (True, False):
        with browser.page(pages["many"], scripts=scripts) as page:
            texts.append(page.evaluate("document.querySelector('main').innerText.split(/\\s+/).join(' ')"))

    assert texts[0].replace("copy as Markdown ", "") == texts[1]


def test_tables_are_sorted_and_filtered_by_keyboard(browser, pages):
    table = "document.querySelector('table.sortable[aria-label=Time]')"
    column = f"[...{table}.tBodies[0].rows].map(row => Number(row.cells[2].dataset.value))"
    with browser.page(pages["many"]) as page:
        while not page.evaluate(f"document.activeElement === {table}.querySelector('th:nth-child(3) button')"):
            page.press("Tab")
            assert page.evaluate("document.activeElement !== document.body"), "the heading was not reached"
        before = page.evaluate(column)
        page.press("Enter")
        assert page.evaluate(column) == sorted(before) != before
        page.press("Enter")
        assert page.evaluate(column) == sorted(before, reverse=True)

        page.evaluate(f"{table}.parentElement.previousElementSibling.focus()")
        page.command("Input.insertText", text="independent")

        assert page.evaluate(f"[...{table}.tBodies[0].rows].filter(row => !row.hidden).length") == 1


@pytest.mark.parametrize("name", ["few", "plan", "tuning"])
def test_on_paper_a_plot_stays_with_its_heading_and_nothing_is_folded(browser, pages, name):
    with browser.page(pages[name], 720, media="print") as page:
        assert page.evaluate(
            "[...document.querySelectorAll('svg')].every(plot => { const figure = plot.closest('figure');"
            " const height = figure.getBoundingClientRect().height, inside = getComputedStyle(figure).breakInside;"
            " return figure.querySelector('h2, h3') && inside === 'avoid' && height < 900; })"
        )
        assert page.evaluate(
            "[...document.querySelectorAll('h2, h3')].every(each => getComputedStyle(each).breakAfter === 'avoid')"
        )
        assert page.evaluate(
            "[...document.querySelectorAll('details:not(.brief) > :not(summary)')].every(each => each.offsetHeight > 0)"
        )
        assert page.printed().startswith(b"%PDF-")
