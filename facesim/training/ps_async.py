"""`ps-async`: parameters live on parameter servers; each worker pulls them, computes a gradient and pushes it, waiting
for none.

This process, the chief, holds the list of batches and hands each to the next free worker. The step runs wholly on that
worker, except that every parameter is read from, and every update applied on, the server that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from facesim.data.pipeline import index_batch, resident_images
from facesim.training.context import Context, wait_for_servers
from facesim.training.loop import fit
from facesim.training.step import StepResult, training_step


def train(context: Context) -> None:
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    with context.recorder.timed("connect_s"):
        wait_for_servers(resolver.cluster_spec())
        strategy = tf.distribute.ParameterServerStrategy(resolver)
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with context.recorder.timed("build_s"):
        replicas = _Workers(context, strategy, coordinator)
    fit(context, replicas)


class _Workers:
    def __init__(
        self,
        context: Context,
        strategy: tf.distribute.ParameterServerStrategy,
        coordinator: tf.distribute.coordinator.ClusterCoordinator,
    ):
        self._coordinator = coordinator
        self._labels = context.data.labels
        with strategy.scope():
            self._model, optimizer = context.build()
        self._local_model = context.build_model()
        self._data = iter(coordinator.create_per_worker_dataset(lambda: resident_images(context.data)))

        @tf.function(reduce_retracing=True)
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            images, worker = next(data)
            return strategy.run(
                training_step, args=(self._model, optimizer, context.loss, tf.gather(images, indices), labels, worker)
            )

        self._update = update

    def train(self, batches: list[np.ndarray]) -> Iterator[StepResult]:
        pending = [
            self._coordinator.schedule(self._update, args=(self._data, *index_batch(batch, self._labels)))
            for batch in batches
        ]
        for result in pending:
            yield StepResult.unpack(result.fetch())

    def current_model(self) -> keras.Model:
        self._local_model.set_weights(self._model.get_weights())
        return self._local_model
