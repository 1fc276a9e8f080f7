"""Forecasts of jobs: what they are made of, how they change with the shape, what is refused."""

from __future__ import annotations

import functools
import json
import math
import operator
import re
import statistics
import time

import pydantic
import pytest

from benchmarks.forecast_speed import shapes
from facesim.forecast import laws
from facesim.forecast.hosts import hosts
from facesim.forecast.model import SpotRisk, forecast_job, forecast_jobs
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape
from facesim.forecast.simulate import simulate_async
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError
from tests.forecast.conftest import changed


def test_one_machine_like_the_profiles_takes_the_steps_that_were_measured(profile, this_machine):
    forecast = forecast_job(profile, ClusterShape(instance_type="here"), epochs=10, known_hosts=this_machine)

    assert forecast.updates == 28 * 10
    assert forecast.phases.training_s == pytest.approx(280 * 0.06)
    assert forecast.phases.evaluation_s == pytest.approx(10 * 0.3)
    assert forecast.time_s == pytest.approx(sum(vars(forecast.phases).values()))
    assert forecast.bound == "start-up"
    assert forecast.images_per_s == pytest.approx(32 / 0.06)


def test_runs_of_this_machine_load_nothing_in_their_time(profile, this_machine):
    loads = changed(profile, fixed={**profile.fixed.model_dump(), "load_s": 3.0})
    launched = [ClusterShape(instance_type="here", one_host=one_host) for one_host in (True, False)]

    here, hosted = forecast_jobs(loads, launched, known_hosts=this_machine)

    assert here.phases.start_s == pytest.approx(5 + 2 - 3)
    assert hosted.phases.start_s == pytest.approx(5 + 2)


def test_dollars_are_the_billed_seconds_of_all_hosts(profile):
    forecast = forecast_job(profile, ClusterShape(strategy="allreduce", workers=3, instance_type="ml.m5.xlarge"))

    assert forecast.phases.billed_s == pytest.approx(forecast.time_s - forecast.phases.waiting_s)
    assert forecast.cost_usd == pytest.approx(3 * 0.230 * round(forecast.phases.billed_s) / 3600)


def test_hosts_without_bfloat16_go_beyond_a_profile_in_bfloat16(profile):
    without = hosts()["ml.m5.xlarge"]
    known = {"ml.m5.xlarge": without, "ml.with": without.model_copy(update={"name": "ml.with", "bf16": True})}
    shapes = [ClusterShape(instance_type=name) for name in known]

    told, at_home = forecast_jobs(changed(profile, precision="bfloat16"), shapes, known_hosts=known)

    assert told.extrapolated and any("ml.m5.xlarge have no bfloat16 arithmetic" in text for text in told.assumptions)
    assert not at_home.extrapolated and not any("bfloat16" in text for text in at_home.assumptions)
    in_float32 = forecast_job(profile, shapes[0], known_hosts=known)
    assert not in_float32.extrapolated and not any("bfloat16" in text for text in in_float32.assumptions)


def test_servers_with_hosts_of_their_own_are_paid_for(profile):
    shape = ClusterShape(strategy="ps-async", workers=2, ps=2, instance_type="ml.m5.xlarge")
    separate = shape.model_copy(update={"ps_instance_type": "ml.m5.large"})

    beside, apart = forecast_jobs(profile, [shape, separate])

    assert separate.groups == [("ml.m5.xlarge", 2), ("ml.m5.large", 2)]
    assert apart.cost_usd / apart.phases.billed_s > beside.cost_usd / beside.phases.billed_s


@pytest.mark.parametrize("strategy", sorted(name for name, _ in STRATEGIES.available()))
def test_every_strategy_has_a_forecast_in_which_all_is_positive_and_finite(profile, strategy):
    for workers in (1, 2, 5, 16):
        shape = ClusterShape(strategy=strategy, workers=workers, ps=2, instance_type="ml.c5.2xlarge")

        forecast = forecast_job(profile, shape)

        assert 0 < forecast.low_s < forecast.time_s < forecast.high_s < math.inf
        assert 0 < forecast.low_usd < forecast.cost_usd < forecast.high_usd
        assert forecast.offered_load >= 0 and forecast.wire_bytes_per_update >= 0
        assert forecast.assumptions
        assert str(shape).startswith(strategy)


