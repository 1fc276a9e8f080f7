"""What is known of strategies without TensorFlow, whatever was imported before."""

from __future__ import annotations

import ast
import copy
import pickle
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import facesim
from facesim.spec.backends import BACKENDS
from facesim.spec.shape import Shape
from facesim.spec.strategies import STRATEGIES, Layout, PsAsync

PACKAGES = sorted(file.parent for file in Path(facesim.__path__[0]).rglob("__init__.py"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_importing_a_module_replaces_no_other_name_of_its_package(package):
    """As `import package.name` would: unless the name came out of that very module, which is loaded then."""
    root = Path(facesim.__path__[0]).parent
    module = import_module(".".join(package.relative_to(root).parts))
    below = {file.stem for file in package.glob("*.py")} | {file.parent.name for file in package.glob("*/__init__.py")}
    named = {name: vars(module)[name] for name in below & set(vars(module))}

    replaced = [
        name
        for name, value in named.items()
        if not isinstance(value, ModuleType) and getattr(value, "__module__", "") != f"{module.__name__}.{name}"
    ]
    assert replaced == []


def test_nothing_asks_which_strategy_or_backend_it_is():
    """What they are made of is answered by their classes, so that one of another package is treated like ours."""
    names = {*STRATEGIES, *BACKENDS}
    asked = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path in Path(facesim.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, (ast.Constant, ast.Tuple, ast.List, ast.Set))
        and names & {one.value for one in ast.walk(side) if isinstance(one, ast.Constant)}
    ]

    assert asked == []


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_a_value(name):
    strategy = STRATEGIES[name]()

    for again in (copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        assert again == strategy
        assert again.layout is strategy.layout


@pytest.mark.parametrize(
    ("layout", "tasks"),
    [
        (Layout.SINGLE_PROCESS, {"chief": 1}),
        (Layout.PARAMETER_SERVER, {"ps": 2, "worker": 3, "chief": 1}),
        (Layout.PEERS, {"worker": 2, "chief": 1}),
    ],
)
def test_the_layout_says_which_tasks_there_are(layout, tasks):
    of_layout = [strategy for strategy in STRATEGIES.values() if strategy.layout is layout]

    assert of_layout
    assert all(strategy().tasks(Shape(workers=3, ps=2)) == tasks for strategy in of_layout)


def test_a_strategy_that_inherits_a_formula_is_not_forecast_by_it():
    class Compressed(PsAsync):
        summary = "parameter servers that are sent gradients of fewer bits"

    assert PsAsync.declared_formula() is not None
    assert Compressed.declared_formula() is None
