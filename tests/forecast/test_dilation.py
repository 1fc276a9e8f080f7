"""The benchmark of the forecast by time dilation: shapes, hosts, what a run tells, forecasts first."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from benchmarks import dilation, forecast_docker, namespaces
from benchmarks.dilation import (
    DEFAULT_SHAPES,
    DilatedShape,
    Figures,
    cpu_s_per_update,
    epochs_for,
    errors_of,
    forecast_of,
    forecast_with_cpu_of,
    host_of,
    measured,
    shapes_of,
    speed_of,
    with_cpu_s,
)
from facesim.metrics.files import SampleWriter
from facesim.runs.directory import Run
from facesim.runs.records import Counts, Load, Resources, Result
from facesim.util.errors import FacesimError, InputError
from facesim.util.files import write_json

SHAPE = DilatedShape(strategy="ps-async", workers=2, gbps=0.5, model="paper-cnn")


def test_the_default_shapes_are_as_different_as_they_are_said_to_be():
    assert len({shape.name for shape in DEFAULT_SHAPES}) == len(DEFAULT_SHAPES) >= 12
    assert {shape.workers for shape in DEFAULT_SHAPES} >= {1, 6}
    assert {shape.ps for shape in DEFAULT_SHAPES if shape.strategy.startswith("ps")} == {1, 2}
    assert {0.2, 1.0} <= {shape.gbps for shape in DEFAULT_SHAPES}
    assert len({shape.model for shape in DEFAULT_SHAPES}) == 2
    assert Counter(shape.strategy for shape in DEFAULT_SHAPES).keys() == {"ps-async", "ps-sync", "allreduce"}
    for shape in DEFAULT_SHAPES:
        job = shape.job("rendered", epochs=3)
        assert (job.backend.host_cpus, job.backend.host_gbps) == (1.0, shape.gbps)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a table \[\[shape\]\] for each"),
        ('[[shape]]\nstrategy = "ps-async"\nworkers = 0\ngbps = 1\nmodel = "m"', "shape 1: workers"),
        ('[[shape]]\nstrategy = "ps-async"\nworkers = 1\ngbps = 1\nmodel = "m"\nspeed = 2', "shape 1: speed"),
        ('[[shape]]\nstrategy = "magic"\nworkers = 1\ngbps = 1\nmodel = "m"', "shape 1: .*magic"),
        (2 * '[[shape]]\nstrategy = "single"\nworkers = 1\ngbps = 1\nmodel = "m"\n', "gbps-m is there 2 times"),
    ],
)
def test_a_wrong_file_of_shapes_is_told_before_anything_runs(tmp_path, text, message):
    file = tmp_path / "shapes.toml"
    file.write_text(text)

    with pytest.raises(InputError, match=message):
        shapes_of(str(file))


@pytest.mark.parametrize("other", [{"batch": 8}, {"image_size": 64}, {"host_cpus": 2.0}])
def test_shapes_that_differ_have_names_that_differ(other):
    assert SHAPE.name == "ps-async-2w-1ps-0.5gbps-paper-cnn"
    assert SHAPE.model_copy(update=other).name != SHAPE.name


def test_a_profile_that_is_given_is_of_the_shape_or_refused(profile, tmp_path):
    small = profile.model_copy(update={"batch": 8, "options": {"image_size": 32}})
    others = [profile, small, profile.model_copy(update={"model": "compact-cnn"})]

    for batch, its in ((32, profile), (8, small)):
        assert forecast_docker.profile_of(SHAPE.model_copy(update={"batch": batch}), "none", tmp_path, others) is its
    with pytest.raises(InputError, match="no --profile of paper-cnn is of batch 8 and images of 64 pixels"):
        forecast_docker.profile_of(SHAPE.model_copy(update={"batch": 8, "image_size": 64}), "none", tmp_path, others)


def test_a_host_is_as_fast_as_its_processors_of_this_machine(profile):
    host = host_of(SHAPE, profile)  # one of the profile's two processors

    forecast, _ = forecast_of(SHAPE, profile.model_copy(update={"cpu_s_per_update": {}}), epochs=3)

    assert (host.cores, host.network_base_gbps, host.bucket_bytes) == (1, 0.5, 0)
    assert forecast.update_s * SHAPE.workers > 2 * 0.06  # a step takes 60 ms of two


def test_a_played_host_is_as_fast_as_it_computes_when_nothing_is_sent(profile, run):
    own = SHAPE.model_copy(update={"ps_hosts": True, "strategy": "ps-sync"})

    half = host_of(SHAPE, profile, 0.5)

    assert half.relative_speed == host_of(SHAPE, profile).relative_speed / 2
    assert (own.computing.strategy, own.computing.workers, own.computing.ps_hosts) == ("independent", 3, False)
    assert SHAPE.model_copy(update={"workers": 1}).computing.strategy == "single"
    assert speed_of(run, SHAPE, profile) == pytest.approx(4 / 0.5 * 0.06)  # 4 a second, of half a processor; 60 ms each


def test_a_run_is_as_long_as_was_asked_for_in_this_machines_time(profile):
    six = SHAPE.model_copy(update={"workers": 6})
    _, epoch = forecast_of(six, profile, epochs=1)

    epochs = epochs_for(six, profile, seconds=300, cpus=2)

    assert epochs * epoch.training_s / (2 / 6) == pytest.approx(300, rel=0.2)
    assert epochs_for(six, profile, seconds=0.1, cpus=2) == 3


def test_errors_are_relative_but_for_staleness():
    errors = errors_of(Figures(11.0, 90.0, 100.0, 3.0), Figures(10.0, 100.0, None, 2.8))

    assert asdict(errors) == pytest.approx(
        {"updates_per_s": 0.1, "training_s": -0.1, "wire_bytes_per_update": None, "staleness": 0.2}
    )


@pytest.fixture
def run(tmp_path) -> Run:
    """A completed run by containers that had half of what their hosts have: two epochs of 40 updates of 32 images, the
    second of 10 seconds; before the first step 7 MB were received, for updates 80 x 1 MB.
    """
    run = Run.create(tmp_path / "run", SHAPE.job("rendered", epochs=2))
    run.record("emulation", cpu_factor=0.5)
    begin = time.time()
    training = SampleWriter(run.metrics / "chief-0.jsonl", run_id=run.id, host="algo-1", source="training")
    sockets = SampleWriter(run.metrics / "monitor-0.jsonl", run_id=run.id, host="algo-1", source="sockets")
    for second in range(31):
        updates = min(80, max(0, (second - 10) * 4))
        received = 7e6 * min(1, second / 5) + 1e6 * updates
        sockets.write(begin + second, "worker", 0, {"net_received_bytes": received, "net_sent_bytes": received})
        if updates and second < 30:
            training.write(begin + second, "chief", 0, {"updates": updates, "examples": 32 * updates})
    for epoch, seconds in ((1, 20.0), (2, 10.0)):
        values = {"epoch": epoch, "updates": 40 * epoch, "examples": 1280 * epoch, "images_per_s": 1280 / seconds}
        training.write(begin + 10 * (1 + epoch) + 0.5, "chief", 0, values)
    Result(
        strategy="ps-async",
        backend="docker",
        seed=0,
        state="Completed",
        updates=80,
        phases={"first_step_s": 1.0},
        total_s=40.0,
        wire_bytes=87e6,
        resources={"worker": Resources(net_received_bytes=87e6)},
        load=Load(foreign_cpu_percent=50.0, steal_percent=0.0),
        counted=Counts(examples_due=2560, examples=2560, updates=80, last_version=80, staleness={0: 40, 2: 40}),
    ).write(run.result_file)
    return run


def test_a_run_tells_what_each_role_needs_of_a_processor(run):
    """From a quarter of the run on: 0.01 s of the chief for an update, 0.06 s of both workers; at the start more."""
    psutil = SampleWriter(run.metrics / "monitor-1.jsonl", run_id=run.id, host="algo-1", source="psutil")
    begin = next(iter(run.events())).time_unix_s
    for second in range(31):
        updates = min(80, max(0, (second - 10) * 4))
        psutil.write(begin + second, "chief", 0, {"cpu_s": 5.0 + 0.01 * updates})
        for index in range(2):
            psutil.write(begin + second, "worker", index, {"cpu_s": 9.0 + 0.03 * updates})

    assert cpu_s_per_update(run) == pytest.approx({"chief": 0.01, "worker": 0.06}, rel=0.1)


def test_a_forecast_that_is_told_what_tasks_needed_is_that_of_a_profile_which_needs_as_much(profile, run, monkeypatch):
    of_profile = profile.cpu_s_per_update | {"worker": profile.undivided_worker_cpu_s}
    twice = {role: 2 * cpu_s for role, cpu_s in of_profile.items()}
    monkeypatch.setattr(dilation, "cpu_s_per_update", lambda _: dict(twice))

    told = forecast_with_cpu_of(run, SHAPE, profile, epochs=3)

    assert told == forecast_of(SHAPE, profile, 3, speed=0.5)[1]
    assert forecast_with_cpu_of(run, SHAPE.model_copy(update={"strategy": "ps-sync"}), profile, epochs=3) is None


def test_a_profile_that_one_host_corrects_says_of_one_host_what_that_showed(profile):
    needs = {"chief": 0.012, "ps": 0.02, "worker": 0.09}

    corrected = with_cpu_s(profile, needs, speed=0.5)

    assert corrected.cpu_s_per_update["chief"] == pytest.approx(0.006)
    assert corrected.cpu_s_per_update["ps"] == pytest.approx(0.01)
    assert corrected.undivided_worker_cpu_s == pytest.approx(0.045)
    assert corrected.cpu_s_of_service() == pytest.approx(profile.cpu_s_of_service())
    assert corrected.compute == profile.compute and corrected.ring == profile.ring


def test_a_run_is_measured_without_its_start_and_without_dilation(run):
    figures = measured(run)

    assert figures.cpu_factor == 0.5
    assert figures.figures.updates_per_s == pytest.approx(4 / 0.5)
    assert figures.figures.training_s == pytest.approx(2 * 10 * 0.5)  # as the second epoch
    assert figures.figures.wire_bytes_per_update == pytest.approx(1e6, rel=0.001)
    assert figures.figures.staleness == 1
    assert figures.disturbances and "50 %" in figures.disturbances[0]


def test_a_run_proves_nothing_that_began_before_its_forecast(run):
    figures = asdict(Figures(8.8, 9.0, 1.0e6, 1.2))
    foreseen = {"bound": "compute", "offered_load": 0.5, "half_width": 0.2, "forecast": figures}
    before, after = ({"unix_s": time.time() + seconds, "utc": ""} for seconds in (-60, 60))

    result = forecast_docker.result_of(SHAPE, 1, {**foreseen, "made": before}, run)

    assert result["errors"]["updates_per_s"] == pytest.approx(0.1)
    report = forecast_docker.summary([result])
    assert report["worst"]["training_s"] == pytest.approx(0.1)
    assert report["disturbed"] == 1
    assert report["shapes"][0]["inside_interval"]
    assert any("+10.0 %" in line and "50 %" in line for line in forecast_docker.table(report))
    with pytest.raises(InputError, match="began before its forecast"):
        forecast_docker.result_of(SHAPE, 1, {**foreseen, "made": after}, run)


def test_of_several_rounds_the_middle_one_counts_and_the_table_has_how_far_apart_they_were(run):
    foreseen = {"bound": "compute", "offered_load": 0.5, "half_width": 0.2, "made": {"unix_s": 0.0, "utc": ""}}
    forecasts = [asdict(Figures(updates_per_s, 10.0, 1.0e6, 1.0)) for updates_per_s in (7.2, 12.0, 8.4)]
    results = [
        forecast_docker.result_of(SHAPE, round_, {**foreseen, "forecast": forecast}, run)
        for round_, forecast in enumerate(forecasts, 1)
    ]

    report = forecast_docker.summary(results)

    (row,) = report["shapes"]
    assert row["forecast"]["updates_per_s"] == 8.4
    assert report["mean"]["updates_per_s"] == pytest.approx(0.05)
    assert row["spread"]["updates_per_s"] == pytest.approx((-0.1, 0.5))
    assert any("8.40, 8.00 | +5.0 % (-10.0 %, +50.0 %) | - |" in line for line in forecast_docker.table(report))


def test_a_shape_is_played_again_whose_hosts_became_faster_or_slower_meanwhile(monkeypatch, tmp_path, run):
    """The hosts' speeds are found before and after each run: 1.0, 1.3, 1.35."""
    speeds, made = iter([1.0, 1.3, 1.35]), []
    profile = SimpleNamespace(created="", disturbed=False)

    def foresee(shape, profile, epochs, speed, file):
        made.append(speed)
        figures = asdict(Figures(8.8, 9.0, 1.0e6, 1.2))
        foreseen = {"bound": "compute", "offered_load": 0.5, "half_width": 0.2, "forecast": figures}
        write_json(file, {**foreseen, "made": {"unix_s": 0.0, "utc": ""}})

    monkeypatch.setattr(forecast_docker, "speed_as_played", lambda *_: next(speeds))
    monkeypatch.setattr(forecast_docker, "epochs_for", lambda *_: 3)
    monkeypatch.setattr(forecast_docker, "foresee", foresee)
    monkeypatch.setattr(forecast_docker, "play", lambda *_: run)
    monkeypatch.setattr(forecast_docker, "profile_of_one_host", lambda shape, profile, *_: profile)
    monkeypatch.setattr(forecast_docker, "forecast_with_cpu_of", lambda *_: Figures(8.4, 9.0, 1.0e6, 1.2))
    quiet = replace(measured(run), disturbances=())
    monkeypatch.setattr(forecast_docker, "measured", lambda _: quiet)

    result = forecast_docker.judge(SHAPE, profile, 1, forecast_docker.Setting("rendered", 1.0, tmp_path, "docker", 2.0))

    assert made == [1.0, 1.3]  # each forecast with what was found just before
    assert result["error_with_cpu"] == pytest.approx(0.05)
    assert result["attempt"] == 2 and result["speed_change"] == pytest.approx(1.35 / 1.3 - 1)
    assert [each["speed_change"] for each in result["attempts"]] == pytest.approx([0.3, 1.35 / 1.3 - 1])


