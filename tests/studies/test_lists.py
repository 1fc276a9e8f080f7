"""Lists of values: on the command line, in a file, from Python; every combination is a job."""

from __future__ import annotations

import json

import click
import pytest

from facesim.cli import main
from facesim.cli.study import compare
from facesim.spec.job import options
from tests.conftest import facesim_here

SMALL = ("--data", "rendered", "--epochs", 1, "--image-size", 32, "--dry-run")


def jobs_of(tmp_path, *arguments):
    command = facesim_here(*arguments, "--output", tmp_path / "runs")
    assert command.code == 0, command.errors
    return [run["job"] for run in json.loads(command.output)["runs"]]


def test_lists_on_the_command_line_are_every_combination(tmp_path):
    jobs = jobs_of(
        tmp_path, "--strategy", "ps-async,single", "--workers", "1,2,4", "--learning-rate", "1e-3, 2e-3", *SMALL
    )

    values = [(job["strategy"]["name"], job["shape"]["workers"], job["experiment"]["learning_rate"]) for job in jobs]
    assert values == [
        *[("ps-async", workers, rate) for workers in (1, 2, 4) for rate in (1e-3, 2e-3)],
        *[("single", 2, rate) for rate in (1e-3, 2e-3)],
    ]


def test_seeds_are_a_number_of_them_or_themselves(tmp_path):
    few, chosen = (jobs_of(tmp_path, "run", "--seeds", seeds, *SMALL) for seeds in ("2", "0,7"))

    assert [job["experiment"]["seed"] for job in few] == [0, 1]
    assert [job["experiment"]["seed"] for job in chosen] == [0, 7]


def test_texts_that_may_hold_commas_are_repeated(tmp_path):
    for name in ("a,b", "c"):
        (tmp_path / name).mkdir()

    command = facesim_here("run", "--data", tmp_path / "a,b", "--data", tmp_path / "c", "--dry-run")

    assert command.code == 2
    assert f"{tmp_path / 'a,b'}" in command.errors


def test_a_list_in_a_file_is_one_on_the_command_line(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('strategy = "single"\naugment = [true, false]\nepochs = [1, 2]\nseeds = [3]\ntitle = "A grid"\n')

    jobs = jobs_of(tmp_path, "study", "run", file, "--dry-run")

    values = [(job["experiment"]["epochs"], job["experiment"]["augment"], job["experiment"]["seed"]) for job in jobs]
    assert values == [(1, True, 3), (1, False, 3), (2, True, 3), (2, False, 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs = [1, 2.5]", "epochs is a number (2.5); it has to be a whole number, or a list of them"),
        ("workers = []", "--workers has no values"),
        ("epohs = [1]", "unknown epohs; did you mean epochs?"),
        ('model = ["paper-cnn", "papr-cnn"]', "did you mean paper-cnn?"),
        ("seeds = [-1]", "seeds"),
        ('strategy = "single"\nworkers = [1, 2]', "several values of --workers mean nothing to --strategy single"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_what_is_wrong(tmp_path, content, message):
    file = tmp_path / "study.toml"
    file.write_text(content)

    command = facesim_here("study", "run", file, "--dry-run")

    assert command.code == 2
    assert message in command.errors


def test_no_strategy_at_all_is_not_the_default(tmp_path, capsys):
    (tmp_path / "study.toml").write_text("strategy = []")

    assert main(["study", "run", str(tmp_path / "study.toml"), "--dry-run"]) == 2

    assert "strategy has no values" in capsys.readouterr().err


def test_a_run_that_goes_on_takes_no_list(tmp_path):
    command = facesim_here("run", "--resume", tmp_path, "--workers", "1,2")

    assert command.code == 2


def test_every_option_of_a_job_takes_several_values():
    """But for those that collect values in any case; what a list is made of is as the option itself."""
    context = click.Context(compare)
    by_name = {param.name: param for param in compare.params}
    for name, one in options().items():
        if name == "seed" or one.several:
            continue
        param = by_name[name]
        if one.kind is bool:
            assert param.type.convert([True, False], param, context) == [True, False]
            continue
        value = one.choices()[0] if one.choices else {int: "1", float: "0.5", str: "ml.m5.large"}[one.kind]
        given = (value, value) if one.about.commas else (f"{value},{value}",) if param.multiple else f"{value},{value}"
        read = param.process_value(context, given)
        assert len(read) == 2, name
