"""Error rates by group of people: worked out by hand, and as a user sees them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from facesim.data import prepare
from facesim.recognition.groups import MIN_PEOPLE, error_rates, warning, with_groups
from facesim.report import compare
from facesim.report.html import render
from facesim.runs.directory import Run
from facesim.util.errors import InputError
from tests.conftest import facesim_here


def test_a_group_s_errors_are_those_of_its_people_with_wilson_s_interval():
    # Persons 0 and 1 are of group a, 2 of b, 3 of none. 1 of a's 10 images is wrong, none of b's 5, all of the others'.
    people = np.array([0] * 6 + [1] * 4 + [2] * 5 + [3] * 3)
    wrong = np.array([True] + [False] * 14 + [True] * 3)

    a, b = error_rates(["a", "a", "b", None], people, wrong)

    assert (a.group, a.people, a.trials, a.errors, a.rate) == ("a", 2, 10, 1, 0.1)
    assert (a.low, a.high) == (pytest.approx(0.0179, abs=1e-4), pytest.approx(0.4042, abs=1e-4))
    assert (b.group, b.people, b.trials, b.errors) == ("b", 1, 5, 0)
    assert (b.low, b.high) == (pytest.approx(0, abs=1e-9), pytest.approx(0.4345, abs=1e-4))


def test_a_pair_counts_where_both_are_of_the_group():
    pairs = np.array([[0, 1], [0, 2], [2, 3], [1, 0]])

    a, b = error_rates(["a", "a", "b", "b"], pairs, np.array([True, True, False, False]))

    assert (a.trials, a.errors, a.people) == (2, 1, 2)
    assert (b.trials, b.errors, b.people) == (1, 0, 2)


def test_few_people_support_no_conclusion():
    many = np.arange(2 * MIN_PEOPLE)
    groups = ["a"] * MIN_PEOPLE + ["b"] * MIN_PEOPLE

    assert warning(error_rates(groups, many, many > 5)) is None
    few = warning(error_rates(["a", *groups[1:-1]], many[:-1], many[:-1] > 5))
    assert f"(b {MIN_PEOPLE - 1}; {MIN_PEOPLE} or more are needed of each)" in few


def test_the_kind_of_trial_with_the_fewest_people_decides():
    many, groups = np.arange(2 * MIN_PEOPLE), ["a"] * MIN_PEOPLE + ["b"] * MIN_PEOPLE
    all_people = error_rates(groups, many, many > 5)
    pairs = np.stack([many[: MIN_PEOPLE + 8], many[1 : MIN_PEOPLE + 9]], axis=1)

    told = warning([*all_people, *error_rates(groups, pairs, np.zeros(len(pairs), bool))])

    assert "(b 9;" in told


@pytest.fixture
def data(faces, cache):
    return prepare(str(faces), image_size=32, cache_dir=cache)


def test_a_file_names_the_groups_of_people_that_it_lists(tmp_path, data):
    (tmp_path / "groups.csv").write_text(f"label,group\n{data.names[2]},east\nsomebody,west\n{data.names[0]}, west\n")

    assert with_groups(data, tmp_path / "groups.csv").groups == ("west", None, "east", *[None] * 5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_file_may_be_as_a_spreadsheet_wrote_it(tmp_path, data, separator, encoding):
    lines = [(" Label", "GROUP "), (data.names[2], "east"), (data.names[0], "west"), ("", "")]
    text = "".join(separator.join(cells) + "\r\n" for cells in lines)
    (tmp_path / "groups.csv").write_bytes(text.encode(encoding))

    assert with_groups(data, tmp_path / "groups.csv").groups == ("west", None, "east", *[None] * 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as CSV in UTF-8: .*No such file"),
        ("", "holds nothing; the columns label and group are needed"),
        ("person,group\na,b\n", "holds person, group; the columns label and group"),
        ("label,group\nAna,a\nAna,b\n", "line 3: Ana has two groups"),
        ("group,label\neast\n", "line 2: label is empty; write whose group the line says"),
        ("label,group\nAna,a\n,east\n", "line 3: label is empty"),
        ("label,group\nAna,a\n", "names none of the people of faces .*; it has Ana"),
    ],
)
def test_a_file_that_is_no_list_of_groups_is_told(tmp_path, data, content, message):
    if content is not None:
        (tmp_path / "groups.csv").write_text(content)

    with pytest.raises(InputError, match=message):
        with_groups(data, tmp_path / "groups.csv")


def test_evaluation_and_report_tell_groups_with_the_warning(study, data, tmp_path):
    lines = [f"{name},{'east' if at < 5 else 'west'}" for at, name in enumerate(data.names)]
    (tmp_path / "groups.csv").write_text("\n".join(["label,group", *lines]))
    run = study.runs["single"]

    command = facesim_here("evaluate", run.directory, "--groups", tmp_path / "groups.csv")

    assert command.code == 0, command.errors
    assert "errors by group, closed set" in command.output
    assert re.search(r"Too few people for a conclusion about groups \(east \d, west \d;", command.output)
    (kept,) = json.loads(run.evaluation_file.read_text()).values()
    rates = kept["groups"]["rates"]
    assert [(rate["group"], rate["people"], rate["trials"]) for rate in rates["closed set"]] == [
        ("east", 5, 10),
        ("west", 3, 6),
    ]
    errors = sum(rate["errors"] for rate in rates["closed set"])
    assert 1 - errors / 16 == pytest.approx(kept["closed_set"]["accuracy"])
    genuine = sum(rate["trials"] for rate in rates["false non-match"])
    assert genuine == kept["verification"]["genuine_pairs"]

    page = render(compare([Run(run.directory)]))
    assert "<h2>Errors by group</h2>" in page
    assert "no conclusion" in page
