"""Networks of users' as they are written: what would be trained as another one than the user's is refused, before."""

from __future__ import annotations

import random

import numpy as np
import pytest

from facesim.models import own
from facesim.util.errors import InputError

#: Each takes a part of a second, once TensorFlow is there.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """When the first test runs: every process of a test session collects all files."""
    pytest.importorskip("tensorflow")


SOURCE = """
import random
import keras, numpy as np
from keras import layers, ops
{defined}
def build(image_shape, identities):
    images = keras.Input(image_shape)
    x = layers.Conv2D(2, 3, strides=2)(layers.Rescaling(1 / 255)(images))
    {changed}
    features = layers.GlobalAveragePooling2D()(x)
    return {model}(images, {classifier})
"""


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """What is found of the network of such a file."""

    def run(changed="", defined="", classifier="layers.Dense(identities)(features)", model="keras.Model"):
        file = tmp_path / "net.py"
        file.write_text(SOURCE.format(defined=defined, changed=changed, classifier=classifier, model=model))
        monkeypatch.setenv(own.ENVIRONMENT, str(tmp_path))
        return own.tried(f"{file}:build", (16, 16, 3), 4)

    return run


def layer(call: str, build: str = "pass") -> str:
    return f"class Mine(layers.Layer):\n    def build(self, shape): {build}\n    def call(self, x): {call}\n"


@pytest.mark.parametrize(
    ("changed", "defined"),
    [
        ("x = layers.Conv2D(2, 3, activation=twice)(x)", "def twice(x): return 2 * ops.relu(x)"),
        ("x = layers.Dropout(0.5)(layers.BatchNormalization()(x))", ""),
        ("x = layers.Lambda(twice)(x)", "def twice(x): return 2 * x"),
        ("x = layers.Conv2D(2, 3, activation='relu')(relu(x))", "def relu(x): return layers.Activation('relu')(x)"),
        ("x = Mine(trainable=False)(x)", layer("return x", "self.unused = self.add_weight(shape=(1,))")),
        ("x = Mine()(x)", layer("return x * self.scale", "self.scale = self.add_weight(shape=(1,))")),
    ],
)
def test_what_the_file_defines_is_saved_and_loaded(tried, changed, defined):
    assert tried(changed, defined) | {"parameters": 0} == {"dimensions": 2, "parameters": 0, "compiled": False}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"changed": "x = layers.Conv2D(2, 3, activity_regularizer='l2')(x)"}, "adds losses of its own"),
        ({"changed": "x = Mine()(x)", "defined": layer("self.add_loss(ops.sum(x)); return x")}, "adds losses of its"),
        ({"changed": "x = layers.Conv2D(2, 3, kernel_constraint='non_neg')(x)"}, "has constraints of parameters"),
        ({"changed": "x = ops.round(x)"}, "no gradient in them: conv2d.*kernel"),
        (
            {"changed": "x = Mine()(x)", "defined": layer("return x", "self.unused = self.add_weight(shape=(1,))")},
            "no gradient in them: mine",
        ),
        (
            {"changed": "x = Mine()(x)", "defined": layer("return ops.array(np.asarray(x))")},
            "cannot be used: .*|build failed",
        ),
        ({"changed": "x = layers.Lambda(lambda x: 2 * x)(x)"}, "saved cannot be loaded.*a function in a layer needs a"),
        (
            {
                "changed": "x = Mine(3)(x)",
                "defined": layer("return x * self.by")
                + "    def __init__(self, by=1, **more): super().__init__(**more); self.by = by\n"
                "    def get_config(self): return {'name': self.name}\n",
            },
            "answers otherwise once it is saved and loaded",
        ),
    ],
)
def test_what_training_would_leave_out_is_refused(tried, network, message):
    with pytest.raises(InputError, match=message):
        tried(**network)


@pytest.mark.parametrize(
    "classifier",
    [
        "layers.BatchNormalization()(layers.Dense(identities)(features))",
        "layers.PReLU()(layers.Dense(identities)(features))",
        "keras.Sequential([layers.Dense(8), layers.Dense(identities)])(features)",
    ],
)
def test_only_a_dense_layer_is_taken_for_the_classifier(tried, classifier):
    with pytest.raises(InputError, match="its last layer with parameters must be the classifier"):
        tried(classifier=classifier)


@pytest.mark.parametrize("method", ["call", "train_step", "compute_loss"])
def test_a_model_that_does_more_than_its_layers_is_refused(tried, method):
    defined = (
        f"class Net(keras.Model):\n    def {method}(self, *given, **more): return super().{method}(*given, **more)"
    )

    with pytest.raises(InputError, match=f"has its own {method}, which would not be used"):
        tried(defined=defined, model="Net")


def test_what_the_code_prints_is_no_output_of_a_command(tried, capsys):
    """Which may be JSON."""
    tried("print('built')", "print('loaded')")

    printed = capsys.readouterr()
    assert printed.out == "" and "loaded" in printed.err and "built" in printed.err


def test_a_fixed_number_of_images_is_refused(tried):
    with pytest.raises(InputError, match="takes 2 images at a time"):
        tried("images = keras.Input(batch_shape=(2, *image_shape)); x = layers.Conv2D(2, 3)(images)")


def test_settings_of_all_layers_stay_facesim_s(tried):
    import keras

    try:
        with pytest.raises(InputError, match="sets Keras' dtype policy float64: settings of all layers are facesim's"):
            tried(defined="keras.config.set_dtype_policy('float64')")
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("seeded", ["keras.utils.set_random_seed(4)", "random.seed(4)"])
def test_a_seed_of_the_file_s_changes_nothing_and_one_of_the_function_s_is_refused(tried, seeded):
    random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    with own._drawing_as_before():
        random.seed(2)
        np.random.seed(2)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states

    assert tried(defined=seeded)["dimensions"] == 2
    with pytest.raises(InputError, match="is the same whatever --seed is"):
        tried(seeded)


@pytest.mark.parametrize("trainable", [True, False])
def test_parameters_that_no_seed_draws_are_refused(tried, trainable):
    drawn = "np.random.default_rng().normal(size=(3, 3, 2, 2))"

    with pytest.raises(InputError, match="is another one each time that it is built"):
        tried(f"c = layers.Conv2D(2, 3, use_bias=False, trainable={trainable}); x = c(x); c.set_weights([{drawn}])")
