"""The verdict on a script of the user's own, from what was seen and told; and what the two lines tell."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from facesim.audit import FOLDER
from facesim.audit.verdict import Rank, judge
from facesim.audit.watch import rank_of


def ranks(count: int = 2, **differing) -> list[Rank]:
    """Ranks that trained together as they should, but for what differs: a value, or one for each rank."""
    verdicts = []
    for number in range(count):
        fields = {
            "name": f"rank {number}", "cpu_s": 9.0, "received_bytes": 5e6, "most_at_a_time_bytes": 5e5,
            "steps": 10, "examples": 80, "repeated": 40,
            "first_pass": frozenset(str(one) for one in range(number, 80, count)), "parameters_sha256": "a",
            "parameter_bytes": 1_000_000,
        }  # fmt: skip
        given = {name: value[number] if isinstance(value, list) else value for name, value in differing.items()}
        verdicts.append(Rank(**{**fields, **given}))
    return verdicts


NOTHING_TOLD = {"steps": None, "first_pass": None, "parameters_sha256": None, "parameter_bytes": None}


@pytest.mark.parametrize(
    ("differing", "verdict", "because"),
    [
        ({}, "together", "equal, bit for bit"),
        ({"received_bytes": None}, "together", "cannot be counted"),
        ({"received_bytes": 0.0, "uses_gpu": True}, "together", "GPUs"),
        ({"parameters_sha256": ["a", "b"]}, "apart", "2 different sets"),
        ({"first_pass": frozenset("abc")}, "apart", "the data was not divided"),
        ({"steps": [10, 0]}, "apart", "hardly a step"),
        ({"received_bytes": 100.0}, "unknown", "one of the two is wrong"),
        ({"received_bytes": 100.0, "parameters_sha256": None}, "apart", "once in a whole training"),
        ({"first_pass": None}, "unknown", "which examples"),
        ({"hashed": True, "repeated": 0}, "unknown", "altered whenever it is read"),
        ({"hashed": True}, "together", "different; two ranks shared 0%"),
        ({"parameters_sha256": ["a", None]}, "unknown", "1 of 2 ranks"),
        ({"steps": [10, None], "first_pass": [frozenset("a"), None]}, "unknown", "which examples"),
        (NOTHING_TOLD, "unknown", "facesim.audit.parameters"),
        (NOTHING_TOLD | {"most_at_a_time_bytes": 2_000.0}, "apart", "gradients of a small network"),
        (NOTHING_TOLD | {"most_at_a_time_bytes": 2_000.0, "cpu_s": 2.0}, "unknown", "So it is not known"),
        (NOTHING_TOLD | {"most_at_a_time_bytes": [2_000.0, 5e5]}, "apart", "gradients of a small network"),
    ],
)
def test_a_verdict_needs_evidence(differing, verdict, because):
    judgement = judge(ranks(**differing))

    assert judgement.verdict == verdict, judgement.evidence
    assert any(because in sentence for sentence in judgement.evidence), judgement.evidence


def test_one_process_has_nobody_to_train_with_and_of_none_nothing_is_known():
    assert judge(ranks(1)).verdict == "single"
    assert judge([]).verdict == "unknown"


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, "rank 3"),
        ({"OMPI_COMM_WORLD_RANK": "1"}, "rank 1"),
        ({"TF_CONFIG": '{"task": {"type": "worker", "index": 2}}'}, "worker-2"),
        ({"TF_CONFIG": '{"task": {"type": "ps", "index": 0}}'}, None),
        ({"TF_CONFIG": "{"}, None),
        ({"TF_CONFIG": "[]"}, None),
        ({"TF_CONFIG": '{"task": {"type": "worker"}}'}, None),
        ({"RANK": "many"}, None),
        ({}, None),
    ],
)
def test_a_process_is_the_rank_that_its_launcher_says(environment, rank):
    assert rank_of(environment) == rank


def events(folder, script: str) -> list[dict]:
    """What a process tells an audit that has `folder`."""
    around = {FOLDER: str(folder)} if folder else {}
    subprocess.run([sys.executable, "-c", f"import facesim.audit as audit\n{script}"], check=True, env=around)
    return [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]


def test_the_two_lines_tell_examples_until_one_comes_again_and_the_parameters(tmp_path):
    script = (
        "import numpy as np\n"
        "for numbers in ([1, 2], np.array([3, 4]), [5, 1], [6]): audit.step(examples=numbers)\n"
        "audit.step(examples=7)\n"
        "audit.parameters([np.ones(3, 'float32')])\n"
    )

    *steps, parameters = events(tmp_path, script)

    assert [one["step"] for one in steps] == [2, 2, 2, 1, 7]
    assert [one.get("first") for one in steps] == [["1", "2"], ["3", "4"], ["5"], None, None]
    assert steps[2]["repeated"] == 1 and "hashed" not in steps[4]
    assert parameters["parameter_bytes"] == np.ones(3, "float32").nbytes


def test_a_batch_is_told_by_its_content(tmp_path):
    script = "import numpy as np\nfor row in (0, 1, 0): audit.step(examples=np.full((1, 4), row))"

    first, second, third = events(tmp_path, script)

    assert first["hashed"] and first["first"] != second["first"]
    assert third["repeated"] == 1


def test_in_a_script_that_nobody_watches_they_do_nothing_and_load_nothing(tmp_path):
    script = (
        "import sys, facesim.audit as audit\naudit.step(examples=object())\naudit.parameters(object())\n"
        "print(*{'numpy', 'torch', 'tensorflow', 'pydantic'} & set(sys.modules))"
    )

    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)

    assert not shown.stdout.strip() and not list(tmp_path.iterdir())
