"""The verdict on a script of the user's own, from what was seen and told; and what the two lines tell."""

from __future__ import annotations

import hashlib
import html
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from facesim import audit
from facesim.audit import FOLDER
from facesim.audit.page import write as write_page
from facesim.audit.place import own_place, place_of
from facesim.audit.verdict import Rank, judge
from facesim.audit.watch import Process, Watched, _lines, watch


def ranks(count: int = 2, **differing) -> list[Rank]:
    """Ranks that trained together as they should, but for what differs: a value, or one for each rank."""
    verdicts = []
    for number in range(count):
        fields = {
            "name": f"rank {number}", "cpu_s": 9.0, "received_bytes": 5e6, "most_at_a_time_bytes": 5e5,
            "received_while_training_bytes": 4e6,
            "steps": 10, "examples": 80, "repeated": 40,
            "first_pass": frozenset(str(one) for one in range(number, 80, count)), "parameters_sha256": "a",
            "parameter_bytes": 1_000_000,
        }  # fmt: skip
        given = {name: value[number] if isinstance(value, list) else value for name, value in differing.items()}
        verdicts.append(Rank(**{**fields, **given}))
    return verdicts


NOTHING_TOLD = {
    "steps": None, "first_pass": None, "parameters_sha256": None, "parameter_bytes": None,
    "received_while_training_bytes": None,
}  # fmt: skip
#: Two stages, which need not send each other as much as the parameters of one are.
PIPELINE = {"parameter_bytes": [9_000_000, 8_000_000], "parameters_sha256": ["a", "b"], "received_bytes": 3e6}
#: Of what a rank receives nothing while it trains.
ALONE = {"received_bytes": 2_000.0, "most_at_a_time_bytes": 2_000.0, "received_while_training_bytes": 0.0}
#: A training that was over before it was looked at twice.
SHORT = {"cpu_s": 0.5, "received_bytes": 0.0, "received_while_training_bytes": None}
SAME_DATA = {"first_pass": frozenset("abc")}


@pytest.mark.parametrize(
    ("differing", "verdict", "because"),
    [
        ({}, "together", "equal, bit for bit"),
        ({"received_bytes": None}, "together", "cannot be counted"),
        ({"received_bytes": 0.0, "uses_gpu": True}, "together", "GPUs"),
        (
            ALONE | {"connects_briefly": True},
            "together",
            "They have connections that end before they are looked at, by",
        ),
        (ALONE | NOTHING_TOLD | {"connects_briefly": True}, "unknown", "these bytes are not all"),
        (ALONE | {"parameters_sha256": ["a", "b"]}, "apart", "2 different sets"),
        ({"parameters_sha256": ["a", "b"], "uses_gpu": True}, "apart", "2 different sets"),
        ({"parameters_sha256": ["a", "b"]}, "unknown", "ended with different ones"),  # gossip, asynchronous
        ({"received_while_training_bytes": [4e6, 1e4]}, "unknown", "before the first step or after the last"),
        ({"received_while_training_bytes": [4e6, None], "received_bytes": 4e6}, "unknown", "too short to see"),
        ({"received_while_training_bytes": [4e6, None], "received_bytes": 9e6}, "together", "bit for bit"),
        (SAME_DATA, "apart", "the data was not divided"),
        (SAME_DATA | {"holds_part": True, "parameters_sha256": None}, "unknown", "FSDP"),
        (SAME_DATA | {"holds_part": True, "parameters_sha256": None}, "unknown", "together: parts of a network"),
        (SAME_DATA | {"parameter_bytes": [1_000_000, 900_000], "parameters_sha256": ["a", "b"]}, "unknown", "pipeline"),
        (PIPELINE, "unknown", "parts of a network cannot be compared"),
        (PIPELINE | ALONE, "apart", "gradients of a small network"),
        ({"steps": [10, 0]}, "apart", "hardly a step"),
        ({"received_bytes": 100.0}, "unknown", "one of the two is wrong"),
        ({"received_bytes": 100.0, "parameters_sha256": None}, "apart", "once in a whole training"),
        (ALONE | SHORT | {"parameters_sha256": None}, "unknown", "facesim.audit.parameters"),  # between two looks
        (ALONE | SHORT, "unknown", "too short to see"),
        (ALONE | {"parameters_sha256": ["a", None], "numbered": False}, "unknown", "through pipes, Unix sockets or"),
        (ALONE | NOTHING_TOLD | {"numbered": False}, "unknown", "through pipes, Unix sockets or files"),
        (ALONE | SAME_DATA | {"numbered": False}, "apart", "the data was not divided"),
        (SHORT | {"looked_at": [True, False]}, "unknown", "of their CPU time and bytes nothing is known: rank 1."),
        ({"first_pass": None, "examples": 0}, "unknown", "rank 0: 10; rank 1: 10."),  # which it was not told
        ({"first_pass": None}, "unknown", "give facesim.audit.step their numbers, or the images alone"),
        ({"hashed": True, "repeated": 0}, "unknown", "altered whenever it is read"),
        ({"hashed": True}, "together", "different; two ranks shared 0%"),
        ({"parameters_sha256": ["a", None]}, "unknown", "the parameters of 1 of 2 ranks were reported."),
        ({"steps": [10, None], "first_pass": [frozenset("a"), None]}, "unknown", "facesim.audit.step(examples=...)"),
        (NOTHING_TOLD, "unknown", "facesim.audit.parameters"),
        (ALONE | NOTHING_TOLD, "apart", "gradients of a small network"),
        (ALONE | NOTHING_TOLD | {"cpu_s": 2.0}, "unknown", "So it is not known"),
        (ALONE | NOTHING_TOLD | {"most_at_a_time_bytes": [2_000.0, 5e5]}, "apart", "gradients of a small network"),
        (ALONE | NOTHING_TOLD | {"received_bytes": 5e5}, "unknown", "So it is not known"),  # a very small network
        (ALONE | NOTHING_TOLD | {"coordinates": [True, False], "received_bytes": [2_000.0, 5e6]}, "unknown", "known"),
        (ALONE | NOTHING_TOLD | {"coordinates": [True, False]}, "apart", "gradients of a small network"),
    ],
)
def test_a_verdict_needs_evidence(differing, verdict, because):
    judgement = judge(ranks(**differing))

    assert judgement.verdict == verdict, judgement.evidence
    assert any(because in sentence for sentence in judgement.evidence), judgement.evidence


