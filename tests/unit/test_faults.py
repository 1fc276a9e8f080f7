"""Fault scripts as users write them, and what failure cost as events tell it."""

from __future__ import annotations

import pytest

from cluster.network import why_not
from facesim.backends.local import _due_faults
from facesim.runs.accounting import recovery, replaced_workers, spent_s
from facesim.runs.directory import Run
from facesim.runs.events import FaultDone, event_of
from facesim.spec.backends import Docker, Local
from facesim.spec.faults import check_network, check_room, read_faults
from facesim.spec.job import changed_job, make_job
from facesim.util.errors import InputError


def script(tmp_path, text: str):
    file = tmp_path / "faults.toml"
    file.write_text(text)
    return read_faults(str(file))


def job_with(faults, **options):
    return make_job(strategy="ps-async", faults=faults, **options)


def test_a_script_becomes_what_the_cluster_acts_out(tmp_path):
    faults = script(tmp_path, '[[fault]]\nkind = "freeze"\ntarget = "worker-1"\nat_step = 5\nfor_s = 2\n')

    (fault,) = job_with(faults).faults

    acted = fault.script(tmp_path)
    assert (acted.kind, acted.targets, acted.at_step, acted.for_s) == ("freeze", ("worker-1",), 5, 2.0)


def test_what_fills_a_disk_fills_that_of_the_run(tmp_path):
    (fault,) = job_with([{"kind": "fill", "at_s": 1}]).faults

    assert fault.script(tmp_path / "run").targets == (str(tmp_path / "run"),)


def test_the_random_mode_draws_from_all_tasks_with_a_seed_for_each_kind():
    faults = job_with(read_faults("random:3:12")).faults

    assert {fault.targets for fault in faults} == {("ps-0", "worker-0", "worker-1", "chief-0")}
    assert sum(fault.per_minute for fault in faults) == pytest.approx(12)
    assert len({fault.seed for fault in faults}) == len(faults) == 3
    assert {f.seed for f in faults}.isdisjoint(f.seed for f in job_with(read_faults("random:4:12")).faults)


