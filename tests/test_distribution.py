"""What is released: an sdist and a wheel of a tagged commit, which are installed where nothing else of facesim is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools_scm", reason="the extra dev is not installed")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

VERSION = "7.8.9"


def run(*command: object, cwd: Path) -> str:
    ended = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def tracked() -> list[str]:
    ended = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if ended.returncode:
        pytest.skip("these sources are no git repository")
    return [name for name in ended.stdout.splitlines() if (ROOT / name).is_file()]


def build(kind: str, source: Path, output: Path) -> Path:
    """Build an `sdist` or a `wheel` with the packages that are installed here."""
    code = f"import sys; from setuptools.build_meta import build_{kind}; build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", code, output, cwd=source)
    (built,) = output.iterdir()
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of a tagged commit, and the wheel that is made of it where there is no git."""
    folder = tmp_path_factory.mktemp("release")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    git = ("git", "-c", "user.name=A tester", "-c", "user.email=tester@example.org")
    run(*git, "init", "-q", cwd=folder / "source")
    run(*git, "add", ".", cwd=folder / "source")
    run(*git, "commit", "-q", "-m", "A release", cwd=folder / "source")
    run(*git, "tag", f"v{VERSION}", cwd=folder / "source")
    sdist = build("sdist", folder / "source", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    wheel = build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "wheel")
    return sdist, wheel


def test_the_version_is_the_tags_and_the_wheel_has_all_that_the_packages_have(release, tmp_path):
    sdist, wheel = release

    packed = contents(wheel)

    assert sdist.name == f"facesim_cluster-{VERSION}.tar.gz"
    assert wheel.name == f"facesim_cluster-{VERSION}-py3-none-any.whl"
    assert {name for name in tracked() if name.startswith(("facesim/", "cluster/"))} <= packed.keys()
    assert packed == contents(build("wheel", sdist.parents[1] / "source", tmp_path / "wheel"))


def test_the_wheel_works_where_nothing_else_of_facesim_is(release, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "-q", "--no-deps", "--no-index", release[1], cwd=tmp_path)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # What facesim needs is found where this test finds it.
    (site / "needed.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))

    for command in ("facesim", "facesim-cluster"):
        assert run(python.with_name(command), "--version", cwd=tmp_path) == f"facesim, version {VERSION}\n"
    assert "doctor" in run(python.with_name("facesim"), "--help", cwd=tmp_path)
    assert "kernels" in run(python.with_name("facesim"), "doctor", cwd=tmp_path)
    run(python.with_name("facesim"), "data", "render", "faces", "--identities", 2, "--images", 2, cwd=tmp_path)
    assert len([*(tmp_path / "faces").rglob("*.png")]) == 4


def test_sources_without_git_can_be_installed(tmp_path):
    for name in tracked():
        if name.startswith(("facesim/", "cluster/", "README", "LICENSE", "pyproject")):
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "source" / name)

    wheel = build("wheel", tmp_path / "source", tmp_path / "wheel")

    assert wheel.name == "facesim_cluster-0.1.dev0-py3-none-any.whl"
    assert {name for name in tracked() if name.startswith(("facesim/", "cluster/"))} <= contents(wheel).keys()
