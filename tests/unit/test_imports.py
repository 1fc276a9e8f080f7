"""Which part may import which: the direction of DESIGN, and that nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from facesim.spec import frameworks

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"tensorflow", "keras", "boto3", "botocore", "sagemaker", "docker", "kubernetes"}
NETWORKS = {"tensorflow", "keras"}
FRAMEWORKS = NETWORKS | {"torch", "jax"}
#: Also loaded only where they are used, by whoever uses them.
SLOW = HEAVY | {"sklearn", "skimage"}


def imports(path: Path, *, everywhere: bool, types: bool = True) -> set[str]:
    """Modules that a file imports: everywhere in it, or only when it is itself imported; with those for `types`."""
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        checks_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        within = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if (within and not everywhere) or (checks_types and not (everywhere and types)):
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def modules(*places: str) -> list[Path]:
    return [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]


def test_cluster_knows_nothing_of_facesim():
    for path in modules("cluster"):
        assert not {name for name in imports(path, everywhere=True) if name.split(".")[0] == "facesim"}, path


@pytest.mark.parametrize("package", ["report", "billing", "forecast", "metrics", "data", "backends", "baselines"])
def test_only_training_and_models_use_tensorflow(package):
    for path in modules(f"facesim/{package}"):
        assert not {name for name in imports(path, everywhere=True) if name.split(".")[0] in NETWORKS}, path


def test_the_core_of_training_knows_no_framework():
    core = sorted((ROOT / "facesim" / "training").glob("*.py"))

    for path in core:
        for name in imports(path, everywhere=True):
            assert not FRAMEWORKS & set(name.split(".")), f"{path} imports {name}"
    assert {"loop", "train_state", "checkpoints", "checkpoint_manager", "outcome"} <= {path.stem for path in core}


def test_nothing_is_translated_by_autograph():
    """It writes a file to the user's temporary folder, which a task that has ended leaves there."""
    lines = [line for path in modules("facesim") for line in path.read_text().splitlines() if "tf.function" in line]

    assert lines and [line for line in lines if "autograph=False" not in line] == []


#: The floors, lowest first. A module may import from its own floor and from those below; one that is on no floor is
#: a failure: find its place. A name stands for the module or package, `models.` for what is inside a package.
FLOORS: list[set[str]] = [
    {"", "_version", "util"},
    {"spec"},
    {"runs", "billing", "data"},
    {"models", "metrics"},
    {"preflight", "recognition", "baselines", "audit"},
    {"training", "report", "forecast"},
    {"backends"},
    {"profiling"},
    {"planning"},
    {"study", "testing"},
    {"tracking", "tuning"},
    {"api"},
    {"cli", "__main__"},
]


def part_of(module: str) -> str:
    """The part at the top of facesim that a module belongs to; the package itself is ""."""
    return (module.split(".") + [""])[1]


@functools.cache
def edges() -> set[tuple[str, str, str]]:
    """(part, part that it imports, where) for every import between parts, those inside functions included."""
    pairs = set()
    for path in modules("facesim"):
        here = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for name in imports(path, everywhere=True, types=False):
            if name.split(".")[0] == "facesim" and part_of(name) != part_of(here):
                pairs.add((part_of(here), part_of(name), f"{here} imports {name}"))
    return pairs


def test_every_part_is_on_a_floor():
    parts = {part_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in modules("facesim")}

    assert parts - {"__init__"} <= set.union(*FLOORS)


def test_dependencies_point_down():
    floor = {part: number for number, parts in enumerate(FLOORS) for part in parts}

    assert [where for part, other, where in sorted(edges()) if floor[other] > floor[part]] == []


def test_packages_do_not_depend_on_each_other_in_a_circle():
    graph = TopologicalSorter()
    for part, other, _ in edges():
        if other:  # the package itself holds the version only
            graph.add(part, other)

    graph.prepare()  # raises CycleError with the circle


