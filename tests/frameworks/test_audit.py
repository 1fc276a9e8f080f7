"""`facesim audit` on scripts of users: what is wrong is found, what is right is not suspected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.topology import free_ports
from tests.frameworks.conftest import need

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="bytes of each process need Linux' socket diagnostics"),
]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def audit(output: Path, *command: object, **variables: str) -> tuple[int, dict]:
    """The exit code and the findings of `facesim audit` on a command."""
    around = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    arguments = [sys.executable, "-m", "facesim", "audit", "--output", output, "--", *command]
    ended = subprocess.run([*map(str, arguments)], capture_output=True, text=True, env=around, timeout=200)
    assert (output / "audit.json").exists(), ended.stderr + ended.stdout
    answer = json.loads((output / "audit.json").read_text())
    assert answer["exit_code"] == 0, ended.stderr + ended.stdout
    assert f"trained together? {answer['verdict']}" in ended.stdout
    assert answer["verdict"] in (output / "audit.html").read_text()
    return ended.returncode, answer


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("words", "verdict", "because"),
    [
        ((), "unknown", "facesim.audit.step"),
        (("two-lines",), "together", "equal, bit for bit"),
        (("no-wrapper", "long"), "apart", "gradients of a small network"),
        (("no-wrapper", "two-lines"), "apart", "2 different sets"),
        (("no-sampler", "two-lines"), "apart", "the data was not divided"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_script_with_ddp(tmp_path, words, verdict, because):
    need("torch")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2)

    code, answer = audit(tmp_path, *launcher, HERE / "ddp.py", *words)

    assert answer["verdict"] == verdict, answer["evidence"]
    assert any(because in sentence for sentence in answer["evidence"]), answer["evidence"]
    assert code == int(verdict == "apart")
    ranks = [process["rank"] for process in answer["processes"] if process["rank"]]
    assert {"rank 0", "rank 1"} == set(ranks)


def under_tf_config(script: Path, tasks: list[tuple[str, int]]) -> tuple[str, str, str]:
    """A command that runs a script in a process for each task of a cluster, all at the same time."""
    addresses = {task: f"127.0.0.1:{port}" for task, port in zip(tasks, free_ports(len(tasks)), strict=True)}
    cluster = {role: [address for (name, _), address in addresses.items() if name == role] for role, _ in tasks}
    settings = [json.dumps({"cluster": cluster, "task": {"type": role, "index": index}}) for role, index in tasks]
    lines = [f"TF_CONFIG='{one}' '{sys.executable}' '{script}' &" for one in settings]
    return ("sh", "-c", "\n".join([*lines, "wait"]))


def test_the_paper_s_model_fit_under_tf_config_trains_apart(tmp_path):
    code, answer = audit(tmp_path, *under_tf_config(HERE / "fit.py", [("chief", 0), ("worker", 0)]))

    assert (code, answer["verdict"]) == (1, "apart"), answer["evidence"]
    assert {process["rank"] for process in answer["processes"]} == {None, "chief-0", "worker-0"}


def test_a_strategy_of_tensorflow_s_trains_together(tmp_path):
    code, answer = audit(tmp_path, *under_tf_config(HERE / "mirrored.py", [("worker", 0), ("worker", 1)]))

    assert (code, answer["verdict"]) == (0, "together"), answer["evidence"]