@pytest.mark.parametrize("found", [ALONE, ALONE | NOTHING_TOLD, ALONE | {"parameters_sha256": ["a", "b"]}])
def test_what_failed_before_its_ranks_exchanged_anything_is_not_called_apart(found):
    judgement = judge(ranks(**found), failure="The command failed with exit code 1")

    assert judgement.verdict == "unknown"
    assert any(sentence.startswith("The command failed") for sentence in judgement.evidence)


def test_of_what_was_cut_short_nothing_is_asked_for_that_was_reported():
    *_, doubt = judge(
        ranks(steps=[10, 0], parameters_sha256=["a", "b"]), failure="The command was interrupted"
    ).evidence

    assert doubt == "So it is not known whether they trained together: the training did not come to its end."


def test_one_process_has_nobody_to_train_with_and_of_none_nothing_is_known():
    assert judge(ranks(1)).verdict == "single"
    assert judge([]).verdict == "unknown"
    (others,) = judge(ranks(1, world=2)).evidence
    assert "Of 2 ranks only rank 0 was seen" in others and others.endswith("or do not say which rank they are.")
    assert "2 processes that may have trained say that they are rank 0" in judge(ranks(1, processes=2)).evidence[0]
    assert judge(ranks(1, world=2)).verdict == judge(ranks(1, processes=2)).verdict == "unknown"


def test_processes_are_put_together_to_ranks_with_what_they_received_while_they_trained():
    def steps(*moments: float) -> list[dict]:
        return [{"clock_s": moment, "step": 8} for moment in moments]

    loader, first, second = Process(1, "", "rank 0", 2), Process(2, "", "rank 0", 2), Process(3, "", "rank 1", 2)
    looks = {2: [(9.0, 5.0), (10.5, 6.0), (11.0, 7.0), (12.0, 9.0), (14.0, 90.0)], 3: [(9.0, 1.0), (13.0, 70.0)]}
    reports = {2: steps(10.0, 12.5), 3: [*steps(10.0, 12.5), {"clock_s": 13.0, "holds_part": True}]}

    zero, one = Watched(0, False, 9.0, [loader, first, second], reports, True, looks).ranks()

    assert (zero.received_while_training_bytes, zero.steps, zero.processes, zero.holds_part) == (3.0, 2, 1, False)
    assert (one.received_while_training_bytes, one.steps, one.world, one.holds_part) == (None, 2, 2, True)


