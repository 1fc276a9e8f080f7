"""Plans and forecasts from a profile of another framework than TensorFlow: marked, and mixed with no other."""

from __future__ import annotations

import json

import pytest

import facesim
from facesim.cli import main
from facesim.forecast.profile_data import Profile
from facesim.planning.jobs import write_forecast
from facesim.runs.directory import Run, find_runs
from facesim.spec.job import make_job
from facesim.util.errors import InputError
from tests.forecast.test_forecast_commands import ran

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def by_torch(profile, file):
    """A profile of PyTorch, which has no parameter servers, in `file`."""
    profile.model_copy(update={"framework": "torch", "server": None, "cpu_s_per_update": {}}).save(file)
    return Profile.load(file)


def test_a_plan_of_another_framework_tries_its_strategies_and_is_marked(by_torch, plan, file, tmp_path, capsys):
    code, said, _ = plan("--epochs", "20", "--all")
    assert code == 0
    assert "paper-cnn, torch, on 870 training images" in said
    assert "allreduce, 8 workers" in said and "local-sgd, 2 workers" in said and "ps-" not in said
    (page,) = (tmp_path / "runs").glob("plan-*.html")
    assert "paper-cnn, torch, batch 32" in page.read_text()
    assert json.loads(plan("--json")[1])["profile"]["framework"] == "torch"

    options = ["--profile", str(file), "--output", str(tmp_path / "said"), "--strategy", "allreduce", "--workers", "4"]
    assert main(["forecast", *options]) == 0
    (run,) = find_runs([tmp_path / "said"])
    assert (run.job().framework, run.forecast().framework) == ("torch", "torch")
    assert "torch" in run.forecast().profile


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--framework", "tensorflow"], "is of torch, and nothing about tensorflow follows from it"),
        (["--strategy", "ps-async"], "--strategy ps-async cannot be trained with --framework torch"),
        (["--explain", "ps-async:4w"], "--strategy ps-async cannot be trained with --framework torch"),
        (["--explain", "mirrored:4w"], "--strategy mirrored cannot be trained with --framework torch"),
        (["--replay", "3"], "accuracy is replayed with tensorflow, not with --framework torch"),
    ],
)
def test_what_another_framework_has_not_is_refused(by_torch, plan, options, message):
    code, _, errors = plan(*options)

    assert code == 2 and message in errors


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_profile_with_options_that_the_framework_asked_for_does_not_have_is_of_another(
    profile, plan, file, framework
):
    profile.model_copy(update={"options": {"optimizer": "sgd", "momentum": 0.5}}).save(file)
    message = f"is of tensorflow, and nothing about {framework} follows from it"

    code, _, errors = plan("--framework", framework)

    assert code == 2 and message in errors and "--optimizer" not in errors
    with pytest.raises(InputError, match=message):
        facesim.forecast("single", profile=file, framework=framework)


def test_a_run_is_held_against_no_forecast_of_another_framework(by_torch, tmp_path, capsys):
    job, other = make_job(epochs=20), make_job(epochs=20, framework="torch")
    write_forecast(other, by_torch, tmp_path / "runs" / "said")
    said = Run.open(tmp_path / "runs" / "said").forecast()
    ran(tmp_path / "runs" / "real", job, said, 1.25, "emulated")
    ran(tmp_path / "runs" / "alike", other, said, 1.25, "emulated")

    assert main(["report", str(tmp_path / "runs"), "--json", "--output", str(tmp_path / "r.html")]) == 0

    rows = json.loads(capsys.readouterr().out)["comparison"]["against_forecast"]
    assert {row["label"]: row["not_judged"] for row in rows} == {
        "single (framework tensorflow)": "its forecast is of torch, and tensorflow trained it",
        "single (framework torch)": None,
    }
