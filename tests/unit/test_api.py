"""facesim from Python, as far as nothing has to be trained for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest

import facesim
from facesim.billing.own_prices import own_file
from facesim.util.errors import InputError
from facesim.util.folders import cache_folder, state_folder
from tests.forecast.conftest import profile

__all__ = ["profile"]


def test_importing_facesim_imports_nothing_else():
    look = "import sys, facesim; print(*(name for name in sys.modules if name.startswith('facesim.')))"

    # The version is in a file of its own where facesim was built or installed.
    assert set(subprocess.check_output([sys.executable, "-c", look], text=True).split()) <= {"facesim._version"}


def test_reaching_for_the_api_loads_no_framework():
    look = "import sys, facesim; facesim.run; print(*sys.modules)"

    loaded = set(subprocess.check_output([sys.executable, "-c", look], text=True).split())

    assert not loaded & {"tensorflow", "keras", "boto3", "docker", "matplotlib.pyplot"}


@pytest.mark.parametrize("name", facesim.__all__)
def test_what_is_promised_is_there_and_described(name):
    assert getattr(facesim, name).__doc__
    assert name in dir(facesim)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        facesim.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("given", "field", "value", "message"),
    [
        ({"workers": 0}, "workers", 0, "workers 0 is not allowed: greater than or equal to 1"),
        ({"strategy": "ps-asink"}, "strategy", "ps-asink", "did you mean ps-async"),
        ({"learning_rat": 1.0}, "learning_rat", 1.0, "unknown option learning_rat; did you mean learning_rate?"),
        ({"backup_workers": 1}, "backup_workers", 1, "backup_workers 1 means nothing to strategy single"),
        ({"max_wait": 3.0}, None, None, "max_wait is for spot capacity: give spot, too, or max_run alone"),
        ({"workers": [2, 4]}, "workers", None, "workers has several values, which make a study: use facesim.Study"),
        ({"seeds": 3}, "seeds", 3, "seeds is of a study: use facesim.Study"),
        ({"batch": np.array([1, 2])}, "batch", None, "batch has several values, which make a study: use facesim.Study"),
        ({"learning-rate": 1.0}, "learning-rate", 1.0, "unknown option 'learning-rate'; did you mean learning_rate?"),
    ],
)
def test_wrong_input_is_an_error_with_its_field_in_the_words_of_python(given, field, value, message, tmp_path):
    with pytest.raises(InputError) as refused:
        facesim.run(output=tmp_path / "runs", observers=[], **given)

    assert message in str(refused.value)
    assert "--" not in str(refused.value)
    assert (refused.value.field, refused.value.value) == (field, value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: facesim.run({"epochs": 5}), "strategy .*epochs.* is not allowed: must be one of single, "),
        (lambda: facesim.Study(backend=["local", {}]), "backend has .*; its values have to be single ones"),
        (lambda: facesim.run(observers=3), "observers is 3; it has to be a list of facesim.Observer"),
        (lambda: facesim.run(observers=facesim.Observer()), "it has to be a list of facesim.Observer"),
        (lambda: facesim.run(observers=[facesim.Observer]), "it has to be a list of facesim.Observer"),
        (lambda: facesim.run(output=None, observers=[]), "None is no path; give a text or a pathlib.Path"),
        (lambda: facesim.load(3), "3 is no path"),
        (lambda: facesim.compare(None), "None is no path"),
        (lambda: facesim.compare([3]), "3 is no path"),
        (lambda: facesim.compare(facesim.Study()), "is no path"),
        (lambda: facesim.compare([]), "^there are no runs to compare$"),
        (lambda: facesim.plan(profile=3), "3 is no path"),
        (lambda: facesim.Study(base=3), "base is 3; it has to be a dict of options"),
        (lambda: facesim.Study(axes=["batch"]), "axes is .'batch'.; it has to be a dict of options"),
        (lambda: facesim.Study(axes={"strategy": "single"}), "strategy has 'single'; its values have to be a list"),
        (lambda: facesim.Study(faults=3), "faults is 3; it has to be"),
        (lambda: facesim.tune(trials=np.int64(0)), "trials 0 must be a whole number from 1 on"),
        (lambda: facesim.tune([("batch", [1, 2])]), "search is .*; it has to be a dict of options"),
    ],
)
def test_what_is_of_another_kind_is_told_by_what_has_to_be_given(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_command_line_has_the_same_error_with_flags():
    with pytest.raises(InputError) as refused:
        facesim.Study(learning_rate=-1)

    assert refused.value.on_command_line == "--learning-rate -1 is not allowed: greater than 0"
    assert refused.value.allowed == "greater than 0"


def test_lists_make_a_study():
    study = facesim.Study(strategy=["single", "ps-async"], workers=[2, 4], seeds=3, epochs=5)

    assert len(study) == 9
    assert study.axes == {"strategy": ("single", "ps-async"), "workers": (2, 4)}
    assert study.base == {"epochs": 5}


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"data": Path("photos")}, {"data": "photos"}),
        ({"data": [Path("photos"), "other"]}, {"data": ["photos", "other"]}),
        ({"seeds": np.int64(3)}, {"seeds": 3}),
        ({"seeds": np.arange(2, 4)}, {"seeds": [2, 3]}),
        ({"batch": pandas.Series([16, 32])}, {"batch": [16, 32]}),
        ({"batch": range(8, 10), "learning_rate": np.array(0.5)}, {"batch": [8, 9], "learning_rate": 0.5}),
        ({"strategy": {"single", "ps-async"}}, {"strategy": ["ps-async", "single"]}),
        ({"batch": (2**n for n in (3, 4))}, {"batch": [8, 16]}),
        ({"base": {"pretrained": Path("a.keras")}, "axes": {"epochs": np.arange(1, 3)}},
         {"pretrained": "a.keras", "epochs": [1, 2]}),
    ],
)  # fmt: skip
def test_values_may_be_paths_and_those_of_numpy_and_pandas(given, plain):
    study = facesim.Study(**given)

    assert study.settings() == facesim.Study(**plain).settings()
    json.dumps(study.settings())  # no number of NumPy's is in it


def test_an_option_that_takes_a_list_does_not_vary():
    study = facesim.Study(
        backend="sagemaker", subnets=["subnet-0a1b2c3d"], security_groups=["sg-0a1b2c3d"], tags=["team=faces"]
    )

    (job,) = study.jobs()
    assert (job.backend.subnets, job.backend.tags) == (("subnet-0a1b2c3d",), {"team": "faces"})


def test_a_dry_run_is_data_and_starts_nothing(tmp_path, faces):
    study = facesim.Study(data=str(faces), strategy=["single", "ps-async"], workers=[2, 3], image_size=32)

    plan = study.dry_run(tmp_path / "runs")

    names = [one["run_directory"].rpartition("/")[2].split("-", 3)[3] for one in plan["runs"]]
    assert names == ["single-workers2-seed0", "ps-async-workers2-seed0", "ps-async-workers3-seed0"]
    assert not (tmp_path / "runs").exists()


def test_what_is_no_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        facesim.load(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        facesim.compare([tmp_path / "nowhere"])


def test_a_forecast_is_a_run_whose_numbers_are_marked_so(tmp_path, profile):
    run = facesim.forecast(
        "ps-async", workers=4, instance_type="ml.m5.2xlarge", model=profile.model, profile=profile, output=tmp_path
    )

    assert (run.state, run.result.measurement) == ("Completed", "forecast")
    assert run.forecast.low_s < run.forecast.total_s < run.forecast.high_s
    assert run.job.shape.workers == 4
    comparison = facesim.compare(run)
    assert list(comparison.frame["measurement"]) == ["forecast"]


def test_a_home_folder_is_one_in_every_path(tmp_path, profile, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    profile.save(tmp_path / "profile.json")

    run = facesim.forecast(
        strategy="ps-async", workers=2, instance_type="ml.m5.xlarge", profile="~/profile.json", output="~/runs"
    )
    page = facesim.compare("~/runs").write("~/report.html")

    assert run.directory.parent == tmp_path / "runs"
    assert facesim.load(f"~/runs/{run.directory.name}").directory == run.directory
    assert page == tmp_path / "report.html" and page.is_file()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("variable", "place"),
    [("FACESIM_CACHE", cache_folder), ("FACESIM_CACHE", state_folder), ("FACESIM_PRICES", own_file)],
)
def test_a_home_folder_is_one_in_a_variable_of_the_environment(tmp_path, monkeypatch, variable, place):
    """Of a unit of systemd, or a line of a .env file, which no shell reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/mine")

    assert place() == tmp_path / "mine"