def test_asynchronous_workers_get_faster_until_the_servers_are_busy(profile, this_machine):
    counts = (1, 2, 4, 8, 32)
    cluster = [ClusterShape(strategy="ps-async", workers=count, instance_type="here") for count in counts]
    free = changed(profile, cpu_s_per_update={})

    forecasts = forecast_jobs(free, cluster, known_hosts=this_machine, spot_risk=SpotRisk(checkpoint_s=0))

    speeds = [each.images_per_s for each in forecasts]
    assert speeds == sorted(speeds)
    assert speeds[-1] == pytest.approx(32 / 0.02, rel=0.01)  # the saturation test's 20 ms an update
    # An epoch of 28 updates begins with all reading the same.
    counted = [statistics.fmean(min(update, count - 1) for update in range(28)) for count in counts]
    assert [each.staleness for each in forecasts] == pytest.approx(counted)
    assert forecasts[-1].offered_load > 1 > forecasts[0].offered_load
    assert forecasts[0].bound != "server CPU"
    assert forecast_job(free, cluster[-1], epochs=500, known_hosts=this_machine).bound == "server CPU"


@pytest.mark.parametrize(("fast", "slow"), [(1, 1), (6, 2)])
def test_asynchronous_workers_of_two_types_are_as_fast_as_they_are_when_simulated(profile, two_types, fast, slow):
    shape = ClusterShape(
        strategy="ps-async", workers=fast + slow, other_workers=(("slow", slow),), instance_type="here",
        ps_instance_type="here",
    )  # fmt: skip

    forecast = forecast_job(changed(profile, cpu_s_per_update={}), shape, known_hosts=two_types)

    pull_s, push_s = profile.service_s(1)
    simulated = simulate_async([0.06] * fast + [0.24] * slow, pull_s, push_s, 4000, cv=profile.cv)
    assert forecast.update_s == pytest.approx(1 / simulated.updates_per_s, rel=0.04)


@pytest.mark.parametrize("strategy", ["ps-sync", "allreduce", "local-sgd"])
def test_workers_that_wait_for_each_other_wait_for_the_slowest_type(profile, two_types, strategy):
    mixed = ClusterShape(
        strategy=strategy, workers=2, other_workers=(("slow", 1),), instance_type="here", ps_instance_type="here"
    )
    alike = mixed.model_copy(update={"other_workers": ()})

    free = changed(profile, cpu_s_per_update={})
    update_s, without_s = (forecast_job(free, shape, known_hosts=two_types).update_s for shape in (mixed, alike))

    # Half a batch takes 0.033 s, or 0.133 s; only who is alike varies about the same mean.
    half_s = float(profile.step_s(16))
    lead_s = 4 * half_s - laws.slowest_s(half_s, profile.cv / (8**0.5 if strategy == "local-sgd" else 1), 2)
    assert update_s - without_s == pytest.approx(lead_s, rel=0.01)


