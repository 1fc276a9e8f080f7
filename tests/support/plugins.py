"""A package with plugins, as a package manager leaves it: modules, and beside them what the package says of itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = Path(__file__).parents[1] / "plugins" / "example"


def install(project: Path, folder: Path) -> Path:
    """Install a project of pure Python, whose packages lie beside its pyproject.toml, to `folder`, as pip does with
    --target; without a network, and without building anything.
    """
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    for package in content["tool"]["setuptools"]["packages"]:
        shutil.copytree(project / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    about = content["project"]
    write_metadata(folder, about["name"], about["version"], about["entry-points"])
    return folder


def write_metadata(folder: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Write what an installed distribution says of itself."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