def test_hosts_that_never_stayed_as_fast_are_told_and_a_round_in_which_they_did_counts_alone(run):
    foreseen = {"bound": "compute", "offered_load": 0.5, "half_width": 0.2, "made": {"unix_s": 0.0, "utc": ""}}
    quiet = replace(measured(run), disturbances=())

    def result_of(updates_per_s, change):
        figures = asdict(Figures(updates_per_s, 10.0, 1.0e6, 1.0))
        result = forecast_docker.result_of(SHAPE, 1, {**foreseen, "forecast": figures}, run)
        return result | {"speed_change": change, "measured": quiet.to_dict()}

    steady, unsteady = result_of(8.4, -0.06), result_of(12.0, -0.2)

    alone, both = (forecast_docker.summary(results) for results in ([unsteady], [unsteady, steady]))
    assert alone["shapes"][0]["disturbances"] == ["its hosts became 20 % slower"] and alone["disturbed"] == 1
    assert both["mean"]["updates_per_s"] == pytest.approx(0.05) and both["disturbed"] == 0


def test_a_wrong_profile_is_told_in_a_sentence(tmp_path):
    none = tmp_path / "none.json"

    ended = CliRunner().invoke(forecast_docker.main, ["--output", str(tmp_path / "out"), "--profile", str(none)])

    assert ended.exit_code == 1
    assert "cannot be read" in ended.output and "Traceback" not in ended.output


