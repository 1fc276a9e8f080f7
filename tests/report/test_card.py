"""Model cards and data cards: what a run says of itself, with nothing of a name taken for Markdown or YAML."""

from __future__ import annotations

import json

import pytest

from facesim.cli import main
from facesim.runs.directory import Run
from facesim.runs.evaluations import Evaluation
from facesim.spec.job import make_job

NAME = "](x)<script>|`: people\n---"


def point(far):
    rates = {"false_accept_rate": far, "far_low": far / 2, "far_high": far * 2, "true_accept_rate": 0.71}
    return {"far": far, "threshold": 0.4321, **rates}


def evaluation(data=NAME, **more):
    calibration = {"people": 12, "genuine_trials": 60, "impostor_trials": 5000, "lowest_far": 0.002}
    calibration["points"] = [point(0.1), point(0.01)]
    verified = {
        "accuracy": 0.9123,
        "auc": 0.95,
        "auc_low": 0.9,
        "auc_high": 0.99,
        "threshold": 0.4,
        "genuine_pairs": 60,
    }
    verified |= {"impostor_pairs": 60, "calibration": calibration}
    ranked = {"rank_1": 0.8, "probes": 30, "gallery_identities": 12, "open_set": {**calibration, "points": []}}
    rate = {"group": "east", "people": 7, "trials": 100, "errors": 5, "rate": 0.05, "low": 0.02, "high": 0.11}
    groups = {"rates": {"identification, rank 1": [rate]}, "threshold": 0.4, "warning": "Too few people."}
    content = {"data": data, "people": 12, "identities_seen_in_training": False, "verification": verified}
    return {**content, "identification": ranked, "groups": groups, **more}


@pytest.fixture
def run(tmp_path, faces):
    run = Run.create(tmp_path / "run", make_job(data=str(faces), model="resnet-small", image_size=32))
    run.model_file.write_bytes(b"a model")
    data = {"name": NAME, "identities": 8, "training_examples": 64, "held_out_examples": 16}
    result = {"strategy": "single", "backend": "local", "seed": 0, "state": "Completed", "parameters": 720_000}
    run.result_file.write_text(json.dumps({**result, "data": data, "held_out_accuracy": 0.875}))
    return run


def cards(run, tmp_path, *evaluations):
    run.evaluation_file.write_text(json.dumps({one["data"]: one for one in evaluations}))
    assert main(["card", str(run.directory), "--output", str(tmp_path / "cards")]) == 0
    return [(tmp_path / "cards" / f"{name}-card.md").read_text(encoding="utf-8") for name in ("model", "data")]


def test_a_model_card_says_what_was_not_measured(run, tmp_path):
    content = {**evaluation(), "left_out": {"verification": "verification needs 4 identities or more"}}
    del content["verification"]

    model, _ = cards(run, tmp_path, content)

    assert "Not measured: verification needs 4 identities or more." in model
    assert "model-index" not in model and "the first name is right for 80.0%" in model
    assert "How often it errs about whether two pictures show one person is not known." in model


def test_a_model_card_has_results_thresholds_groups_and_limits(run, tmp_path):
    model, _ = cards(run, tmp_path, evaluation())

    assert "| network | resnet-small, head softmax, 720,000 parameters |" in model
    assert "right for 91.2% of pairs; AUC 0.950" in model
    assert "| 0.01 | 0.432 | 0.005 to 0.02 | 71.0% |" in model
    assert "For a stranger looked for in a gallery there are too few trials (5,000)" in model
    assert "| identification, rank 1 | east | 5.0% (2.0% to 11.0%): 5 of 100, 7 people |" in model
    assert "- 12 people are few" in model and "## Intended use" in model


def test_its_head_is_what_the_hub_reads(run, tmp_path):
    yaml = pytest.importorskip("yaml")
    model, data = cards(run, tmp_path, evaluation())

    head = yaml.safe_load(model.split("---\n")[1])
    (result,) = head["model-index"][0]["results"]
    assert (head["library_name"], head["pipeline_tag"]) == ("keras", "image-feature-extraction")
    assert result["dataset"]["name"] == NAME.replace("\n", "\\n")
    assert result["metrics"] == [{"type": "accuracy", "value": 0.9123}, {"type": "roc_auc", "value": 0.95}]
    assert yaml.safe_load(data.split("---\n")[1])["pretty_name"] == NAME.replace("\n", "\\n")


def test_no_name_is_taken_for_markdown(run, tmp_path):
    for card in cards(run, tmp_path, evaluation()):
        body = card.split("---\n", 2)[2]
        assert "<script>" not in body and "](x)" not in body.replace("\\](", "")
        assert "\\]\\(x)".replace("\\(", "(") in body  # as text


def test_a_data_card_describes_the_data_or_says_that_it_is_not_there(run, tmp_path, capsys):
    _, data = cards(run, tmp_path)
    assert "| images of a person | 10 to 10, median 10 |" in data
    assert "## Who agreed to what" in data and "| people by group | no groups are named |" in data

    job = json.loads((run.directory / "job.json").read_text())
    job["experiment"]["data"] = str(tmp_path / "gone")
    (run.directory / "job.json").write_text(json.dumps(job))
    assert main(["card", str(run.directory), "--output", str(tmp_path / "again")]) == 0
    assert "was not at hand" in (tmp_path / "again" / "data-card.md").read_text()
    assert "the data card has only what the run recorded: no data source" in capsys.readouterr().err


