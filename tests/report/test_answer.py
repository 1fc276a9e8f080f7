"""The first screen of a report: a question, at most three sentences that say what they hold for, two pictures."""

import base64
import hashlib
import re
import shlex
import warnings

import pytest

from facesim.cli.study import run
from facesim.report import compare, print_report, write_report
from facesim.report.answer import answer, question
from facesim.report.plots import plots
from facesim.report.plots.overview import time_and_cost
from facesim.spec.command_line import as_command
from facesim.spec.job import make_job

APART = {"verdict": "apart", "evidence": ["the replicas' variables differ"]}
#: A hypervisor that gave a third of the processors to others.
DISTURBED = {"load": {"steal_percent": 33.0}}


def sentences(runs):
    return [sentence.text for sentence in answer(compare(runs))]


def many(make_run, strategies, seeds=3, **options):
    return [
        make_run(name, seed, accuracy=90 + (seed + place) % 3, training_s=40 + 5 * place + seed, **options)
        for place, name in enumerate(strategies)
        for seed in range(seeds)
    ]


def test_a_cluster_on_one_machine_is_no_cluster(study):
    assert question(compare(study)) == "One machine or a cluster?"
    time, accuracy = sentences(study)
    assert time.startswith("Emulated on one machine, ps-async takes 1.43 times as long to train as single")
    assert time.endswith("that is what the strategy costs here, not how long a cluster would take.")
    assert "no evidence of a difference in accuracy" in accuracy


def test_one_seed_says_nothing_about_accuracy(make_run):
    time, accuracy = sentences([make_run("single"), make_run("ps-async", training_s=60)])

    assert "(one seed)" in time
    assert "no accuracy statement from 1 paired seed" in accuracy


def test_replicas_that_trained_apart_come_first_and_have_no_time(make_run):
    texts = sentences([make_run("single"), make_run("independent", audit=APART), make_run("ps-async", audit=APART)])

    assert texts == ["ps-async and independent did not train together: their replicas trained apart."]


def test_what_trained_together_is_compared_at_length_beside_what_did_not(make_run):
    runs = [*many(make_run, ["single", "ps-async"]), *many(make_run, ["independent"], audit=APART)]

    alarm, time, accuracy = sentences(runs)

    assert alarm == "independent did not train together: its replicas trained apart."
    assert "ps-async takes 1.12 times as long to train as single, with 2.32 times the instance-seconds" in time
    assert accuracy.startswith("Held-out accuracy: ps-async ")


def test_numbers_of_two_kinds_say_of_which_row_each_is(make_run):
    there = {"measurement": "measured", "instance_type": "ml.m5.xlarge"}
    runs = [make_run("single"), make_run("ps-async", result=there)]

    assert sentences(runs)[0].startswith("As measured for ps-async and emulated for single, ps-async takes as long")
    runs.append(make_run("allreduce", training_s=50, result=there))
    assert sentences(runs)[0].startswith("As emulated for some, and measured for others, ")


def test_equal_accuracies_are_one(make_run):
    runs = [make_run(name, accuracy=90) for name in ("single", "ps-async", "allreduce")]

    assert sentences(runs)[1] == "Held-out accuracies are all 90.0 %: too few seeds to tell them apart."


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ((90, 91, 89), "89.0 % to 90.0 % on images B: no evidence of a difference from single (image size 64)"),
        (
            (93.1, 94.1, 94.8),
            "89.0 % to 94.0 % on images B: 1 of 1 differ from single (image size 64), most of all ps-async (image size "
            "64), 5 percentage points more",
        ),
    ],
)
def test_accuracies_are_told_by_the_images_that_were_tested(make_run, cluster, told):
    reached = {("single", 32): (60, 61, 62), ("ps-async", 32): (62, 63, 61)}
    reached |= {("single", 64): (88, 89, 90), ("ps-async", 64): cluster}
    runs = [
        make_run(strategy, seed, name=f"{strategy}-{size}-{seed}", accuracy=accuracy, image_size=size)
        for (strategy, size), accuracies in reached.items()
        for seed, accuracy in enumerate(accuracies)
    ]

    assert sentences(runs)[-1] == (
        "Held-out accuracies are 61.0 % to 62.0 % on images A: no evidence of a difference from single (image size 32);"
        f" {told}; those on different images are not compared."
    )


