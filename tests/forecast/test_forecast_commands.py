"""The commands `forecast` and `calibrate` from a saved profile, and what reports make of what they leave."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

import facesim
from facesim.cli import main
from facesim.cli.plan import profile_for
from facesim.data.unseen import UnseenData
from facesim.forecast.hosts import HostType
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape
from facesim.metrics.files import SampleWriter
from facesim.planning.accuracy import accuracies
from facesim.planning.calibration import calibration_job, learn_type
from facesim.planning.described import described_jobs
from facesim.planning.jobs import forecast_of, record_of, write_forecast
from facesim.planning.learning import measured_update_s, outside_of
from facesim.planning.notes import check_profile
from facesim.planning.saved import (
    instances_file,
    outside_file,
    residuals_file,
    save_speeds,
    saved_hosts,
    saved_outside,
    saved_widths,
)
from facesim.preflight.inputs import Inputs
from facesim.profiling.profile import profile_file
from facesim.runs.directory import Run, find_runs
from facesim.runs.records import Counts, Result
from facesim.runs.states import RunState
from facesim.spec.job import Job, make_job
from facesim.study import calibration
from facesim.util.errors import InputError
from tests.forecast.conftest import ROOT, changed
from tests.support.engine import engine

#: Each test begins as a user who has calibrated nothing.
pytestmark = pytest.mark.usefixtures("own_cache")


def ran(directory: Path, job, forecast, factor: float, measurement: str, **changes) -> Run:
    """A run that took `factor` times as long as was forecast of it, as facesim leaves it."""
    run = Run.create(directory, job)
    run.claim.release()
    forecast.write(run.forecast_file)
    phases = forecast.phases
    fields = {
        "run_id": run.id,
        "job": job.model_dump(mode="json"),
        "strategy": job.strategy.name,
        "backend": job.backend.name,
        "seed": job.experiment.seed,
        "state": RunState.COMPLETED,
        "measurement": measurement,
        "held_out_accuracy": 0.9,
        "data": {"held_out_examples": 200, "training_examples": 870},
        "training_s": phases["first_step_s"] + factor * phases["training_s"] * (1 - 1 / forecast.updates),
        "images_per_s": job.update_batch * forecast.updates / (factor * phases["training_s"]),
        "updates": forecast.updates,
        "phases": {
            "first_step_s": phases["first_step_s"],
            "launch_to_first_step_s": phases["start_s"],
            "evaluation_s": phases["evaluation_s"],
        },
        "total_s": factor * forecast.total_s,
        "instance_type": job.shape.instance_type,
        "hosts": job.hosts,
        **changes,
    }
    Result.model_validate(fields).write(run.result_file)
    return run


def slow(profile: Profile) -> Profile:
    """A profile whose steps take a thousand times as long."""
    steps = [{**each.model_dump(), "step_s": 1000 * each.step_s, "repeats_s": ()} for each in profile.compute]
    return changed(profile, compute=steps)


def forecast_for(job, profile):
    forecast, kind = forecast_of(job, profile)
    return record_of(forecast, profile, kind)


def test_a_forecast_is_a_run_directory_that_reports_mark(file, tmp_path, capsys):
    options = ["--profile", str(file), "--output", str(tmp_path / "runs"), "--epochs", "20"]

    assert main(["forecast", "--strategy", "single", "--strategy", "ps-async", "--workers", "4", *options]) == 0

    output = capsys.readouterr().out
    assert "ps-async, 4 workers, 1 ps on ml.m5.2xlarge (sagemaker): forecast, 80 % intervals" in output
    runs = find_runs([tmp_path / "runs"])
    assert [run.result().measurement for run in runs] == ["forecast", "forecast"]
    for run in runs:
        result, forecast = run.result(), run.forecast()
        assert result.total_s == forecast.total_s
        assert result.billing.cost_usd == pytest.approx(forecast.cost_usd, rel=0.02)
        assert result.training_s == pytest.approx(forecast.phases["training_s"] + forecast.phases["first_step_s"])
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "runs"), "--output", str(page)]) == 0
    output = capsys.readouterr().out
    assert "80 % interval of the forecast" in output and "1 forecast" in output
    assert "As forecast, " in output and "it says nothing about accuracy" in output
    assert "not known whether the replicas" not in output


def test_a_forecast_is_no_run_that_has_completed(profile, tmp_path, capsys):
    for name, backend in (("one", "local"), ("two", "sagemaker")):
        write_forecast(make_job(backend=backend, epochs=2), profile, tmp_path / name)

    assert main(["list", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert listed.count(" forecast ") == 2 and "Completed" not in listed
    for command in ("status", "logs", "attach", "cancel"):
        assert main([command, str(tmp_path / "two")]) == 2
        assert "two is a forecast: nobody ran it" in capsys.readouterr().err
    assert main(["diff", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "numbers are forecast" in capsys.readouterr().out


def test_a_forecast_never_stands_among_what_was_run(file, profile, tmp_path, capsys):
    job = make_job(strategy="ps-async", epochs=20)
    ran(tmp_path / "runs" / "real", job, forecast_for(job, profile), 1.1, "emulated")
    options = ["--profile", str(file), "--output", str(tmp_path / "runs")]
    assert main(["forecast", str(tmp_path / "runs" / "real"), *options]) == 0
    capsys.readouterr()

    assert main(["report", str(tmp_path / "runs"), "--json", "--output", str(tmp_path / "r.html")]) == 0

    rows = json.loads(capsys.readouterr().out)["comparison"]["rows"]
    assert [(row["measurement"], len(row["runs"])) for row in sorted(rows, key=lambda row: row["measurement"])] == [
        ("emulated", 1),
        ("forecast", 1),
    ]
    assert sorted(row["label"] for row in rows) == ["ps-async", "ps-async (forecast)"]


def test_a_run_stands_against_what_was_forecast_of_it_phase_by_phase(profile, tmp_path, capsys):
    job = make_job(strategy="ps-async", epochs=20)
    ran(tmp_path / "runs" / "as-said", job, forecast_for(job, profile), 1.0, "emulated")
    late = make_job(strategy="ps-async", epochs=20, seed=1)
    ran(tmp_path / "runs" / "late", late, forecast_for(late, profile), 2.0, "emulated")

    assert main(["report", str(tmp_path / "runs"), "--json", "--output", str(tmp_path / "r.html")]) == 0

    first, second = json.loads(capsys.readouterr().out)["comparison"]["against_forecast"]
    off = {phase["label"]: phase["off"] for phase in second["phases"]}
    assert first["within"] and not second["within"]
    assert off["an update"] == pytest.approx(-0.5) and off["total"] == pytest.approx(-0.5)
    assert off["images/s"] == pytest.approx(1)
    assert off["training after the first step"] == pytest.approx(-0.5, abs=0.002) and "training" not in off
    assert off["start-up, to first step"] == pytest.approx(0)
    html = (tmp_path / "r.html").read_text()
    assert "Forecast against run" in html and "50.0 % too low" in html


def test_a_run_that_other_load_disturbed_is_no_word_against_its_forecast(profile, tmp_path, capsys):
    job = make_job(epochs=20)
    run = ran(tmp_path / "run", job, forecast_for(job, profile), 3.0, "emulated", load={"foreign_cpu_percent": 60.0})

    assert main(["report", str(run.directory), "--output", str(tmp_path / "r.html")]) == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert "other programs used 60 % of the machine's CPU time, so this says nothing about the forecast" in shown
    assert "80 % interval" not in shown
    assert main(["calibrate", str(run.directory)]) == 2
    assert "it was disturbed: other programs used 60 %" in capsys.readouterr().err


def test_a_run_that_went_on_with_another_shape_or_had_faults_judges_no_forecast(profile, tmp_path, capsys):
    two, four = (make_job(strategy="ps-sync", workers=workers, epochs=20) for workers in (2, 4))
    again = make_job(strategy="ps-sync", workers=4, epochs=20, seed=1)
    said = tmp_path / "runs" / "said"
    write_forecast(four, profile, said)
    resumed = [ran(tmp_path / "runs" / "0", four, forecast_for(two, profile), 2.0, "emulated")]
    resumed += [ran(tmp_path / "runs" / "1", again, forecast_for(two, profile), 2.0, "emulated")]
    resumed[1].forecast_file.unlink()  # it stands against the forecast of four workers
    for run in resumed:
        for job in (two, four):
            run.record("submitted", shape=job.shape.model_dump(), framework="tensorflow")
    fault = {"kind": "kill", "targets": ["worker-1"], "at_s": 5.0}
    struck = make_job(strategy="ps-sync", workers=4, epochs=20, faults=[fault])
    ran(tmp_path / "runs" / "2", struck, forecast_for(struck, profile), 2.0, "emulated")

    assert main(["report", str(tmp_path / "runs"), "--json", "--output", str(tmp_path / "r.html")]) == 0

    comparison = json.loads(capsys.readouterr().out)["comparison"]
    parts, faults = "part of it ran with workers 2, and part with workers 4", "its faults disturbed it (--faults)"
    checks = comparison["against_forecast"]
    assert sorted((each["not_judged"], each["before"]) for each in checks) == [
        (faults, True),
        (parts, False),
        (parts, True),
    ]
    assert {each["within"] for each in checks} == {None}
    assert {phase["off"] for each in checks for phase in each["phases"]} == {None}
    told = [one["text"] for one in comparison["findings"] if "so this says nothing about the forecast" in one["text"]]
    assert len(told) == 3 and "% too" not in " ".join(told)
    section = (tmp_path / "r.html").read_text().split("<h2>Forecast against run</h2>")[1].split("</section>")[0]
    assert section.count(">not judged<") == 3 and "% too" not in section and parts in section


def test_a_run_without_a_forecast_of_its_own_stands_against_one_beside_it(file, profile, tmp_path, capsys):
    job = make_job(epochs=20)
    run = ran(tmp_path / "runs" / "real", job, forecast_for(job, profile), 1.25, "emulated")
    run.forecast_file.unlink()
    write_forecast(job, profile, tmp_path / "runs" / "said")

    assert main(["report", str(tmp_path / "runs"), "--json", "--output", str(tmp_path / "r.html")]) == 0

    (seen,) = json.loads(capsys.readouterr().out)["comparison"]["against_forecast"]
    assert {phase["label"]: phase["off"] for phase in seen["phases"]}["an update"] == pytest.approx(-0.2)


def test_calibrating_learns_from_runs_and_later_plans_know(profile, plan, tmp_path, capsys):
    for seed, factor in enumerate((1.2, 1.25, 1.3, 1.22)):
        job = make_job(backend="sagemaker", instance_type="ml.m5.xlarge", epochs=200, seed=seed)
        ran(tmp_path / "runs" / str(seed), job, forecast_for(job, profile), factor, "measured")
    before = saved_hosts()["ml.m5.xlarge"]
    options = ("--instance-type", "ml.m5.xlarge", "--strategy", "single", "--json")
    half_before = json.loads(plan(*options)[1])["rows"][0]["half_width"]

    assert main(["calibrate", str(tmp_path / "runs")]) == 0

    output = capsys.readouterr().out
    after = saved_hosts()["ml.m5.xlarge"]
    assert after.relative_speed == pytest.approx(before.relative_speed / 1.235, rel=0.01)
    assert (after.speed_origin, after.speed_source) == ("measured", "facesim calibrate, from runs at AWS")
    assert saved_widths().low == pytest.approx(0.3, rel=0.01)
    assert "trains like" in output and str(residuals_file()) in output
    row = json.loads(plan(*options)[1])["rows"][0]
    assert row["half_width"] != half_before
    assert not any("the speed of ml.m5.xlarge is assumed" in text for text in row["assumptions"])


@pytest.mark.parametrize(("asked", "burst_s"), [(4.0, 200), (1.1, None), (0.3, None)])
def test_a_run_that_spends_its_network_s_credit_shows_how_long_it_bursts(profile, tmp_path, capsys, asked, burst_s):
    kind = saved_hosts()["ml.m5.xlarge"]
    base, peak = (1e9 / 8 * gbps for gbps in (kind.network_base_gbps, kind.network_peak_gbps))
    job = make_job(strategy="allreduce", backend="sagemaker", instance_type="ml.m5.xlarge", epochs=200)
    run = ran(tmp_path / "runs" / "0", job, forecast_for(job, profile), 1.0, "measured")
    writer = SampleWriter(run.metrics / "monitor.jsonl", run_id=run.id, host="algo-1", source="psutil")
    credit = full = 200 * (peak - base)
    sent = 0.0
    for second in range(2400):
        wanted = 0.0 if second % 240 < 10 else asked * base  # an evaluation now and then
        rate = wanted if credit > 0 else min(wanted, base)
        sent, credit = sent + rate, min(full, credit + base - rate)
        writer.write(1e9 + second, "host", 0, {"net_sent_bytes": sent, "net_received_bytes": sent})
    writer.close()

    assert main(["calibrate", str(tmp_path / "runs")]) == 0

    after, output = saved_hosts()["ml.m5.xlarge"], capsys.readouterr().out
    if burst_s is None:
        assert after == kind and "bursts for" not in output
    else:
        assert after.network_burst_s == pytest.approx(burst_s, rel=0.05) and not after.network_assumed
        assert "the network of ml.m5.xlarge bursts for" in output
        assert after.relative_speed == kind.relative_speed and after.speed_origin == kind.speed_origin


def test_a_measured_type_is_known_from_then_on_also_one_that_nobody_knew(profile, plan, tmp_path):
    plain = make_job(backend="sagemaker", instance_type="ml.g5.xlarge")
    job = calibration_job(plain, profile)
    assert job.strategy.name == "single" and job.max_run_s
    assert plan("--instance-type", "ml.g5.xlarge")[0] == 2
    billing = {
        "transitions": [
            {"state": name, "begin_unix_s": begin, "end_unix_s": end, "billable": name != "Starting"}
            for name, begin, end in (("Starting", 0, 200), ("Downloading", 200, 260), ("Uploading", 400, 405))
        ],
        **dict.fromkeys(("hosts", "training_s", "billable_s", "waiting_s", "on_demand_usd", "spot_usd", "cost_usd"), 1),
    }
    result = Result(
        strategy="single", backend="sagemaker", seed=0, state="Completed", measurement="measured", training_s=7.0,
        updates=1001, phases={"first_step_s": 1.0}, billing=billing,
    )  # fmt: skip

    speed, outside_s, files = learn_type(result, job, profile)

    # 60 ms a step on this machine, whose kernel is worth two reference cores, and 6 ms there.
    assert speed == pytest.approx(2 * 10)
    assert saved_hosts()["ml.g5.xlarge"].relative_speed == pytest.approx(20)
    assert outside_s == saved_outside() == {"starting_s": 200, "download_s": 60, "upload_s": 5}
    assert files == [str(instances_file()), str(outside_file())]
    assert plan("--instance-type", "ml.g5.xlarge")[0] == 0


@pytest.mark.parametrize(("first", "update_s"), [(None, 0.5), (11, 1.0), (21, None)])
def test_an_update_is_measured_over_those_that_were_not_known_with_the_first_step(first, update_s):
    counted = None if first is None else Counts(
        examples_due=168, examples=168, updates=21, last_version=21, first_step_updates=first
    )  # fmt: skip
    result = Result(
        strategy="local-sgd", backend="local", seed=0, state="Completed", training_s=12.0, updates=21,
        phases={"first_step_s": 2.0}, counted=counted,
    )  # fmt: skip

    assert measured_update_s(result) == update_s


def test_emulated_runs_teach_nothing_about_instances(profile, tmp_path, capsys):
    job = make_job(strategy="ps-async", epochs=20)
    ran(tmp_path / "runs" / "one", job, forecast_for(job, profile), 1.5, "emulated")

    assert main(["calibrate", str(tmp_path / "runs"), "--json"]) == 0

    content = json.loads(capsys.readouterr().out)
    assert content["speeds"] == {} and content["outside_s"] == {}
    assert content["runs"][0]["residual"] == pytest.approx(1 / 1.5 - 1)
    assert content["kept"] == [str(residuals_file())]
    assert saved_outside() == {}


def test_runs_that_teach_nothing_say_why(file, profile, tmp_path, capsys):
    job = make_job(epochs=20)
    write_forecast(job, profile, tmp_path / "runs" / "said")
    failed = ran(tmp_path / "runs" / "failed", job, forecast_for(job, profile), 1.0, "emulated", state=RunState.FAILED)
    bare = ran(tmp_path / "runs" / "bare", job, forecast_for(job, profile), 1.0, "emulated")
    bare.forecast_file.unlink()

    assert main(["calibrate", str(tmp_path / "runs")]) == 2

    errors = capsys.readouterr().err
    assert "said: it is a forecast itself" in errors
    assert f"{failed.id}: it did not complete" in errors
    assert "bare: nothing was forecast of it" in errors and "facesim profile" in errors


@pytest.mark.parametrize("command", ["report", "show", "list"])
def test_json_for_machines_is_json_also_of_a_run_that_diverged(profile, tmp_path, capsys, command):
    job, odd = make_job(epochs=20), {"held_out_loss": math.nan, "wire_bytes": math.inf}
    run = ran(tmp_path / "runs" / "one", job, forecast_for(job, profile), 1.0, "emulated", **odd)
    where = [str(run.directory if command == "show" else tmp_path / "runs")]
    page = ["--output", str(tmp_path / "r.html")] if command == "report" else []

    assert main([command, *where, "--json", *page]) == 0

    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_runs_that_contradict_each_other_teach_no_speed(profile, tmp_path, capsys):
    for seed, factor in enumerate((0.5, 1.5)):
        job = make_job(backend="sagemaker", instance_type="ml.m5.xlarge", epochs=200, seed=seed)
        ran(tmp_path / "runs" / str(seed), job, forecast_for(job, profile), factor, "measured")

    assert main(["calibrate", str(tmp_path / "runs"), "--json"]) == 0

    content = json.loads(capsys.readouterr().out)
    assert content["speeds"] == {} and saved_hosts()["ml.m5.xlarge"].speed_origin == "assumed"
    assert "the speed of ml.m5.xlarge: its runs contradict each other" in content["left_out"][0]


def test_a_copy_of_a_run_another_shape_s_forecast_and_replicas_apart_teach_nothing(profile, tmp_path, capsys):
    job, runs = make_job(strategy="ps-sync", workers=2, epochs=20), tmp_path / "runs"
    forecast = forecast_for(job, profile)
    ran(runs / "one", job, forecast, 1.5, "emulated")
    shutil.copytree(runs / "one", runs / "two")
    ran(runs / "apart", job, forecast, 9.0, "emulated", sync_audit={"verdict": "apart"})
    single = forecast_for(make_job(epochs=20), profile)
    ran(runs / "other", job, single, 9.0, "emulated")
    no_time = json.dumps(forecast.model_dump(mode="json") | {"update_s": 0})
    ran(runs / "zero", job, forecast, 1.0, "emulated").forecast_file.write_text(no_time)

    assert main(["calibrate", str(runs), "--json"]) == 0

    content = json.loads(capsys.readouterr().out)
    assert [each["run_id"] for each in content["runs"]] == ["one"]
    left_out = " ".join(content["left_out"])
    assert "two: it is a copy of" in left_out and "apart: its replicas did not train together" in left_out
    assert "other: its forecast is of single on" in left_out and "update_s: Input should be greater than 0" in left_out


def test_what_was_disturbed_on_purpose_or_while_it_was_profiled_teaches_no_speed(profile, tmp_path, capsys):
    options = {"backend": "sagemaker", "instance_type": "ml.m5.xlarge", "epochs": 200}
    plain, struck = make_job(**options), make_job(**options, faults=[{"kind": "interrupt", "at_s": 60}])
    disturbed = profile.model_copy(update={"disturbed": True})
    ran(tmp_path / "runs" / "busy", plain, forecast_for(plain, disturbed), 1.2, "measured")
    ran(tmp_path / "runs" / "struck", struck, forecast_for(struck, profile), 3.0, "measured")

    assert main(["calibrate", str(tmp_path / "runs"), "--json"]) == 0

    content = json.loads(capsys.readouterr().out)
    assert [each["run_id"] for each in content["runs"]] == ["busy"] and content["speeds"] == {}
    assert sorted(content["left_out"]) == [
        "struck: its faults disturbed it (--faults)",
        "the speed that busy shows: the machine was disturbed while it was profiled",
    ]
    with pytest.raises(InputError, match=r"disturbed while it was profiled.*facesim profile --fresh"):
        calibration_job(plain, disturbed)


def test_a_type_is_measured_with_a_part_of_many_images(profile, faces, tmp_path):
    options = {"data": str(faces), "image_size": 32, "batch": 8, "backend": "sagemaker", "instance_type": "ml.m5.large"}
    here = saved_hosts()["ml.m5.large"].relative_speed / 2  # of the machine of the profile

    def measured(update_s: float, **more: str) -> Job:
        steps = [{"batch": 8, "step_s": update_s * here}]
        changed(profile, batch=8, compute=steps).save(tmp_path / "slow.json")
        job = make_job(**options, **more)
        return calibration_job(job, profile_for(job, tmp_path / "slow.json", quiet=True))

    # Eight people have eight images each to train on.
    with pytest.raises(InputError, match=r"64 training images takes about 8 min on ml.m5.large.*--subset images=2$"):
        measured(60)
    assert measured(60, subset="images=2").experiment.epochs == 2
    with pytest.raises(InputError, match=r"takes about 21 min .*--subset identities=3,images=2$"):
        measured(160)
    assert measured(160, subset="identities=3,images=2").experiment.epochs == 1
    assert measured(29).experiment.epochs == 1


def test_times_around_a_run_that_was_stopped_and_resumed_are_not_those_of_one_job():
    spans = [
        {"state": "Starting", "begin_unix_s": begin, "end_unix_s": begin + 200, "billable": False} for begin in (0, 900)
    ]
    names = ("hosts", "training_s", "billable_s", "waiting_s", "on_demand_usd", "spot_usd", "cost_usd")
    life = {"groups": [], "training_s": 1, "cost_usd": 1}

    def outside(lives: int) -> dict[str, float]:
        billing = {**dict.fromkeys(names, 1), "transitions": spans[:lives], "lives": [life] * lives}
        ended = {"strategy": "single", "backend": "sagemaker", "seed": 0, "state": "Completed", "billing": billing}
        return outside_of([Result.model_validate(ended)])

    assert outside(1) == {"starting_s": 200} and outside(2) == {}


def test_calibrating_from_nothing_or_from_both_is_refused(capsys):
    assert main(["calibrate"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["calibrate", "runs", "--instance-type", "ml.m5.xlarge"]) == 2


@pytest.mark.parametrize(
    ("kept", "content"),
    [
        (residuals_file, {"rows": "none"}),
        (residuals_file, {"schema_version": 1, "rows": [[0.1, 1e300]] * 4}),
        (residuals_file, {"schema_version": 1, "rows": [[0.1, -2]]}),
        (outside_file, {"starting_s": math.nan}),
        (outside_file, {"starting_s": -500}),
        (outside_file, {"starting_s": math.inf}),
        (outside_file, {"starting": 5}),
        (outside_file, []),
    ],
)
def test_damage_to_what_was_learnt_is_told(plan, kept, content):
    kept().parent.mkdir(parents=True, exist_ok=True)
    kept().write_text(json.dumps(content))

    code, _, errors = plan()

    assert code == 2 and f"{kept()} does not hold" in errors and "delete it, or calibrate again" in errors


def test_a_docker_run_is_forecast_with_what_its_hosts_are_given(profile):
    options = {"strategy": "allreduce", "workers": 2, "backend": "docker", "epochs": 20}
    usual, _ = forecast_of(make_job(**options), profile)

    slower, _ = forecast_of(make_job(host_gbps=0.05, **options), profile)

    assert usual.phases.waiting_s == usual.phases.download_s == 0
    assert slower.time_s > 2 * usual.time_s
    assert slower.training_bound in ("network in", "network out")


def host_in_containers(profile, processors: int | None, **options) -> HostType:
    """What a host of a docker run is taken for, where the engine has so many processors; None: it does not say."""
    about = {} if processors is None else {"NCPU": processors, "MemTotal": 2**33}
    with engine(about):
        return forecast_of(make_job(strategy="allreduce", workers=2, backend="docker", **options), profile)[1]


@pytest.mark.parametrize("processors", [4, 64])
def test_a_host_in_a_container_is_as_fast_as_so_many_processors_of_the_profile(profile, processors):
    kind = host_in_containers(profile, processors, host_cpus=1)

    assert (kind.relative_speed, kind.cores) == (pytest.approx(1), 1)  # the profile's two are two reference cores


def test_containers_share_the_processors_of_their_engine_or_else_of_this_machine(profile, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)

    two, eight, unknown = (host_in_containers(profile, processors) for processors in (2, 8, None))

    assert two.relative_speed == pytest.approx(0.9) and two.cores == 1  # nine tenths of two are for both hosts
    assert eight.relative_speed == pytest.approx(4 * two.relative_speed) and unknown == eight


def test_a_local_run_is_forecast_with_the_cores_that_its_tasks_share(profile):
    two, four = (forecast_of(make_job(strategy="ps-async", workers=count), profile)[0] for count in (2, 4))

    # 0.125 CPU-seconds an update on two cores, whatever the number of workers.
    assert two.update_s == pytest.approx(0.125 / 2) == four.update_s
    assert two.training_bound == "host CPU"


@pytest.mark.parametrize(("backend", "extrapolated"), [("local", False), ("docker", False), ("sagemaker", True)])
def test_what_bfloat16_takes_on_this_machine_is_measured(profile, backend, extrapolated):
    job = make_job(backend=backend, precision="bfloat16")

    forecast, _ = forecast_of(job, profile.model_copy(update={"precision": "bfloat16"}))

    assert forecast.extrapolated == extrapolated


@pytest.mark.parametrize("backend", ["local", "docker", "sagemaker"])
def test_a_forecast_of_servers_with_hosts_of_their_own_and_of_spot_capacity(profile, tmp_path, backend):
    job = make_job(strategy="ps-async", ps_instance_type="ml.c5.xlarge", spot=True, epochs=20, backend=backend)

    run = write_forecast(job, profile, tmp_path / "run")

    result, forecast = run.result(), run.forecast()
    assert result.billing.spot and result.billing.cost_usd < result.billing.on_demand_usd
    assert forecast.total_s == result.total_s > 0
    if backend == "sagemaker":
        assert result.billing.cost_usd == pytest.approx(forecast.cost_usd, rel=0.02)
        assert any("spot capacity loses each host" in text for text in forecast.assumptions)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"threads": 1}, "--threads 1 is not looked at"),
        ({"strategy": "ps-async", "steps_per_dispatch": 2}, "--steps-per-dispatch 2 is not looked at"),
        (
            {"spot_lifetimes": "weibull:0.9,4", "spot_notice_s": 60},
            "--spot-lifetimes weibull:0.9,4 and --spot-notice-s 60.0 are not looked at",
        ),
        ({"backend": "sagemaker", "keep_alive_s": 600}, "--keep-alive-s 600 is not looked at"),
        ({"faults": [{"kind": "kill", "target": "chief-0", "at_s": 5}]}, "--faults is not looked at"),
        ({"backend": "sagemaker", "max_run": 60, "epochs": 500}, "--max-run 60 is not looked at: it ends the job"),
        ({"spot": True, "max_wait": 9, "epochs": 500}, "--max-wait 9 is not looked at: it ends the job before"),
        ({"backend": "sagemaker", "spot": True, "max_run": 86400}, None),
    ],
)
def test_what_a_forecast_leaves_out_is_said(profile, options, note):
    assumptions = forecast_of(make_job(**options), profile)[0].assumptions

    said = [text for text in assumptions if "not looked at" in text]
    assert not said if note is None else [text for text in said if text.startswith(note)]


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        ({"backend": "sagemaker"}, ["AWS' own limit ends a job after 86400 s unless --max-run says otherwise, before"]),
        ({"backend": "docker"}, ["AWS' own limit ends a job after 86400 s unless --max-run says otherwise, before"]),
        (
            {"backend": "sagemaker", "spot": True, "max_run": 50_000},
            [
                "--max-run 50000 is not looked at: it ends the job before",
                "AWS' own limit ends a job after 100000 s unless --max-wait says otherwise, before",
            ],
        ),
        ({"backend": "sagemaker", "spot": True, "max_wait": 50_000}, ["--max-wait 50000 is not looked at"]),
        ({"backend": "sagemaker", "max_run": 2e6}, []),
        ({"backend": "kubernetes"}, []),
        ({"backend": "local"}, []),
    ],
)
def test_what_ends_a_job_before_it_is_done_is_said(profile, options, notes):
    forecast, _ = forecast_of(make_job(epochs=400, **options), slow(profile))

    assert 100_000 < forecast.phases.billed_s < 2e6
    said = [text for text in forecast.assumptions if "ends a job" in text or "ends the job" in text]
    assert len(said) == len(notes) and all(text.startswith(note) for text, note in zip(said, notes, strict=True))


def test_a_plan_says_which_of_its_jobs_take_longer_than_they_may(plan, profile, file):
    slow(profile).save(file)
    options = ("--strategy", "single", "--instance-type", "ml.m5.2xlarge", "--epochs")

    (said,), none = (
        [line for line in plan(*options, epochs)[1].splitlines() if line.startswith("limit")] for epochs in ("400", "4")
    )

    assert "AWS' own limit ends a job after 86400 s unless --max-run says otherwise" in said
    assert said.endswith("give it to run single on ml.m5.2xlarge") and not none


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize("backend", ["sagemaker", "kubernetes", "docker", "local"])
def test_a_price_is_in_doubt_where_one_is_shown(profile, backend, spot):
    forecast, _ = forecast_of(make_job(backend=backend, strategy="allreduce", spot=spot), profile)

    doubts = [text for text in forecast.assumptions if "price" in text]
    assert len(doubts) == ((2 if spot else 1) if backend == "sagemaker" else 0), doubts


def test_a_pod_is_forecast_with_the_cpus_that_it_is_given(profile):
    options = {"strategy": "allreduce", "backend": "kubernetes", "instance_type": "ml.m5.2xlarge"}  # of 8 vCPU
    usual, quarter, twice = (forecast_of(make_job(**options, pod_cpus=cpus), profile)[1] for cpus in (None, 2.0, 16.0))

    assert quarter.relative_speed == usual.relative_speed / 4 and twice.relative_speed == 2 * usual.relative_speed
    assert (quarter.cores, usual.cores, twice.cores) == (1, 4, 8)


@pytest.mark.parametrize(
    "command",
    [
        ["forecast"],
        ["calibrate", "--instance-type", "ml.m5.xlarge"],
        ["calibrate", "--instance-type", "ml.m5.xlarge", "--profile", "FILE"],
    ],
)
def test_data_that_hosts_alone_read_is_no_data_to_measure_with(file, command, capsys):
    command = [str(file) if word == "FILE" else word for word in command]

    assert main([*command, "--data", "s3://a-bucket/faces"]) == 2

    assert "--data s3://a-bucket/faces is read by hosts alone" in capsys.readouterr().err


def test_a_profile_that_is_named_is_of_as_many_images_as_the_data_has(profile, tmp_path, faces, capsys):
    file, job = tmp_path / "profile.json", make_job(data=str(faces), image_size=32, backend="sagemaker")
    fixed = profile.fixed.model_copy(update={"evaluation_image_s": 0.01})
    profile.model_copy(update={"identities": 40, "fixed": fixed}).save(file)

    used = profile_for(job, file, quiet=True)

    assert (used.examples, used.fixed.evaluation_s) == (64, pytest.approx(16 * 0.01))
    assert "was measured with 40 identities, the data has 8" in capsys.readouterr().err


def test_spot_capacity_is_forecast_with_the_checkpoints_of_the_job(profile):
    options = {"backend": "sagemaker", "spot": True, "spot_rate": 5.0, "epochs": 500}
    usual, never, often = (
        forecast_of(make_job(**options, **every), profile)[0].phases.interrupted_s
        for every in ({}, {"checkpoint_s": 0}, {"checkpoint_s": 0, "checkpoint_steps": 200})
    )

    assert often != usual and often < never


def test_a_network_of_ones_own_is_the_same_wherever_its_file_lies(profile, tmp_path):
    def job_of(name: str, content: str) -> Job:
        (tmp_path / name).write_text(content)
        return make_job(model=f"{tmp_path / name}:build", epochs=20)

    one, moved, other = job_of("net.py", "a = 1"), job_of("moved.py", "a = 1"), job_of("other.py", "a = 2")
    run = ran(tmp_path / "run", one, forecast_for(one, profile), 1.0, "emulated")
    of_one = profile.model_copy(update={"model": one.experiment.model})
    unseen = Inputs(UnseenData("photos", (64, 64, 3), ()))

    check_profile(of_one, moved, "the profile")
    with pytest.raises(InputError, match=r"--model .*other.py:build.*: the profile is of .*net.py:build"):
        check_profile(of_one, other, "the profile")
    known = [bool(accuracies([run], job, profile, [ClusterShape()])) for job in (moved, other)]
    assert known == [True, False]
    assert profile_file(one, unseen) == profile_file(moved, unseen) != profile_file(other, unseen)


@pytest.mark.parametrize(
    "look", [saved_widths, saved_hosts, saved_outside, lambda: save_speeds({"ml.m5.large": 1.0}, "a test")]
)
def test_what_was_learnt_where_this_user_may_not_look_is_told(tmp_path, monkeypatch, look):
    """Python raises for a folder that this user may not enter as for a name that is too long."""
    monkeypatch.setattr("facesim.planning.saved.state_folder", lambda: tmp_path / ("x" * 300))

    with pytest.raises(InputError, match=r"x/forecast/.*: its path is too long; name another place with FACESIM_CACHE"):
        look()


@pytest.mark.parametrize("spot", [["--spot", "--spot-discount", "0.3"], ["--spot"], []])
def test_a_forecast_has_one_price_that_of_the_user(file, tmp_path, capsys, spot):
    own = tmp_path / "own.toml"
    own.write_text('[instances."ml.m5.2xlarge"]\nprice_usd_per_hour = 4.0\n')
    options = ["--profile", str(file), "--instances", str(own), "--output", str(tmp_path / "runs"), "--epochs", "20"]
    ps = ["--strategy", "ps-async", "--workers", "3", "--ps-instance-type", "ml.c5.xlarge"]

    assert main(["forecast", *options, *ps, *spot, "--json"]) == 0

    (shown,) = json.loads(capsys.readouterr().out)
    (run,) = find_runs([tmp_path / "runs"])
    result, forecast = run.result(), run.forecast()
    assert result.billing.cost_usd == pytest.approx(forecast.cost_usd, rel=0.002) == shown["cost_usd"]
    assert result.cost_usd == pytest.approx((3 * 4.0 + 0.204) * result.billing.training_s / 3600)
    assert result.billing.spot_discount == pytest.approx(0.3 if len(spot) > 1 else 0.57)
    assert [group["usd_per_hour"] for group in result.billing.groups] == [4.0, 0.204]
    assert ("spot price of ml.m5.2xlarge is assumed" in " ".join(forecast.assumptions)) == (spot == ["--spot"])


def test_a_toml_file_of_options_is_forecast_for_each_of_its_strategies(file, tmp_path, capsys):
    study = tmp_path / "study.toml"
    study.write_text('strategy = ["single", "ps-sync"]\nworkers = 3\nepochs = 5\ninstance-type = "ml.c5.xlarge"\n')

    assert main(["forecast", str(study), "--profile", str(file), "--output", str(tmp_path / "runs"), "--json"]) == 0

    shapes = [each["shape"] for each in json.loads(capsys.readouterr().out)]
    assert shapes == ["single on ml.c5.xlarge", "ps-sync, 3 workers, 1 ps on ml.c5.xlarge"]


def test_the_file_of_a_study_is_forecast_with_its_seeds(file, tmp_path, capsys):
    study = tmp_path / "study.toml"
    study.write_text(
        'title = "Two"\nabout = "What a file says of itself."\nstrategy = ["single", "ps-async"]\nseeds = [3, 5]\n'
        'output = "elsewhere"\nparallel = 2\n[published]\nsource = "a paper"\n'
    )
    options = ["--profile", str(file), "--output", str(tmp_path / "runs"), "--json"]

    assert main(["forecast", str(study), *options]) == 0

    seeds = [run.job().experiment.seed for run in find_runs([tmp_path / "runs"])]
    assert sorted(seeds) == [3, 3, 5, 5] and len(json.loads(capsys.readouterr().out)) == 4
    assert main(["forecast", str(study), "--seed", "7", *options]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


@pytest.mark.parametrize("study", sorted((ROOT / "studies").glob("*.toml")), ids=lambda file: file.stem)
def test_facesim_s_own_studies_can_be_asked_for(study):
    assert len(described_jobs([study], [], {})) > 2


def test_data_that_a_forecast_does_not_look_at_is_said(profile, file, tmp_path, capsys):
    job = make_job(epochs=2)
    run = ran(tmp_path / "run", job, forecast_for(job, profile), 1.0, "measured", data={"training_examples": 10_000})
    study = tmp_path / "study.toml"
    study.write_text('held-out = 0.5\nsubset = "images=4"\n')
    options = ["--profile", str(file), "--output", str(tmp_path / "runs"), "--json"]

    for source, note in (
        (["--data", "big"], f"--data is not looked at: 870 training examples are taken from the profile {file}"),
        ([str(study), "--test", "other"], "--test, --subset and --held-out are not looked at: 870"),
        ([str(run.directory)], "the run trained on 10,000 examples, the forecast is of the 870 training examples of"),
    ):
        assert main(["forecast", *source, *options]) == 0
        (shown,) = json.loads(capsys.readouterr().out)
        assert any(note in text for text in shown["assumptions"]), shown["assumptions"]
    in_python = facesim.forecast(profile=file, output=tmp_path / "runs", min_images=3).forecast.assumptions
    assert any(text.startswith("--min-images is not looked at: 870") for text in in_python)


@pytest.mark.parametrize("workers", ["2", "1"])
def test_faults_of_a_run_or_a_study_that_a_forecast_does_not_look_at_are_said(file, profile, tmp_path, capsys, workers):
    fault = {"kind": "kill", "targets": ["worker-1"], "at_s": 5}
    struck = make_job(strategy="ps-sync", workers=2, epochs=2, faults=[fault])
    run = ran(tmp_path / "run", struck, forecast_for(struck, profile), 1.0, "measured")
    study = tmp_path / "study.toml"
    study.write_text('strategy = "ps-sync"\nfaults = "random"\n')
    options = ["--workers", workers, "--profile", str(file), "--output", str(tmp_path / "runs"), "--json"]

    for source in (run.directory, study):
        assert main(["forecast", str(source), *options]) == 0
        (shown,) = json.loads(capsys.readouterr().out)
        assert "--faults is not looked at" in shown["assumptions"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch = 5\n", "unknown option --epoch"),
        ("epoch = [5, 6]\n", "unknown option --epoch"),
        ('epochs = "many"\n', "--epochs 'many' is not allowed"),
        ("seed = 1\nseeds = 2\n", "--seed is what --seeds says"),
        ("epochs = \n", "cannot be read as TOML"),
        ('strategy = "ps"\n', "'ps' is not allowed"),
        ("strategy = []\n", "--strategy has no values"),
        ("epochs = true\n", "--epochs True is not allowed: a number"),
        ('spot = "no"\n', "--spot 'no' is not allowed: true or false"),
        ("backend = 3\n", "--backend is 3; it must be a name, or a list of names"),
        ("[strategy]\nname = 1\n", "--strategy is {'name': 1}; it must be a name, or a list of names"),
        ("learning-rate = true\n", "--learning-rate True is not allowed: a number"),
    ],
)
def test_a_toml_file_with_something_wrong_is_told(file, tmp_path, capsys, content, message):
    study = tmp_path / "study.toml"
    study.write_text(content)

    assert main(["forecast", str(study), "--profile", str(file), "--output", str(tmp_path / "runs")]) == 2

    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "ps-async", "--local-steps", "4"], "--local-steps 4 means nothing"),
        (["--instance-type", "ml.m5.huge"], "--instance-type 'ml.m5.huge' is not allowed"),
        (["--instance-type", "ml.g5.xlarge"], "nobody knows how fast ml.g5.xlarge trains"),
        (["--model", "compact-cnn"], "is of paper-cnn"),
    ],
)
def test_a_job_that_cannot_be_forecast_leaves_nothing(file, tmp_path, capsys, options, message):
    assert main(["forecast", "--profile", str(file), "--output", str(tmp_path / "runs"), *options]) == 2

    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--instance-type", "--ps-instance-type"])
def test_a_machine_that_no_job_can_run_on_is_forecast_by_plans_and_that_is_said(file, tmp_path, capsys, option):
    own = tmp_path / "own.toml"
    own.write_text("[instances.lab]\nvcpu = 4\ncores = 2\nmemory_gib = 8\nrelative_speed = 2\nnetwork_base_gbps = 1\n"
                   "network_peak_gbps = 1\nprice_usd_per_hour = 0.1\n")  # fmt: skip
    options = ["--profile", str(file), "--instances", str(own), "--output", str(tmp_path / "runs")]

    assert main(["forecast", *options, "--strategy", "ps-async", option, "lab"]) == 2

    said = capsys.readouterr().err
    assert f"{option} lab: it is in {own} alone" in said and "or ask facesim plan" in said


def test_what_was_measured_of_a_type_stays_while_its_price_is_not_known(tmp_path):
    unknown = "ml.m99.huge"
    save_speeds({unknown: 99.0, "ml.m5.large": 3.0}, "a job at AWS")

    known = saved_hosts()
    assert known["ml.m5.large"].relative_speed == 3 and unknown not in known
    save_speeds({"ml.m5.large": 4.0}, "a job at AWS")
    assert unknown in instances_file().read_text() and saved_hosts()["ml.m5.large"].relative_speed == 4
    priced = tmp_path / "own.toml"
    priced.write_text(f'[instances."{unknown}"]\nvcpu = 8\n')
    with pytest.raises(InputError, match=rf"{unknown}\."):
        saved_hosts(priced)


def test_nothing_is_learnt_of_a_type_from_a_run_that_other_load_disturbed(profile, tmp_path, monkeypatch):
    job = make_job(epochs=20, backend="sagemaker", instance_type="ml.m5.xlarge")
    load = {"load": {"steal_percent": 30.0}}
    run = ran(tmp_path / "run", job, forecast_for(job, profile), 1.0, "measured", **load)
    monkeypatch.setattr(calibration, "run_study", lambda *_: [run])
    monkeypatch.setattr(calibration, "calibration_job", lambda *_: job)

    learnt = calibration.calibrate_type(job, profile, tmp_path)

    assert not learnt.speeds and "disturbed" in learnt.notice and not instances_file().exists()