def test_a_data_card_describes_no_data_that_has_changed_since(run, tmp_path, capsys):
    result = json.loads(run.result_file.read_text())
    run.result_file.write_text(json.dumps({**result, "data": {**result["data"], "content_sha256": "0" * 64}}))

    _, data = cards(run, tmp_path)

    assert "was not at hand" in data and "| images of a person |" not in data
    assert "what the run recorded: faces has changed since the model was trained" in capsys.readouterr().err


def test_cards_show_no_folder_of_this_machine_and_every_list_of_pairs(run, tmp_path):
    for pairs in ("FF", "FP", "FF"):
        run.keep_evaluation(Evaluation.model_validate(evaluation("/home/me/cfp", pairs=pairs, groups=None)))
    job = json.loads((run.directory / "job.json").read_text())
    job["experiment"]["model"] = f"/home/me/net.py:build@{24 * 'a'}"
    (run.directory / "job.json").write_text(json.dumps(job))

    assert main(["card", str(run.directory), "--output", str(tmp_path / "cards")]) == 0

    model, data = ((tmp_path / "cards" / f"{name}-card.md").read_text() for name in ("model", "data"))
    assert model.count("### On cfp, FF (") == model.count("### On cfp, FP (") == 1
    assert f"| network | net.py:build@{24 * 'a'}, head softmax" in model
    assert "/home/me" not in model + data
    assert "are not known: a list of pairs names no groups." in model and "the data names no groups" not in model


def test_evaluations_of_an_earlier_model_are_left_out_and_counted(run, tmp_path):
    model, _ = cards(run, tmp_path, evaluation("now"), evaluation("before", model_sha256="of another model"))

    assert "### On now" in model and "### On before" not in model
    assert "because the model has changed since: evaluations on 1 data set" in model
    assert "- 12 people are few" in model and "Do not use it" not in model


def test_what_was_found_of_an_earlier_model_is_in_no_limit_of_this_one(run, tmp_path):
    now = {**evaluation("now"), "left_out": {"verification": "verification needs 4 identities or more"}}
    del now["verification"]

    model, _ = cards(run, tmp_path, now, evaluation("before", model_sha256="of another model"))

    assert "How often it errs about whether two pictures show one person is not known." in model
    assert "Do not use it" not in model and "on before" not in model


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"validation": 0.2}, "20% of each person's other images, by seed 0; what is held out was not used"),
        ({"test_part": "val"}, "the part val of the data's own split; what is held out was not used"),
    ],
)
def test_accuracy_on_a_validation_part_is_not_called_held_out(run, faces, tmp_path, options, part):
    job = make_job(data=str(faces), model="resnet-small", image_size=32, **options)
    run.job_file.write_text(job.model_dump_json())
    closed = {"closed_set": {"examples": 16, "accuracy": 0.875, "balanced_accuracy": 0.875}}

    model, data = cards(run, tmp_path, evaluation(identities_seen_in_training=True, **closed))

    assert "| validation accuracy | 87.5% |" in model and "right for 87.5% of 16 validation images" in model
    assert "held-out" not in model
    assert "| images validated on | 16 |" in data and f"| what is validated on | {part} |" in data
    assert "images held out" not in data


def test_a_run_that_was_not_evaluated_says_so(run, tmp_path):
    model, _ = cards(run, tmp_path)

    assert "It was not evaluated" in model and "| held-out accuracy | 87.5% |" in model
    assert "How often it errs is not known." in model


def test_a_card_of_a_run_without_result_and_one_that_is_there_are_refused(run, tmp_path, capsys):
    (tmp_path / "cards").mkdir()
    assert main(["card", str(run.directory), "--output", str(tmp_path / "cards")]) == 2
    run.result_file.unlink()
    assert main(["card", str(run.directory), "--output", str(tmp_path / "new")]) == 2

    errors = capsys.readouterr().err
    assert "cards already exists; name another" in errors and "has no result yet" in errors


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("people", "many"),
        ("evaluated_unix_s", 1e300),
        ("groups", {"rates": {"identification, rank 1": [{"group": "east"}]}}),
        ("groups.warning", 5),
        ("verification.accuracy", float("nan")),
        ("verification.auc", 2.0),
        ("verification.auc_low", "low"),
        ("verification.genuine_pairs", 0),
        ("verification.threshold", float("inf")),
        ("verification.calibration.points", [{"far": 0.1}]),
        ("identification.probes", -1),
    ],
)
def test_an_evaluation_that_is_damaged_is_told_by_its_field(run, tmp_path, capsys, field, value):
    content = part = evaluation()
    *parts, name = field.split(".")
    for one in parts:
        part = part[one]
    part[name] = value
    run.evaluation_file.write_text(json.dumps({NAME: content}))

    assert main(["card", str(run.directory), "--output", str(tmp_path / "cards")]) == 2
    assert f"is not what facesim writes: {field}" in capsys.readouterr().err