def test_accuracies_on_as_many_images_as_rows_are_not_compared(make_run):
    runs = [
        make_run("single", seed, name=f"{size}-{seed}", accuracy=size, image_size=size)
        for size in (32, 48, 64)
        for seed in range(3)
    ]

    assert sentences(runs)[-1] == "Held-out accuracies are 32.0 % to 64.0 %: not compared, the test images differ."


def test_disturbed_times_are_not_compared(make_run):
    assert sentences([make_run("single"), make_run("ps-async", result=DISTURBED)])[0] == (
        "No statement about the time of ps-async is possible: other load disturbed ps-async."
    )


def test_times_without_a_seed_in_common_are_not_called_unrecorded(make_run):
    assert sentences([make_run("single", 0), make_run("ps-async", 1)])[0] == (
        "No statement about the time of ps-async is possible: ps-async and single have no seed in common."
    )


@pytest.mark.slow
def test_a_command_says_which_faults_it_leaves_out(make_run, tmp_path):
    faults = [{"kind": "kill", "targets": ["worker-1"], "at_s": 5.0}]
    write_report([make_run("single"), make_run("ps-async", faults=faults)], tmp_path / "page.html")

    page = (tmp_path / "page.html").read_text()
    assert page.count("faults on purpose, which are not in this command") == 1
    assert "not in this command: kill worker-1, at s 5.0. <code>--faults FILE</code>" in page


def test_three_rows_are_summed_up_and_each_is_compared_below(make_run, capsys):
    runs = many(make_run, ["single", "ps-async", "allreduce"])

    time, accuracy = sentences(runs)
    print_report(compare(runs))

    shown = " ".join(capsys.readouterr().out.split())
    assert "ps-async against single (emulated): 1.12 times" in shown and "allreduce against single" in shown

    assert "single (41.0 s) trained fastest and allreduce (51.0 s) slowest of 3" in time
    assert accuracy.startswith("Held-out accuracies are ")


def test_many_rows_are_three_sentences(make_run):
    runs = many(make_run, ["single", "mirrored", "ps-async", "ps-sync", "allreduce"])
    runs += many(make_run, ["independent"], audit=APART)

    texts = sentences(runs)

    assert len(texts) == 3
    assert texts[0] == "independent did not train together: its replicas trained apart."
    assert "single (41.0 s) trained fastest and allreduce (61.0 s) slowest of 5" in texts[1]
    assert texts[2].startswith("Held-out accuracies are ")


def test_one_row_is_not_compared(make_run):
    runs = [make_run("single")]

    assert question(compare(runs)).startswith("How long does this training take")
    (alone,) = sentences(runs)
    assert alone.startswith("single alone: 40.0 s of training, held-out accuracy 92.0 % (84.6 to 96.5).")


def test_what_was_not_measured_is_not_compared(make_run):
    runs = [make_run(name, metrics=False, result={"held_out_accuracy": None}) for name in ("single", "ps-async")]

    assert sentences(runs)[1] == "The held-out accuracy of ps-async and single was not measured."
    assert "Not compared: ps-async and single have no held-out accuracy." in [f.text for f in compare(runs).findings]


def test_workers_are_counted(make_run):
    runs = [make_run("ps-async", workers=number, name=f"{number}") for number in (1, 2)]

    assert question(compare(runs)) == "How many workers?"


@pytest.mark.slow
def test_points_of_the_first_pictures_say_what_they_are(study):
    drawn = plots(compare(study))

    assert "<title>single (emulated): " in drawn["pareto"]
    assert re.search(r"<title>ps-async: 92\.1 % \(\d", drawn["accuracies"])


