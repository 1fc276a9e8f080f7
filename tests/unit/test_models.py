"""Backbones, heads and losses: shapes, sizes, and formulas against ones that were worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facesim import models
from facesim.models import HEADS, MODELS
from facesim.spec.experiment import Experiment
from facesim.spec.job import make_job
from facesim.util.errors import InputError

#: Each of them takes little, all together a part of a minute.
pytestmark = pytest.mark.slow

#: The published ones: the paper's log, and about 1 M of MobileFaceNet's; 29 identities, 64x64x3.
PARAMETERS = {"paper-cnn": 4_842_589, "compact-cnn": 283_549, "resnet-small": 719_613, "mobilefacenet": 1_009_565}


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """When the first test runs: every process of a test session collects all files."""
    global keras, tf  # noqa: PLW0603
    tf, keras = (pytest.importorskip(name) for name in ("tensorflow", "keras"))


#: All networks; those that take long to build are left to the exhaustive run.
NETWORKS = [
    pytest.param(name, marks=pytest.mark.exhaustive)
    if name in ("mobilefacenet", "resnet50", "efficientnet-b0")
    else name
    for name in MODELS
]


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, size, size, 3), np.uint8)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_takes_pixels_as_stored_and_gives_logits(name):
    from facesim.models.size import size

    model = models.build(name, (64, 64, 3), 29)

    assert model(pictures(2, 64), training=False).shape == (2, 29)
    assert model.count_params() == PARAMETERS.get(name, model.count_params())
    assert size(name, "softmax", (64, 64, 3), 29, 32).parameters == model.count_params()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_everything_but_the_head_of_another(name, tmp_path):
    model = models.build(name, (32, 32, 3), 7)
    source = backbone(model)
    model.save(tmp_path / "source.keras")
    for variable in model.variables:
        variable.assign(variable + 1)
    head = [*model.layers[-1].weights, *(v for v in model.variables if v.path.endswith("seed_generator_state"))]
    before = [variable.numpy() for variable in head]

    models.take_backbone(model, tmp_path / "source.keras")

    for one, other in zip(source, backbone(model), strict=True):
        np.testing.assert_array_equal(one, other)
    for variable, value in zip(head, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("augment", [False, True])
def test_head_number_of_people_and_augmentation_of_the_other_do_not_matter(augment, tmp_path):
    source = models.build("resnet-small", (32, 32, 3), 7, head="arcface", augment=augment)
    source.save(tmp_path / "source.keras")
    model = models.build("resnet-small", (32, 32, 3), 5, augment=not augment)

    models.take_backbone(model, tmp_path / "source.keras")

    embedded = [models.embedder(one)(pictures(4, 32), training=False) for one in (source, model)]
    np.testing.assert_array_equal(*embedded)


def backbone(model: keras.Model) -> list[np.ndarray]:
    """Everything but the head and what is drawn at random."""
    return [
        weight.numpy()
        for layer in model.layers[:-1]
        for weight in layer.weights
        if not weight.path.endswith("seed_generator_state")
    ]


def test_a_network_of_another_kind_is_not_taken(tmp_path):
    models.build("compact-cnn", (32, 32, 3), 7).save(tmp_path / "source.keras")

    with pytest.raises(InputError, match="does not fit the network plain_cnn"):
        models.take_backbone(models.build("plain-cnn", (32, 32, 3), 7), tmp_path / "source.keras")


@pytest.mark.parametrize("size", [32, 112])
@pytest.mark.parametrize("name", ["resnet-small", "mobilefacenet"])
def test_an_embedding_has_128_dimensions_at_any_size(name, size):
    embedder = models.embedder(models.build(name, (size, size, 3), 5, head="arcface"))

    assert embedder(pictures(2, size), training=False).shape == (2, 128)


def test_operations_are_those_of_the_convolutions_and_dense_layers():
    from facesim.models.size import size

    convolutions = 27 * 32 * 62**2 + 288 * 64 * 29**2 + 576 * 128 * 12**2
    dense = 6 * 6 * 128 * 1024 + 1024 * 29

    assert size("paper-cnn", "softmax", (64, 64, 3), 29, 32).flops == 2 * (convolutions + dense)


def test_the_memory_of_a_head_for_a_million_people_is_reckoned_without_making_it():
    from facesim.models.size import size

    head_bytes = size("resnet-small", "arcface", (64, 64, 3), 1_000_000, 64).head_bytes

    assert head_bytes == 16 * 128 * 1_000_000 + 12 * 64 * 1_000_000


def test_a_cosine_head_s_logits_are_scaled_cosines():
    from facesim.models.heads import CosineLogits

    head = CosineLogits(2, scale=30.0)
    head.build((None, 2))
    head.set_weights([np.array([[5.0, 0.0], [0.0, 0.1]], "float32")])

    logits = head(np.array([[3.0, 4.0]], "float32"))

    np.testing.assert_allclose(logits, [[18.0, 24.0]], rtol=1e-5)


def test_augmentation_alters_images_in_training_only():
    from facesim.models.augmentation import SHARE, Augmentation

    keras.utils.set_random_seed(0)
    alter, images = Augmentation(), pictures(40, 32)

    assert (np.asarray(alter(images)) == images).all()
    altered = np.asarray(alter(images, training=True))
    assert altered.shape == images.shape
    changed = (altered != images).any(axis=(1, 2, 3))
    assert SHARE - 0.25 < changed.mean() < SHARE + 0.25
    assert (altered != images)[changed].mean() > 0.7
    assert altered.min() >= 0
    assert altered.max() <= 255


def test_augmentation_computes_in_float32_whatever_the_network_computes_in():
    from facesim.models.augmentation import Augmentation
    from facesim.training.keras.network import use_precision

    altered = []
    for precision in ("float32", "bfloat16"):
        keras.utils.set_random_seed(0)
        use_precision(precision)
        alter = Augmentation(dtype="float32")
        use_precision("float32")
        altered.append(np.asarray(alter(pictures(4, 16), training=True)))

    np.testing.assert_array_equal(*altered)


def test_a_saved_model_says_the_same_when_it_is_loaded(tmp_path):
    model = models.build("resnet-small", (32, 32, 3), 4, head="arcface", augment=True)
    model.save(tmp_path / "model.keras")

    loaded = models.load(tmp_path / "model.keras")

    images = pictures(3, 32)
    np.testing.assert_allclose(loaded(images, training=False), model(images, training=False), atol=1e-5)


def test_a_file_that_is_no_model_is_told(tmp_path):
    (tmp_path / "model.keras").write_text("nothing")

    with pytest.raises(InputError, match=r"model.keras is not a model that facesim can load"):
        models.load(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"there is no model .*other.keras"):
        models.load(tmp_path / "other.keras")


COSINES = np.array([[0.8, 0.1, -0.2], [0.3, 0.5, 0.4]], "float32")
LABELS = np.array([0, 1], "int32")


def losses(**options) -> np.ndarray:
    from facesim.training.tensorflow.objective import loss_for

    experiment = Experiment(margin_scale=10.0, **options)
    return loss_for(experiment)(tf.constant(LABELS), tf.constant(10 * COSINES)).numpy()


def cross_entropy(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype("float64")
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(2), LABELS]


@pytest.mark.parametrize(
    ("head", "true_cosines"),
    [
        ("softmax", (0.8, 0.5)),
        ("cosine", (0.8, 0.5)),
        ("cosface", (0.6, 0.3)),
        ("arcface", (math.cos(math.acos(0.8) + 0.2), math.cos(math.acos(0.5) + 0.2))),
    ],
)
def test_a_margin_makes_the_true_identity_s_cosine_smaller(head, true_cosines):
    with_margin = COSINES.copy()
    with_margin[[0, 1], LABELS] = true_cosines

    np.testing.assert_allclose(losses(head=head, margin=0.2), cross_entropy(10 * with_margin), rtol=1e-4)


def test_label_smoothing_is_keras_s():
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1, reduction="none")

    np.testing.assert_allclose(losses(label_smoothing=0.1), theirs(np.eye(3)[LABELS], 10 * COSINES), rtol=1e-5)


@pytest.mark.parametrize("cosine", [-1.0, -0.99, 0.0, 1.0])
def test_the_angular_margin_has_a_finite_slope_everywhere_and_always_costs(cosine):
    from facesim.training.tensorflow.objective import loss_for

    logits = tf.constant([[30 * cosine, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = loss_for(Experiment(head="arcface", margin=0.5))(tf.constant([0]), logits)
    plain = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([0]), logits)

    assert np.isfinite(tape.gradient(loss, logits)).all()
    assert loss[0] >= plain[0] - 1e-4


@pytest.mark.parametrize("model", MODELS)
def test_every_network_can_be_trained(model):
    assert_can_be_trained(model, "arcface")


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_trained(head):
    assert_can_be_trained("compact-cnn", head)


def assert_can_be_trained(model: str, head: str) -> None:
    from facesim.training.keras.optimizer import make_optimizer
    from facesim.training.protocols import StepResult
    from facesim.training.tensorflow.forward import forward_of
    from facesim.training.tensorflow.objective import loss_for
    from facesim.training.tensorflow.optimizer import FusedAdam
    from facesim.training.tensorflow.step import training_step

    job = make_job(recipe="modern", model=model, head=head, schedule="constant")
    network = models.build(model, (32, 32, 3), 3, head=head, augment=True)
    optimizer = make_optimizer(job, 1, FusedAdam)
    optimizer.build(network.trainable_variables)
    before = [variable.numpy() for variable in network.trainable_variables]

    packed = training_step(
        forward_of(network),
        optimizer,
        loss_for(job.experiment),
        tf.constant(pictures(6, 32)),
        tf.constant([0, 1, 2] * 2),
        tf.constant(0),
    )

    assert np.isfinite(StepResult.unpack(packed.numpy()).loss_sum)
    changed = [np.any(old != new.numpy()) for old, new in zip(before, network.trainable_variables)]
    assert np.mean(changed) > 0.9


@pytest.mark.parametrize("seed", [0, 5, 999_999_999])
@pytest.mark.parametrize("shape", [(7,), (3, 3, 16, 32), (300, 37)])
def test_what_other_frameworks_draw_is_what_tensorflow_draws(shape, seed):
    from facesim.models import draws

    for name, first, second in (("uniform", "minval", "maxval"), ("normal", "mean", "stddev")):
        theirs = getattr(tf.random, f"stateless_{name}")(shape, seed=[seed, 0], **{first: -0.1, second: 0.3})
        np.testing.assert_allclose(getattr(draws, name)(shape, -0.1, 0.3, seed), theirs, atol=1e-6)
    theirs = tf.random.stateless_truncated_normal(shape, seed=[seed, 0], mean=-0.1, stddev=0.3)
    np.testing.assert_allclose(draws.truncated_normal(shape, -0.1, 0.3, seed), theirs, atol=1e-6)
