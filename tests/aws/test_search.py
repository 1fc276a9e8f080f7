"""A search by Optuna whose trials run at AWS, against an AWS-shaped endpoint: what it may cost, and how it goes on."""

from __future__ import annotations

import threading

import pytest
from moto.sagemaker.responses import SageMakerResponse
from moto.sts.responses import TokenResponse

from facesim.backends.sagemaker.bill import most
from facesim.preflight.inputs import prepare_inputs
from facesim.runs.directory import Run
from facesim.runs.events import event_of
from facesim.runs.records import Result
from facesim.study.observers import Observer
from facesim.tuning.findings import find
from facesim.tuning.search import Search, Trial, _left_s, open_study
from facesim.tuning.space import read_space
from facesim.util.errors import InputError
from tests.support.events import course
from tests.support.executions import submit

pytest.importorskip("optuna", reason="the extra tune is not installed")

SPACE = read_space({"batch": "8,16"})


@pytest.fixture
def given(endpoint, faces) -> dict:
    return {"backend": "sagemaker", "data": str(faces), "image_size": 32, "instance_type": "ml.m5.xlarge"}


def trial(cost_usd: float) -> Trial:
    content = {"strategy": "single", "backend": "sagemaker", "seed": 0, "state": "Completed", "cost_usd": cost_usd}
    return Trial(0, "complete", {}, 0.5, {}, None, Result.model_validate(content))


@pytest.mark.parametrize("limits", [({"max_cost": 5}, None), ({"max_cost": 9}, 5.0)], ids=["max-cost", "budget"])
def test_what_trials_may_cost_is_what_others_left_with_all_that_a_training_job_is_paid_for(given, tmp_path, limits):
    capped, budget_usd = limits
    wanted = Search({**given, **capped}, SPACE, budget_usd=budget_usd)

    left_s = _left_s(wanted, [trial(1.5), trial(2.5)])

    job = wanted.job({}, left_s)
    made = job.backend.open().render(job, tmp_path / "one", prepare_inputs(job, lambda *_: None))
    assert 0.99 < most(made.request).total <= 1
    assert _left_s(Search(given, SPACE), [trial(4.0)]) is None


@pytest.mark.slow
def test_a_trial_gets_the_time_in_which_it_keeps_to_the_cap_of_all(given, tmp_path):
    found = find(Search({**given, "max_cost": 1}, SPACE, trials=1), tmp_path)

    (one,) = found.trials
    assert one.state == "complete" and 10_000 < one.run.job().max_run_s < 3600 / 0.23


@pytest.mark.slow
def test_a_trial_that_was_stopped_goes_on_under_the_cap_that_the_command_has_now(given, tmp_path):
    capped = Search({**given, "max_cost": 1}, SPACE, trials=1)
    begun = open_study(capped, tmp_path).ask({name: axis.distribution() for name, axis in SPACE.items()})
    begun.set_user_attr("run", "one")
    run = Run.create(tmp_path / "one", capped.job(begun.params, 3600.0))
    for event in course(("Training", 60.0), ("Stopped", 0.0)):
        run.record(event)
    found = {"strategy": "single", "backend": "sagemaker", "seed": 0, "state": "Stopped", "total_s": 60.0}
    Result.model_validate({**found, "cost_usd": 0.01}).write(run.result_file)
    run.claim.release()

    (one,) = find(Search({**given, "max_cost": 5, "tags": ["team=faces"]}, SPACE, trials=1), tmp_path).trials

    job = one.run.job()
    assert (one.state, job.backend.max_cost, dict(job.backend.tags)) == ("complete", 5, {"team": "faces"})
    assert job.max_run_s > 4 * 3600


class Once(Observer):
    """Does something once a run is followed."""

    def __init__(self, then):
        self._then = then

    def started(self, run, position, jobs) -> None:
        self._then()


@pytest.mark.slow
@pytest.mark.parametrize("meanwhile", ["continues", "completes"])
def test_a_trial_whose_training_job_outlived_its_command_is_followed(given, endpoint, script, tmp_path, meanwhile):
    script.until = threading.Event()
    wanted = Search(given, SPACE, trials=1)
    begun = open_study(wanted, tmp_path).ask({name: axis.distribution() for name, axis in SPACE.items()})
    begun.set_user_attr("run", "one")
    job = wanted.job(begun.params)
    run, execution = submit(job, tmp_path / "one", prepare_inputs(job, lambda *_: None))
    for event in execution.events(0.05):
        if event is not None:
            run.record(event_of(event))
            if event.get("state") == "Training":
                break  # as when the command is killed
    run.claim.release()
    if meanwhile == "completes":
        script.until.set()
        assert endpoint.job("facesim-one").ended.wait(20)

    found = find(wanted, tmp_path, [Once(script.until.set)])

    assert [(one.state, one.value) for one in found.trials] == [("complete", 0.75)]
    assert script.started == ["facesim-one"], "no other was begun beside it"


@pytest.mark.slow
def test_a_trial_that_cannot_be_followed_any_more_stays_begun_and_ends_the_search(given, refuse, tmp_path, monkeypatch):
    monkeypatch.setattr("facesim.backends.remote_job._DENIED_S", 0.01)
    refuse(SageMakerResponse, "describe_training_job", "AccessDeniedException")

    found = find(Search(given, SPACE, trials=2), tmp_path)

    assert [one.state for one in found.trials] == ["running"] and not found.stopped
    assert Run(found.trials[0].run.directory).result() is None


class BeforeTrial(Observer):
    """Does something before the trial of that number begins."""

    def __init__(self, number, then):
        self._number, self._then = number, then

    def noticed(self, text) -> None:
        if text.startswith(f"trial {self._number} of "):
            self._then()


@pytest.mark.slow
def test_credentials_that_expire_between_two_trials_end_the_search_and_fail_no_others(given, refuse, tmp_path):
    wanted = Search(given, SPACE, trials=4)
    expire = BeforeTrial(2, lambda: refuse(TokenResponse, "get_caller_identity", "ExpiredToken"))

    with pytest.raises(InputError, match="stands for the account's number"):
        find(wanted, tmp_path, [expire])

    states = [one.state.name for one in open_study(wanted, tmp_path).get_trials()]
    assert states == ["COMPLETE", "FAIL"]
