"""A network in a file of the user's: known by its content, tried before anything starts, and never run unasked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from facesim.backends import kernels
from facesim.backends.kubernetes.manifests import kubernetes_job
from facesim.backends.local import BACKEND as LOCAL
from facesim.backends.training_job import Site, training_job_request
from facesim.data.unseen import UnseenData
from facesim.models.own import ENVIRONMENT, kept_in, source_file, tried
from facesim.preflight.inputs import Inputs, data_notices
from facesim.preflight.own_model import keep_own_model, own_model_notes
from facesim.spec.job import changed_job, flat, make_job
from facesim.spec.own_model import OwnModel
from facesim.util.errors import InputError
from tests.support.kernels import keep

NETWORK = Path(__file__).parents[1] / "integration/own_network.py"


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """A copy of `NETWORK`, and a cache of its own."""
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copy(NETWORK, tmp_path / "net.py"))


def test_a_job_knows_it_by_its_content(file):
    job = make_job(model=f"{file}:build")

    (path, function, sha256) = OwnModel.find(job.experiment.model)
    assert (path, function, len(sha256)) == (str(file), "build", 24)
    assert make_job(**flat(job)) == job, "and stays as it was read"
    file.write_text(file.read_text() + "\n# another\n")
    assert make_job(model=f"{file}:build") != job
    with pytest.raises(InputError, match="cannot be changed: it has --model"):
        changed_job(job, {"model": f"{file}:build"})


@pytest.mark.parametrize("given", ["none.py:build", ".py", "compact.py", "paper_cnn", "net.py:", "net.py:2build"])
def test_what_is_neither_a_name_nor_a_file_is_refused(given):
    with pytest.raises(InputError, match="no such file|must be one of") as error:
        make_job(model=given)
    assert error.value.field == "model"


@pytest.mark.parametrize("given", ["net.py", "net.py:", "net.py:build:x"])
def test_a_file_without_a_function_is_told_what_is_missing(given):
    with pytest.raises(InputError, match=r"efficientnet-b0, or a Python file and a function in it, file.py:build$"):
        make_job(model=given)


@pytest.mark.slow
def test_it_is_tried_and_kept_and_stays_where_the_file_goes(file):
    printing = 'import atexit\nprint("built", end="")\natexit.register(print, "{}")\n'
    source = printing + NETWORK.read_text().replace("return keras.Model(", "return compiled(")
    source += "\ndef compiled(*ends):\n    model = keras.Model(*ends)\n    model.compile('sgd')\n    return model\n"
    file.write_text(source)
    job = make_job(model=f"{file}:build", image_size=32, channels=1)

    folder = keep_own_model(job.experiment, identities=3)
    file.unlink()

    assert keep_own_model(job.experiment, identities=3) == folder
    (tried,) = folder.parent.glob("*.json")
    assert json.loads(tried.read_text())["dimensions"] == 16 * 8 * 8
    assert source_file(OwnModel.find(job.experiment.model)).read_text() == source
    (note,) = own_model_notes(job.experiment, identities=3)
    assert "what build gives compile() is not used" in note
    assert data_notices([job], [Inputs(UnseenData("s3://faces", (32, 32, 1), ()), notes=(note,))]) == [note]


#: What is wrong with a file, and what is said of it; each costs a process that loads TensorFlow.
WRONG = {
    "no Python": ("def build(:\n", r"cannot be loaded \(line 1\): SyntaxError"),
    "ends": (
        "def build(image_shape, identities):\n    raise SystemExit(3)\n",
        r"build failed \(line 2\): SystemExit: 3",
    ),
    "fails": ("def build(image_shape, identities):\n    return 1 / 0\n", r"build failed \(line 2\): ZeroDivision"),
    "no classifier": (
        "import keras\ndef build(image_shape, identities):\n    return keras.Sequential([keras.Input(image_shape), "
        "keras.layers.Flatten(), keras.layers.Dense(7)])\n",
        "must be the classifier",
    ),
    "ends its process": ("import os\nos._exit(3)\n", "its process ended with 3 and gave no answer; it last printed: "),
}
WRONG_AS_WELL = {
    "imports from beside": ("import my_layers\n", r"line 1\): ModuleNotFoundError.*the file alone is sent"),
    "another function": ("def make(image_shape, identities): ...\n", "has no function build; it has make"),
    "reads a file beside": (
        "open('weights.txt')\ndef build(image_shape, identities): ...\n",
        r"line 1\): FileNotFound",
    ),
    "no network": ("def build(image_shape, identities): return 5\n", "returned int, not a keras.Model"),
    "other images": (
        "import keras\ndef build(image_shape, identities):\n    return keras.Sequential([keras.Input((9, 9, 3)), "
        "keras.layers.Flatten(), keras.layers.Dense(identities)])\n",
        r"takes images of \(9, 9, 3\), not of \(32, 32, 3\)",
    ),
}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        *(pytest.param(*case, id=name) for name, case in WRONG.items()),
        *(pytest.param(*case, id=name, marks=pytest.mark.exhaustive) for name, case in WRONG_AS_WELL.items()),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_trained_is_refused_with_the_cause(file, source, message, monkeypatch):
    file.write_text(source)
    file.with_name("weights.txt").touch()
    monkeypatch.chdir(file.parent)

    with pytest.raises(InputError, match=message):
        keep_own_model(make_job(model=f"{file}:build", image_size=32).experiment, identities=5)


def test_what_is_no_python_is_told_before_tensorflow_is_loaded(file, monkeypatch):
    file.write_text("def build(:\n")
    monkeypatch.setenv(ENVIRONMENT, str(file.parent))
    for module in ("keras", "tensorflow"):
        monkeypatch.setitem(sys.modules, module, None)  # who imports it now fails

    with pytest.raises(InputError, match=r"cannot be loaded \(line 1\): SyntaxError"):
        tried(make_job(model=f"{file}:build").experiment.model, (32, 32, 3), identities=5)


def test_code_that_was_never_named_here_is_not_run(file):
    network = OwnModel.find(f"{file}:build")
    assert not kept_in(network).exists()

    with pytest.raises(InputError, match=r"was not used on this machine.*if you trust it"):
        source_file(network)


def test_a_changed_file_is_not_what_a_job_has(file):
    job = make_job(model=f"{file}:build")
    file.write_text("def build(image_shape, identities): ...\n")

    with pytest.raises(InputError, match="is another one than the job has"):
        keep_own_model(job.experiment, identities=3)


def test_what_is_kept_and_was_changed_there_is_not_run(file):
    job = make_job(model=f"{file}:build")
    network = OwnModel.find(job.experiment.model)
    kept_in(network).mkdir(parents=True)
    (kept_in(network) / "net.py").write_text("raise SystemExit\n")

    with pytest.raises(InputError, match="was not used on this machine"):
        source_file(network)


def test_commands_take_it_and_tell_the_closest_of_other_names(file):
    def facesim(*arguments):
        return subprocess.run([sys.executable, "-m", "facesim", *arguments], capture_output=True, text=True)

    wrong = facesim("run", "--dry-run", "--model", "paper-cnm")

    assert wrong.returncode == 2 and "paper-cnn" in wrong.stderr


@pytest.mark.parametrize("asked", ["auto", "eigen", "default"])
def test_its_processes_do_without_the_kernels_in_which_tensorflow_overwrites_memory(file, tmp_path, monkeypatch, asked):
    """Whichever were measured to be the faster here, and wherever it is trained."""
    monkeypatch.setattr(kernels, "_chosen", {})
    keep(kernels="onednn")
    data = tmp_path / "prepared"
    data.mkdir()
    (data / "dataset.json").write_text("{}")
    given, folders = {"model": f"{file}:build", "kernels": asked}, {"data": data}
    job, pods = make_job(**given), make_job(backend="kubernetes", **given)

    here = LOCAL.render(job, tmp_path / "run", SimpleNamespace(folders=folders))
    request = training_job_request(job, "one", folders, Site("a-role", "an-image", "a-bucket")).request
    (group,) = kubernetes_job(pods, "one", folders).documents[0]["spec"]["replicatedJobs"]
    (container,) = group["template"]["spec"]["template"]["spec"]["containers"]

    in_pods = {one["name"]: one.get("value") for one in container["env"]}
    environments = (here.environment, request["Environment"], in_pods)
    found = [environment["TF_ENABLE_ONEDNN_OPTS"] for environment in environments]
    assert found == ["0", "0", "0"]
    assert {LOCAL.kernels(job), kernels.unmeasured(pods)} == {"eigen"}  # which is what the record says
    assert not LOCAL.choose_kernels([job], print)


def test_the_kernels_that_it_must_not_have_are_refused(file):
    with pytest.raises(InputError, match="--kernels onednn is not possible with --model .*give --kernels eigen"):
        LOCAL.kernels(make_job(model=f"{file}:build", kernels="onednn"))


def test_another_framework_has_no_kernels_to_choose_for_it(file):
    assert kernels.asked(make_job(model=f"{file}:build", framework="torch")) is None
