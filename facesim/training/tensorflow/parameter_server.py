"""What the strategies with parameter servers share: connecting, and a model whose parameters lie on the servers."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cluster.pulse import expects, progressed
from facesim.training.context import Context
from facesim.training.keras.network import build_model
from facesim.training.tensorflow.connecting import connecting_to, use_gpu
from facesim.training.tensorflow.forward import (
    Average,
    parameter_bytes,
    pulled_dtypes,
    pushed_dtypes,
    served_forward_of,
)
from facesim.training.tensorflow.gradients import Gradient
from facesim.training.tensorflow.network import KerasReplicas, build
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.partition import balanced
from facesim.training.tensorflow.pipeline import ExampleSource
from facesim.training.tensorflow.products import Factors, Products
from facesim.training.tensorflow.step import compute_step

#: Steps that are handed out at a time, for each worker: one that it computes and one that it has next.
_SCHEDULED_A_WORKER = 2


#: How long the coordinator is given to see that a worker is lost, before a value is fetched again.
_FETCH_AGAIN_S = 0.05


class ParameterServerReplicas(KerasReplicas):
    """A model and optimiser on parameter servers, and each worker's data. Built by the chief, which coordinates."""

    steps_per_exchange = 1

    def __init__(self, context: Context):
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        use_gpu(0)  # it evaluates, beside a worker
        with context.recorder.timed("connect_s"), connecting_to(resolver, "ps", "worker"):
            _wait_for_servers(resolver.cluster_spec())
            self.strategy = tf.distribute.ParameterServerStrategy(resolver)
            self.coordinator = tf.distribute.coordinator.ClusterCoordinator(self.strategy)
        with context.recorder.timed("build_s"):
            with balanced(self.strategy, context.job.shape.ps):
                model, optimizer = build(context)
            super().__init__(context, model, optimizer)
            self.devices = [name for name in self.devices if "/job:worker/" in name]  # the chief trains nothing
            self.forward, self.pushed_dtypes = served_forward_of(self.model), pushed_dtypes(self.model)
            self.exchange_bytes = parameter_bytes(self.model, pulled_dtypes(self.model)) - self.unsent_bytes
            examples = math.ceil(context.job.update_batch / context.job.joint_workers)  # of a worker
            self.products = Products(self.model.trainable_variables, examples)
            self._local_model, self._local_is_current = build_model(context), False
            self.labels, self.loss = context.data.labels, loss_for(context.experiment)
            self.examples = ExampleSource(context.data, context.experiment.cache)
            self.data = iter(self.coordinator.create_per_worker_dataset(self.examples.dataset))
            _prepare_fetches()

        self._concrete = dict[Any, Any]()
        expects([_task(worker) for worker in range(context.job.shape.workers)])
        # A result is waited for in a thread of its own, because the coordinator reports one at a time only.
        self.ahead = _SCHEDULED_A_WORKER * context.job.shape.workers
        self._waiters = ThreadPoolExecutor(self.ahead, thread_name_prefix="await-worker")

    def compute(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        worker: tf.Tensor,
        share: tf.Tensor | float = 1.0,
        classes: Sequence[tf.Tensor] = (),
    ) -> tuple[tf.Tensor, list[Gradient | Factors], list[Average]]:
        """`compute_step` on a worker, with the factors of a gradient in its place where they are less to send."""
        packed, gradients, averages = compute_step(
            self.forward, self.optimizer, self.loss, images, labels, worker, share, classes
        )
        # A limit of their norm needs all gradients in one place: the servers' products would have to be sent there.
        if not self.optimizer.global_clipnorm:
            return packed, self.products.factored(gradients, labels.shape[0]), averages
        return packed, [*gradients], averages

    def schedule(self, function: Any, *args: Any) -> Future[np.ndarray]:
        """Have the next free worker run a function on its data; a future of what it returns."""
        return self.schedule_bare(function, self.data, *args)

    def schedule_bare(self, function: Any, *args: Any) -> Future[np.ndarray]:
        """The same of a function that needs no data."""
        self._local_is_current = False
        compiled = self._as_compiled(function, args)
        return self._waiters.submit(fetched, self.coordinator.schedule(compiled, args=args))

    def _as_compiled(self, function: Any, args: tuple[Any, ...]) -> Any:
        """A function as it was compiled for arguments of these shapes. To find that out each time would cost the chief
        more than all else that it does to schedule a step.
        """
        shapes = tuple(each.shape for each in tf.nest.flatten(args) if tf.is_tensor(each))
        if (function, shapes) not in self._concrete:
            of_a_worker = [each._values[0]._type_spec if each is self.data else each for each in args]
            with self.strategy.scope():
                self._concrete[function, shapes] = function.get_concrete_function(*of_a_worker)
        return self._concrete[function, shapes]

    def heard_of(self, worker: int, owing: int) -> None:
        """A worker has answered; others owe so many answers."""
        progressed(_task(worker), owing)

    def assign(self, values: list[np.ndarray]) -> None:
        super().assign(values)
        self._local_is_current = False

    def current_model(self) -> keras.Model:
        if not self._local_is_current:
            self._local_model.set_weights(self.model.get_weights())
            self._local_is_current = True
        return self._local_model


def fetched(result: tf.distribute.experimental.coordinator.RemoteValue) -> np.ndarray:
    """What a scheduled function returned, which is something, or the error that it failed with.

    A value may be on the way when its worker is lost, or the function fails. Then a fetch that waits for it sees an
    error of the connection, or, because the coordinator has dropped the value meanwhile, nothing. The coordinator has
    another worker run the function, or keeps the error, which is then the same object at each fetch.
    """
    before = None
    while True:
        try:
            value = result.fetch()
        except tf.errors.OpError as error:
            if error is before:
                raise
            before = error
        else:
            if value is not None:
                return value
        time.sleep(_FETCH_AGAIN_S)


def _prepare_fetches() -> None:
    """Fetch something from every worker, one after another, as its results will be: before several do so at a time.

    TensorFlow prepares a fetch when it is the first from a device, and keeps what it has prepared in a vector, which
    may move in memory as it grows; but a fetch looks at its place there after it has given the lock back
    (`EagerClusterFunctionLibraryRuntime::Run`). So the first results of several workers, if they came at the same time,
    could fail: "Unable to parse request".
    """
    for device in tf.config.list_logical_devices():
        if "/job:worker/" in device.name:
            with tf.device(device.name):
                there = tf.constant(0, tf.float64)
            with tf.device("/job:chief"):
                tf.identity(there)


def _task(worker: int) -> str:
    return f"worker-{worker}"


def _wait_for_servers(cluster: tf.train.ClusterSpec) -> None:
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