def test_a_benchmark_that_has_no_time_left_begins_nothing_and_says_what_is_left(tmp_path):
    options = ["--output", str(tmp_path / "out"), "--data", "rendered", "--minutes", "0", "--rounds", "2"]
    (of_before := tmp_path / "out" / "one_host").mkdir(parents=True)

    goes_on = CliRunner().invoke(forecast_docker.main, [*options, "--resume"])
    kept = of_before.exists()

    ended = CliRunner().invoke(forecast_docker.main, options)

    if ended.exit_code:  # neither containers nor namespaces are possible here
        assert "Traceback" not in ended.output
        pytest.skip(ended.output)
    assert f"{2 * len(DEFAULT_SHAPES)} runs are left: --resume goes on with them" in ended.output
    assert not (tmp_path / "out" / "runs").exists()
    # What was measured for an earlier command counts only where that goes on.
    assert goes_on.exit_code == 0 and kept and not of_before.exists()


def test_hosts_are_played_by_namespaces_where_those_are_asked_for(faces, tmp_path, monkeypatch):
    class Reached(namespaces.NamespacesBackend):
        def check(self, job):
            pass

        def submit(self, run, request):
            raise FacesimError("the namespaces were reached")

    monkeypatch.setattr(namespaces, "BACKEND", Reached())

    with pytest.raises(FacesimError, match="did not complete: the namespaces were reached"):
        forecast_docker.play(SHAPE, str(faces), 3, tmp_path, "namespaces")
