"""Spot capacity: rates, lifetimes and traces give the capacity that they should, and bad ones are told."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from statistics import mean, median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facesim.billing.market import PACKAGED_TRACE, Capacity, Market, market, read_trace
from facesim.billing.synthetic import HOSTS, trace_lines
from facesim.spec.job import Job, make_job
from facesim.spec.spot import Spot
from facesim.util.errors import InputError


def lives_h(where: Market, count: int) -> list[float]:
    """How long a job had its hosts, again and again, in hours."""
    changes, now_s = [], 0.0
    for _ in range(count):
        granted_s, now_s = where.grant(now_s)
        changes.append((now_s - granted_s) / 3600)
    return changes


def written(directory: Path, name: str, content: str) -> str:
    (directory / name).write_text(content)
    return str(directory / name)


def test_on_demand_hosts_are_there_at_once_and_stay():
    assert market(None, hosts=4, seed=0).grant(17.0) == Capacity(17.0, math.inf)


@pytest.mark.parametrize("hosts", [1, 4])
def test_with_a_rate_any_of_the_hosts_interrupts_the_job(hosts):
    lives = lives_h(market(Spot(rate=2.0), hosts, seed=1), 4000)

    assert mean(lives) == pytest.approx(1 / (2.0 * hosts), rel=0.05)
    assert median(lives) == pytest.approx(math.log(2) * mean(lives), rel=0.05)  # exponential


def test_a_rate_of_zero_never_interrupts():
    assert market(Spot(rate=0), 3, seed=0).grant(5.0).reclaimed_s == math.inf


def test_weibull_lifetimes_have_their_mean():
    lives = lives_h(market(Spot(lifetimes="weibull:1.5,4"), 1, seed=2), 4000)

    assert mean(lives) == pytest.approx(4 * math.gamma(1 + 1 / 1.5), rel=0.03)


def test_new_capacity_takes_a_while_but_the_first_is_there_at_once():
    where, now_s, waits = market(Spot(rate=10, wait_s=90), 1, seed=3), 0.0, []
    for _ in range(3000):
        granted_s, reclaimed_s = where.grant(now_s)
        waits.append(granted_s - now_s)
        now_s = reclaimed_s

    assert waits[0] == 0
    assert mean(waits) == pytest.approx(90, rel=0.06)


def test_the_same_seed_gives_the_same_capacity_and_another_seed_another():
    def course(seed: int) -> list[float]:
        return lives_h(market(Spot(lifetimes="weibull:0.9,4"), 2, seed), 5)

    assert course(7) == course(7) != course(8)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lives.json", json.dumps([1.0, 2.0, 6.0])),
        (
            "lives.json",
            json.dumps({"name": "observed", "rows": [{"vm": v, "hours": h} for v, h in enumerate((1, 2, 6))]}),
        ),
        ("lives.csv", "vm,hours\na,1\nb,2\nc,6\n"),
        ("lives.csv", "# hours\n1\n2\n6\n"),
        ("lives.csv", "\ufeffhours\n1\n2\n6\n"),
    ],
)
def test_observed_lifetimes_come_as_often_as_they_were_observed(tmp_path, name, content):
    lives = lives_h(market(Spot(lifetimes=written(tmp_path, name, content)), 1, seed=0), 3000)

    assert {round(life, 6) for life in lives} == {1.0, 2.0, 6.0}
    assert mean(lives) == pytest.approx(3.0, rel=0.05)


TRACE = """# ms,event,node
0,add,a
0,add,b
60000,remove,a
120000,add,c
180000,remove,b
240000,remove,c
300000,add,d
360000,remove,d
"""


def test_a_trace_gives_the_hosts_that_it_has_and_takes_them_when_it_does(tmp_path):
    where = market(Spot(trace=written(tmp_path, "trace.csv", TRACE), wait_s=0), hosts=2, seed=0)

    assert where.grant(0.0) == Capacity(0.0, 60.0)  # a goes
    assert where.grant(60.0) == Capacity(120.0, 180.0)  # b and c are there; b goes
    assert where.grant(180.0) == Capacity(360.0, 420.0)  # never two again: from the beginning


def test_a_trace_may_begin_with_the_mark_of_an_editor(tmp_path):
    marked = written(tmp_path, "marked.csv", "\ufeff" + TRACE.partition("\n")[2])

    assert read_trace(Path(marked)) == read_trace(Path(written(tmp_path, "trace.csv", TRACE)))


def test_one_host_of_a_trace_lives_until_it_is_removed(tmp_path):
    where = market(Spot(trace=written(tmp_path, "trace.csv", TRACE), wait_s=0), hosts=1, seed=0)

    assert where.grant(130.0).reclaimed_s in (180.0, 240.0)
    assert where.grant(250.0) == Capacity(300.0, 360.0)


STAY_MS = st.tuples(st.integers(0, 50), st.integers(1, 50))


@settings(max_examples=60, deadline=None)
@given(st.lists(STAY_MS, min_size=2, max_size=8), st.integers(1, 3), st.lists(st.integers(0, 300), max_size=6))
def test_whatever_the_trace_a_job_has_its_hosts_from_the_first_moment_until_the_first_goes(
    tmp_path_factory, stays, hosts, asked
):
    events = [(begin, "add", n) for n, (begin, _) in enumerate(stays)]
    events += [(begin + lasts, "remove", n) for n, (begin, lasts) in enumerate(stays)]
    lines = "\n".join(f"{at},{event},n{n}" for at, event, n in sorted(events))
    file = written(tmp_path_factory.mktemp("trace"), "trace.csv", lines)
    period = max(at for at, _, _ in events)

    def there(at_ms: float) -> list[int]:
        return [begin + lasts for begin, lasts in stays if begin <= at_ms % period < begin + lasts]

    if max(len(there(at)) for at in range(period)) < hosts:
        with pytest.raises(InputError, match="at once"):
            market(Spot(trace=file), hosts, seed=0)
        return
    where = market(Spot(trace=file, wait_s=0), hosts, seed=0)
    for at_ms in sorted(asked):
        granted_s, reclaimed_s = where.grant(at_ms / 1000)
        granted, reclaimed = round(1000 * granted_s), round(1000 * reclaimed_s)
        assert all(len(there(before)) < hosts for before in range(at_ms, granted))
        assert len(there(granted)) >= hosts
        assert reclaimed - granted in [end - granted % period for end in there(granted)]


@settings(max_examples=60, deadline=None)
@given(st.lists(STAY_MS, min_size=1, max_size=12), st.integers(0, 99))
def test_of_all_hosts_that_a_trace_has_at_a_time_a_job_gets_any_by_its_seed(tmp_path_factory, stays, seed):
    events = [(begin, "add", n) for n, (begin, _) in enumerate(stays)]
    events += [(begin + lasts, "remove", n) for n, (begin, lasts) in enumerate(stays)]
    lines = "\n".join(f"{at},{event},n{n}" for at, event, n in sorted(events))
    file = written(tmp_path_factory.mktemp("trace"), "trace.csv", lines)
    whole = read_trace(Path(file))
    at_once = [[stay for stay in whole if stay.begin_s <= at.begin_s < stay.end_s] for at in whole]
    hosts = max(map(len, at_once))
    first = next(there for there in at_once if len(there) == hosts)
    chosen = random.Random(f"spot capacity {seed}").sample(first, hosts)

    granted = market(Spot(trace=file, wait_s=0), hosts, seed).grant(0.0)

    assert granted == Capacity(max(stay.begin_s for stay in first), min(stay.end_s for stay in chosen))


def test_a_long_trace_takes_no_longer_than_it_is_long(tmp_path):
    count = 50_000  # each against each other would be minutes
    lines = (f"{n},add,n{n}\n" + (f"{n},remove,n{n - 100}\n" if n >= 100 else "") for n in range(count))
    file = written(tmp_path, "trace.csv", "".join(lines))
    begin_s = time.process_time()

    where = market(Spot(trace=file, wait_s=0), hosts=100, seed=0)
    granted = [where.grant(asked_s) for asked_s in (0.0, 49.0)]

    assert granted == [Capacity(0.099, 0.1), Capacity(49.0, 49.001)]
    assert time.process_time() - begin_s < 20


def test_hosts_that_are_never_removed_stay(tmp_path):
    where = market(Spot(trace=written(tmp_path, "trace.csv", "0,add,a\n0,add,b\n")), hosts=2, seed=0)

    assert where.grant(0.0) == Capacity(0.0, math.inf)


def test_the_packaged_trace_is_what_its_generator_makes_and_says_so():
    lines = PACKAGED_TRACE.read_text().splitlines()

    assert lines == trace_lines()
    assert "Made up" in lines[0]


def test_the_packaged_trace_suits_the_largest_job():
    assert HOSTS >= 64
    assert lives_h(market(Spot(), hosts=64, seed=0), 20)
    assert len(read_trace(PACKAGED_TRACE)) > HOSTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no host"),
        ("0,add\n", "line 1: '0,add' is not"),
        ("0,add,a\n0,add,a\n", "line 2"),
        ("0,remove,a\n", "line 1"),
        ("0,add,a\nlater,remove,a\n", "line 2"),
        ("9,add,a\n3,add,b\n", "in order of time"),
        ("0,vanish,a\n", "line 1"),
        pytest.param("0,add," + 200_000 * "a", "is not a CSV: field larger than field limit", id="long"),
    ],
)
def test_a_trace_that_is_none_is_told_with_its_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        make_job(spot_trace=written(tmp_path, "trace.csv", content))


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", '{"rows": [{"h": 1}]}', "[1, -2]", '["x"]', "[0]", "{", "[NaN]"),
        pytest.param(f"[1{400 * '0'}]", id="no float"),
        pytest.param(100_000 * "[", id="deep"),
    ],
)
def test_lifetimes_that_are_none_are_told(tmp_path, content):
    with pytest.raises(InputError, match="does not hold lifetimes"):
        make_job(spot_lifetimes=written(tmp_path, "lives.json", content))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spot_rate": -1}, "--spot-rate -1 is not allowed: greater than or equal to 0"),
        ({"spot_rate": float("nan")}, "--spot-rate nan is not allowed"),
        ({"spot_speed": 0}, "--spot-speed 0 is not allowed"),
        ({"spot_discount": 1}, "--spot-discount 1 is not allowed"),
        ({"spot_trace": "missing.csv"}, "--spot-trace missing.csv cannot be read: no such file"),
        ({"spot_lifetimes": "missing.json"}, "--spot-lifetimes missing.json cannot be read: no such file"),
        ({"spot_lifetimes": "weibull:-1,2"}, "two positive numbers"),
        ({"spot_rate": 1, "spot_lifetimes": "weibull:1,2"}, "--spot-rate and --spot-lifetimes contradict each other"),
        ({"max_run": -5}, "--max-run -5 is not allowed"),
        ({"max_wait": 60}, "--max-wait is for spot capacity"),
        ({"spot": True, "max_wait": 60, "max_run": 90}, "--max-wait 60 must be at least --max-run 90"),
    ],
)
def test_what_is_not_allowed_is_told_before_anything_starts(options, message):
    with pytest.raises(InputError) as error:
        make_job(**options)

    assert message in str(error.value)


def test_a_job_with_more_hosts_than_a_trace_ever_has_is_told(tmp_path):
    trace = written(tmp_path, "trace.csv", TRACE)

    with pytest.raises(InputError, match="never has the 3 hosts that the job needs at once: 2 at most"):
        make_job(strategy="ps-async", workers=3, spot_trace=trace)


def test_any_option_of_spot_capacity_asks_for_it_and_no_spot_wins():
    assert make_job().spot is None
    assert make_job(spot=True).spot == Spot()
    assert make_job(spot_rate=3).spot == Spot(rate=3)
    assert make_job(spot_rate=3, spot=False).spot is None


def test_a_job_with_spot_capacity_survives_being_written_and_read():
    job = make_job(spot_rate=3, spot_speed=60, max_run=100, max_wait=200)

    assert Job.model_validate_json(job.model_dump_json()) == job
    assert (job.max_run_s, job.max_wait_s) == (100, 200)
