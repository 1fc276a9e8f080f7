"""MLflow: a run for each run, in SQLite where MLFLOW_TRACKING_URI names no other store.

The URI may be a server's, or the ARN of a managed MLflow of SageMaker, with the package `sagemaker-mlflow`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Read at import. What is done with facesim is nobody else's.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from facesim.runs.states import RunState
from facesim.tracking.tracker import Point, TrackedRun, Tracker
from facesim.util.errors import InputError, doing

_EXPERIMENT = "facesim"
_STATUS = {RunState.COMPLETED: "FINISHED", RunState.STOPPED: "KILLED", RunState.UNFINISHED: "RUNNING"}

#: So much MLflow takes at once, and in one text.
_METRICS_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100
_PARAM_LENGTH, _TAG_LENGTH = 6000, 5000


class MLflow(Tracker):
    """Runs of the experiment MLFLOW_EXPERIMENT_NAME, or `facesim`. Metrics of a node are named as MLflow names those of
    a system, `system/NODE/METRIC`, so that its page shows node beside node. Sending does not hold up what follows a
    run.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None
        if not uri:
            uri = _database_in(folder)
            with doing(f"write to {folder}", "name another folder with --output"):
                folder.mkdir(parents=True, exist_ok=True)
            artifacts = (folder.resolve() / "mlflow-artifacts").as_uri()
        self._uri, self._client = uri, MlflowClient(uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        known = self._client.get_experiment_by_name(name)
        self._experiment = known.experiment_id if known else self._client.create_experiment(name, artifacts)

    @property
    def place(self) -> str:
        return self._uri

    def start(self, run: TrackedRun) -> None:
        self._sending: list[Any] = []
        started_ms = round(1000 * run.launched_unix_s)
        self._id = self._client.create_run(self._experiment, started_ms, run_name=run.id).info.run_id
        params = [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in run.parameters.items()]
        for begin in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=params[begin : begin + _PARAMS_AT_ONCE])
        self._tag(run)

    def _tag(self, run: TrackedRun) -> None:
        tags = [RunTag(name, value[:_TAG_LENGTH]) for name, value in run.tags.items()]
        self._client.log_batch(self._id, tags=tags)

    def log(self, points: Sequence[Point]) -> None:
        metrics = [Metric(_key(point), point.value, round(1000 * point.time_unix_s), point.step) for point in points]
        for begin in range(0, len(metrics), _METRICS_AT_ONCE):
            some = metrics[begin : begin + _METRICS_AT_ONCE]
            self._sending.append(self._client.log_batch(self._id, some, synchronous=False))

    def end(self, run: TrackedRun, report: Path | None) -> None:
        for sent in self._sending:
            sent.wait()  # raises what went wrong
        ended_ms = round(1000 * run.ended_unix_s)
        results = [Metric(name, value, ended_ms, 0) for name, value in run.results.items()]
        self._client.log_batch(self._id, results)
        self._tag(run)
        if report:
            self._client.log_artifact(self._id, str(report))
        self._client.set_terminated(self._id, _STATUS.get(run.state, "FAILED"), ended_ms)


def _database_in(folder: Path) -> str:
    """The address of a database in a folder of this machine, as MLflow takes it.

    Raises:
        InputError: the folder's name has what is no part of a name in such an address.
    """
    from sqlalchemy.engine import make_url

    database = str(folder.resolve() / "mlflow.db")
    address = f"sqlite:///{database}"
    # Not written as %3F: MLflow makes a folder of that name, too.
    if make_url(address).database != database:
        raise InputError(
            f"MLflow cannot keep runs in {folder.resolve()}: in an address of a database ? and % are no part of a "
            "name; name a folder without them with --output, or a server in MLFLOW_TRACKING_URI",
            field="output",
            value=str(folder),
        )
    return address


def _key(point: Point) -> str:
    return f"system/{point.node.replace('/', '.')}/{point.metric}" if point.node else point.metric