def test_each_type_of_host_is_paid_for(profile, two_types):
    types = two_types | {"slow": two_types["slow"].model_copy(update={"price_usd_per_hour": 1.0})}
    shape = ClusterShape(strategy="allreduce", workers=3, other_workers=(("slow", 2),), instance_type="here")

    forecast = forecast_job(profile, shape, known_hosts=types)

    usd_per_hour = types["here"].price_usd_per_hour + 2 * 1.0
    assert forecast.cost_usd == pytest.approx(usd_per_hour * round(forecast.phases.billed_s) / 3600)
    assert str(shape) == "allreduce, 3 workers on 1 here and 2 slow"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "single"}, "the replicas of single on one host"),
        ({"strategy": "allreduce", "workers": 2}, "fewer than workers 2"),
        ({"strategy": "ps-async", "workers": 4}, "give ps_instance_type"),
        ({"strategy": "ps-async", "workers": 4, "one_host": True, "ps_instance_type": "slow"}, "on one host"),
    ],
)
def test_workers_of_other_types_that_cannot_be_are_refused(fields, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        ClusterShape(**fields, other_workers=(("slow", 2),))


def test_a_slow_network_bounds_and_a_bucket_delays_that(profile):
    known = hosts()
    slow = known["ml.m5.xlarge"].model_copy(
        update={"network_base_gbps": 0.05, "network_peak_gbps": 5.0, "network_burst_s": 20.0}
    )
    shape = ClusterShape(strategy="ps-async", workers=4, instance_type="ml.m5.xlarge", ps_instance_type="ml.m5.xlarge")

    forecast = forecast_job(profile, shape, epochs=100, known_hosts={"ml.m5.xlarge": slow})

    assert forecast.phases.training_burst_s > 0
    assert forecast.phases.training_base_s > 10 * forecast.phases.training_burst_s
    assert forecast.bound in ("network in", "network out")
    # In the base phase updates' bytes go through the link one after another, in both directions at once.
    updates_left = forecast.phases.training_base_s / (profile.param_bytes / slow.base_bytes_per_s)
    assert 0.8 * forecast.updates < updates_left < 1.05 * forecast.updates


def test_a_faster_type_is_faster_in_proportion(profile):
    small, large = (
        forecast_job(profile, ClusterShape(instance_type=kind), epochs=100) for kind in ("ml.m5.large", "ml.m5.2xlarge")
    )

    ratio = hosts()["ml.m5.2xlarge"].relative_speed / hosts()["ml.m5.large"].relative_speed
    assert small.phases.training_s / large.phases.training_s == pytest.approx(ratio)


def test_what_comes_last_is_as_much_faster_on_a_faster_type(profile):
    fixed = profile.fixed.model_copy(update={"upload_s": 40.0})  # most of it: the training images are evaluated
    profile = profile.model_copy(update={"fixed": fixed})
    outside = {"upload_s": 0.0}
    small, large = (
        forecast_job(profile, ClusterShape(instance_type=kind), epochs=1, outside=outside).phases.upload_s
        for kind in ("ml.m5.large", "ml.m5.2xlarge")
    )

    ratio = hosts()["ml.m5.2xlarge"].relative_speed / hosts()["ml.m5.large"].relative_speed
    assert small / large == pytest.approx(ratio)


def test_spot_capacity_is_cheaper_and_takes_longer(profile):
    shape = ClusterShape(strategy="ps-async", workers=4, instance_type="ml.m5.large")
    risk = SpotRisk(reclaims_per_hour=0.5)

    demand, spot = forecast_jobs(profile, [shape, shape.model_copy(update={"spot": True})], epochs=1000, spot_risk=risk)

    assert spot.cost_usd < demand.cost_usd
    assert spot.time_s > demand.time_s
    assert spot.phases.interrupted_s > 0
    assert any("0.5 times an hour" in text for text in spot.assumptions)


def test_checkpoints_that_are_far_apart_cost_more_on_spot_capacity(profile):
    shape = ClusterShape(instance_type="ml.m5.large", spot=True)

    def interrupted_s(**every) -> float:
        risk = SpotRisk(reclaims_per_hour=0.5, **every)
        return forecast_job(profile, shape, epochs=1000, spot_risk=risk).phases.interrupted_s

    update_s = forecast_job(profile, shape).update_s
    in_seconds, in_updates = (
        interrupted_s(checkpoint_s=500 * update_s),
        interrupted_s(checkpoint_s=0, checkpoint_steps=500),
    )
    assert in_updates == pytest.approx(in_seconds, rel=1e-3)
    assert interrupted_s(checkpoint_s=500 * update_s, checkpoint_steps=5000) == in_seconds
    assert interrupted_s(checkpoint_s=0) > in_seconds


@pytest.mark.parametrize("spot", [False, True])
def test_checkpoints_take_time_on_any_capacity(profile, spot):
    shape = ClusterShape(strategy="ps-async", workers=4, instance_type="ml.m5.large", spot=spot)
    slow = profile.model_copy(update={"fixed": profile.fixed.model_copy(update={"checkpoint_s": 2.0})})

    def forecast(**every):
        return forecast_job(slow, shape, epochs=1000, spot_risk=SpotRisk(reclaims_per_hour=0.0, **every))

    never, often = forecast(checkpoint_s=0.0), forecast(checkpoint_s=10.0)
    written = often.phases.checkpoint_s / 2.0
    waited_s = often.phases.drain_s - never.phases.drain_s
    assert never.phases.checkpoint_s == 0
    assert written == pytest.approx((never.phases.training_s + never.phases.evaluation_s) / 10, rel=0.05)
    assert waited_s == pytest.approx(written * never.phases.drain_s / 1000)  # as for each of 1,000 evaluations
    assert often.time_s - never.time_s == pytest.approx(often.phases.checkpoint_s + waited_s)
    assert forecast(checkpoint_s=1e9).time_s == never.time_s  # the job ends before


def test_the_speed_of_servers_is_doubted_where_they_are_the_bottleneck(profile, this_machine):
    (sure,) = this_machine.values()
    known = this_machine | {"guess": sure.model_copy(update={"name": "guess", "speed_origin": "assumed"})}
    shape = ClusterShape(strategy="ps-async", instance_type="here", ps_instance_type="guess")
    few, many = (shape.model_copy(update={"workers": count}) for count in (1, 16))

    by_workers, by_servers = forecast_jobs(profile, [few, many], known_hosts=known)
    known_servers = forecast_job(profile, many.model_copy(update={"ps_instance_type": "here"}), known_hosts=known)

    assert (by_workers.training_bound, by_servers.training_bound) == ("compute", "server CPU")
    assert by_servers.half_width**2 == pytest.approx(known_servers.half_width**2 + 0.25**2 - 0.05**2)
    assert by_workers.half_width < 0.25


def test_what_is_less_sure_has_a_wider_interval(profile, this_machine):
    shape = ClusterShape(instance_type="here")
    (kind,) = this_machine.values()

    sure = forecast_job(profile, shape, known_hosts=this_machine)
    assumed = forecast_job(profile, shape, known_hosts={"here": kind.model_copy(update={"speed_origin": "assumed"})})
    disturbed = forecast_job(changed(profile, disturbed=True), shape, known_hosts=this_machine)

    assert sure.half_width < disturbed.half_width < assumed.half_width
    assert any("disturbed" in text for text in disturbed.assumptions)


def test_a_batch_outside_of_what_was_measured_is_said(profile):
    inside = forecast_job(profile, ClusterShape(), batch=64)
    outside = forecast_job(profile, ClusterShape(), batch=512)
    split = forecast_job(profile, ClusterShape(strategy="allreduce", workers=16))

    assert not inside.extrapolated
    assert outside.extrapolated and split.extrapolated
    assert any("outside of what was measured, 8 to 128" in text for text in outside.assumptions)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (ClusterShape(instance_type="ml.m5.larg"), {}, "did you mean ml.m5.large"),
        (ClusterShape(instance_type="ml.g5.xlarge"), {}, "nobody knows how fast ml.g5.xlarge trains"),
        (ClusterShape(strategy="ps-async", ps_instance_type="m6"), {}, "'m6' is not known"),
        (ClusterShape(), {"epochs": 0}, "epochs is 0; it must be at least 1"),
        (ClusterShape(), {"batch": -1}, "batch is -1; it must be at least 1"),
    ],
)
def test_what_cannot_be_forecast_is_refused_with_what_to_do(profile, shape, options, message):
    with pytest.raises(InputError) as error:
        forecast_job(profile, shape, **options)

    assert message in str(error.value)


