"""A study goes on: what has completed is not repeated, what began continues, and one failure loses nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import signal
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from facesim import api
from facesim.backends import local
from facesim.preflight.inputs import prepare_all
from facesim.runs.accounting import of_kind
from facesim.runs.directory import Run, find_runs
from facesim.runs.events import Submitted
from facesim.runs.records import Result, TaskOutcome
from facesim.runs.states import RunState
from facesim.spec.backends import Local
from facesim.spec.job import job_sha256, make_job
from facesim.spec.study import Study
from facesim.study.observers import Observer
from facesim.study.plan import Fate, job_names, plan_lines, plan_study
from facesim.study.progress import display
from facesim.study.runner import run_study
from facesim.study.study_file import FOLDER, find_study_file, open_study_file, write_study_file
from facesim.study.time_left import TimeLeft
from facesim.util.errors import InputError
from tests.conftest import QUICK, facesim_here
from tests.integration.running import Running
from tests.report.conftest import write_run
from tests.support.executions import Completes, Played, interrupt


@pytest.fixture
def study(faces):
    return Study({"data": str(faces), "image_size": 32, "strategy": "single"}, {"batch": [4, 8]}, seeds=[0])


def leave(output, job, state="Completed", **facts):
    """A run of a job, as far as a study looks at it."""
    run = Run.create(output / job_names([job])[0], job)
    run.claim.release()
    if state is not None:
        content = prepare_all([job], lambda *_: None)[0].data.sha256
        known = {"strategy": "single", "backend": "local", "seed": 0, "state": state, "measurement": "emulated"}
        result = Result.model_validate({**known, "data": {"content_sha256": content}, **facts})
        result.write(run.result_file)
    return run


def fates(study, output, **how):
    return [due.fate for due in plan_study(study.jobs(), output, reuse=True, **how).dues]


def test_what_has_completed_is_not_repeated_and_what_has_not_goes_on(study, tmp_path):
    first, second = study.jobs()
    complete, stopped = leave(tmp_path / "a", first), leave(tmp_path / "b", second, "Stopped")

    plan = plan_study(study.jobs(), tmp_path, reuse=True)

    assert [due.fate for due in plan.dues] == [Fate.COMPLETE, Fate.GOES_ON]
    assert [due.directory for due in plan.dues] == [complete.directory, stopped.directory]
    assert [due.cleared is None for due in plan.dues] == [True, False]
    assert "1 complete, 1 continues" in plan_lines(plan)[0]


@pytest.mark.parametrize(
    "facts",
    [
        {"data": {"content_sha256": "0" * 64}},
        {"data": {}},
        {"measurement": "forecast"},
        {"machine": {"cpu_model": "another processor"}},
        {"machine": {"tensorflow": "1.15.0"}},
    ],
)
def test_a_run_on_other_images_or_another_machine_or_a_forecast_is_no_run_of_the_job(study, tmp_path, facts):
    leave(tmp_path / "a", study.jobs()[0], **facts)

    assert fates(study, tmp_path) == [Fate.NEW, Fate.NEW]


def test_a_run_by_another_version_of_what_computes_is_no_run_of_the_job(faces, tmp_path, monkeypatch):
    (tmp_path / "installed" / "torch").mkdir(parents=True)
    (tmp_path / "installed" / "torch" / "__init__.py").touch()
    about = tmp_path / "installed" / "torch-2.0.dist-info" / "METADATA"
    about.parent.mkdir()
    monkeypatch.syspath_prepend(tmp_path / "installed")
    study = Study({"data": str(faces), "image_size": 32, "framework": "torch"}, {}, seeds=1)
    leave(tmp_path / "runs", *study.jobs(), machine={"torch": "2.0"})

    for version, fate in (("2.0", Fate.COMPLETE), ("2.1", Fate.NEW)):
        about.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        assert fates(study, tmp_path / "runs") == [fate]


@pytest.mark.parametrize(
    ("option", "content", "other"),
    [("spot_trace", "0,add,a\n", "0,add,a\n1000,add,b\n"), ("spot_lifetimes", "hours\n2\n", "hours\n3\n")],
)
@pytest.mark.parametrize("state", ["Completed", "Stopped"])
def test_a_run_by_another_file_of_spot_capacity_is_no_run_of_the_job(
    faces, tmp_path, monkeypatch, option, content, other, state
):
    monkeypatch.setattr(local, "BACKEND", Played())
    file = tmp_path / "capacity.csv"
    file.write_text(content)
    study = Study({"data": str(faces), "image_size": 32, option: str(file)}, {}, seeds=1)
    (played,) = run_study(study.jobs(), tmp_path / "played")
    (submitted,) = of_kind(played.events(), Submitted)
    run = leave(tmp_path / "runs", *study.jobs(), state)
    usual = Fate.COMPLETE if state == "Completed" else Fate.GOES_ON

    run.record(Submitted())  # as earlier versions, which did not write it down
    assert fates(study, tmp_path / "runs") == [usual]
    run.record(submitted)
    assert fates(study, tmp_path / "runs") == [usual]
    file.write_text(other)
    assert fates(study, tmp_path / "runs") == [Fate.NEW]


def test_a_run_of_the_study_that_cannot_be_read_is_said_to_be_left_out(study, tmp_path):
    leave(tmp_path / "a", study.jobs()[0])
    result_file = leave(tmp_path / "b", study.jobs()[1]).result_file
    result_file.write_text("{")

    plan = plan_study(study.jobs(), tmp_path, reuse=True)

    assert [due.fate for due in plan.dues] == [Fate.COMPLETE, Fate.NEW]
    assert f"left out: cannot read {result_file}" in plan.notices[0]
    errors: list[InputError] = []
    runs = open_study_file(write_study_file(study.settings(), tmp_path)).runs(errors.append)
    assert [result is None for _, _, result in runs] == [False, True]
    assert [str(error).startswith(f"cannot read {result_file}") for error in errors] == [True]


def test_a_run_that_began_with_another_network_is_no_run_of_the_job(faces, tmp_path):
    """`--pretrained` names a path, and what lies there may be another network by now."""
    network = tmp_path / "start.keras"
    described = {"config": {"name": "compact_cnn", "layers": [{"config": {"batch_shape": [None, 32, 32, 3]}}]}}

    def trained_again(seed: int) -> str:
        with zipfile.ZipFile(network, "w") as archive:
            archive.writestr("config.json", json.dumps(described))
            archive.writestr("seed", str(seed))
        return hashlib.sha256(network.read_bytes()).hexdigest()

    sha256 = trained_again(1)
    job = make_job(data=str(faces), image_size=32, model="compact-cnn", pretrained=str(network))
    for name, state in (("a", "Completed"), ("b", "Stopped")):
        run = leave(tmp_path / name, job, state)
        counted = {"examples_due": 8, "examples": 8, "updates": 1, "last_version": 1}
        TaskOutcome.model_validate({"counted": counted, "pretrained_sha256": sha256}).write(run.outcome_file)
    (due,) = plan_study([job], tmp_path, reuse=True).dues
    assert due.fate is Fate.COMPLETE

    trained_again(2)

    assert [due.fate for due in plan_study([job], tmp_path, reuse=True).dues] == [Fate.NEW]


def test_a_run_without_a_result_goes_on_unless_somebody_has_it(study, tmp_path):
    run = leave(tmp_path / "a", study.jobs()[0], state=None)
    assert fates(study, tmp_path) == [Fate.GOES_ON, Fate.NEW]

    run.claim.take()
    with pytest.raises(InputError, match=f"{run.directory} is of this study, and is being run by process"):
        plan_study(study.jobs(), tmp_path, reuse=True)
    run.claim.release()


class Heard(Observer):
    def __init__(self):
        self.notices = []

    def noticed(self, text):
        self.notices.append(text)


@pytest.mark.parametrize("options", ["the same", "others"])
def test_a_run_that_another_command_completes_meanwhile_is_not_trained_again(study, tmp_path, monkeypatch, options):
    first, second = study.jobs()
    stopped, heard = leave(tmp_path / "b", second, "Stopped"), Heard()

    def complete_the_second(_):
        stopped.result_file.unlink()
        if options == "others":
            more = second.experiment.model_copy(update={"epochs": 99})
            stopped.job_file.write_text(second.model_copy(update={"experiment": more}).model_dump_json())
        content = {"strategy": "single", "backend": "local", "seed": 0, "state": "Completed", "total_s": 12.5}
        Result.model_validate(content).write(stopped.result_file)
        return Completes()

    monkeypatch.setattr(local, "BACKEND", played := Played(complete_the_second))

    runs = run_study(study.jobs(), tmp_path, [heard], reuse=True)

    assert [run.job().experiment.batch for run in played.submitted] == [first.experiment.batch]
    assert stopped.result().total_s == 12.5
    assert not stopped.claim.look().held
    assert (stopped.directory in [run.directory for run in runs]) == (options == "the same")
    assert "was completed by another command" in heard.notices[-1]


@pytest.mark.parametrize(("option", "content"), [("spot_trace", "0,add,a\n"), ("spot_lifetimes", "hours\n2\n")])
def test_a_file_of_spot_capacity_that_is_gone_fails_its_job_and_no_other(faces, tmp_path, monkeypatch, option, content):
    file, heard = tmp_path / "capacity.csv", Heard()
    file.write_text(content)
    played = Played(lambda run: Completes(meanwhile=lambda: file.unlink(missing_ok=True)))
    monkeypatch.setattr(local, "BACKEND", played)
    given = {"data": str(faces), "image_size": 32}
    jobs = [make_job(**given, batch=4), make_job(**given, batch=8, **{option: str(file)}), make_job(**given, batch=16)]

    runs = run_study(jobs, tmp_path / "runs", [heard])

    assert [run.result().state for run in runs] == [RunState.COMPLETED, RunState.FAILED, RunState.COMPLETED]
    assert f"--{option.replace('_', '-')} {file} cannot be read" in runs[1].result().failure
    assert len(of_kind(runs[1].events(), Submitted)) == 1 and not runs[1].claim.look().held


class Gone(Played):
    """Where a job was that is not there any more once it is to be followed."""

    def can_follow(self, target):
        return True

    def attach(self, target, output):
        target.run.claim.take()
        raise InputError("its job is gone")


def test_a_run_that_cannot_be_followed_ends_no_other(study, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "BACKEND", played := Gone())
    monkeypatch.setattr(Local, "can_attach", True)
    lost, heard = leave(tmp_path / "a", study.jobs()[0], state=None), Heard()

    runs = run_study(study.jobs(), tmp_path, [heard], reuse=True)

    assert [run.job().experiment.batch for run in played.submitted] == [8]
    assert [run.result() is None for run in runs] == [True, False]
    assert "single-batch4-seed0 cannot be followed: its job is gone" in heard.notices
    assert not lost.claim.look().held


def test_all_is_new_where_nothing_is_to_be_reused(study, tmp_path):
    leave(tmp_path / "a", study.jobs()[0])

    assert [due.fate for due in plan_study(study.jobs(), tmp_path).dues] == [Fate.NEW, Fate.NEW]


def test_tags_and_limits_of_cost_make_no_other_job():
    plain, tagged = make_job(), make_job(tags=["team=faces"])

    assert job_sha256(plain) == job_sha256(tagged)
    assert job_sha256(plain) != job_sha256(make_job(epochs=3))


def test_a_study_is_kept_once_and_found_with_its_runs(study, tmp_path):
    leave(tmp_path / "a", study.jobs()[0])
    file = write_study_file({**study.settings(), "title": "Batches"}, tmp_path, "batches")

    assert write_study_file({**study.settings(), "title": "Batches"}, tmp_path, "batches") == file
    kept = find_study_file(file.stem, tmp_path)
    assert kept is not None
    assert [job_sha256(job) for job in kept.jobs] == [job_sha256(job) for job in study.jobs()]
    assert [(name, run and run.id) for name, run, _ in kept.runs()] == [
        ("single-batch4-seed0", "single-seed0"),
        ("single-batch8-seed0", None),
    ]


def test_runs_and_studies_are_listed_shown_compared_and_removed(study, tmp_path):
    first, second = study.jobs()
    runs = [leave(tmp_path / "a", first), leave(tmp_path / "b", second)]
    file = write_study_file(study.settings(), tmp_path)

    assert facesim_here("list", tmp_path, "--studies").output == f"{file.stem}: 2 jobs, 2 Completed\n"
    shown = json.loads(facesim_here("show", file.stem, "--in", tmp_path, "--json").output)
    assert shown["jobs"]["single-batch4-seed0"]["state"] == "Completed"
    assert json.loads(facesim_here("show", runs[1].directory, "--json").output)["options"]["batch"] == 8
    differing = json.loads(facesim_here("diff", *(run.directory for run in runs), "--json").output)
    assert differing["options"] == {"batch": [4, 8]}
    assert differing["result"] == {}
    assert facesim_here("rm", file.stem, runs[0].directory / ".." / runs[0].id, "--in", tmp_path, "--yes").code == 0
    assert not file.exists()
    assert not any(run.directory.exists() for run in runs)


def test_spot_capacity_and_faults_are_shown_and_told_apart(faces, tmp_path):
    disturbed = make_job(data=str(faces), spot=True, faults=[{"kind": "kill", "at_step": 50}])
    runs = [leave(tmp_path / "a", disturbed), leave(tmp_path / "b", make_job(data=str(faces)))]

    shown = json.loads(facesim_here("show", runs[0].directory, "--json").output)["options"]
    differing = facesim_here("diff", *(run.directory for run in runs)).output.splitlines()

    assert shown.items() >= {"strategy": "single", "spot": True, "faults": "kill chief-0, at step 50"}.items()
    assert ["spot", "True", "|", "–"] in [line.split() for line in differing]
    assert ["faults", "kill", "chief-0,", "at", "step", "50", "|", "–"] in [line.split() for line in differing]


def test_the_command_that_continues_a_study_is_one_for_a_shell(study, tmp_path):
    folder = tmp_path / "my runs"
    file = write_study_file(study.settings(), folder)

    shown = json.loads(facesim_here("show", file, "--in", folder, "--json").output)

    assert shlex.split(shown["continue"]) == ["facesim", "study", "run", str(file)]


@pytest.mark.parametrize("given", ["n\n", "\n", None])
def test_what_is_not_agreed_to_is_not_removed(study, tmp_path, monkeypatch, given):
    run = leave(tmp_path, study.jobs()[0])
    monkeypatch.setattr("sys.stdin", None if given is None else terminal(given))

    command = facesim_here("rm", run.directory)

    assert command.code == 2
    assert "nothing was removed; give --yes to remove without being asked" in command.errors
    assert run.directory.exists()


def test_what_is_agreed_to_is_removed(study, tmp_path, monkeypatch):
    run = leave(tmp_path, study.jobs()[0])
    monkeypatch.setattr("sys.stdin", terminal("y\n"))

    assert facesim_here("rm", run.directory).code == 0
    assert not run.directory.exists()


def terminal(text: str) -> io.StringIO:
    """A terminal at which this is typed."""
    typed = io.StringIO(text)
    typed.isatty = lambda: True
    return typed


@pytest.mark.parametrize("content", [
    "{", "[]", '{"seeds": 1.5}', '{"seeds": null}', '{"epochs": "many"}', '{"strategy": [["single"]]}',
    '{"epochs": [{}]}', '{"seeds": [[1]]}', '{"faults": 5}', '{"since_unix_s": "yesterday"}',
])  # fmt: skip
def test_a_damaged_study_does_not_hide_the_others(study, tmp_path, content):
    file = write_study_file(study.settings(), tmp_path)
    damaged = file.with_name("aaa.json")
    damaged.write_text(content)

    listed = facesim_here("list", tmp_path, "--studies")

    assert (listed.code, listed.output) == (0, f"{file.stem}: 2 jobs, 2 not begun\n")
    assert f"left out: {damaged}" in listed.errors
    assert facesim_here("show", file.stem, "--in", tmp_path).code == 0
    assert facesim_here("show", "aaa", "--in", tmp_path).code == 2


def test_a_study_continues_where_its_runs_are_wherever_that_is_asked_for(study, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run = leave(Path("runs"), study.jobs()[0])
    file = write_study_file(study.settings(), Path("runs")).resolve()
    monkeypatch.chdir(tmp_path / "elsewhere")

    planned = json.loads(facesim_here("study", "run", file, "--dry-run", "--no-baselines").output)

    assert planned["complete"] == [str(tmp_path / run.directory)]
    assert [Path(one["run_directory"]).parent for one in planned["runs"]] == [tmp_path / "runs"]


def test_a_study_continues_from_within_the_folder_that_it_is_kept_in(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = leave(Path("runs"), study.jobs()[0])
    file = write_study_file(study.settings(), Path("runs"))
    monkeypatch.chdir(file.parent)

    planned = json.loads(facesim_here("study", "run", file.name, "--dry-run", "--no-baselines").output)

    assert [Path(one).resolve() for one in planned["complete"]] == [tmp_path / run.directory]


@pytest.mark.slow
def test_the_page_of_a_kept_study_has_the_runs_beside_it_wherever_these_are(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study.of({"data": str(faces), "epochs": 20, "strategy": ["single", "ps-async"]})
    file = write_study_file(study.settings(), Path("runs"))
    write_run(Path("runs") / "single", "single", 0, data=str(faces))
    Path("runs").rename("moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")

    command = facesim_here("study", "page", tmp_path / "moved" / FOLDER / file.name, "--output", "page.md")

    assert command.code == 0, command.errors
    assert "1 of 2 jobs have no run that ended" in command.errors
    assert "from 1 run" in Path("page.md").read_text()


def test_a_study_that_is_followed_keeps_its_region(study, tmp_path):
    file = write_study_file(study.settings(), tmp_path)

    command = facesim_here("attach", file, "--region", "eu-west-1")

    assert command.code == 2
    assert f"--region has no meaning with {file}, a study, whose options say where its jobs run" in command.errors


def test_a_study_of_python_continues_as_it_was_begun(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "BACKEND", Played())
    parallel = min(2, len(os.sched_getaffinity(0)))
    study = api.Study(data=str(faces), image_size=32, batch=[4, 8])

    study.run(tmp_path, observers=[], baselines=False, parallel=parallel)

    (kept,) = (tmp_path / FOLDER).iterdir()
    content = json.loads(kept.read_text())
    assert (content["baselines"], content["parallel"]) == (False, parallel)


@pytest.mark.parametrize("how", ["option", "file"])
def test_a_home_folder_is_one_where_no_shell_reads_it(faces, tmp_path, monkeypatch, how):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text('output = "~/runs"')
    output = "--output=~/runs" if how == "option" else "--config=study.toml"

    command = facesim_here("run", "--data", faces, "--image-size", 32, output, "--dry-run")

    assert command.code == 0, command.errors
    (planned,) = json.loads(command.output)["runs"]
    assert Path(planned["run_directory"]).parent == tmp_path / "home" / "runs"


@pytest.mark.parametrize("folders", ["kept", ["kept", "others"]])
def test_a_study_has_the_same_jobs_wherever_it_continues(faces, tmp_path, monkeypatch, folders):
    monkeypatch.chdir(tmp_path)
    study = Study.of({"data": str(faces), "batch": [4, 8], "checkpoint_dir": folders})
    jobs = study.jobs()
    file = write_study_file(study.settings(), tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert [job_sha256(job) for job in open_study_file(file).jobs] == [job_sha256(job) for job in jobs]


@pytest.mark.slow
def test_a_study_that_is_run_again_and_stopped_continues_with_what_has_begun_since(faces, tmp_path, monkeypatch):
    content = prepare_all([make_job(data=str(faces), image_size=32)], lambda *_: None)[0].data.sha256
    counted = {"examples_due": 8, "examples": 8, "updates": 1, "last_version": 1}
    outcome = TaskOutcome.model_validate({"counted": counted, "data": {"content_sha256": content}})
    interrupts: list[int] = []  # the numbers of the runs that the user interrupts

    def submit(run):
        outcome.write(run.outcome_file)
        return Completes(meanwhile=interrupt) if len(played.submitted) in interrupts else Completes()

    monkeypatch.setattr(local, "BACKEND", played := Played(submit))
    options = ("--data", faces, "--image-size", 32, "--strategy", "single", "--seeds", 2, "--no-baselines")
    compare = ("compare", *options, "--output", tmp_path)
    assert facesim_here(*compare).code == 0 and facesim_here(*compare).code == 0
    assert len(played.submitted) == 2, "what has completed is not run again"
    interrupts.append(3)

    stopped = facesim_here(*compare, "--again")

    assert stopped.code == 130 and len(played.submitted) == 3
    *_, last = stopped.output.splitlines()
    assert last.startswith("to continue: facesim study run ")
    for _ in range(2):  # the second time nothing is left to be done
        assert facesim_here(*shlex.split(last)[3:]).code == 0
        assert [run.job().experiment.seed for run in played.submitted] == [0, 1, 0, 1]
    assert facesim_here(*compare).code == 0 and len(played.submitted) == 4


@pytest.mark.slow
def test_a_study_continues_with_the_files_and_trackers_that_it_was_last_told_to_have(faces, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    monkeypatch.setattr(local, "BACKEND", Played())
    options = ("--data", faces, "--image-size", 32, "--strategy", "single", "--seeds", 2, "--no-baselines")
    compare, seen = ("compare", *options, "--output", tmp_path / "runs"), tmp_path / "seen.jsonl"
    monkeypatch.chdir(tmp_path)
    facesim_here(*compare)
    facesim_here(*compare, "--json-lines", seen.name, "--track", "tensorboard")
    (kept,) = (tmp_path / "runs" / FOLDER).iterdir()
    before = len(seen.read_text().splitlines())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert facesim_here("study", "run", kept).code == 0

    assert len(seen.read_text().splitlines()) > before
    ended = [json.loads(line) for line in seen.read_text().splitlines() if '"what": "started"' in line]
    assert (tmp_path / "runs" / "tensorboard" / ended[-1]["run_id"]).is_dir()


def test_a_study_is_removed_with_its_earlier_runs_and_what_stays_elsewhere_is_told(study, tmp_path):
    first, second = study.jobs()
    recovery = second.recovery.model_copy(update={"checkpoint_dir": str(tmp_path / "kept")})
    kept = second.model_copy(update={"recovery": recovery})
    runs = [leave(tmp_path / "a", first, "Failed"), leave(tmp_path / "b", first)]
    damaged = leave(tmp_path / "d", second)
    damaged.result_file.write_text("{")
    other = leave(tmp_path / "c", kept)
    other.checkpoint_directory(kept).mkdir(parents=True)
    file = write_study_file(study.settings(), tmp_path)

    of_study = facesim_here("rm", file.stem, "--in", tmp_path, "--yes")
    removed = facesim_here("rm", other.directory, "--yes")

    assert of_study.code == 0 and f"left alone: cannot read {damaged.result_file}" in of_study.errors
    assert damaged.directory.exists()
    assert not any(run.directory.exists() for run in (*runs, other))
    assert removed.output.endswith(f"; its checkpoints are still in {other.checkpoint_directory(kept)}\n")


def test_a_run_that_may_go_on_elsewhere_is_not_listed_as_ended(tmp_path):
    at_aws = leave(tmp_path / "b", make_job(backend="sagemaker", role="arn:aws:iam::123456789012:role/r"), state=None)
    at_aws.plan_file.write_text("{}")

    (listed,) = json.loads(facesim_here("list", tmp_path, "--json").output)

    assert listed["state"] == "Unfinished" and "running" not in listed
    note = (
        f"{at_aws.directory} may still be run, and billed, at sagemaker: `facesim status {at_aws.directory}` asks there"
    )
    assert listed["notes"] == [note]
    assert facesim_here("list", tmp_path).errors == f"note: {note}\n"


def test_what_is_being_run_is_not_removed(study, tmp_path):
    run = leave(tmp_path / "a", study.jobs()[0], state=None)
    run.claim.take()

    command = facesim_here("rm", run.directory, "--yes")

    assert command.code == 2
    assert "cancel it first" in command.errors
    assert run.directory.exists()
    run.claim.release()


def test_what_is_more_than_a_run_that_has_ended_is_not_removed(study, tmp_path):
    first, second = study.jobs()
    outer = leave(tmp_path / "a", first)
    inner = leave(outer.directory / "more", second)
    at_aws = leave(tmp_path / "b", make_job(backend="sagemaker", role="arn:aws:iam::123456789012:role/r"), state=None)
    at_aws.plan_file.write_text("{}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "job.json").write_text("{}")

    for folder, why in (
        (outer.directory, f"holds 1 other run, such as {inner.id}"),
        (at_aws.directory, "may still be run, and billed, at sagemaker: cancel it first"),
        (tmp_path / "mine", "has a job.json and nothing else of a run"),
    ):
        command = facesim_here("rm", folder, "--yes")
        assert (command.code, why in command.errors, folder.exists()) == (2, True, True), command.errors
    (at_aws.directory / "job.json").write_text("{")  # damaged: there is no other way to get rid of it
    assert facesim_here("rm", at_aws.directory, "--yes").code == 0 and not at_aws.directory.exists()


def test_a_damaged_run_does_not_keep_others_from_being_removed_by_their_tag(faces, tmp_path):
    tagged, damaged = (leave(tmp_path / name, make_job(data=str(faces), image_size=32, tags=["x=1"])) for name in "ab")
    damaged.job_file.write_text("{")

    command = facesim_here("rm", "--tag", "x", "--in", tmp_path, "--yes")

    assert command.code == 0 and f"left alone: cannot read {damaged.job_file}" in command.errors
    assert damaged.directory.exists() and not tagged.directory.exists()


def test_runs_are_found_by_their_tags(faces, tmp_path):
    jobs = [make_job(data=str(faces), image_size=32, tags=[tag]) for tag in ("team=faces", "team=cats")]
    for number, job in enumerate(jobs):
        leave(tmp_path / str(number), job)

    runs = json.loads(facesim_here("list", tmp_path, "--tag", "team=cats", "--json").output)
    assert [one["tags"] for one in runs] == [{"team": "cats"}]
    assert len(json.loads(facesim_here("list", tmp_path, "--tag", "team", "--json").output)) == 2
    assert facesim_here("rm", "--tag", "team=cats", "--in", tmp_path, "--yes").code == 0
    assert len(json.loads(facesim_here("list", tmp_path, "--json").output)) == 1


def test_the_time_left_is_that_of_runs_that_were_alike_and_unknown_without_any(faces):
    jobs = Study({"data": str(faces), "image_size": 32, "strategy": "single"}, {"batch": [4, 8]}, seeds=2).jobs()
    dues = plan_study(jobs, Path("runs")).dues
    first, second, third, fourth = (due.directory.name for due in dues)
    left = TimeLeft(dues)

    assert left.seconds({}) is None
    left.ended(first, 10.0)
    assert left.seconds({second: (4.0, None)}) == 6.0 + 10.0 + 10.0
    left.ended(second, 30.0)
    assert left.seconds({third: (1.0, 5.0)}) == 5.0 + 30.0
    left.ended(third, 10.0)
    left.ended(fourth, None)
    assert left.seconds({}) == 0.0


def test_what_did_not_complete_says_nothing_of_the_time_that_others_take(faces, tmp_path):
    jobs = Study({"data": str(faces), "image_size": 32, "strategy": "single"}, {"batch": [4, 8]}, seeds=2).jobs()
    plan = plan_study(jobs, tmp_path)
    shown = display(Console(file=io.StringIO(), width=200))
    shown.planned(plan)
    failed, completed = (Run.create(due.directory, due.job) for due in plan.dues[:2])
    for place, run in enumerate((failed, completed), 1):
        shown.started(run, place, 4)
    facts = {"strategy": "single", "backend": "local", "seed": 0}

    shown.ended(failed, Result(**facts, state="Failed", total_s=2.0))
    assert shown.study_left() == ""
    shown.ended(completed, Result(**facts, state="Completed", total_s=60.0))
    assert shown.study_left() == "the study: about 2:00 left"
    shown.given_up(plan.dues[2].directory)  # it cannot begin
    assert shown.study_left() == "the study: about 1:00 left"


@pytest.mark.usefixtures("loaded")
def test_one_failure_loses_nothing_else_and_the_study_goes_on(faces, tmp_path):
    options = ("--data", faces, "--epochs", 60, "--max-restarts", 0, *QUICK, "--no-baselines")
    running = Running(tmp_path, "--strategy", "single", "--seeds", 2, *options)
    broken = running.run_that_trains()
    chief = next(e["pid"] for e in broken.events() if e["event"] == "task_started" and e["task"] == "chief-0")
    os.kill(chief, signal.SIGKILL)

    code, shown = running.end()

    assert code == 1
    assert "2 jobs: 2 to run" in shown
    (kept,) = (tmp_path / FOLDER).iterdir()
    assert f"to continue: facesim study run {kept}" in shown
    states = {run.job().experiment.seed: run.result().state for run in find_runs([tmp_path])}
    assert states == {0: RunState.FAILED, 1: RunState.COMPLETED}

    again = facesim_here("study", "run", kept)

    assert again.code == 0, again.output
    assert "2 jobs: 1 complete, 1 continues" in again.output
    assert [run.result().state for run in find_runs([tmp_path])] == [RunState.COMPLETED] * 2
