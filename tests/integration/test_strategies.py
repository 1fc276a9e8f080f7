"""Every strategy on small data: what it must count, what the audit must say, and what must equal a single process."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from facesim.metrics.files import read_samples
from facesim.run import find_runs
from facesim.training import STRATEGIES
from tests.conftest import QUICK, facesim

TOGETHER = "together" if sys.platform == "linux" else "unknown"  # bytes of each task need Linux' socket diagnostics


@pytest.fixture(scope="module")
def results(tmp_path_factory, faces) -> dict[str, dict]:
    """One short run of every strategy with two workers."""
    output = tmp_path_factory.mktemp("strategies")
    chosen = [part for name in STRATEGIES for part in ("--strategy", name)]
    command = facesim("--data", faces, "--epochs", 4, *QUICK, *chosen, "--local-steps", 3, "--output", output)
    assert command.code == 0, command.errors + command.output
    return {run.job().strategy: run.result() for run in find_runs([output])}


def test_every_strategy_completes(results):
    assert {name: result["state"] for name, result in results.items()} == dict.fromkeys(STRATEGIES, "Completed")


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "independent"])
def test_every_strategy_sees_the_same_examples_in_as_many_updates(results, strategy):
    result = results[strategy]

    assert result["examples_seen"] == result["counted"]["examples_due"] == 4 * 64
    assert result["updates"] == results["single"]["updates"] == 4 * 8
    assert sum(result["counted"]["examples_by_worker"].values()) == 4 * 64


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


@pytest.mark.parametrize("strategy", ["single", "ps-async"])
def test_images_read_from_disk_and_decoded_on_the_way_are_those_held_in_memory(faces, tmp_path, strategy):
    options = ("--strategy", strategy, "--workers", 1, "--model", "plain-cnn", "--image-size", 32, "--epochs", 2)
    runs = {}
    for cache in ("memory", "disk", "none"):
        command = facesim("run", "--data", faces, *options, "--cache", cache, "--output", tmp_path / cache)
        assert command.code == 0, command.errors + command.output
        (runs[cache],) = find_runs([tmp_path / cache])

    for cache in ("disk", "none"):
        for one, other in zip(parameters(runs["memory"]), parameters(runs[cache]), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_steps_dispatched_together_are_counted_one_by_one(faces, tmp_path):
    options = ("--steps-per-dispatch", 3, "--epochs", 2, "--checkpoint-steps", 4)
    command = facesim("run", "--strategy", "ps-async", "--data", faces, *QUICK, *options, "--output", tmp_path)
    assert command.code == 0, command.errors + command.output
    (run,) = find_runs([tmp_path])
    counted = run.result()["counted"]

    assert counted["examples"] == counted["examples_due"] == 2 * 64
    assert counted["updates"] == counted["last_version"] == sum(counted["steps_by_worker"].values()) == 2 * 8
    assert sum(counted["staleness"].values()) == 2 * 8
    assert [event["step"] for event in run.events() if event["event"] == "checkpoint"]
    assert run.result()["sync_audit"]["verdict"] == TOGETHER


def test_a_strategy_with_backup_workers_still_trains_on_every_example_once(faces, tmp_path):
    options = ("--workers", 3, "--backup-workers", 1, "--epochs", 2)
    command = facesim("run", "--strategy", "ps-sync", "--data", faces, *QUICK, *options, "--output", tmp_path)
    assert command.code == 0, command.errors + command.output
    (run,) = find_runs([tmp_path])
    counted = run.result()["counted"]

    assert counted["examples"] == counted["examples_due"] == 2 * 64
    assert counted["updates"] == counted["last_version"] == 2 * 8
    assert set(counted["staleness"]) == {"0"}


#: A network and a training of which a synchronous strategy must end with the parameters of a single process.
PLAIN = ("--model", "plain-cnn", "--epochs", 3, "--batch", 9, "--learning-rate", 0.003)
#: Images so large that the parameters of its dense layer, 460 kB, are split over servers; and so low a rate that Adam,
#: which makes much of little gradients, does not make much of rounding either.
LARGE = ("--image-size", 128, "--learning-rate", 0.0003)


@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("mirrored", ()),
        ("ps-sync", ()),
        ("ps-sync", ("--ps", 2, *LARGE)),
        ("allreduce", ()),
        ("ps-async", ("--workers", 1, "--steps-per-dispatch", 3)),
    ],
    ids=["mirrored", "ps-sync", "ps-sync, split", "allreduce", "ps-async, alone in groups"],
)
def test_a_synchronous_strategy_computes_what_one_process_does(faces, tmp_path, strategy, more):
    options = (*PLAIN, "--image-size", 32, *more)
    command = facesim("--strategy", "single", "--strategy", strategy, "--data", faces, *options, "--output", tmp_path)
    assert command.code == 0, command.errors + command.output
    results = {run.job().strategy: run for run in find_runs([tmp_path])}

    weights = {name: parameters(run) for name, run in results.items()}
    for one, other in zip(weights["single"], weights[strategy], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_parameters_split_over_two_servers_go_on_whole_on_one(faces, tmp_path):
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "kill"\ntarget = "ps-1"\nat_step = 14\n')
    options = ("--data", faces, *PLAIN, *LARGE)
    facesim("run", "--strategy", "single", *options, "--output", tmp_path / "single")
    (whole,) = find_runs([tmp_path / "single"])
    disturbed = ("--ps", 2, "--checkpoint-steps", 4, "--faults", faults, "--max-restarts", 0)
    failed = facesim("run", "--strategy", "ps-sync", *options, *disturbed, "--output", tmp_path / "split")
    assert failed.code == 1, failed.errors + failed.output
    (run,) = find_runs([tmp_path / "split"])

    resumed = facesim("run", "--resume", run.directory, "--ps", 1)

    assert resumed.code == 0, resumed.errors + resumed.output
    assert any(event["event"] == "restored" and event["step"] >= 4 for event in run.events())
    assert run.result()["counted"]["examples"] == 3 * 64
    for one, other in zip(parameters(whole), parameters(run), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="bytes of each task need Linux' socket diagnostics")
def test_servers_serve_alike(faces, tmp_path):
    options = ("--model", "paper-cnn", "--image-size", 32, "--epochs", 4, "--evaluate-every", 4, "--batch", 8)

    command = facesim("run", "--strategy", "ps-async", "--ps", 3, "--data", faces, *options, "--output", tmp_path)

    assert command.code == 0, command.errors + command.output
    (run,) = find_runs([tmp_path])
    samples = read_samples(run.metrics)
    served = samples[(samples["role"] == "ps") & (samples["name"] == "net_sent_bytes")]
    sent = served.groupby("task_index")["value"].max()
    assert len(sent) == 3
    assert sent.min() > 4 * 8 * run.result()["parameter_bytes"] / 3 * 0.8
    assert sent.max() < 1.3 * sent.min()


def parameters(run) -> list[np.ndarray]:
    """The saved model's weights, read without TensorFlow."""
    import io
    import zipfile

    import h5py

    with zipfile.ZipFile(run.model_file) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        found: dict[str, np.ndarray] = {}
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return [found[name] for name in sorted(found)]
