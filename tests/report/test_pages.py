"""What a reader sees: the terminal's table and the HTML page."""

import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console

from facesim.report import compare, print_report, write_report
from facesim.report.statistics import mean_interval
from facesim.report.words import estimated, quantity
from facesim.util.errors import InputError

APART = {"verdict": "apart", "evidence": ["the replicas' variables differ"]}


def printed(comparison, *, width=80, terminal=False):
    file = io.StringIO()
    system = "truecolor" if terminal else None
    print_report(comparison, Console(file=file, width=width, force_terminal=terminal, color_system=system))
    return file.getvalue()


class Page(HTMLParser):
    """Collects what a test asks of a page: identifiers, references to elsewhere, elements."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.references, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data") and not (value or "").startswith("#"):
                self.references.append(value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.345, "s", "12.3 s"),
        (1234.5, "s", "1,234 s"),
        (91.25, "%", "91.2 %"),
        (0.01234, "USD", "$0.0123"),
        (8.14e9, "B", "8.14 GB"),
        (3 * 2**30, "iB", "3.00 GiB"),
        (2.1, "x", "2.10 ×"),
        (6400, "1", "6,400"),
        (0, "B", "0 B"),
    ],
)
def test_numbers_have_three_figures_and_a_unit(value, unit, text):
    assert quantity(value, unit) == text


def test_an_interval_is_shown_from_three_seeds_on():
    assert estimated(mean_interval([10.0, 11.0]), "s") == "10.5 s"
    assert estimated(mean_interval([10.0, 11.0, 12.0]), "s") == "11.0 ± 2.5 s"


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_the_terminal(study, width):
    lines = printed(compare(study), width=width).splitlines()

    assert max(map(len, lines)) <= width
    assert any(re.search(r"training +\|? +41\.0 ± 2\.5 s +\|? +58\.5 ± 3\.7 s", line) for line in lines)


@pytest.mark.parametrize("width", [30, 40])
def test_a_narrow_terminal_cuts_off_no_number(study, width):
    lines = printed(compare(study), width=width).splitlines()

    cells = ["".join(line.split("|")[-2].split()) for line in lines if line.startswith("|")]
    assert max(map(len, lines)) <= width
    assert "".join(cells).count("58.5±3.7s") == 1


def test_checkpoints_that_could_not_be_written_are_counted(make_run):
    full = make_run("single", result={"recovery": {"checkpoints": 0, "checkpoints_failed": 11}}, metrics=False)

    assert re.search(r"checkpoints that failed +\| +11 \|", printed(compare([full])))


def test_of_runs_without_an_accuracy_there_is_no_interval(make_run):
    text = printed(compare([make_run("single", finished=False, metrics=False)]))

    assert "95 % interval" not in text


@pytest.mark.parametrize("width", [80, 140, 200])
def test_of_many_rows_each_has_a_line(make_run, width):
    runs = [make_run("ps-async", workers=workers, name=str(workers), metrics=False) for workers in range(1, 10)]
    runs.append(make_run("independent", audit=APART, metrics=False))

    text = printed(compare(runs), width=width, terminal=True)

    table = re.sub(r"\x1b\[[\d;]*m", "", text[: text.index("Emulated")]).splitlines()
    assert max(map(len, table)) <= width
    assert any(re.search(r"ps-async \(4 workers\).* 92\.0 %", line) for line in table)
    assert re.search(r"independent.*\x1b\[1;31m *APART", text)
    assert [line for line in table if "training" in line and "40.0 s" in line] == []


def test_strategies_that_do_not_fit_follow_below(make_run):
    runs = [make_run("ps-async", workers=workers, name=str(workers)) for workers in range(1, 7)]

    text = printed(compare(runs), width=80)

    assert all(f"{workers} workers, 1 ps" in text for workers in range(2, 7))
    assert max(map(len, text.splitlines())) <= 80


def test_apart_is_red_in_a_terminal(make_run):
    text = printed(compare([make_run("single"), make_run("ps-async", audit=APART)]), terminal=True)

    assert re.search(r"\x1b\[1;31m *APART", text)


def test_without_a_terminal_the_text_is_plain(study):
    assert "\x1b" not in printed(compare(study))


def test_a_name_with_brackets_is_text_in_a_terminal(make_run):
    odd = {"state": "Failed", "failure": "[bold]worker[/bold] [/nothing]"}

    comparison = compare([make_run("single"), make_run("ps-async", result=odd)])

    assert "[bold]worker[/bold] [/nothing]" in printed(comparison, width=160)


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_has_every_plot(page):
    seen = Page(page)
    assert seen.tags.count("svg") == 10
    assert seen.references == []
    assert not re.search(r"url\((?!#)|@import", page)
    assert seen.tags.count("script") == 1
    assert len(seen.ids) == len(set(seen.ids))
    assert len(page) < 500_000


def test_the_page_says_verdict_numbers_evidence_and_how_to_read_them(page):
    for text in (
        "1.43 times as long to train",
        "58.5 ± 3.7 s",
        "distinct parameter versions",
        "An Example CPU",
        "emulated",
        "Training accuracy is on the images that were trained on",
        "task started",
    ):
        assert text in page


@pytest.mark.slow
def test_apart_is_red_on_the_page(make_run, tmp_path):
    write_report([make_run("single"), make_run("ps-async", audit=APART)], tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert '<td class="alarm">APART</td>' in page
    assert '<p class="headline alarm">ps-async did not train together' in page


@pytest.mark.slow
def test_names_from_data_are_escaped_everywhere(make_run, tmp_path):
    evil = "<script>alert(1)</script>"
    run = make_run(
        "single",
        data=evil,
        result={
            "data": {"name": evil, "held_out_examples": 80},
            "failure": evil,
            "instance_type": evil,
            "sync_audit": {"verdict": evil, "evidence": [evil]},
            "machine": {"cpu_model": evil},
        },
    )
    run.record("state", note=evil)

    write_report([run, make_run("ps-async", audit={"verdict": "apart", "evidence": [evil]})], tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert Page(page).tags.count("script") == 1  # the page's own
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_an_unknown_strategy_with_odd_characters_is_drawn_as_text(make_run, tmp_path):
    run = make_run("single")
    for file in (run.job_file, run.result_file):
        file.write_text(file.read_text().replace('"single"', '"a<b>$x_1$"'))

    write_report([run], tmp_path / "report.html")

    assert "a&lt;b&gt;$x_1$" in (tmp_path / "report.html").read_text()


def test_failed_and_killed_runs_are_on_the_page_with_their_cause(make_run, tmp_path):
    lost = {"state": "Failed", "failure": "worker-1 was killed by SIGKILL", "held_out_accuracy": None}
    runs = [make_run("single"), make_run("ps-async", 0, result=lost), make_run("ps-async", 1, finished=False)]

    write_report(runs, tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert "worker-1 was killed by SIGKILL" in page
    assert "Unfinished" in page
    assert "no completed run" in page


def test_runs_without_metrics_make_a_page_without_curves(make_run, tmp_path):
    write_report([make_run("single", metrics=False), make_run("ps-async", metrics=False)], tmp_path / "report.html")

    assert Page((tmp_path / "report.html").read_text()).tags.count("svg") == 4  # time and cost, accuracies


@pytest.mark.slow
def test_the_same_runs_make_the_same_page(study, tmp_path):
    for name in ("a", "b"):
        write_report(study, tmp_path / name)

    first, second = (re.sub(r"made [-\d: ]+ UTC", "", (tmp_path / name).read_text()) for name in ("a", "b"))
    assert first == second


def test_a_page_that_cannot_be_written_is_told(study, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="choose another file with --output"):
        write_report(study, tmp_path / "file" / "report.html")


def test_importing_the_report_is_cheap():
    heavy = ["pandas", "matplotlib", "scipy", "jinja2", "rich", "numpy", "tensorflow"]
    code = f"import sys, facesim.report, facesim.billing; print([m for m in {heavy} if m in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
