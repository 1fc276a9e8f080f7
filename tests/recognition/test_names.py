"""Names that are hard to show and easy to misread, from a training on such people to all that is made of it."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest

from facesim.data import RenderSpec, render_folder
from facesim.runs.directory import find_runs
from facesim.util.unused import printable
from tests.conftest import QUICK, facesim_here

NAMES = [
    *("nan", "0", "True", "a,b;c", "=1+1", "$(touch x)`y`", "<b>&amp;", "|*_[x](y)", "Jose\u0301"),
    *("\u05d0\u05d1\u05d2", "\u202eabc", "\u674e\u96f7", "\U0001f468\u200d\U0001f469", "z\u0301\u0302\u0303", "l\nm"),
    *("\x1b[31mred", "\ufffe", "x" * 250),
]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """A folder, of a name like theirs, with ten images of each."""
    folder = tmp_path_factory.mktemp("names") / "\u05d0\u05d1 \u674e \U0001f600 <b>"
    render_folder(RenderSpec(identities=len(NAMES), images=10, size=32, difficulty=0.2), folder)
    for person, name in zip(sorted(folder.iterdir()), NAMES, strict=True):
        person.rename(folder / name)
    return folder


def assert_shows(text: str) -> None:
    """Nothing in it moves a terminal's cursor, turns what follows around, or is no text in XML."""
    hidden = {letter for letter in text if letter != "\n" and printable(letter) != letter}
    assert not hidden


@pytest.mark.usefixtures("loaded")
@pytest.mark.filterwarnings("error:Glyph")
def test_people_of_any_name_from_training_to_what_is_made_of_it(people, tmp_path):
    def done(*arguments: object) -> str:
        command = facesim_here(*arguments)
        assert command.code == 0, command.errors + command.output
        assert_shows(command.output + command.errors)
        return command.output

    names = {printable(unicodedata.normalize("NFC", name)) for name in NAMES}
    shown = done("data", "describe", people, "--image-size", 32)
    assert f"{'identities':26}{len(NAMES)}\n" in shown
    done("run", "--data", people, "--epochs", 2, *QUICK, "--output", tmp_path / "runs", "--tags", "who=\u05d0\u05d1")
    (run,) = find_runs([tmp_path / "runs"])

    groups = io.StringIO()
    csv.writer(groups).writerows([("label", "group"), *((name, name) for name in sorted(names))])
    (tmp_path / "groups.csv").write_text(groups.getvalue(), encoding="utf-8")
    done("evaluate", run.directory, people, "--groups", tmp_path / "groups.csv")
    photos = [next((people / name).iterdir()) for name in NAMES]
    done("verify", run.directory, photos[1], photos[10])
    answers = json.loads(done("identify", run.directory, people, *photos, "--json"))
    assert {answer["closest"][0]["identity"] for answer in answers} <= names
    done("identify", run.directory, people, photos[10])

    done("sort", run.directory, people, *photos, "--threshold", -1, "--output", tmp_path / "sorted")
    rows = list(csv.DictReader((tmp_path / "sorted" / "decisions.csv").open(encoding="utf-8", newline="")))
    assert len(rows) == len(NAMES) and not [row for row in rows if row["closest"].startswith("=")]
    assert all((tmp_path / "sorted" / row["place"].removeprefix("'")).is_file() for row in rows)

    done("export", run.directory, "--output", tmp_path / "model.keras")
    assert set(json.loads((tmp_path / "model.identities.json").read_text())) == names
    done("card", run.directory, "--output", tmp_path / "cards")
    done("report", run.directory, "--output", tmp_path / "report.html")
    done("export-run", "--to", "csv", "--output", tmp_path / "samples.csv", run.directory)
    done("export-run", "--to", "perfetto", "--output", tmp_path / "trace.json", run.directory)
    for made in (*tmp_path.glob("cards/*"), tmp_path / "report.html", tmp_path / "samples.csv"):
        assert_shows(made.read_text(encoding="utf-8").replace("\t", " "))
    assert "<bdi>\u05d0\u05d1</bdi> \u674e \U0001f600 &lt;b&gt;" in (tmp_path / "report.html").read_text(
        encoding="utf-8"
    )
