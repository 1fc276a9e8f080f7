"""Every strategy on small data: what it must count, what the audit must say, and what must equal a single process."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from facesim.forecast.placement import Variable, balanced, total
from facesim.metrics.files import read_samples, recorded
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.accuracy import replay
from facesim.recognition.recognizer import Recognizer
from facesim.runs.directory import Run, find_runs
from facesim.spec.strategies import STRATEGIES
from facesim.training.order import read_orders
from tests.conftest import QUICK, completed_run, facesim_here
from tests.integration.conftest import LARGE, TRAINED
from tests.support.events import values_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded")]

PEERS = ("chief-0", "worker-0")
TOGETHER = "together" if sys.platform == "linux" else "unknown"  # bytes of each task need Linux' socket diagnostics


@pytest.fixture(scope="module")
def output(tmp_path_factory, faces) -> Path:
    """What a study leaves that trains with every strategy, two workers each, by the modern recipe with a network that
    is quickly compiled."""
    directory = tmp_path_factory.mktemp("strategies")
    options = ("--recipe", "modern", "--model", "compact-cnn", "--image-size", 32, "--epochs", 2, "--batch", 8)
    chosen = [part for name in STRATEGIES for part in ("--strategy", name)]
    more = ("--local-steps", 3, "--sampling-s", 0.2, "--no-baselines", "--output", directory)

    command = facesim_here("compare", *chosen, "--data", faces, *options, *more)

    assert command.code == 0, command.errors + command.output
    return directory


@pytest.fixture(scope="module")
def results(output) -> dict[str, dict]:
    return {run.job().strategy.name: run.result() for run in find_runs([output])}


def test_every_strategy_completes_by_the_modern_recipe(results):
    assert {name: result["state"] for name, result in results.items()} == dict.fromkeys(STRATEGIES, "Completed")
    for strategy, result in results.items():
        assert result["job"]["experiment"]["head"] == "arcface"
        assert np.isfinite(result["held_out_loss"]), strategy


def test_without_baselines_a_study_leaves_none(output):
    assert not list(output.rglob("baselines.json"))


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "independent"])
def test_every_strategy_sees_the_same_examples_in_as_many_updates(results, strategy):
    result = results[strategy]

    assert result["examples_seen"] == result["counted"]["examples_due"] == 2 * 64
    assert result["updates"] == results["single"]["updates"] == 2 * 8
    assert sum(result["counted"]["examples_by_worker"].values()) == 2 * 64


def test_the_audit_finds_nothing_to_say_of_one_process(results):
    assert results["single"]["sync_audit"]["verdict"] == "single"


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in ("single", "independent")])
def test_the_audit_says_that_the_replicas_trained_together(results, strategy):
    audit = results[strategy]["sync_audit"]

    assert audit["verdict"] == (TOGETHER if strategy != "mirrored" else "together"), audit["evidence"]


def test_the_audit_notices_replicas_that_never_trained_together(results):
    audit = results["independent"]["sync_audit"]

    assert audit["verdict"] == "apart"
    assert any("2 different sets" in sentence for sentence in audit["evidence"])


def test_only_an_asynchronous_update_can_be_stale(results):
    for name, result in results.items():
        stale = {int(staleness) for staleness, count in result["counted"]["staleness"].items() if count}
        assert stale == {0} or name == "ps-async", name


def test_averaging_now_and_then_sends_less_than_summing_every_gradient(results):
    assert results["local-sgd"]["wire_bytes"] < 0.6 * results["allreduce"]["wire_bytes"]


def test_steps_dispatched_together_are_counted_one_by_one(faces, tmp_path):
    options = ("--steps-per-dispatch", 3, "--epochs", 2, "--checkpoint-steps", 4)
    run = completed_run(tmp_path, "--strategy", "ps-async", "--data", faces, *QUICK, *options)
    counted = run.result()["counted"]

    assert counted["examples"] == counted["examples_due"] == 2 * 64
    assert counted["updates"] == counted["last_version"] == sum(counted["steps_by_worker"].values()) == 2 * 8
    assert sum(counted["staleness"].values()) == 2 * 8
    assert values_of(run.events(), "checkpoint", "step")
    assert run.result()["sync_audit"]["verdict"] == TOGETHER


def test_a_strategy_with_backup_workers_still_trains_on_every_example_once(faces, tmp_path):
    options = ("--workers", 3, "--backup-workers", 1, "--epochs", 2)
    counted = completed_run(tmp_path, "--strategy", "ps-sync", "--data", faces, *QUICK, *options).result()["counted"]

    assert counted["examples"] == counted["examples_due"] == 2 * 64
    assert counted["updates"] == counted["last_version"] == 2 * 8
    assert set(counted["staleness"]) == {0}


def assert_same_parameters(one: Run, other: Run, atol: float) -> None:
    for values, others in zip(parameters(one), parameters(other), strict=True):
        np.testing.assert_allclose(values, others, atol=atol)


@pytest.fixture(scope="module")
def all_trained(trained) -> dict[str, dict[str, Run]]:
    """The runs of all of `TRAINED`; two clusters at a time, for a start takes one core."""
    trained("to start from")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(TRAINED, pool.map(trained, TRAINED)))


@pytest.mark.parametrize(
    ("which", "training"),
    [
        ("mirrored", "memory"),
        ("mirrored", "from"),
        ("ps-sync", "memory"),
        ("ps-sync", "from"),
        ("ps-sync", "few"),
        ("ps-sync, alone", "mixed"),
        ("ps-sync, split", "large"),
        ("ps-sync, split", "large, from"),
        ("allreduce", "memory"),
        ("allreduce", "from"),
        ("ps-async, alone in groups", "memory"),
        ("ps-async, alone in groups", "from"),
        ("ps-async, alone in groups", "mixed"),
        *((name, "own") for name in ("mirrored", "ps-sync", "allreduce", "ps-async, alone in groups")),
        ("ps-async, alone in groups", "own, by signs"),
        *((name, "sampled") for name in ("mirrored", "ps-sync, split", "allreduce", "ps-async, alone in groups")),
    ],
)
def test_a_synchronous_strategy_computes_what_one_process_does(all_trained, which, training):
    single, run = (all_trained[name][training] for name in ("single", which))

    assert_same_parameters(single, run, atol=2e-4)
    assert run.outcome()["updates"] == single.outcome()["updates"]
    assert run.outcome()["counted"]["staleness"].keys() == {0}


@pytest.mark.parametrize("which", ["allreduce", "local-sgd"])
def test_what_peers_send_rounded_teaches_the_same_and_leaves_them_equal(trained, which):
    plain, mixed = (trained(which)[name] for name in ("memory", "mixed"))
    sizes = [run.outcome()["counted"]["exchange_bytes"] for run in (plain, mixed)]
    losses = [recorded(run.metrics / "chief-0.jsonl", "loss") for run in (plain, mixed)]
    digests = [json.loads(mixed.task_outcome_file(peer).read_text())["parameters_sha256"] for peer in PEERS]

    assert sizes[1] < 0.6 * sizes[0]
    assert digests[0] == digests[1]
    for (loss, _), (other, _) in zip(*losses, strict=True):
        assert other == pytest.approx(loss, rel=0.05)


def test_what_is_computed_in_float16_teaches_the_same(trained):
    plain, half = trained("single")["memory"], trained("ps-sync, alone")["half"]
    (loss, _), (expected, _) = (recorded(run.metrics / "chief-0.jsonl", "loss")[0] for run in (half, plain))

    assert loss == pytest.approx(expected, rel=0.01)
    assert half.outcome()["counted"]["exchange_bytes"] < 0.6 * half.outcome()["parameter_bytes"]
    assert half.outcome()["updates"] == plain.outcome()["updates"] / 3


@pytest.mark.parametrize("which", ["ps-sync", "ps-async, many"])
def test_moving_statistics_learn_from_every_batch_of_every_worker(all_trained, which):
    single, run = (all_trained[name]["statistics"] for name in ("single", which))

    values, expected = moving(run), moving(single)
    assert len(values) == len(expected) > 0
    for value, other in zip(values, expected):
        # Began at 0 and 1, and came as far as in one process; the last batches, which differ, weigh a tenth each.
        np.testing.assert_allclose(value, other, rtol=0.1, atol=0.1 * np.abs(other).max())


def test_what_the_chief_fetches_from_workers_is_prepared_before_any_of_them_computes(trained):
    whole = Run.open(trained("ps-async, many")["statistics"].directory.parents[1])

    # Such a line begins with its level and date, the time, and the thread.
    prepared = [
        line.split() for line in whole.log_file("chief-0").read_text().splitlines() if "CFLR::Instantiate" in line
    ]
    assert sum("/job:worker/" in line[-3] for line in prepared) == 4
    assert len({line[2] for line in prepared}) == 1  # several threads would be in each other's way


def test_a_replay_makes_of_moving_statistics_what_the_cluster_did(trained, faces, tmp_path):
    run = trained("ps-async, many")["statistics"]

    replay(run.job(), read_orders(run.order_file), tmp_path, prepare_inputs(run.job(), lambda *_: None), lambda: None)

    for value, other in zip(moving(Run.open(tmp_path)), moving(run), strict=True):
        np.testing.assert_allclose(value, other, rtol=0.05, atol=0.02 * np.abs(other).max())


def test_a_replay_has_the_sample_of_the_cluster_and_an_exchange_is_of_that_alone(trained, tmp_path):
    run = trained("ps-async, alone in groups")["sampled"]

    replay(run.job(), read_orders(run.order_file), tmp_path, prepare_inputs(run.job(), lambda *_: None), lambda: None)

    assert_same_parameters(Run.open(tmp_path), run, atol=1e-6)
    outcome = run.outcome()
    assert outcome["counted"]["exchange_bytes"] == outcome["parameter_bytes"] - 4 * (8 - 4) * 14400


def moving(run: Run) -> list[np.ndarray]:
    """The moving means and variances of a saved network: the third and fourth variable of a normalisation."""
    return [value for name, value in weights(run).items() if "norm" in name and name[-1] in "23"]


def test_every_strategy_trains_a_network_that_is_not_facesim_s(all_trained):
    strategies = {whole[0] for name, whole in TRAINED.items() if "own" in whole[2]}
    outcomes = [all_trained[name]["own"].outcome() for name, whole in TRAINED.items() if "own" in whole[2]]

    assert strategies == set(STRATEGIES)
    assert all(outcome["held_out_accuracy"] > 3 / 8 for outcome in outcomes), "three times chance"
    run = all_trained["single"]["own"]
    result = Recognizer(run).evaluate()
    assert result["closed_set"]["accuracy"] == pytest.approx(run.outcome()["held_out_accuracy"])


def test_a_training_that_starts_from_a_network_ends_elsewhere(all_trained):
    source, fresh, run = (
        all_trained[which][name]
        for which, name in (("to start from", "small"), ("single", "memory"), ("single", "from"))
    )

    assert run.outcome()["pretrained_sha256"] == hashlib.sha256(source.model_file.read_bytes()).hexdigest()
    assert fresh.outcome()["pretrained_sha256"] is None
    distance = {one: difference(parameters(one), parameters(run)) for one in (source, fresh)}
    assert distance[source] < 0.5 * distance[fresh]


def difference(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The root of the mean square between two networks' convolutions."""
    squares = [np.square(one - other) for one, other in zip(some, others, strict=True) if one.ndim == 4]
    return float(np.sqrt(np.mean(np.concatenate([part.ravel() for part in squares]))))


