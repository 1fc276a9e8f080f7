"""What trackers are told of runs, live and afterwards, read back by the tools themselves."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from facesim import Tracking
from facesim.backends.log_stream import LogStream
from facesim.metrics.announced import announcement
from facesim.metrics.files import SampleWriter
from facesim.metrics.points import Point
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.study.observers import Together
from facesim.tracking import export_runs
from facesim.tracking.tracker import Feed, TrackedRun, Tracker
from facesim.util.errors import InputError
from tests.conftest import facesim_here, wait_until
from tests.tracking.conftest import BEGAN, Growing


def told_live(tracker: str, growing: Growing, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell `tracker` of a run that goes on; returns what was noticed on the way."""
    from facesim.study.observers import Observer
    from facesim.tracking import observer as module

    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    noticed: list[str] = []
    listening = Observer()
    listening.noticed = noticed.append
    observers = Together([Tracking(tracker, folder), listening])
    observers.started(growing.run, 1, 1)
    growing.begin()
    for number in (1, 2):
        growing.epoch(number)
        observers.tick()
    observers.ended(growing.run, growing.end())
    return noticed


NODES = {"algo-1/worker-0": 32.0, "algo-2/worker-1": 42.0}


def test_tensorboard_has_nodes_as_folders_and_hparams(growing, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    def read(node: str = "") -> EventAccumulator:
        return EventAccumulator(str(tmp_path / "tensorboard" / growing.run.id / node)).Reload()

    assert told_live("tensorboard", growing, tmp_path, monkeypatch) == []

    run = read()
    assert [(one.step, one.wall_time, one.value) for one in run.Scalars("training/loss")] == [
        (10, BEGAN + 5.1, 3.0), (20, BEGAN + 10.1, 1.5),
    ]  # fmt: skip
    assert run.Scalars("result/held_out_accuracy")[0].value == pytest.approx(0.8)
    for node, last in NODES.items():
        assert [(one.step, one.value) for one in read(node).Scalars("psutil/cpu_percent")] == [
            (5000, last - 1), (10000, last),
        ]  # fmt: skip
    assert read("algo-2").Scalars("psutil/memory_percent")[0].value == 51.0
    sessions = run.summary_metadata
    began = metadata.parse_session_start_info_plugin_data(sessions[metadata.SESSION_START_INFO_TAG].plugin_data.content)
    assert began.hparams["learning_rate"].number_value == 0.003
    assert began.hparams["strategy"].string_value == "ps-async"
    ended = metadata.parse_session_end_info_plugin_data(sessions[metadata.SESSION_END_INFO_TAG].plugin_data.content)
    assert ended.status == 1  # success
    assert "trained_together: together" in run.Tensors("run")[0].tensor_proto.string_val[0].decode()
    assert "<html" in (tmp_path / "tensorboard" / growing.run.id / "report.html").read_text()


class Keeps(Tracker):
    """A tracker that keeps what it is told of the training."""

    place = "here"

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.told: list[tuple[str, int, float]] = []

    def start(self, run: TrackedRun) -> None:
        pass

    def log(self, points: Sequence[Point]) -> None:
        self.told += [(point.metric, point.step, point.value) for point in points if point.node == ""]

    def end(self, run: TrackedRun, report: Path | None) -> None:
        pass


def test_what_a_training_elsewhere_announces_is_told_once_at_its_step(tmp_path):
    run = Run.create(tmp_path / "one", make_job())
    tracker = Keeps(tmp_path)
    feed = Feed(run, tracker, "keeps")
    epochs = [{"epoch": n, "updates": 1_234_567 * n, "loss": 1 / n, "staleness_mean": 0.5} for n in (1, 2)]
    followers = [LogStream(run), LogStream(run)]

    def prints(values: dict[str, float], at_unix_s: float, *to: LogStream) -> None:
        for follower in to:  # the second reads again what the first has read
            follower.add("algo-1", announcement(values), at_unix_s)
        feed.send()

    prints(epochs[0], BEGAN + 5.25, *followers)
    prints(epochs[1], BEGAN + 10.25, followers[1])
    prints(epochs[1], BEGAN + 15.25, followers[1])  # it was started again elsewhere
    live = list(tracker.told)
    home = SampleWriter(run.metrics / "chief-0-algo-1.jsonl", run_id=run.id, host="algo-1", source="training")
    for number, values in enumerate(epochs, 1):
        home.write(BEGAN + 5 * number, "chief", 0, values)
    followers[1].settle()
    feed.send()

    assert [(step, value) for metric, step, value in live if metric == "training/loss"] == [
        (1_234_567, 1.0), (2_469_134, 0.5),
    ]  # fmt: skip
    assert tracker.told[len(live) :] == [("training/staleness_mean", step, 0.5) for step in (1_234_567, 2_469_134)]
    assert [file.name for file in run.metrics.iterdir()] == ["chief-0-algo-1.jsonl"]


@pytest.mark.slow
def test_mlflow_has_nodes_as_systems_parameters_tags_and_the_report(growing, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    assert told_live("mlflow", growing, tmp_path, monkeypatch) == []

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("facesim").experiment_id])
    assert (run.info.run_name, run.info.status) == (growing.run.id, "FINISHED")
    assert run.info.end_time == round(1000 * (BEGAN + 12))
    assert run.data.params["learning_rate"] == "0.003"
    assert run.data.tags["trained_together"] == "together"
    assert run.data.metrics["result/cost_usd"] == 0.003
    losses = client.get_metric_history(run.info.run_id, "training/loss")
    assert [(one.step, one.timestamp, one.value) for one in losses] == [
        (10, round(1000 * (BEGAN + 5.1)), 3.0), (20, round(1000 * (BEGAN + 10.1)), 1.5),
    ]  # fmt: skip
    for node, last in NODES.items():
        key = f"system/{node.replace('/', '.')}/psutil/cpu_percent"
        assert [one.value for one in client.get_metric_history(run.info.run_id, key)] == [last - 1, last]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


