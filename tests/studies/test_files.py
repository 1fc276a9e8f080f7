"""The studies of this repository: each is one that can be run, in small as well, and has a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from facesim.report import compare
from facesim.report.page import write_page
from facesim.report.published import Published
from facesim.util.errors import InputError
from facesim.util.files import read_toml
from tests.conftest import facesim_here
from tests.frameworks.conftest import need
from tests.report.conftest import write_run

FILES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))
SMALL = ("--seeds", 1, "--epochs", 1, "--image-size", 32)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_study_is_one_that_can_be_run(file, tmp_path):
    need(*read_toml(file, "").get("framework", []))
    command = facesim_here("study", "run", file, *SMALL, "--dry-run", "--output", tmp_path)

    assert command.code == 0, command.errors
    jobs = [one["job"] for one in json.loads(command.output)["runs"]]
    assert len(jobs) > 1
    assert {job["experiment"]["epochs"] for job in jobs} == {1}
    content = read_toml(file, "")
    assert content["title"] and content["about"].strip()
    assert "two cores" in file.read_text().splitlines()[0]  # how long it takes


def test_the_published_comparison_is_made_as_it_was_and_as_it_was_meant():
    content = read_toml(FILES[[file.stem for file in FILES].index("paper")], "")

    assert content["strategy"] == ["single", "independent", "ps-async"]
    assert content["seeds"] == 10 and content["spot"] is True
    table = Published.read(content["published"], "paper.toml")
    assert [line.values for line in table.lines if line.measure == "training_s"] == [("78.35 s", "74.78 and 76.62 s")]


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ({"columns": ["a"], "lines": []}, "published.source: Field required"),
        ({"source": "s", "columns": ["a"], "lines": [{"label": "x", "values": ["1", "2"]}]}, "'x' has 2 values"),
        (
            {"source": "s", "columns": ["a"], "lines": [{"label": "x", "values": ["1"], "measure": "speed"}]},
            "'speed' is no measure",
        ),
    ],
)
def test_a_published_table_that_is_none_is_refused_before_anything_runs(published, message):
    with pytest.raises(InputError, match=message):
        Published.read(published, "study.toml")


def test_a_page_has_the_verdict_the_numbers_the_published_table_and_pictures(tmp_path):
    runs = [write_run(tmp_path / "runs" / f"{s}-{n}", s, n) for s in ("single", "ps-async") for n in range(3)]
    table = {"source": "A paper", "columns": ["theirs"], "notes": ["One run."]}
    table["lines"] = [{"label": "training", "measure": "training_s", "values": ["78.35 s"]}]
    comparison = replace(compare(runs), published=Published.read(table, ""))
    files = write_page(
        comparison, tmp_path / "docs" / "paper.md", title="A study", about="What it is.", command="facesim study run x"
    )

    text = files[0].read_text()
    assert text.startswith("# A study\n\nWhat it is.\n")
    assert "ps-async against single (emulated)" in text
    assert "| training | 78.35 s | 40.0 s | 40.0 s |" in text
    assert "start-up, to first step | peak memory, largest task |" in text
    assert "![Held-out accuracy against time](paper-accuracy.svg)" in text
    assert "(40 people, " in text and "images trained on, " in text
    assert "from 6 runs. Numbers are emulated." in text
    assert (tmp_path / "docs" / "paper-accuracy.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_the_page_of_a_study_is_made_from_its_runs(tmp_path, faces):
    file = tmp_path / "small.toml"
    file.write_text(f'title = "Small"\nstrategy = ["single", "ps-async"]\nseeds = 2\ndata = "{faces}"\nepochs = 20\n')
    for strategy in ("single", "ps-async"):
        write_run(tmp_path / "runs" / strategy, strategy, 0, data=str(faces))

    command = facesim_here("study", "page", file, "--in", tmp_path / "runs", "--output", tmp_path / "small.md")

    assert command.code == 0, command.errors
    assert "2 of 4 jobs have no run that ended" in command.errors
    assert "# Small" in (tmp_path / "small.md").read_text()

    file.write_text('title = "Small"\nstrategy = ["single", "ps-async"]\nseeds = 2\nepochs = 20\n')
    other = ("study", "page", file, "--data", faces, "--in", tmp_path / "runs", "--output", tmp_path / "other.md")
    command = facesim_here(*other)
    assert command.code == 0, command.errors
    assert f"# Small: {faces.name}\n\nMade by `facesim study run {file} --data {faces}`" in other[-1].read_text()

    none = facesim_here("study", "page", file, "--in", tmp_path / "nothing")
    assert none.code == 2 and "no run of" in none.errors