@pytest.mark.parametrize(("text", "message"), [
    ('[[fault]]\nkind = "kill"\ntarget = "worker-9"\nat_s = 1', "there is no 'worker-9'; this job has ps-0, worker-0"),
    ('[[fault]]\nkind = "interrupt"\ntarget = "worker-0"\nat_s = 1', "there is no 'worker-0'; this job has algo-1"),
    ('[[fault]]\nkind = "kill"\ntarget = "ps-0"\nper_minute = -1', "per_minute Input should be greater than 0"),
    ('[[fault]]\nkind = "melt"\ntarget = "ps-0"\nat_s = 1', "kind Input should be 'kill'"),
    ('[[fault]]\nkind = "kill"\ntarget = "ps-0"', "exactly one of at_s, at_step and per_minute"),
    ('[[fault]]\nkind = "kill"\ntarget = "ps-0"\nat_s = 1\nat_step = 1', "exactly one of"),
    ('[[fault]]\nkind = "kill"\ntarget = "ps-0"\nwhen = 1', "when Extra inputs"),
    ("[[faults]]\nkind = 1", "unknown faults"),
    ("fault = 5", r"fault is 5; write \[\[fault\]\]"),
    ("fault = [5]", "fault 1: .* not 5"),
    ("random = 3", "random: .* not 3"),
    ("[random]\nkinds = []", "random.kinds: Tuple should have at least 1 item"),
    ('[random]\nper_minute = "often"', "random.per_minute: .* not 'often'"),
    ("kill!", "cannot be read as TOML"),
])  # fmt: skip
def test_a_bad_script_is_told(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        job_with(script(tmp_path, text))


@pytest.mark.parametrize(
    "source",
    ["random:x", "random:1:2:3", "random:-1", "random:0.5", "random:inf", "random:nan", "random:1:-2", "random:1:inf"],
)
def test_a_bad_random_mode_is_told(source):
    with pytest.raises(InputError, match="--faults"):
        job_with(read_faults(source))


@pytest.mark.parametrize("kind", ["partition", "loss", "delay"])
def test_a_network_that_cannot_be_disturbed_is_told_before_anything_starts(kind):
    faults = job_with([{"kind": kind, "target": "worker-1", "at_s": 1}]).faults

    with pytest.raises(InputError, match=f"{kind} needs the private network that --backend local gives"):
        check_network(faults, Docker())
    if why := why_not(kind):
        with pytest.raises(InputError, match=f"{kind} is not possible on this system: {why}"):
            check_network(faults, Local())
    else:
        check_network(faults, Local())


def test_a_large_disk_is_not_filled(tmp_path):
    import os

    space = os.statvfs(tmp_path)
    if space.f_bavail * space.f_frsize < 5e9:
        pytest.skip("this disk has little room")

    with pytest.raises(InputError, match="tmpfs"):
        check_room(job_with([{"kind": "fill", "at_s": 1}]).faults, tmp_path / "runs")


def event(name: str, when: float = 0.0, **details):
    return event_of({"time_unix_s": when, "event": name, **details})


EVENTS = [
    event("submitted", 10.0),
    event("checkpoint", 12.0, file="checkpoint-10.npz", step=10, examples=320, seconds=0.1, bytes=100),
    event("recovering", 13.0, task="worker-1", restart=1, starting=["worker-1"]),
    event("recovering", 14.0, task="ps-0", restart=2, starting=["ps-0", "worker-0", "worker-1", "chief-0"]),
    event("restored", 16.5, file="checkpoint-10.npz", step=10, examples=320, epoch=1, lost_examples=64, lost_s=2.0),
    event("node_ended", 20.0, outcome="completed"),
    event("submitted", 100.0),
    event("node_ended", 105.0, outcome="completed"),
]


def test_a_run_that_ended_before_it_went_on_was_not_down_until_it_was_continued():
    again = {"task": "chief-0", "starting": ["chief-0"]}
    events = [
        event("submitted", 0.0),
        event("recovering", 10.0, restart=1, **again),
        event("node_ended", 12.0, outcome="stopped"),
        event("submitted", 86_400.0),
        event("restored", 86_405.0, step=0, examples=0, epoch=1),
        event("recovering", 86_500.0, restart=1, **again),
        event("restored", 86_503.0, step=0, examples=0, epoch=1),
    ]

    assert recovery(events)["down_s"] == 3.0


def test_what_failure_cost_is_told_by_the_events():
    cost = recovery(EVENTS)

    assert (cost["restarts"], cost["lost_examples"], cost["lost_s"], cost["down_s"]) == (2, 64, 2.0, 2.5)
    assert (cost["checkpoints"], cost["checkpoint_bytes"]) == (1, 100)
    assert replaced_workers(EVENTS) == 1
    assert spent_s(EVENTS) == 15.0
    heard_of_later = [
        event("submitted", 10.0),
        event("state", 20.0, state="Completed"),
        event("node_ended", 500.0, outcome="completed"),
    ]
    assert spent_s(heard_of_later) == 10.0


def test_a_run_goes_on_with_other_workers_but_not_as_another_experiment():
    job = make_job(strategy="ps-async", epochs=5, workers=2)

    assert changed_job(job, {"workers": 3}).shape.workers == 3
    assert changed_job(job, {"workers": 3}).experiment == job.experiment
    with pytest.raises(InputError, match="it has --epochs 5, not 6"):
        changed_job(job, {"epochs": 6})
    with pytest.raises(InputError, match="it has --strategy ps-async, not single"):
        changed_job(job, {"strategy": "single"})


def test_a_run_that_goes_on_keeps_its_faults_unless_it_gets_others():
    named = [{"kind": "kill", "target": "worker-1", "at_step": 5}]
    job = job_with([*named, {"kind": "interrupt", "target": "algo-1", "at_s": 9}, {"kind": "fill", "at_s": 1}])

    assert changed_job(job, {}) == job
    assert changed_job(job, {"workers": 3}).faults == job.faults
    assert changed_job(job, {"faults": named}) == job_with(named)
    assert changed_job(job, {"faults": "random:7"}) == job_with(read_faults("random:7"))
    assert changed_job(job, {"faults": ()}).faults == changed_job(job, {"faults": ""}).faults == ()


def test_faults_of_any_task_are_of_any_that_a_run_has_when_it_goes_on():
    job = job_with("random:7")

    assert changed_job(job, {}) == job
    assert changed_job(job, {"workers": 1}).faults == job_with("random:7", workers=1).faults
    assert changed_job(job, {"workers": 3}).faults == job_with("random:7", workers=3).faults


@pytest.mark.parametrize(
    ("kind", "target", "left"), [("kill", "worker-1", "worker-0"), ("interrupt", "algo-2", "algo-1")]
)
def test_a_fault_for_what_a_run_would_not_have_any_more_is_told(kind, target, left):
    job = job_with([{"kind": kind, "target": target, "at_s": 5}], workers=3)

    with pytest.raises(
        InputError, match=rf"fault \({kind}\) for {target}, .* only .*{left}.*; give --faults for the tasks"
    ):
        changed_job(job, {"workers": 1})


def test_what_comes_once_does_not_come_again_when_a_run_goes_on(tmp_path):
    moments = ({"at_step": 14}, {"at_s": 900}, {"per_minute": 2.0})
    once, later, often = ({"kind": "kill", "target": "chief-0", **when} for when in moments)
    job = job_with([once, later, often])
    new = Run(tmp_path / "new")
    assert [number for number, _ in _due_faults(job, new)] == [0, 1, 2]

    run = Run.create(tmp_path / "run", job)
    for number in (0, 2):
        run.record(FaultDone(number=number, kind="kill", target="chief-0", time_unix_s=1.0))
    run.claim.release()

    assert [number for number, _ in _due_faults(job, run)] == [1, 2]
    assert [number for number, _ in _due_faults(job_with([once]), run)] == [0], "it was given anew"