CLUSTER = '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}, "task": {"type": %s}}'


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, ("rank 3", 8, False)),
        ({"OMPI_COMM_WORLD_RANK": "1"}, ("rank 1", 1, False)),
        ({"TF_CONFIG": '{"task": {"type": "worker", "index": 2}}'}, ("worker-2", 1, False)),
        ({"TF_CONFIG": CLUSTER % '"worker", "index": 1'}, ("worker-1", 3, False)),
        ({"TF_CONFIG": CLUSTER % '"chief", "index": 0'}, ("chief-0", 3, True)),
        ({"TF_CONFIG": CLUSTER % '"ps", "index": 0'}, None),
        ({"TF_CONFIG": "{"}, None),
        ({"TF_CONFIG": "[]"}, None),
        ({"TF_CONFIG": '{"task": {"type": "worker"}, "cluster": {"worker": 2}}'}, None),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, ("rank 2", 4, False)),
        ({"SLURM_PROCID": "0", "TF_CONFIG": CLUSTER % '"worker", "index": 1'}, ("worker-1", 3, False)),
        ({"SLURM_PROCID": "0", "TF_CONFIG": CLUSTER % '"ps", "index": 0'}, None),
        ({"RANK": "many"}, None),
        ({"RANK": "\u00b2"}, None),
        ({"TF_CONFIG": '{"task": {"type": "worker", "index": null}}'}, None),
        ({}, None),
    ],
)
def test_a_process_is_the_rank_that_its_launcher_says(environment, place):
    assert place_of(environment) == (place or (None, 1, False))


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


@pytest.mark.parametrize(
    ("batch", "count", "identified"),
    [
        ("[images, labels]", 4, True),  # as PyTorch's loaders have it
        ("(images, labels)", 4, True),
        ("[images, list('abcd')]", 4, True),
        ("([*images], [*labels])", 4, True),
        ("{'image': images, 'label': labels}", 4, True),
        ("{'image': images}", 4, False),  # or it may be one image
        ("{'image': images[0], 'label': 3, 'name': 'a'}", 8, False),  # whose rows are no examples
        ("[images[0], images[0][:, :5]]", 2, True),
        ("[images, labels[:3]]", 2, True),
        ("[images, images]", 2, True),
        ("[labels, 4]", 2, True),
        ("list(labels)", 4, True),
        ("list('abcd')", 4, True),
        ("'person7/img_0012.png'", 1, True),
        ("b'person7/img_0012.png'", 1, True),
        ("np.array(['abcd'])[0]", 1, True),
    ],
)
def test_columns_of_a_batch_are_no_examples(tmp_path, batch, count, identified):
    script = f"import numpy as np\nimages, labels = np.ones((4, 8, 8, 3)), np.arange(4)\naudit.step(examples={batch})"

    (told,) = events(tmp_path, script)

    assert told["step"] == count
    assert ("hashed" in told) == identified


def test_an_example_of_several_columns_is_told_by_all_of_them(tmp_path):
    """By labels alone, or a mask, it would be the same as many others, and two ranks would share them."""
    script = (
        "import numpy as np\n"
        "images, labels = np.arange(128.0).reshape(2, 8, 8), np.array([[0, 1], [0, 1]])\n"
        "for batch in ([labels, images, [7, 7]], {'label': labels, 'image': images, 'person': [7, 7]}):\n"
        "    audit.step(examples=batch)"
    )

    listed, named = events(tmp_path, script)

    assert len(set(listed["first"])) == 2 and named["repeated"] == 2
    assert listed["hashed"] and named["hashed"]


def test_pictures_and_examples_that_nobody_has_put_together_are_told_by_their_content(tmp_path):
    script = (
        "import numpy as np\nfrom PIL import Image\n"
        "pixels = [np.full((9, 9, 3), value, np.uint8) for value in (0, 1)]\n"
        "for _ in range(2):\n"
        "    audit.step(examples=[Image.fromarray(each) for each in pixels])\n"
        "    audit.step(examples=[{'image': each, 'person': 7} for each in pixels])\n"
        "    audit.step(examples=[(each, 8) for each in pixels])"
    )

    told = events(tmp_path, script)
    first, again = told[:3], told[3:]

    assert [len(set(one["first"])) for one in first] == [2, 2, 2]
    assert [(one["repeated"], one["hashed"]) for one in again] == [(2, True)] * 3


