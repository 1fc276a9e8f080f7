"""Which part may import which: the direction of DESIGN, and that nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from facesim.backends.tasks import PRELOAD

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"tensorflow", "keras", "boto3", "botocore", "sagemaker", "docker"}
NETWORKS = {"tensorflow", "keras"}
#: Also loaded only where they are used, by whoever uses them.
SLOW = HEAVY | {"sklearn", "skimage"}


def imports(path: Path, *, everywhere: bool) -> set[str]:
    """Modules that a file imports: everywhere in it, or only when it is itself imported."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if not everywhere:
        for node in ast.walk(tree):
            checks_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or checks_types:
                skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def modules(*places: str) -> list[Path]:
    return [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]


def test_cluster_knows_nothing_of_facesim():
    for path in modules("cluster"):
        assert not {name for name in imports(path, everywhere=True) if name.split(".")[0] == "facesim"}, path


@pytest.mark.parametrize("package", ["report", "billing", "metrics", "data", "backends", "baselines"])
def test_only_training_and_models_use_tensorflow(package):
    # The tf.data pipeline is the one part of `data` that runs inside training tasks.
    for path in modules(f"facesim/{package}"):
        if path.name != "pipeline.py":
            assert not {name for name in imports(path, everywhere=True) if name.split(".")[0] in NETWORKS}, path


#: Each part, and what it must not import: what stands above it. With a final dot only what is inside, not the registry.
ABOVE = {
    "job": ["runs", "training.", "metrics", "backends", "study", "report", "cli", "result"],
    "runs": ["training.", "metrics", "billing.", "backends", "study", "report", "cli", "result"],
    "metrics": ["training", "backends", "study", "report", "cli", "result"],
    "billing": ["runs", "training", "metrics", "backends", "study", "report", "cli", "result"],
    "data": ["runs", "training", "metrics", "backends", "study", "report", "cli", "result"],
    "models": ["runs", "training", "metrics", "backends", "study", "report", "cli", "result"],
    "baselines": ["training", "models", "metrics", "backends", "study", "report", "cli", "result"],
    "recognition": ["training", "metrics", "backends", "study", "report", "cli", "result"],
    "training": ["backends", "study", "report", "cli", "result"],
    "report": ["training.", "models.", "backends", "study", "cli"],
    "backends": ["training.", "study", "report", "cli", "result"],
    "inputs": ["training", "metrics", "backends", "study", "report", "cli", "result"],
    "study": ["report", "cli"],
}


def is_in(module: str, place: str) -> bool:
    return (
        module.startswith(f"facesim.{place}") if place.endswith(".") else f"{module}.".startswith(f"facesim.{place}.")
    )


@pytest.mark.parametrize("part", ABOVE)
def test_dependencies_point_one_way(part):
    for path in modules(f"facesim/{part}") or [ROOT / "facesim" / f"{part}.py"]:
        for name in imports(path, everywhere=True):
            assert not [place for place in ABOVE[part] if is_in(name, place)], (
                f"{path.relative_to(ROOT)} imports {name}"
            )


LIGHT = "facesim facesim.cli facesim.job facesim.runs.directory facesim.study facesim.report facesim.backends.local"
LIGHT += (
    " facesim.billing.refresh facesim.cli.prices facesim.baselines.record facesim.training facesim.models cluster.node"
)


@pytest.mark.parametrize("module", LIGHT.split())
def test_importing_it_loads_nothing_heavy(module):
    look = f"import sys, {module}; print(*sys.modules)"

    loaded = {name.split(".")[0] for name in subprocess.check_output([sys.executable, "-c", look], text=True).split()}

    assert not loaded & SLOW


def test_what_a_node_loads_for_its_tasks_has_nothing_to_draw_with_and_leaves_it_to_be_had():
    look = f"import sys, {', '.join(PRELOAD)}; print(*sys.modules); import pandas, matplotlib.figure, sklearn.svm"

    loaded = {name.split(".")[0] for name in subprocess.check_output([sys.executable, "-c", look], text=True).split()}

    assert {"tensorflow", "keras"} <= loaded
    assert not loaded & {"sklearn", "pandas", "matplotlib"}


@pytest.mark.parametrize("command", [["--help"], ["compare", "--help"], ["report", "--help"]])
def test_help_is_instant(command):
    script = (
        "import sys, time; begin = time.process_time()\n"
        "from facesim.cli import main\n"
        f"code = main({command!r})\n"
        "print('\\n', time.process_time() - begin, code, file=sys.stderr)"
    )

    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    seconds, code = shown.stderr.split()
    assert "Usage:" in shown.stdout
    assert code == "0"
    assert float(seconds) < 0.3
