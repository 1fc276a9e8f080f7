"""When the benchmarks say that something has become slower, and how sure they are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.forecast_speed import CASES
from benchmarks.regression import Verdict, compare
from benchmarks.suites import SUITES
from facesim.metrics.machine import machine

FAST = [500.0, 510.0, 495.0, 505.0, 490.0]


def figures(ours: list[float], base: list[float] = FAST, unit_of_time: bool = False) -> dict:
    series = {"model.fit": {"values": base}, "ours": {"values": ours}}
    summary = {"title": "t", "base": "model.fit", "lower_is_better": unit_of_time, "series": series}
    return {"suites": {"throughput": [summary]}}


def judged(now: dict, before: dict) -> Verdict:
    (change,) = compare(now, before)
    return change.verdict


def times(factor: float, values: list[float] = FAST) -> list[float]:
    noise = (1.01, 0.99, 1.005, 0.995, 1.0)
    return [factor * value * each for value, each in zip(values, noise)]


def test_a_slower_machine_is_no_regression():
    assert judged(figures(times(0.6), [0.5 * value for value in FAST]), figures(times(1.2))) is Verdict.SAME


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, Verdict.SAME), (0.95, Verdict.SAME), (0.8, Verdict.WORSE), (1.3, Verdict.BETTER)],
)
def test_a_large_and_sure_loss_is_a_regression(factor, verdict):
    assert judged(figures(times(factor)), figures(times(1.0))) is verdict


def test_of_times_more_is_worse():
    assert judged(figures(times(1.3), unit_of_time=True), figures(times(1.0), unit_of_time=True)) is Verdict.WORSE


def test_how_sure_it_is_is_told():
    (change,) = compare(figures(times(0.8)), figures(times(1.0)))

    assert change.factor == pytest.approx(0.8, rel=0.01)
    assert change.low < 0.8 < change.high < 0.85
    assert str(change).startswith("WORSE: -20.0 % (95 % interval -2") and "p = " in str(change)


def test_a_loss_among_much_noise_is_not_sure():
    noisy = [500.0, 300.0, 700.0, 200.0, 400.0]

    assert judged(figures(noisy), figures(times(1.0))) is Verdict.PERHAPS_WORSE


def test_one_round_alone_is_never_sure():
    (change,) = compare(figures([300.0], [500.0]), figures([500.0], [500.0]))

    assert change.verdict is Verdict.PERHAPS_WORSE and "not known" in str(change)


def test_of_many_series_one_is_not_worse_by_chance():
    """At p = 0.02 one series alone would be a regression, one of ten is not (Holm)."""
    slow = [430.0, 470.0, 400.0, 440.0, 455.0]
    one, ten = figures(slow), figures(slow)
    before = figures(times(1.0, [500.0, 460.0, 540.0, 520.0, 480.0]))
    (alone,) = compare(one, before)
    assert 0.005 < alone.p < 0.05 and alone.verdict is Verdict.WORSE
    for number in range(9):
        for each in (ten, before):
            each["suites"]["throughput"][0]["series"][f"other {number}"] = {"values": times(1.0)}

    assert compare(ten, before)[0].verdict is Verdict.PERHAPS_WORSE


def test_a_series_that_is_new_is_no_regression():
    before = figures(times(1.0))
    before["suites"]["throughput"][0]["series"].pop("ours")

    assert judged(figures(times(1.0)), before) is Verdict.NEW


def test_every_suite_is_a_module_with_its_options():
    for name, suite in SUITES.items():
        command = __import__(f"benchmarks.{name}", fromlist=["main"]).main
        for arguments in (suite.short, suite.full):
            command.make_context(name, [*arguments.split(), "--json", "figures.json"])


@pytest.mark.slow
def test_a_regression_is_an_exit_code_and_is_not_kept(tmp_path):
    baseline, output = tmp_path / "baseline.json", tmp_path / "figures.json"
    instant = {"yardstick": {"values": [1.0, 1.0]}, **{name: {"values": [1e-6, 1e-6]} for name in CASES}}
    summary = {"title": "forecasts, CPU time", "base": "yardstick", "lower_is_better": True, "series": instant}
    before = {"form": "short", "machine": machine(), "suites": {"forecast_speed": [summary]}}
    baseline.write_text(json.dumps(before))

    command = [sys.executable, "-m", "benchmarks", "--short", "--suite", "forecast_speed", "--save"]
    ended = subprocess.run([*command, "--baseline", baseline, "--json", output], capture_output=True, text=True)

    assert ended.returncode == 1 and "FAILED: forecast_speed, 1,000 workers" in ended.stderr
    assert "WORSE" in {change["verdict"] for change in json.loads(output.read_text())["changes"]}
    assert json.loads(baseline.read_text()) == before