LIGHT = """
facesim facesim.cli facesim.cli.prices facesim.spec.job facesim.runs.directory facesim.study.runner facesim.report
facesim.backends.local facesim.billing.refresh facesim.baselines.record facesim.training.loop facesim.training.task
facesim.models facesim.forecast.model facesim.profiling.fits facesim.forecast.simulate cluster.node
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """What each of `LIGHT` loads: imported in a fork of one process, so that what all of them need is loaded once."""
    script = (
        "import importlib, json, os, sys\n"
        "import numpy, psutil, facesim.runs.directory\n"  # what takes longest of what most of them import
        "for module in sys.argv[1:]:\n"
        "    if not os.fork():\n"
        "        importlib.import_module(module)\n"
        "        print(json.dumps([module, *sys.modules]), flush=True)\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0, module\n"
    )
    lines = subprocess.check_output([sys.executable, "-c", script, *LIGHT.split()], text=True).splitlines()
    return {module: names for module, *names in map(json.loads, lines)}


@pytest.mark.parametrize("module", LIGHT.split())
def test_importing_it_loads_nothing_heavy(loaded, module):
    assert module in loaded[module]
    assert not {name.split(".")[0] for name in loaded[module]} & SLOW
    assert "scipy.optimize" not in loaded[module], "what looks for a forecast need not have the means to make one"


@pytest.mark.slow
def test_what_a_node_loads_for_its_tasks_has_nothing_to_draw_with_and_leaves_it_to_be_had():
    preload = ", ".join(frameworks.FRAMEWORKS["tensorflow"].preload)
    look = f"import sys, {preload}; print(*sys.modules); import pandas, matplotlib.figure, sklearn.svm"

    loaded = {name.split(".")[0] for name in subprocess.check_output([sys.executable, "-c", look], text=True).split()}

    assert {"tensorflow", "keras"} <= loaded
    assert not loaded & {"torch", "jax", "sklearn", "pandas", "matplotlib"}


#: What help may import of Python, facesim and pydantic, click and what these need: 232 with Python 3.11.
MOST_MODULES = 260
NOT_FOR_HELP = SLOW | {"numpy", "pandas", "scipy", "matplotlib", "psutil", "rich"}


@pytest.mark.parametrize("command", [["--help"], ["compare", "--help"], ["report", "--help"]])
def test_help_imports_little_so_that_it_is_instant(command):
    script = (
        "import sys; before = set(sys.modules)\n"
        "from facesim.cli import main\n"
        f"code = main({command!r})\n"
        "print(code, *(set(sys.modules) - before), file=sys.stderr)"
    )

    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    code, *loaded = shown.stderr.split()
    assert "Usage:" in shown.stdout
    assert code == "0"
    assert not NOT_FOR_HELP & {name.split(".")[0] for name in loaded}
    assert len(loaded) <= MOST_MODULES, sorted(loaded)


def test_help_builds_no_validator_and_reads_each_package_s_entry_points_once():
    script = (
        "import importlib.metadata as metadata\n"
        "read = metadata.Distribution.entry_points.fget; seen = []\n"
        "count = lambda self: seen.append(self.name) or read(self)\n"
        "metadata.Distribution.entry_points = property(count)\n"
        "from facesim.cli import main\n"
        "from facesim.spec.job import Job\n"
        "main(['--help'])\n"
        "assert not Job.__pydantic_complete__\n"
        "assert len(seen) <= 2 * len(set(seen)), 'facesim reads them once, pydantic once'"
    )

    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


def test_no_name_of_a_package_is_replaced_by_a_module_of_the_same_name():
    """The first import of `facesim.report.load` makes `facesim.report.load` that module, whatever it was before. So a
    package may call so only what it takes from there, or the module itself.
    """
    replaced = []
    for init in ROOT.glob("*/**/__init__.py"):
        if init.relative_to(ROOT).parts[0] not in ("facesim", "cluster"):
            continue
        defined = set()
        for node in ast.parse(init.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, ast.ImportFrom):
                package = ".".join(init.parent.relative_to(ROOT).parts)
                names = {alias.asname or alias.name for alias in node.names}
                defined |= {name for name in names if node.module not in (package, f"{package}.{name}")}
            elif isinstance(node, ast.Assign):
                defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        beside = {
            path.stem for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        replaced += [f"{init.parent.name}.{name}" for name in sorted(defined & beside)]

    assert replaced == []
