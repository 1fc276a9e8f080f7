"""Gradients as they are sent: rounded, scaled, as factors of products, with what regularizers add."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.mark.parametrize(("name", "head"), [("compact-cnn", "softmax"), ("resnet-small", "arcface")])
def test_what_servers_send_rounded_is_computed_with_as_if_it_were_not(tf, name, head):
    import keras

    from facesim import models
    from facesim.training.tensorflow.forward import forward_of, parameter_bytes, pulled_dtypes, served_forward_of

    images = tf.constant(np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8))
    results = []
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for forward_like in (forward_of, served_forward_of):
            keras.utils.set_random_seed(1)
            model = models.build(name, (32, 32, 3), 3, head=head)
            forward = forward_like(model)
            with tf.GradientTape() as tape:
                logits, _, sources, averages = forward(images)
                loss = tf.reduce_sum(logits**2)
            for average in averages:
                average.apply()
            gradients = tape.gradient(loss, sources)
            results.append(([logits, *gradients], model.non_trainable_variables))
    finally:
        keras.config.set_dtype_policy("float32")

    (values, state), (served_values, served_state) = results
    for one, other in zip(values, served_values, strict=True):
        np.testing.assert_array_equal(tf.cast(one, tf.float32), tf.cast(other, tf.float32))
    for one, other in zip(state, served_state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert [gradient.dtype for gradient in served_values[1:]] == pulled_dtypes(model)
    assert {tf.float32, tf.bfloat16} == set(pulled_dtypes(model))
    assert parameter_bytes(model, pulled_dtypes(model)) < 0.6 * parameter_bytes(model)


@pytest.fixture(scope="module")
def gradients_of(tf) -> dict[str, Callable[[float], list[np.ndarray]]]:
    """From a factor of the loss to the gradients of a network with dense layers and a sampled head: in float32, and in
    float16 with a scaled loss and without.
    """
    import keras

    from facesim.models.heads import SampledCosineLogits
    from facesim.training.keras.network import use_precision
    from facesim.training.keras.optimizer import LOSS_SCALE
    from facesim.training.tensorflow.forward import pulled_dtypes, pushed_dtypes, served_forward_of
    from facesim.training.tensorflow.gradients import values_of
    from facesim.training.tensorflow.optimizer import FusedSgd
    from facesim.training.tensorflow.products import Products
    from facesim.training.tensorflow.step import compiled, compute_step

    examples = tf.constant(np.random.default_rng(0).normal(size=(8, 64)), tf.float32)
    labels = tf.constant(np.arange(8) % 3, tf.int32)

    def made(precision, scale):
        keras.utils.set_random_seed(0)
        use_precision(precision)
        inputs = keras.Input((64,))
        hidden = keras.layers.Dense(512, activation="tanh")(keras.layers.Dense(64, activation="tanh")(inputs))
        model = keras.Model(inputs, SampledCosineLogits(5, 30.0, dtype="float32")(hidden))
        use_precision("float32")
        optimizer, forward = FusedSgd(0.1, loss_scale_factor=scale), served_forward_of(model)
        optimizer.build(model.trainable_variables)
        products = Products(model.trainable_variables, 8)

        @compiled
        def step(factor, classes):
            def loss(labels, logits):
                return factor * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

            found = compute_step(forward, optimizer, loss, examples, labels, tf.constant(0), classes=[classes])[1]
            assert all(values_of(each).shape.is_fully_defined() for each in found)  # replicas that sum them need it
            products.factored(found, 8)
            return found

        def gradients(factor):
            found = step(tf.constant(factor), tf.constant([0, 2, 3], tf.int32))
            assert found[-1].indices.numpy().tolist() == [0, 2, 3]
            if scale:
                assert pulled_dtypes(model) == [tf.float16, tf.float32, tf.float16, tf.float32, tf.float32]
                assert [values_of(each).dtype for each in found] == pushed_dtypes(model) == [tf.float32] * 5
                assert products.factor_rows == {}  # servers could not make what is divided by the scale
            return [values_of(each).numpy().astype(np.float32) for each in found]

        return gradients

    return {
        "float32": made("float32", None),
        "scaled": made("float16", LOSS_SCALE),
        "unscaled": made("float16", None),
    }


def test_gradients_that_are_0_in_float16_are_those_of_float32_by_a_scaled_loss(gradients_of):
    expected, scaled, unscaled = (gradients_of[name](1e-7) for name in ("float32", "scaled", "unscaled"))

    assert not unscaled[0].any()
    for one, other in zip(scaled, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02 * np.abs(other).max())


def test_gradients_that_a_scaled_loss_makes_too_large_for_float16_are_found_without(gradients_of):
    from facesim.training.keras.optimizer import LOSS_SCALE

    expected, scaled, unscaled = (gradients_of[name](1e4) for name in ("float32", "scaled", "unscaled"))

    assert LOSS_SCALE * np.abs(expected[0]).max() > np.finfo(np.float16).max
    for one, same, other in zip(scaled, unscaled, expected, strict=True):
        np.testing.assert_array_equal(one, same)
        np.testing.assert_allclose(one, other, atol=0.02 * np.abs(other).max())


@pytest.mark.parametrize("served", [False, True])
def test_what_regularizers_add_to_the_loss_is_trained_on(tf, served):
    import keras

    from facesim.training.tensorflow.forward import forward_of, served_forward_of
    from facesim.training.tensorflow.step import compute_step

    inputs = keras.Input((2, 2, 1))
    features = keras.layers.Conv2D(3, 2, kernel_regularizer=keras.regularizers.L2(0.1))(inputs)
    head = keras.layers.Dense(2, bias_regularizer="l1", bias_initializer="ones")
    model = keras.Model(inputs, head(keras.layers.Flatten()(features)))
    optimizer = keras.optimizers.SGD()
    images, labels = tf.random.normal((4, 2, 2, 1), seed=0), tf.constant([0, 1, 1, 0])

    forward = (served_forward_of if served else forward_of)(model)

    def loss_of(labels, logits):
        return tf.reduce_sum(logits, axis=1)

    @tf.function
    def step():
        return compute_step(forward, optimizer, loss_of, images, labels, tf.constant(0), 0.5)

    packed, gradients, _ = step()
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.reduce_mean(loss_of(labels, logits)) + sum(model.losses)  # as Keras' fit has it

    for gradient, expected in zip(gradients, tape.gradient(loss, model.trainable_variables), strict=True):
        np.testing.assert_allclose(gradient, expected / 2, rtol=1e-5)
    assert float(packed[0]) == pytest.approx(float(tf.reduce_sum(logits)))  # what is recorded is of the examples alone


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_what_servers_multiply_is_the_gradient_that_a_worker_would_send(tf, policy):
    import keras

    from facesim.training.tensorflow.forward import served_forward_of
    from facesim.training.tensorflow.partition import pieces
    from facesim.training.tensorflow.products import Products, on_servers

    def split(create, **options):
        """A variable in two pieces, if it is large."""
        value = options.pop("initial_value")
        value = value() if callable(value) else tf.convert_to_tensor(value)
        parts = tf.split(value, 2) if value.shape.num_elements() > 10_000 else [value]
        made = [create(**options | {"initial_value": part, "shape": part.shape}) for part in parts]
        return made[0] if len(made) == 1 else tf.__internal__.distribute.ShardedVariable(made)

    keras.config.set_dtype_policy(policy)
    try:
        with tf.variable_creator_scope(split):
            inputs, twice = keras.Input((64,)), keras.layers.Dense(64, activation="tanh")
            hidden = keras.layers.Dense(512, activation="tanh")(twice(twice(inputs)))
            model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    finally:
        keras.config.set_dtype_policy("float32")
    variables, forward, servers = model.trainable_variables, served_forward_of(model), []

    def gradients(products):
        @tf.function(reduce_retracing=True)
        def step(images):
            with tf.GradientTape() as tape:
                logits, _, sources, _ = forward(images)
                loss = tf.reduce_mean(tf.cast(logits, tf.float32) ** 2)
            sent = tape.gradient(loss, sources)
            made, _ = on_servers(pieces(variables), products.factored(sent, images.shape[0]), [])
            made_there = zip(made, pieces(variables), strict=True)
            servers.append([each.op.device == piece.device and each.op.type == "MatMul" for each, piece in made_there])
            return sent, made

        return step

    batch = tf.constant(np.random.default_rng(0).normal(size=(8, 64)), tf.float32)
    few, many = Products(variables, 8), Products(variables, 2000)
    step = gradients(few)
    step(batch[:1])  # the rest of an epoch
    sent, made = step(batch)  # traced with a batch of any size
    gradients(many)(batch)

    # A kernel that is used twice, and its bias; the split one, and its bias; the head's, which is small, and its bias.
    assert servers == [[False, False, True, True, *[False] * 3]] * len(servers[:-1]) + [[False] * 7]
    assert few.factor_rows == {2: 1, 4: 1}
    assert few.sent_rows([gradient.dtype for gradient in sent]) == [0, 0, 8, 8, 0, 0, 0]
    for one, other in zip(sent, made, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(tf.cast(one, tf.float32), tf.cast(other, tf.float32), rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_replicas_sum_the_factors_of_a_gradient_and_multiply_them(tf, policy):
    import keras

    from facesim.training.tensorflow.forward import forward_of, pushed_dtypes
    from facesim.training.tensorflow.products import Products, from_slots
    from facesim.training.tensorflow.replicated import slice_of_batch

    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((5, 64))  # five rows of factors for each example
        hidden = keras.layers.Flatten()(keras.layers.Dense(512, activation="tanh")(inputs))
        model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    finally:
        keras.config.set_dtype_policy("float32")
    count, forward, dtypes = 3, forward_of(model), pushed_dtypes(model)
    replicas = [Products(model.trainable_variables, 2) for _ in range(count)]
    images = tf.constant(np.random.default_rng(0).normal(size=(6, 5, 64)), tf.float32)

    def gradients_of(some, share):
        with tf.GradientTape() as tape:
            loss = share * tf.reduce_mean(tf.cast(forward(some).logits, tf.float32) ** 2)
        made = tape.gradient(loss, model.trainable_variables)
        return [tf.cast(gradient, dtype) for gradient, dtype in zip(made, dtypes, strict=True)]

    @tf.function(reduce_retracing=True)
    def update(indices):
        sent, own = [], []
        for number, products in enumerate(replicas):
            mine, labels, share = slice_of_batch(indices, indices, tf.constant(number), count)
            gradients = gradients_of(tf.gather(images, mine), share)
            own.append(gradients)
            sent.append(products.in_slots(gradients, labels.shape[0], tf.constant(number), count))
        sums = [[tf.add_n(parts) for parts in zip(*of_variable)] for of_variable in zip(*sent)]
        return sent[0], [from_slots(parts, gradient) for parts, gradient in zip(sums, own[0], strict=True)]

    for size in (6, 5, 2):  # the second is traced as of any size; of the last not every replica has a part
        sent, total = update(tf.range(size))
        assert [[tuple(part.shape) for part in parts] for parts in sent[:2]] == [[(30, 64), (30, 512)], [(512,)]]
        for made, expected, dtype in zip(total, gradients_of(images[:size], 1.0), dtypes, strict=True):
            assert made.dtype == dtype
            np.testing.assert_allclose(*(tf.cast(each, tf.float32) for each in (made, expected)), rtol=0.02, atol=1e-3)
    assert replicas[0].factor_rows == {0: 5, 2: 1}


def test_replicas_multiply_factors_only_if_all_get_the_same_product(tf):
    import keras

    from facesim.training.tensorflow.products import Products

    kernel = keras.Variable(np.zeros((256, 512), np.float32))
    others, dtypes = list[tf.Tensor](), [tf.float32]

    def summed(tensors):
        """With another replica, which says what this one does, or something else."""
        (mine,) = tensors
        others.append(tf.reverse(mine, [0]))
        return [mine + (others[-1] if len(others) < 3 else 1 - others[-1])]

    alike = [Products([kernel], 4).multiplied_alike(summed, 0, 2, dtypes) for _ in range(3)]

    assert alike == [True, True, False]
    np.testing.assert_array_equal(others[0], others[1])
    assert np.all(others[0][1] != 0)


def test_without_mixed_precision_servers_send_parameters_as_they_are(tf):
    from facesim import models
    from facesim.training.tensorflow.forward import parameter_bytes, pulled_dtypes

    model = models.build("compact-cnn", (32, 32, 3), 3)

    assert set(pulled_dtypes(model)) == {tf.float32}
    assert parameter_bytes(model, pulled_dtypes(model)) == parameter_bytes(model)
