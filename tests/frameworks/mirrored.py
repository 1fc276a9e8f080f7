"""A training script as users write them, with TensorFlow's MultiWorkerMirroredStrategy, and the two lines."""

import json
import os

import numpy as np
import tensorflow as tf

import facesim.audit

strategy = tf.distribute.MultiWorkerMirroredStrategy()
rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
images = np.random.default_rng(0).standard_normal((256, 256), np.float32)
with strategy.scope():
    weights = tf.Variable(tf.zeros((256, 256)), aggregation=tf.VariableAggregation.MEAN)


@tf.function
def update(batch: tf.Tensor) -> None:
    def replica(some: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((some @ weights - some) ** 2)
        weights.assign_sub(0.1 * tape.gradient(loss, weights))  # the mean over all workers

    strategy.run(replica, args=(batch,))


for _ in range(40):
    for numbers in np.split(np.arange(rank, 256, 2), 16):
        update(tf.constant(images[numbers]))
        facesim.audit.step(examples=numbers)
facesim.audit.parameters([weights])
