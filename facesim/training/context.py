"""What a training task works with: its job, its data, where it records, and whether it was asked to stop."""

from __future__ import annotations

import math
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from facesim import models
from facesim.data.prepare import PreparedData
from facesim.data.splits import stratified_split
from facesim.metrics.files import SampleWriter
from facesim.run import Run
from facesim.training.objective import loss_for
from facesim.training.optimizer import FusedAdam, make_optimizer


class Context:
    """One training task's surroundings. `stopping` turns true when the task is asked to end (SIGTERM)."""

    def __init__(self, run: Run, data: PreparedData):
        self.run = run
        self.job = run.job()
        self.experiment = self.job.experiment
        self.data = data
        self.train_indices, self.held_out_indices = stratified_split(
            data.labels, self.experiment.held_out, self.experiment.seed
        )
        self.loss = loss_for(self.experiment)
        self.recorder = Recorder(run)
        self.stopping = False

    def stop_when_asked(self) -> None:
        """From now on SIGTERM sets `stopping` instead of ending this process at once."""

        def stop(*_: object) -> None:
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)

    def build(self) -> tuple[keras.Model, FusedAdam]:
        """The job's network and optimiser from the job's seed: the same parameters whatever strategy builds them."""
        keras.utils.set_random_seed(self.experiment.seed)
        model = self.build_model()
        updates = self.experiment.epochs * math.ceil(len(self.train_indices) / self.experiment.batch)
        optimizer = make_optimizer(self.experiment, updates)
        optimizer.build(model.trainable_variables)
        return model, optimizer

    def build_model(self) -> keras.Model:
        experiment = self.experiment
        return models.build(
            experiment.model,
            self.data.image_shape,
            len(self.data.names),
            head=experiment.head,
            margin_scale=experiment.margin_scale,
            augment=experiment.augment,
        )


class Recorder:
    """Writes the training task's samples, and keeps how long each phase took."""

    def __init__(self, run: Run):
        self.phases: dict[str, float] = {}
        self._launched = run.events()[0]["time_unix_s"]
        self._writer = SampleWriter(
            run.metrics / "chief-0.jsonl", run_id=run.id, host=socket.gethostname(), source="training"
        )

    def write(self, values: dict[str, float]) -> None:
        self._writer.write(time.time(), "chief", 0, values)

    def workers(self, values_by_worker: dict[int, dict[str, float]]) -> None:
        for index, values in values_by_worker.items():
            self._writer.write(time.time(), "worker", index, values)

    def phase(self, name: str, seconds: float) -> None:
        """Record a phase that ended; a phase that comes again adds to what there is."""
        self.phases[name] = self.phases.get(name, 0.0) + seconds
        self.write({name: self.phases[name]})

    def since_launch(self, name: str) -> None:
        """Record that the phase `name`, which began at the launch, ends now."""
        self.phase(name, time.time() - self._launched)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.phase(name, time.perf_counter() - begin)


def open_context(run: Run, data_directory: Path) -> Context:
    context = Context(run, PreparedData.load(data_directory))
    context.recorder.since_launch("startup_s")
    if context.job.shape.threads:
        tf.config.threading.set_intra_op_parallelism_threads(context.job.shape.threads)
    return context


def wait_for_servers(cluster: tf.train.ClusterSpec) -> None:
    """Wait until every worker and parameter server listens.

    gRPC, refused once, waits a second before it tries again; asking the port itself costs milliseconds.
    """
    for role in ("ps", "worker"):
        for address in cluster.job_tasks(role):
            host, port = address.rsplit(":", 1)
            while True:
                try:
                    socket.create_connection((host, int(port))).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
