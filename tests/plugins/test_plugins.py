"""Parts of another package: found, listed, held to the contracts, and used in the processes of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.plugins import EXAMPLE, install, write_metadata

ROOT = Path(__file__).parents[2]

PARTS = {
    "facesim.spec.strategies:STRATEGIES": "accumulating",
    "facesim.spec.backends:BACKENDS": "nice-local",
    "facesim.models:MODELS": "tiny-cnn",
    "facesim.models:HEADS": "soft-cosface",
    "facesim.data:DATASETS": "stripes",
    "facesim.metrics.collectors:COLLECTORS": "loadavg",
    "facesim.models.exporters:EXPORTERS": "weights",
    "facesim.baselines:BASELINES": "nearest-mean",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder of installed packages, with the example package."""
    return install(EXAMPLE, tmp_path_factory.mktemp("site"))


def python(site: Path, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python with the packages in `site`, too."""
    around = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=around, cwd=cwd)


def facesim(site: Path, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return python(site, "-m", "facesim", *arguments, cwd=cwd)


def test_the_tests_know_every_part_of_the_example():
    (folder,) = (file for file in EXAMPLE.iterdir() if file.name == "pyproject.toml")

    assert all(f"\n{name} = " in folder.read_text() for name in PARTS.values())


def test_every_part_is_in_its_registry(site):
    look = "import json, sys; from facesim.util.registry import resolve; "
    look += "print(json.dumps({path: list(dict(resolve(path).available())) for path in sys.argv[1:]}))"

    names = python(site, "-c", look, *PARTS)

    assert names.returncode == 0, names.stderr
    listed = json.loads(names.stdout)
    assert {path: name in listed[path] for path, name in PARTS.items()} == dict.fromkeys(PARTS, True)


@pytest.mark.slow
def test_its_options_are_on_the_command_line_and_checked(site):
    shown = facesim(site, "compare", "--help-all").stdout

    assert "--parts" in shown and "accumulating: parts of which a batch is made" in shown
    assert "--niceness" in shown
    refused = facesim(site, "run", "--strategy", "accumulating", "--parts", "3", "--dry-run")
    assert (refused.returncode, refused.stderr) == (2, "facesim: --parts 3 must be 1 or even\n")
    elsewhere = facesim(site, "run", "--strategy", "single", "--parts", "2", "--dry-run")
    assert "--parts 2 means nothing to --strategy single: it is an option of accumulating" in elsewhere.stderr


def test_a_broken_plugin_is_a_warning_with_its_name_and_an_error_for_who_asks_for_it(site, tmp_path):
    broken = {"facesim.strategies": {"wrecked": "no_such_module:X"}, "facesim.models": {"paper-cnn": "a:B"}}
    write_metadata(tmp_path, "wreck", "1.0", broken)
    (tmp_path / "no_such_module.py").write_text("raise RuntimeError('half installed')")

    listed = facesim(tmp_path, "compare", "--help")
    asked = facesim(tmp_path, "run", "--strategy", "wrecked", "--dry-run")

    assert listed.returncode == 0
    message = "the strategy 'wrecked' of wreck cannot be loaded: RuntimeError: half installed; mend or uninstall wreck"
    name_taken = "the network 'paper-cnn' of wreck is left out: the name is taken"
    assert listed.stderr == f"facesim: {message}\nfacesim: {name_taken}\n"
    assert asked.returncode == 2 and "Traceback" not in asked.stderr and message in asked.stderr


@pytest.mark.slow
def test_parts_of_plugins_keep_to_the_contracts(site):
    ended = python(site, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "tests/plugins/test_contract.py", cwd=ROOT)

    assert ended.returncode == 0, ended.stdout
    assert [name for name in PARTS.values() if f"[{name}] PASSED" not in ended.stdout] == []


@pytest.mark.slow
def test_a_run_is_made_of_parts_of_plugins_and_its_report_needs_none_of_them(site, tmp_path):
    parts = ["--strategy", "accumulating", "--parts", 4, "--backend", "nice-local", "--niceness", 3]
    parts += ["--model", "tiny-cnn", "--head", "soft-cosface", "--data", "stripes"]
    quick = ["--epochs", 2, "--image-size", 32, "--batch", 8, "--sampling-s", 0.2]

    ended = facesim(site, "compare", *parts, *quick, "--output", "runs", "--json", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    (result,) = json.loads(ended.stdout)["results"]
    (run,) = (file.parent for file in (tmp_path / "runs").glob("*/job.json"))
    assert (result["state"], result["strategy"], result["backend"]) == ("Completed", "accumulating", "nice-local")
    assert result["counted"]["examples"] == result["counted"]["examples_due"]
    sources = {json.loads(line)["source"] for file in run.glob("metrics/*.jsonl") for line in file.open()}
    assert "loadavg" in sources
    (entry,) = json.loads((tmp_path / "runs" / "baselines.json").read_text())["entries"]
    packages = {score["method"]: score["package"] for score in entry["scores"]}
    assert (packages["nearest-mean"], packages["hog-svm"]) == ("facesim-example 1.0", None)

    written = facesim(site, "export", run, "--format", "weights", "--output", "m.npz", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert np.load(tmp_path / "m.npz")["names"][0] == "direction-0"

    elsewhere = facesim(tmp_path, "report", "runs", "--json", cwd=tmp_path)  # where the package is not installed
    assert elsewhere.returncode == 0, elsewhere.stderr
    (row,) = json.loads(elsewhere.stdout)["comparison"]["rows"]
    assert (row["strategy"], row["seeds"]) == ("accumulating", [0])
    again = facesim(tmp_path, "run", "--resume", run)
    assert again.returncode == 2 and "Traceback" not in again.stderr