@pytest.mark.slow
def test_wandb_has_every_sample_offline(growing, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto import wandb_internal_pb2 as proto

    monkeypatch.setenv("WANDB_MODE", "offline")

    assert told_live("wandb", growing, tmp_path, monkeypatch) == []

    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records: list[proto.Record] = []

    def whole() -> bool:  # another process of wandb's writes it
        records[:] = [proto.Record.FromString(record) for record in leveldb_records(file.read_bytes())]
        return any(one.HasField("exit") for one in records)

    wait_until(whole)
    (run,) = [one.run for one in records if one.HasField("run")][-1:]
    config = {item.key: item.value_json for item in run.config.update}
    assert (run.display_name, config["learning_rate"], config["strategy"]) == (growing.run.id, "0.003", '"ps-async"')
    rows = [
        {".".join(item.nested_key) or item.key: float(item.value_json) for item in one.history.item}
        for one in records if one.HasField("history")
    ]  # fmt: skip
    assert [(row["since_launch_s"], row["training/loss"]) for row in rows if "training/loss" in row] == [
        (pytest.approx(5.1), 3.0), (pytest.approx(10.1), 1.5),
    ]  # fmt: skip
    for node, last in NODES.items():
        assert [row[key] for row in rows if (key := f"{node}/psutil/cpu_percent") in row] == [last - 1, last]
    assert any(one.HasField("artifact") or one.request.HasField("log_artifact") for one in records)


def leveldb_records(content: bytes) -> list[bytes]:
    """The records of a wandb file: LevelDB's log format (blocks of 32 KiB; crc, length, type) after a header of 7
    bytes.
    """
    records, pending, at = [], b"", 7
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # a block's rest that is too short for a header
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        pending += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(pending)
            pending = b""
    return records


def test_trackio_has_every_sample(growing, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is first imported
    trackio = pytest.importorskip("trackio", reason="the extra trackio is not installed")

    assert told_live("trackio", growing, tmp_path, monkeypatch) == []

    (run,) = [one for one in trackio.Api().runs("facesim") if one.name == growing.run.id]
    assert run.config["learning_rate"] == 0.003
    rows = trackio.SQLiteStorage.get_logs("facesim", growing.run.id)
    assert [row["training/loss"] for row in rows if "training/loss" in row] == [3.0, 1.5]
    for node, last in NODES.items():
        assert [row[key] for row in rows if (key := f"{node}/psutil/cpu_percent") in row] == [last - 1, last]
    assert rows[-1]["trained_together"] == "together"


def test_what_is_sent_afterwards_is_what_was_sent_live(growing, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told_live("tensorboard", growing, tmp_path / "live", monkeypatch)
    for _ in range(2):  # a second time takes the place of the first
        export_runs([growing.run], "tensorboard", tmp_path / "after")

    for node in ("", "algo-1", "algo-1/worker-0", "algo-2", "algo-2/worker-1"):
        live, after = (
            EventAccumulator(str(tmp_path / when / "tensorboard" / growing.run.id / node)).Reload()
            for when in ("live", "after")
        )
        assert live.Tags()["scalars"] == after.Tags()["scalars"]
        for tag in live.Tags()["scalars"]:
            assert live.Scalars(tag) == after.Scalars(tag)


def test_runs_that_go_on_at_the_same_time_are_kept_apart(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from facesim.tracking import observer as module

    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    tracking, both = Tracking("tensorboard", tmp_path), [Growing(tmp_path / name) for name in ("one", "other")]
    for number, growing in enumerate(both, 1):
        tracking.started(growing.run, number, 2)
        growing.begin()
    for growing, epochs in zip(both, ((1, 2), (1,)), strict=True):
        for epoch in epochs:
            growing.epoch(epoch)
            tracking.tick()
    for growing in both:
        tracking.ended(growing.run, growing.end())

    one, other = (EventAccumulator(str(tmp_path / "tensorboard" / each.run.id)).Reload() for each in both)
    assert [point.value for point in one.Scalars("training/loss")] == [3.0, 1.5]
    assert [point.value for point in other.Scalars("training/loss")] == [3.0]
    assert one.Scalars("result/held_out_accuracy") and other.Scalars("result/held_out_accuracy")


@pytest.mark.slow
def test_a_run_whose_parameter_server_was_killed_is_sent_with_every_sample(golden: Run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    from facesim.metrics.files import samples_in

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = facesim_here("export-run", "--to", "mlflow", golden.directory, "--output", tmp_path)

    assert command.code == 0, command.errors
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("facesim").experiment_id])
    sent = [key for key in run.data.metrics if not key.startswith("result/")]
    assert sum(len(client.get_metric_history(run.info.run_id, key)) for key in sent) == len(samples_in(golden.metrics))


def test_a_tracker_that_fails_is_told_of_and_the_study_goes_on(growing, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / growing.run.id).write_text("no folder")

    (message,) = told_live("tensorboard", growing, tmp_path, monkeypatch)

    assert (
        message.startswith("Tracking failed and is told nothing more: ") and "tensorboard: FileExistsError" in message
    )
    assert "`facesim export-run --to tensorboard RUN`" in message
    assert growing.run.result() is not None


@pytest.mark.parametrize("command", [["run", "--dry-run", "--track"], ["export-run", ".", "--to"]])
def test_an_unknown_tracker_is_refused_before_anything_starts(command):
    ended = facesim_here(*command, "tensorbord")

    assert ended.code == 2
    assert "'tensorbord'" in ended.errors and "did you mean tensorboard?" in ended.errors


def test_a_package_that_is_missing_is_named_with_what_installs_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "facesim.tracking.wandb", raising=False)
    from facesim.tracking import TRACKERS

    TRACKERS._loaded.pop("wandb", None)
    with pytest.raises(
        InputError, match=r"--track wandb needs the package wandb.*pip install 'facesim-cluster\[wandb\]'"
    ):
        Tracking("wandb", tmp_path)


def test_a_store_that_cannot_be_reached_is_told_before_anything_starts(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "carrier-pigeon://roof")

    with pytest.raises(InputError, match="--track mlflow cannot be used: .*carrier-pigeon"):
        Tracking("mlflow", tmp_path)


def test_a_folder_that_no_address_of_a_database_can_name_is_told_before_anything_starts(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    with pytest.raises(InputError, match=r"MLflow cannot keep runs in .*/a\?b: .* name a folder without them"):
        Tracking("mlflow", tmp_path / "a?b")

    assert not list(tmp_path.iterdir())


def test_a_tracker_has_everything_that_makes_runs_unlike(tmp_path):
    kill = {"kind": "kill", "target": "worker-1", "at_step": 5}
    job = make_job(strategy="allreduce", framework="torch", spot_rate=2, checkpoint_s=5, workers=3, faults=[kill])

    parameters = TrackedRun.of(Run.create(tmp_path / "one", job)).parameters

    told = {"framework": "torch", "strategy": "allreduce", "workers": 3, "spot": True, "spot_rate": 2.0}
    assert parameters.items() >= {**told, "checkpoint_s": 5.0, "faults": "kill worker-1, at step 5"}.items()