def test_what_is_told_is_the_content_of_arrays_and_no_address_and_no_part_of_a_network(tmp_path):
    script = (
        "import numpy as np\n"
        "class Shard:\n    shape, is_fully_addressable, is_fully_replicated = (4,), False, False\n"
        "rows = [np.arange(9_000) for _ in range(2)]; rows[1][4_000] = 0\n"
        "for batch in (rows, [np.array(3), 4], {'image': rows}, []): audit.step(examples=batch)\n"
        "kernel, bias = np.ones((2, 3)), np.zeros(3)\n"
        "tree = {'dense': {'kernel': kernel, 'bias': bias}}\n"
        "for model in (tree, [kernel, bias], [Shard()], [], object()): audit.parameters(model)"
    )

    rows, numbers, columns, nothing, tree, arrays, part = events(tmp_path, script)

    assert rows["hashed"] and len(set(rows["first"])) == 2
    assert numbers["first"] == ["3", "4"] and not numbers["hashed"]
    assert columns["step"] == 2 and "hashed" not in columns and nothing["step"] == 0
    assert tree["parameters_sha256"] == arrays["parameters_sha256"] and tree["parameter_bytes"] == 72
    assert part["holds_part"]


def test_in_a_script_that_nobody_watches_they_do_nothing_and_load_nothing(tmp_path):
    script = (
        "import sys, facesim.audit as audit\naudit.step(examples=object())\naudit.parameters(object())\n"
        "print(*{'numpy', 'torch', 'tensorflow', 'pydantic'} & set(sys.modules))"
    )

    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)

    assert not shown.stdout.strip() and not list(tmp_path.iterdir())


def test_whatever_the_two_lines_are_given_they_end_no_training_and_take_nothing_from_it(tmp_path, monkeypatch, capsys):
    class Broken:
        shape = (2,)

        def __array__(self, *_, **__):
            raise RuntimeError("on another device")

    endless: list = []
    endless.append(endless)
    batches = iter([1, 2])
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setattr(audit, "_current", None)
    monkeypatch.setattr(audit, "_said", set())

    for examples in (None, 1.5, object(), batches, Broken(), [Broken()]):
        audit.step(examples=examples)
    for model in (None, print, Broken(), endless):
        audit.parameters(model)
    audit.step(examples=[7])
    audit.parameters([np.ones(3)])

    (file,) = tmp_path.glob("*.jsonl")
    *steps, parameters = map(json.loads, file.read_text().splitlines())
    assert [(one["step"], "hashed" in one) for one in steps] == [(0, False)] * 6 + [(1, True)]
    assert parameters["parameter_bytes"] == 24 and next(batches) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "step was given what it cannot report: TypeError: NoneType" in errors[0]


def test_a_report_shows_names_that_are_no_text(tmp_path):
    processes = [Process(1, "python \udcff.py", "rank 0")]
    watched = Watched(-9, False, 1.0, processes, {}, True)

    page = write_page(["python", "\udcff.py"], watched, judge(watched.ranks()), tmp_path)

    assert watched.failure == "The command was killed by SIGKILL"
    assert page.read_text().count("\\xff.py") == 2


def test_a_report_shows_the_command_as_a_shell_takes_it(tmp_path):
    watched = Watched(0, False, 1.0, [], {}, True)

    page = write_page(["sh", "-c", "train; wait"], watched, judge([]), tmp_path)

    assert "sh -c 'train; wait'" in html.unescape(page.read_text())


def test_ranks_that_ended_before_they_were_seen_are_judged_by_what_they_reported(tmp_path):
    """Forked when everything was imported, they live for some milliseconds; the script numbers them itself."""
    script = (
        "import os, facesim.audit as audit\n"
        "for rank in range(2):\n"
        "    if (pid := os.fork()) == 0:\n"
        "        os.environ |= {'RANK': str(rank), 'WORLD_SIZE': '2'}\n"
        "        audit.step(examples=[rank]); audit._current.flush(); os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
    )

    seen = watch([sys.executable, "-c", script], tmp_path, sampling_s=60.0)

    assert [(rank.name, rank.world, rank.steps) for rank in seen.ranks()] == [("rank 0", 2, 1), ("rank 1", 2, 1)]
    assert all("audit.step" in process.command for process in seen.processes)
    assert any("nothing is known: rank 0, rank 1." in sentence for sentence in judge(seen.ranks()).evidence)