@pytest.mark.parametrize(
    "values", [{"strategy": "ps"}, {"workers": 0}, {"workers": 2, "backup_workers": 2}, {"ps": 0}, {"cores": 2}]
)
def test_a_shape_that_cannot_be_is_refused(values):
    with pytest.raises(pydantic.ValidationError):
        ClusterShape(**values)


def test_many_launchedtogether_are_as_each_alone_and_quick(profile):
    many = shapes(1900)
    many += [each.model_copy(update={"strategy": "ps-sync"}) for each in many[::19]]

    begin = time.process_time()
    together = forecast_jobs(profile, many)
    assert time.process_time() - begin < 2

    for place in range(0, 2000, 331):
        alone = forecast_job(profile, many[place])
        assert together[place].time_s == pytest.approx(alone.time_s, rel=1e-6)
        assert together[place].cost_usd == pytest.approx(alone.cost_usd, abs=1e-4)


def test_an_update_has_no_more_examples_than_there_are(profile):
    shape = ClusterShape(instance_type="ml.m5.large")

    most, more = (forecast_job(profile, shape, batch=batch) for batch in (profile.examples, 4096))

    assert more.time_s == most.time_s and more.images_per_s == most.images_per_s
    note = "the last update of an epoch counts as a whole one: training is up to 15 % shorter"
    assert note in forecast_job(profile, shape, batch=512).assumptions and note not in most.assumptions