@pytest.mark.slow
def test_a_time_that_is_not_compared_is_marked_and_on_no_line(make_run):
    runs = [
        make_run("single", training_s=60),
        make_run("ps-async", training_s=40),
        make_run("allreduce", training_s=10, result=DISTURBED),
        make_run("independent", training_s=10, audit=APART),
    ]

    drawn = time_and_cost(compare(runs))

    assert "allreduce (disturbed)" in drawn and "independent (trained apart)" in drawn
    assert "<title>no other row beats these in both: ps-async, single<" in drawn


@pytest.mark.slow
def test_points_with_long_names_are_in_a_picture_that_has_room_for_them(make_run):
    unlike = {"workers": 8, "ps": 2, "epochs": 3, "batch": 64, "learning_rate": 0.002, "held_out": 0.5}
    runs = [make_run("single"), make_run("ps-async"), make_run("ps-async", name="unlike", **unlike)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns where a name leaves no room for the picture
        drawn = time_and_cost(compare(runs))

    lines = re.findall("<text[^>]*>([^<]*)</text>", drawn)
    assert any("workers" in line for line in lines) and max(map(len, lines)) <= 48


@pytest.mark.slow
def test_a_point_is_of_the_runs_that_nothing_disturbed(make_run):
    calm = [make_run("single", seed, training_s=60) for seed in range(2)]
    before = re.search(r"<title>single \(emulated\): (.*?)<", time_and_cost(compare([*calm, make_run("ps-async")])))
    runs = [*calm, make_run("ps-async", 1), make_run("single", 2, training_s=600, result=DISTURBED)]

    after = re.search(r"<title>single \(emulated\): (.*?)<", time_and_cost(compare(runs)))

    assert after[1] == before[1]


@pytest.mark.slow
def test_a_page_of_many_rows_has_a_line_for_each(make_run, tmp_path):
    write_report(
        many(make_run, ["single", "mirrored", "ps-async", "ps-sync", "allreduce", "local-sgd"], seeds=1),
        tmp_path / "page.html",
    )

    page = (tmp_path / "page.html").read_text()
    assert 'class="numbers sortable" aria-label="Time"' in page
    assert re.search(r'data-value="45\.0"[^>]*>45\.0 s<', page)
    assert "<details><summary>5 statements</summary>" in page


@pytest.mark.slow
def test_only_the_page_s_own_script_may_run_and_its_contents_lead_somewhere(page):
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in page
    entries = re.findall(r'<a href="#([a-z]+)">', page)
    assert len(entries) > 5
    assert all(f'id="{entry}"' in page for entry in entries)


@pytest.mark.parametrize(
    ("options", "seeds", "command"),
    [
        ({"strategy": "single"}, [0], "facesim run --strategy single --backend local --recipe paper"),
        (
            {"strategy": "ps-async", "workers": 3, "recipe": "modern", "epochs": 5, "tags": {"who": "a class"}},
            [0, 1, 2],
            "facesim run --strategy ps-async --backend local --recipe modern --epochs 5 --workers 3 "
            "--tags 'who=a class' --seeds 3",
        ),
        (
            {"strategy": "single", "spot": True, "data": "my photos", "augment": True},
            [4],
            "facesim run --strategy single --backend local --recipe paper --spot --data 'my photos' --augment "
            "--seeds 4,",
        ),
    ],
)
def test_a_job_as_a_command(options, seeds, command):
    assert as_command(make_job(**options), seeds) == command


@pytest.mark.parametrize("seeds", [[0], [0, 1], [4], [3, 5, 7], [0, 4]])
def test_the_command_line_takes_the_command_of_a_job(tmp_path, seeds):
    options = {"strategy": "ps-async", "epochs": 3, "learning_rate": 0.00037454011884736246, "data": str(tmp_path)}
    words = shlex.split(as_command(make_job(**options), seeds))
    given = dict(zip(words[2::2], words[3::2], strict=True))

    assert float(given["--learning-rate"]) == options["learning_rate"]
    assert set(given) <= {flag for one in run.params for flag in one.opts}
    read = run.make_context("run", words[2:], resilient_parsing=False).params["seeds"]
    assert (list(range(read)) if isinstance(read, int) else read) == seeds