def test_a_forecast_of_another_network_than_the_profile_s_is_refused(tmp_path, profile):
    with pytest.raises(InputError, match="the profile is of paper-cnn") as refused:
        facesim.forecast("single", model="resnet-small", profile=profile, output=tmp_path)

    options, command = str(refused.value).split("facesim profile ")
    assert "--" not in options and command == "--model resnet-small"  # a command is for a shell


def test_a_plan_takes_what_the_command_takes(tmp_path, profile):
    plan = facesim.plan(
        ["single", "allreduce"], instance_type="ml.c5.4xlarge", workers=[2, 6], other_workers={"ml.m5.xlarge": 4},
        deadline="2 hours", budget=5, profile=profile, runs=tmp_path, epochs=20,
    )  # fmt: skip

    shapes = [str(row.forecast.shape) for row in plan.rows]
    assert sorted(shapes) == [
        "allreduce, 6 workers on 2 ml.c5.4xlarge and 4 ml.m5.xlarge", "single on ml.c5.4xlarge",
    ]  # fmt: skip
    assert plan.answer.startswith("One machine: single") and plan.cheapest.meets
    assert plan.to_json()["wanted"] == {"deadline_s": 7200, "budget_usd": 5}


def test_what_cannot_be_planned_is_an_error_that_names_arguments(profile):
    for given, message in (
        ({"workers": "16..1"}, "workers '16..1' has nothing in it"),
        ({"other_workers": {"ml.m5.xlarge": 2}, "strategy": "ps-async"}, "give ps_instance_type"),
        ({"other_workers": {"ml.m5.xlrge": 2}, "strategy": "allreduce"}, "did you mean ml.m5.xlarge"),
        ({"other_workers": {"ml.m5.xlarge": 8}, "strategy": "allreduce"}, "give more workers than other_workers 8"),
        ({"deadline": 2}, "no duration without a unit"),
        ({"replay": "2"}, "replay '2' is not allowed: it must be 0 to 20 seeds"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            facesim.plan(profile=profile, **given)
        assert "--" not in str(refused.value)


def test_the_package_of_the_name_is_still_a_package():
    from facesim.forecast.model import forecast_job

    assert facesim.forecast.model.forecast_job is forecast_job