def test_a_profile_survives_its_file_and_a_damaged_one_is_refused(profile, tmp_path):
    file = tmp_path / "profile.json"
    profile.save(file)

    assert Profile.load(file) == profile
    file.write_text(file.read_text().replace('"schema_version": 2', '"schema_version": 1'))
    with pytest.raises(InputError, match="schema_version.*facesim profile"):
        Profile.load(file)
    with pytest.raises(InputError, match="cannot be read: no such file.*facesim profile"):
        Profile.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("compute", 0, "step_s"), 1e300, "compute.0.step_s: Value error, is above 1e+12"),
        (("variables", 0, "held_bytes"), 10**19, "is above 1e+12"),
        (("cpu_s_per_update",), {"worker": 1e300}, "is above 1e+12"),
        (("cpu_s_per_update",), {"worker": -1}, "greater than or equal to 0"),
        (("compute", 1, "repeats_s"), [-1, 1], "greater than 0"),
        (("machine", "sgemm_gflops"), 1e-300, "greater than or equal to 0.001"),
        (("server",), None, "server is missing, which is measured of tensorflow"),
        (("variables", 0, "shape"), [-3], "greater than or equal to 0"),
    ],
)
def test_a_profile_with_figures_that_cannot_be_is_refused(profile, tmp_path, path, value, message):
    content = json.loads(profile.model_dump_json())
    *outer, last = path
    place = functools.reduce(operator.getitem, outer, content)
    place[last] = value
    (tmp_path / "profile.json").write_text(json.dumps(content))

    with pytest.raises(InputError, match=re.escape(message)):
        Profile.load(tmp_path / "profile.json")


def test_a_step_between_measured_batches_is_on_the_line_between_them(profile):
    assert profile.step_s(20) == pytest.approx(0.04)
    assert profile.step_s(256) == pytest.approx(0.22 + 128 * 0.16 / 96)
    assert 0 < profile.step_s(1) < 0.02


@pytest.mark.parametrize("workers", [1, 4, 12])
def test_the_event_simulation_of_a_shape_is_as_fast_as_its_forecast(profile, this_machine, workers):
    shape = ClusterShape(strategy="ps-async", workers=workers, instance_type="here")
    forecast = forecast_job(changed(profile, cpu_s_per_update={}), shape, known_hosts=this_machine)

    # The saturation test's 20 ms, of which pulling and pushing are alike: as many messages and bytes.
    run = simulate_async([0.06] * workers, [0.01], [0.01], 10_000, cv=0.2)

    assert 1 / forecast.update_s == pytest.approx(run.updates_per_s, rel=0.02)
    epoch = run.staleness[: math.ceil(profile.examples / profile.batch)]
    assert forecast.staleness == pytest.approx(epoch.mean(), abs=0.2)


def test_what_a_worker_waits_for_its_next_batch_makes_nothing_stale(profile, this_machine):
    shape = ClusterShape(strategy="ps-async", workers=4, instance_type="here")
    changes = changed(profile, cpu_s_per_update={}, examples=320_000)

    prompt = forecast_job(changes, shape, known_hosts=this_machine)
    idle_s = 0.1 * 4 * prompt.update_s
    slow = forecast_job(changed(changes, dispatch_s=idle_s), shape, known_hosts=this_machine)

    assert prompt.staleness == pytest.approx(3, abs=0.01)
    assert slow.staleness == pytest.approx(3 * (1 - idle_s / (4 * slow.update_s)), abs=0.01)
    assert slow.update_s > prompt.update_s
