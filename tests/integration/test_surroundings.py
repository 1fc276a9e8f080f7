"""What a user has set up for other programs, and what lies in the folder: facesim does what it does without them."""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from facesim.runs.directory import find_runs
from facesim.runs.states import RunState
from tests.conftest import QUICK

REPOSITORY = Path(__file__).resolve().parents[2]

#: Of what facesim needs, and of facesim's own; the standard library's come to these.
NAMES = ("click", "google", "keras", "numpy", "psutil", "pydantic", "rich", "tensorflow", "cluster", "tests")

SETTINGS = {
    "http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "Grpc_Proxy": "http://127.0.0.1:9",
    "no_proxy": "localhost,127.0.0.1", "no_grpc_proxy": "*", "TF_CONFIG": "nonsense", "TF_USE_LEGACY_KERAS": "1",
    "KERAS_BACKEND": "nonsense", "MPLBACKEND": "nonsense", "OMP_NUM_THREADS": "nonsense", "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C", "PYTHONSTARTUP": "nonsense", "TF2_BEHAVIOR": "0", "PANDAS_FUTURE": "nonsense",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "nonsense", "SOURCE_DATE_EPOCH": "nonsense", "WRAPT_PROXY": "nonsense",
}  # fmt: skip

#: Without docstrings. Python compiles everything anew for it, TensorFlow for a minute.
OPTIMISED = {"PYTHONOPTIMIZE": "2"}


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """Where somebody works who has set up much, and whose files are called like modules."""
    work, home = tmp_path / "work", tmp_path / "home"
    for folder in (work, home / ".keras", tmp_path / "temporary"):
        folder.mkdir(parents=True)
    spoil(work, [*NAMES, *standard_library(work)])
    (work / "matplotlibrc").write_text("text.usetex: True\nsvg.fonttype: path\n")
    keras = {"floatx": "float64", "epsilon": 0.01, "backend": "jax", "image_data_format": "channels_first"}
    (home / ".keras" / "keras.json").write_text(json.dumps(keras))
    return work


def standard_library(work: Path) -> list[str]:
    """What a user's file may be called like: not what `python -m` itself imports before it comes to facesim, such as
    contextlib, runpy, types, warnings.
    """
    (work / "empty.py").write_text("import sys; print(*sys.modules)")
    at_start = subprocess.run([sys.executable, "-m", "empty"], cwd=work, capture_output=True, text=True).stdout.split()
    beyond_reach = {*at_start, *sys.builtin_module_names}
    return sorted(name for name in sys.stdlib_module_names - beyond_reach if _is_public(name))


def _is_public(name: str) -> bool:
    return not name.startswith("_") and importlib.util.find_spec(name) is not None


def spoil(work: Path, names: list[str]) -> None:
    """Put modules of these names there that cannot be imported: packages, libraries, compiled ones, files, in turn."""
    source = work / "source"
    for number, name in enumerate(names):
        text = f"raise RuntimeError('the user has a module {name}')\n"
        if number % 4 == 0:
            (work / name).mkdir()
            (work / name / "__init__.py").write_text(text)
        elif number % 4 == 1:
            (work / f"{name}.so").write_text("no library")
        elif number % 4 == 2:
            source.write_text(text)
            py_compile.compile(str(source), cfile=str(work / f"{name}.pyc"))
        else:
            (work / f"{name}.py").write_text(text)


def facesim_of(
    user: Path, *arguments: object, timeout_s: float = 200, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    around = (
        os.environ
        | SETTINGS
        | (more or {})
        | {"HOME": str(user.parent / "home"), "TMPDIR": str(user.parent / "temporary")}
    )
    # An empty entry in PYTHONPATH is the current folder: what `export PYTHONPATH=$PYTHONPATH:more` makes of none.
    around["PYTHONPATH"] = f":{user.parent / 'more'}"
    command = [sys.executable, "-m", "facesim", *map(str, arguments)]
    return subprocess.run(command, cwd=user, env=around, capture_output=True, text=True, timeout=timeout_s)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "more"),
    [(("ps-async",), {}), pytest.param(("ps-sync", "local-sgd"), OPTIMISED, marks=pytest.mark.exhaustive)],
)
def test_clusters_train_whatever_is_set_and_lies_about(user, faces, names, more):
    strategies = [word for name in names for word in ("--strategy", name)]

    ended = facesim_of(user, "run", *strategies, "--data", faces, "--epochs", 1, *QUICK, "--output", "runs", more=more)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    runs = find_runs([user / "runs"])
    assert [run.result()["state"] for run in runs] == [RunState.COMPLETED] * len(names)
    assert {run.result()["sync_audit"]["verdict"] for run in runs} == {"together"}
    assert not list((user.parent / "temporary").iterdir())

    # Here Keras is imported by the command itself.
    evaluated = facesim_of(user, "evaluate", runs[0].directory, "--json")
    assert evaluated.returncode == 0, evaluated.stderr