@pytest.mark.parametrize("which", ["single", "ps-async, alone in groups"])
def test_images_read_from_disk_and_decoded_on_the_way_are_those_held_in_memory(all_trained, which):
    runs = all_trained[which]

    for cache_kind in ("disk", "none"):
        assert_same_parameters(runs["memory"], runs[cache_kind], atol=1e-5)


@pytest.mark.exhaustive
def test_parameters_split_over_two_servers_go_on_whole_on_one(trained, faces, tmp_path):
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "kill"\ntarget = "ps-1"\nat_step = 14\n')
    options = [part for name, value in LARGE.items() for part in (f"--{name.replace('_', '-')}", value)]
    options += ["--ps", 2, "--checkpoint-steps", 4, "--faults", faults, "--max-restarts", 0, "--data", faces]
    failed = facesim_here("run", "--strategy", "ps-sync", *options, "--output", tmp_path / "split")
    assert failed.code == 1, failed.errors + failed.output
    (run,) = find_runs([tmp_path / "split"])

    resumed = facesim_here("run", "--resume", run.directory, "--ps", 1)

    assert resumed.code == 0, resumed.errors + resumed.output
    assert any(event["event"] == "restored" and event["step"] >= 4 for event in run.events())
    assert run.result()["counted"]["examples"] == 3 * 64
    assert_same_parameters(trained("single")["large"], run, atol=2e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="bytes of each task need Linux' socket diagnostics")
