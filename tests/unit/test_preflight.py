"""What is looked at before anything starts: the same for a run, for one that goes on, and for a dry run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psutil
import pytest

from facesim.cli import main
from facesim.preflight.checks import CHECKS, Planned, preflight
from facesim.preflight.inputs import prepare_inputs
from facesim.preflight.memory import head_bytes
from facesim.runs.directory import Run
from facesim.spec.job import Job, changed_job, make_job
from facesim.util.disk import probe
from facesim.util.errors import InputError

SMALL = {"model": "compact-cnn", "image_size": 32}


@pytest.fixture
def blocked(tmp_path) -> Path:
    """A folder that cannot be made: a file is in its place."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "deep"


@pytest.fixture
def words(faces, tmp_path) -> list[str]:
    """Options of a study in `tmp_path / "runs"`."""
    return ["--data", str(faces), "--image-size", "32", "--output", str(tmp_path / "runs")]


def refusal(capsys, *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


def resumable(directory: Path, job: Job) -> Run:
    """A run that was begun and whose command was killed."""
    run = Run.create(directory, job)
    run.claim.release()
    return run


@pytest.fixture
def small_memory(monkeypatch):
    """A machine in which not even a small head fits."""

    class Memory:
        total = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Memory)


@pytest.fixture
def large_disk(monkeypatch):
    """A disk with more room than a fault may fill, however full this machine's is."""
    monkeypatch.setattr("cluster.faults.MOST_FILLED_BYTES", 1000)


@pytest.mark.parametrize("how", ["run", "resume", "dry run"])
def test_every_way_to_start_is_refused_for_the_same_reasons_told_together(
    how, words, faces, tmp_path, blocked, small_memory, large_disk, capsys
):
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "fill"\nat_s = 1\n')
    bad = ["--checkpoint-dir", blocked, "--faults", faults]
    if how == "resume":
        job = make_job(data=str(faces), **SMALL)
        run = resumable(tmp_path / "run", job)
        before = run.job_file.read_text()

        message = refusal(capsys, "run", "--resume", run.directory, *bad)

        assert run.job_file.read_text() == before
        assert not run.claim.look().held
    else:
        message = refusal(capsys, "run", *words, *bad, *(["--dry-run"] if how == "dry run" else []))

        assert not (tmp_path / "runs").exists()
    assert "things are wrong" in message
    assert "it cannot fit" in message
    assert f"--checkpoint-dir {blocked} cannot be written" in message
    assert "fill would take" in message


def test_every_problem_of_every_job_is_told_once(faces, tmp_path, blocked):
    jobs = [make_job(data=str(faces), seed=seed, checkpoint_dir=str(blocked), **SMALL) for seed in (0, 1)]
    network = make_job(
        data=str(faces), strategy="ps-async", backend="docker", image="there-is-no/such:image",
        faults=[{"kind": "delay", "at_s": 1}], **SMALL,
    )  # fmt: skip

    with pytest.raises(InputError) as refused:
        preflight([*jobs, network], [tmp_path / "runs" / str(number) for number in range(3)])

    message = str(refused.value)
    assert message.count("--checkpoint-dir") == 1
    assert "delay needs the private network" in message
    assert "there-is-no/such:image" in message or "engine" in message


def test_data_that_cannot_be_used_does_not_hide_what_else_is_wrong(tmp_path, blocked):
    with pytest.raises(InputError, match=r"(?s)none.*--checkpoint-dir") as refused:
        preflight([make_job(data=str(tmp_path / "none"), checkpoint_dir=str(blocked))], [tmp_path / "runs" / "one"])

    assert str(refused.value).startswith("2 things are wrong:\n- ")


def test_one_problem_is_told_as_it_is(faces, tmp_path, blocked):
    with pytest.raises(InputError, match="^--checkpoint-dir"):
        preflight([make_job(data=str(faces), checkpoint_dir=str(blocked), **SMALL)], [tmp_path / "runs" / "one"])


def test_an_output_that_cannot_be_written_is_told_by_a_dry_run(words, blocked, capsys):
    message = refusal(capsys, "run", *words[:-1], blocked, "--dry-run")

    assert "cannot write the run directory" in message and "choose another with --output" in message


def test_what_is_looked_at_leaves_nothing(faces, tmp_path):
    checkpoints = tmp_path / "new" / "checkpoints"
    job = make_job(data=str(faces), checkpoint_dir=str(checkpoints), **SMALL)

    cleared = preflight([job], [tmp_path / "runs" / "one"])

    assert cleared.planned[0].request is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["kubernetes", "sagemaker"])
def test_a_folder_here_for_checkpoints_that_are_kept_elsewhere_is_refused(faces, tmp_path, backend):
    options = {"data": str(faces), "backend": backend, **SMALL}
    named = make_job(checkpoint_dir=str(tmp_path / "kept"), **options)

    def wrong(job: Job) -> list[str]:
        return [str(found) for found in CHECKS["writable"]([Planned(job, tmp_path / "runs" / "one")])]

    (message,) = wrong(named)
    assert f"means nothing to --backend {backend}" in message
    assert wrong(changed_job(named, {"checkpoint_dir": ""})) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", ["", "first"])
