"""Small tensors that cross the network together."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def tensors(tf):
    generator = np.random.default_rng(0)
    shapes = [(3, 5), (40_000,), (), (7,), (2, 2), (0, 4)]  # the second is large
    made = [tf.constant(generator.normal(size=shape), tf.float32) for shape in shapes]
    return [*made, tf.constant([[1.5], [2.5]], tf.bfloat16), tf.constant([0.5], tf.bfloat16), tf.constant([3, 4])]


def test_what_is_packed_comes_out_as_it_was(tf, tensors):
    from facesim.training.tensorflow.packing import pack, unpack

    specs = [tf.TensorSpec(each.shape, each.dtype) for each in tensors]
    specs[3] = None  # goes alone

    sent = pack(tensors, specs)

    assert [(each.dtype, int(tf.size(each))) for each in sent] == [
        (tf.float32, 15 + 1 + 4),
        (tf.float32, 40_000),
        (tf.float32, 7),
        (tf.bfloat16, 3),
        (tf.int32, 2),
    ]
    for came, was in zip(unpack(sent, specs), tensors, strict=True):
        assert (came.shape, came.dtype) == (was.shape, was.dtype)
        np.testing.assert_array_equal(tf.cast(came, tf.float64), tf.cast(was, tf.float64))


@pytest.mark.parametrize("way", ["sent_to", "fetched_from"])
def test_between_two_devices_small_tensors_of_one_dtype_are_one_message(tf, tensors, way):
    from facesim.training.tensorflow import packing

    there = "/job:ps/replica:0/task:{}/device:CPU:0"
    devices = [there.format(place % 2) for place, _ in enumerate(tensors)]
    signature = [tf.TensorSpec(each.shape, each.dtype) for each in tensors]

    @tf.function(input_signature=[signature], autograph=False)
    def moved(given):
        if way == "fetched_from":
            held = []
            for device, each in zip(devices, given):
                with tf.device(device):
                    held.append(tf.identity(each))
            given = held
        return [tf.identity(each) for each in getattr(packing, way)(devices, given)]

    graph = moved.get_concrete_function().graph
    joined = [each for each in graph.get_operations() if each.type == "ConcatV2"]
    cut = [each for each in graph.get_operations() if each.type == "SplitV"]

    # Of the first server the float32 of places 0, 2 and 4 and nothing else; of the second those of 3 and 5.
    assert len(joined) == len(cut) == 2
    at_servers, here = (joined, cut) if way == "fetched_from" else (cut, joined)
    assert [each.device for each in at_servers] == [there.format(0), there.format(1)]
    assert {each.device for each in here} == {""}


def test_a_served_model_reads_its_small_variables_with_one_message(tf):
    import keras

    from facesim.training.tensorflow.forward import served_forward_of

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.Conv2D(8, 3),
            layers.Flatten(),
            layers.Dense(64),
            layers.Dense(5),
        ]
    )
    model.layers[4].kernel.assign(keras.random.normal((1152, 64), stddev=0.03))
    images = tf.constant(np.random.default_rng(1).normal(size=(4, 16, 16, 3)), tf.float32)

    @tf.function(autograph=False)
    def step(images):
        with tf.GradientTape() as tape:
            passed = served_forward_of(model)(images)
            loss = tf.reduce_mean(passed.logits**2)
        return loss, tape.gradient(loss, passed.sources)

    reads = [each for each in step.get_concrete_function(images).graph.get_operations() if each.type == "SplitV"]
    loss, gradients = step(images)
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(model(images, training=True) ** 2)

    assert len(reads) == 1
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    for one, other in zip(gradients, tape.gradient(expected, model.trainable_weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