def test_servers_serve_alike(faces, tmp_path):
    options = ("--model", "paper-cnn", "--image-size", 32, "--epochs", 4, "--evaluate-every", 4, "--batch", 8)

    run = completed_run(tmp_path, "--strategy", "ps-async", "--ps", 3, "--data", faces, *options)

    samples = read_samples(run.metrics)
    served = samples[(samples["role"] == "ps") & (samples["name"] == "net_sent_bytes")]
    sent = served.groupby("task_index")["value"].max()
    assert len(sent) == 3
    assert sent.min() > 4 * 8 * run.result()["parameter_bytes"] / 3 * 0.8
    assert sent.max() < 1.3 * sent.min()
    # Of the dense layer between the convolutions and the head, workers push the factors of the gradient.
    shapes = [value.shape for value in parameters(run)]
    variables = [
        Variable(shape, 4 * math.prod(shape), 4 * math.prod(shape), factor_rows=8 * (len(shape) == 2))
        for shape in shapes
    ]
    pushed = 4 * 8 * total(balanced(variables, 3)).push_bytes
    assert pushed < 0.3 * 4 * 8 * run.result()["parameter_bytes"]
    assert run.result()["resources"]["worker"]["net_sent_bytes"] == pytest.approx(pushed, rel=0.1)


def parameters(run: Run) -> list[np.ndarray]:
    return list(weights(run).values())


def weights(run: Run) -> dict[str, np.ndarray]:
    """The saved model's weights by name, read without TensorFlow."""
    import io
    import zipfile

    import h5py

    with zipfile.ZipFile(run.model_file) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        values: dict[str, np.ndarray] = {}
        file.visititems(lambda name, item: values.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return {name: values[name] for name in sorted(values)}