def test_a_rank_may_be_numbered_by_pytorch_s_process_group_alone(monkeypatch):
    group = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 3, get_world_size=lambda: 8
    )
    monkeypatch.setitem(sys.modules, "torch.distributed", group)

    assert own_place() == ("rank 3", 8, False)

    monkeypatch.setenv("RANK", "1")
    assert own_place() == ("rank 1", 1, False)


def test_what_processes_of_another_facesim_reported_is_left_out(tmp_path):
    (tmp_path / "7.jsonl").write_bytes(b'{"clock_s": 1.0, "step": 2}\n{"time_unix_s": 5, "step": 2}\n7\n\xff\n{"clo')

    assert _lines(tmp_path / "7.jsonl") == [{"clock_s": 1.0, "step": 2}]


def test_of_a_rank_that_was_started_again_the_newest_division_of_the_data_counts():
    def step(at_s: float, *first: str) -> dict:
        return {"clock_s": at_s, "step": 2, "hashed": True, "first": list(first)}

    before, after = (Process(pid, "train.py", "rank 0", cpu_s=9.0) for pid in (1, 2))
    reports = {1: [step(1, "a", "b"), step(2, "c", "d")], 2: [step(3, "a", "c"), step(4, "e", "g")]}

    (rank,) = Watched(0, False, 9.0, [before, after], reports, True).ranks()

    assert (rank.first_pass, rank.steps) == (frozenset("aceg"), 4)


def test_a_rank_that_reports_its_parameters_alone_says_nothing_about_its_steps():
    def rank(pid: int) -> Process:
        return Process(pid, "train.py", f"rank {pid}", 2, cpu_s=9.0)

    parameters = {"clock_s": 9.0, "parameters_sha256": "a", "parameter_bytes": 100}
    reports = {1: [*({"clock_s": float(at), "step": 8} for at in range(9)), parameters], 2: [parameters]}

    ranks = Watched(0, False, 9.0, [rank(1), rank(2)], reports, True).ranks()

    assert [one.steps for one in ranks] == [9, None]
    assert any("rank 1: 9 on 72 examples; rank 2: none" in sentence for sentence in judge(ranks).evidence)
    assert judge(ranks).verdict == "unknown"


class Tensor(np.ndarray):
    requires_grad = False


def tensor(count: int, value: float) -> Tensor:
    return np.full(count, value, np.float32).view(Tensor)


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Reports parameters; what was told of them."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setattr(audit, "_current", None)

    def told(model) -> dict:
        audit.parameters(model)
        (file,) = tmp_path.glob("*.jsonl")
        return json.loads(file.read_text().splitlines()[-1])

    return told


def test_the_parameters_of_a_state_dict_which_are_all_detached_are_counted(report):
    told = report({"module.weight": tensor(3, 1.0), "module.bias": tensor(1, 0.0)})

    assert told["parameter_bytes"] == 16


@pytest.mark.parametrize(
    "moving",
    [
        {"module.norm.running_mean": 1, "module.norm.running_var": 2, "module.norm.num_batches_tracked": 3},
        {"norm/moving_mean": 1, "norm/moving_variance": 2},
        {"batch_stats": {"norm": {"mean": 1, "var": 2}}},
        {("batch_stats", "norm", "mean"): 1},
    ],
)
def test_moving_statistics_which_replicas_have_each_make_no_difference(report, moving):
    def of(number: int, part):
        return {name: of(number, one) for name, one in part.items()} if isinstance(part, dict) else tensor(2, number)

    weights = {"norm.weight": tensor(3, 1.0)}
    alone, *ranks = (report(model) for model in (weights, weights | of(1, moving), weights | of(2, moving)))

    same = {(one["parameters_sha256"], one["parameter_bytes"]) for one in ranks}
    assert same == {(alone["parameters_sha256"], 12)}
    assert report({"norm.weight": tensor(3, 2.0)})["parameters_sha256"] != alone["parameters_sha256"]


def test_frozen_parameters_are_compared_and_need_not_be_exchanged(report):
    trained, frozen = tensor(3, 2.0), tensor(1000, 2.0)
    trained.requires_grad = True

    told = report([trained, frozen])

    assert told["parameter_bytes"] == 12
    assert told["parameters_sha256"] == hashlib.sha256(trained.tobytes() + frozen.tobytes()).hexdigest()