def test_a_run_goes_on_with_other_folders_for_checkpoints_when_these_have_been_moved_there(
    before, faces, tmp_path, capsys
):
    named = {"checkpoint_dir": str(tmp_path / before)} if before else {}
    run = resumable(tmp_path / "run", make_job(data=str(faces), **named, **SMALL))
    other = changed_job(run.job(), {"checkpoint_dir": str(tmp_path / "second")})
    there, due = (run.checkpoint_directory(job) for job in (run.job(), other))

    def wrong() -> list[str]:
        return [str(found) for found in CHECKS["checkpoints"]([Planned(other, run.directory)])]

    assert wrong() == []  # it has none yet
    (there / "worker-1").mkdir(parents=True)
    (there / "worker-1" / "checkpoint-000000007.npz").write_bytes(b"")

    message = refusal(capsys, "run", "--resume", run.directory, "--checkpoint-dir", tmp_path / "second")

    (found,) = wrong()
    assert found in message
    assert f"--checkpoint-dir '{tmp_path / 'second'}' {run.directory} would begin anew" in found
    assert f"move what is in {there} to {due} first" in found
    due.parent.mkdir()
    there.rename(due)
    assert wrong() == []


def test_a_spot_trace_that_is_gone_is_told_before_a_run_goes_on(faces, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text("0,add,a\n60000,remove,a\n")
    run = resumable(tmp_path / "run", make_job(data=str(faces), spot=True, spot_trace=str(trace), **SMALL))
    trace.unlink()

    assert "--spot-trace" in refusal(capsys, "run", "--resume", run.directory)
    assert not run.events()


def test_a_dry_run_has_the_notices_of_a_run(words, monkeypatch, capsys):
    class Memory:
        total = 60_000  # of which the head of 8 people takes a notable share

    monkeypatch.setattr(psutil, "virtual_memory", Memory)

    assert main(["run", *words, "--model", "compact-cnn", "--dry-run"]) == 0

    output = json.loads(capsys.readouterr().out)
    assert any(re.search("head for 8 people takes", notice) for notice in output["notices"])


def test_a_disk_without_room_for_heads_is_told(faces, tmp_path, monkeypatch):
    monkeypatch.setattr("facesim.preflight.checks.free_bytes", lambda folder: 1000)

    cleared = preflight([make_job(data=str(faces), **SMALL)], [tmp_path / "runs" / "one"])

    assert "GB free" in cleared.notices["room"][0]


@pytest.mark.parametrize(("strategy", "models"), [("single", 1), ("ps-async", 1), ("ps-sync", 1), ("independent", 2)])
def test_room_is_needed_for_each_checkpoint_and_the_model_once(faces, tmp_path, monkeypatch, strategy, models):
    job = make_job(data=str(faces), strategy=strategy, checkpoint_keep=2, **SMALL)
    planned = Planned(job, tmp_path / "runs" / "one", prepare_inputs(job, lambda *_: None))
    head = head_bytes(job, 8)

    def told(free_bytes: int) -> list:
        monkeypatch.setattr("facesim.preflight.checks.free_bytes", lambda folder: free_bytes)
        return list(CHECKS["room"]([planned]))

    # Adam keeps two moments of each parameter, and a third checkpoint is being written.
    needed = (models * 3 * 3 + 1) * head
    assert told(needed) == []
    assert len(told(needed - 1)) == 1


def test_every_check_has_a_name_and_says_what_it_is_for():
    assert all(check.__doc__ for check in CHECKS.values())
    assert {"memory", "leakage", "room", "equipment", "cost", "writable", "faults", "spot"} <= CHECKS.keys()


def test_a_probe_that_fails_removes_what_it_made(tmp_path, blocked):
    with pytest.raises(OSError):
        probe(blocked / "more", 10)
    with pytest.raises(OSError):
        probe(tmp_path / "new" / ("x" * 300), 10)

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("place", ["run", "room", "faults", "pretrained", "trace", "list"])
def test_a_path_that_cannot_be_looked_at_is_told_as_what_it_was_given_for(faces, tmp_path, large_disk, capsys, place):
    """Python raises for some of them: a name that is too long, or one in a folder that this user may not enter."""
    unseen, words = tmp_path / ("x" * 300), ["run", "--data", str(faces), "--image-size", "32", "--output"]
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "fill"\nat_s = 1\n')
    given = {
        "run": ([*words, unseen / "runs"], "cannot write the run directory"),
        "room": ([*words, unseen / "runs", "--dry-run"], "cannot write the run directory"),
        "faults": ([*words, unseen / "runs", "--faults", faults], "fill would take"),
        "pretrained": ([*words, tmp_path, "--pretrained", unseen], f"cannot read {unseen}"),
        "trace": ([*words, tmp_path, "--spot", "--spot-trace", unseen], "--spot-trace"),
        "list": (["list", unseen], f"cannot read {unseen}"),
    }
    arguments, message = given[place]

    told = refusal(capsys, *arguments)

    assert message in told and "ended unexpectedly" not in told