@pytest.mark.slow
def test_commands_work_in_a_folder_with_files_called_like_modules(user, faces):
    assert facesim_of(user, "--version", more=OPTIMISED).stdout.startswith("facesim")
    described = facesim_of(user, "data", "describe", faces, "--json", more=OPTIMISED)
    assert described.returncode == 0, described.stderr
    dry = facesim_of(user, "run", "--data", faces, "--dry-run")
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize(
    ("tight", "message"),
    [
        ((resource.RLIMIT_AS, 1_500_000_000), "may have 1.5 GB of addresses here (ulimit -v)"),
        ((resource.RLIMIT_NPROC, 60), "more processes and threads (ulimit -u 60)"),
    ],
    ids=["addresses", "processes"],
)
def test_limits_that_no_cluster_can_run_under_are_told_before_it_is_started(tight, message):
    look = (
        "import os, resource, sys, multiprocessing\n"
        "from cluster.limits import too_tight\n"
        f"resource.setrlimit({tight[0]}, ({tight[1]}, {tight[1]}))\n"
        "os.geteuid() or os.setuid(61234)  # root has no limit of processes\n"
        "print(too_tight(6))\n"
    )

    ended = subprocess.run([sys.executable, "-c", look], cwd=REPOSITORY, capture_output=True, text=True)

    assert message in ended.stdout, ended.stderr


def test_a_run_under_such_limits_is_refused(tmp_path, faces):
    command = shlex.join(
        [sys.executable, "-m", "facesim", "run", "--data", str(faces), "--output", str(tmp_path / "runs")]
    )

    ended = subprocess.run(["bash", "-c", f"ulimit -v 1400000; {command}"], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2, ended.stderr
    assert "ulimit -v unlimited" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_a_clone_runs_without_installation_and_its_processes_are_its_own(tmp_path):
    clone = tmp_path / "clone"
    for package in ("cluster", "facesim"):
        shutil.copytree(REPOSITORY / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "facesim" / "_version.py").write_text("__version__ = 'of the clone'\n")
    (clone / "queue.py").write_text("raise RuntimeError('the user has a file queue.py')\n")
    (clone / "cluster" / "where.py").write_text(
        "import queue, cluster, facesim; print(cluster.__file__, facesim.__version__)"
    )
    start = (
        "import subprocess, facesim; from cluster.surroundings import python; "
        "subprocess.run(python('cluster.where'), check=True)"
    )

    shown = subprocess.run([sys.executable, "-m", "facesim", "--version"], cwd=clone, capture_output=True, text=True)
    child = subprocess.run([sys.executable, "-c", start], cwd=clone, capture_output=True, text=True)

    assert "of the clone" in shown.stdout, shown.stderr
    assert child.stdout.strip() == f"{clone / 'cluster' / '__init__.py'} of the clone", child.stderr


@pytest.mark.slow
def test_a_process_that_imported_keras_with_other_settings_builds_the_same_network():
    script = (
        "import keras\n"
        "keras.config.set_image_data_format('channels_first'); keras.config.set_floatx('float64')\n"
        "from facesim import models\n"
        "model = models.build('compact-cnn', (32, 32, 3), 5)\n"
        "print(model.output.dtype, [weight.dtype for weight in model.weights][0], keras.config.image_data_format())\n"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)

    assert ended.stdout.split() == ["float32", "float32", "channels_last"], ended.stderr[-2000:]
