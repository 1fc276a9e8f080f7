"""A learning curve as a user asks for it: one command, a run for each size, the curve in the report."""

from __future__ import annotations

import pytest

from facesim.runs.directory import find_runs
from tests.conftest import QUICK, facesim_here, parse


@pytest.mark.usefixtures("loaded")
def test_several_subsets_are_one_study_with_a_learning_curve(faces, tmp_path):
    sizes = ("--subset", "identities=4,images=5", "--subset", "identities=4,images=10")
    options = ("--data", faces, "--strategy", "single", "--epochs", 1, *QUICK)

    seeded = parse(facesim_here("compare", *options, *sizes, "--seeds", 2, "--output", tmp_path, "--dry-run"))
    study = parse(facesim_here("compare", *options, *sizes, "--output", tmp_path, "--json"))

    planned = [run["job"]["experiment"] for run in seeded["runs"]]
    assert sorted((one["subset"], one["seed"]) for one in planned) == [
        (f"identities=4,images={images}", seed) for images in (10, 5) for seed in (0, 1)
    ]
    runs = find_runs([tmp_path])
    assert {run.job().experiment.subset for run in runs} == {one["subset"] for one in planned}
    assert {run.result()["data"]["identities"] for run in runs} == {4}
    curves = {curve["label"]: curve["points"] for curve in study["comparison"]["learning_curves"]}
    assert [point["training_examples"] for point in curves["single"]] == [16, 32]
    assert [point["accuracy"]["n"] for point in curves["lbp-svm"]] == [1, 1]
    evaluation = parse(facesim_here("evaluate", runs[0].directory, "--json"))
    assert evaluation["closed_set"]["examples"] == runs[0].result()["data"]["held_out_examples"]


def test_a_configuration_file_names_one_subset_or_several(faces, tmp_path):
    (tmp_path / "study.toml").write_text(f'data = "{faces}"\nsubset = "images=5"\nstrategy = "single"\n')
    (tmp_path / "curve.toml").write_text(f'data = "{faces}"\nsubset = ["images=5", "all"]\nstrategy = "single"\n')

    for name, asked in (("study.toml", ["images=5"]), ("curve.toml", ["images=5", None])):
        shown = parse(facesim_here("run", "--config", tmp_path / name, "--output", tmp_path / "runs", "--dry-run"))

        assert [run["job"]["experiment"]["subset"] for run in shown["runs"]] == asked
        assert len({run["data"] for run in shown["runs"]}) == len(asked)


def test_a_subset_larger_than_the_data_starts_nothing(faces, tmp_path):
    command = facesim_here(
        "run", "--data", faces, "--subset", "images=4", "--subset", "images=99", "--output", tmp_path
    )

    assert command.code == 2
    assert "--subset images=99 is more than there is: the data has no identity with more than 10" in command.errors
    assert not list(tmp_path.iterdir())
