"""A model card and a data card in Markdown, of what a run, its evaluations and its data say themselves.

The model card begins as the Hugging Face Hub reads it (YAML: https://huggingface.co/docs/hub/model-cards); its sections
are those of Mitchell et al., 2019, "Model cards for model reporting", the data card's of Gebru et al., 2021,
"Datasheets for datasets". What facesim cannot know (who may use it for what, who agreed) is left open and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim import __version__
from facesim.recognition.groups import in_words
from facesim.recognition.reliance import reliance
from facesim.report.markdown import escaped, table
from facesim.spec.own_model import OwnModel
from facesim.util.errors import InputError
from facesim.util.unused import printable
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.data import Description
    from facesim.runs.directory import Run
    from facesim.runs.evaluations import Calibration, Evaluation
    from facesim.runs.records import Result
    from facesim.spec.experiment import Experiment

_OPEN = "**To be completed by those who publish it.**"


def model_card(run: Run) -> str:
    """The model card of a run that has ended.

    Raises:
        InputError: it has no result, or its files cannot be read.
    """
    result, experiment, job = _result(run), run.job().experiment, run.job()
    if not run.model_file.is_file():
        raise InputError(f"{run.directory} has no model; name a run that has completed")
    evaluations, earlier = run.evaluations_by_model()
    data, tested = result.data, experiment.data_spec.tested_in_words
    trained = {
        "network": f"{_network(experiment.model)}, head {experiment.head}"
        + (f", {count_text(result.parameters, 'parameter')}" if result.parameters else ""),
        "takes": f"{experiment.image_size} x {experiment.image_size} pixels, 0 to 255, "
        f"{'grey' if experiment.channels == 1 else 'RGB'}: one face, upright",
        "trained on": f"{data.name or experiment.data}: {_count(data.identities)} people, "
        f"{_count(data.training_examples)} images",
        "started from": Path(experiment.pretrained).name if experiment.pretrained else "random parameters",
        "optimiser": f"{experiment.optimizer}, learning rate {experiment.learning_rate:g}, {experiment.schedule}",
        "examples": f"{count_text(experiment.epochs, 'epoch')}, batch {experiment.batch}, seed {experiment.seed}"
        + (", altered at random" if experiment.augment else ""),
        "strategy": f"{job.strategy.name}, {job.framework}; did the replicas train together: "
        f"{result.sync_audit.verdict}",
        f"{tested} accuracy": "not measured" if result.held_out_accuracy is None else f"{result.held_out_accuracy:.1%}",
        "how the run ended": str(result.state),
    }
    lines = [
        *_head(run, evaluations),
        f"# {escaped(run.id)}",
        "",
        "A face recognition network: a picture of a face becomes an embedding, and pictures of one person have similar "
        "ones.",
        "",
        *table(("", ""), trained.items()),
        "",
        "## Intended use",
        "",
        "To tell whether two pictures show the same person, or who of a gallery a picture shows, where they are like "
        "the pictures below, where the people agreed to that, and where a person looks at what follows from it.",
        "",
        "Not for decisions about people that nobody looks at, nor for people who do not know of it. " + _OPEN,
        "",
        "## How well it recognises",
        "",
    ]
    lines += [line for evaluation in evaluations for line in _evaluation(evaluation, tested)] or [
        "It was not evaluated (`facesim evaluate`).",
        "",
    ]
    if earlier:
        lines += [
            f"Left out, because the model has changed since: evaluations on {count_text(len(earlier), 'data set')}.",
            "",
        ]
    lines += ["## Limits", "", *(f"- {escaped(limit)}" for limit in _limits(run, evaluations)), ""]
    lines += ["## Licence", "", _OPEN, "", f"Written by facesim {__version__} from the run's own records.", ""]
    return "\n".join(lines)


def data_card(run: Run, description: Description | None) -> str:
    """The card of the data that a run was trained on; `description` is None where the data is not there any more, or is
    another one.

    Raises:
        InputError: the run has no result, or its files cannot be read.
    """
    data, experiment = _result(run).data, run.job().experiment
    by_seed = f"{experiment.held_out:.0%} of each person's images, by seed {experiment.seed}"
    if experiment.split == "own":
        by_seed = f"the data's own split if it has one, or else {by_seed}"
    facts: dict[str, Any] = {
        "people": _count(data.identities),
        "images trained on": _count(data.training_examples),
        **_tested(data.held_out_examples, experiment),
        "what is held out": f"other data, {Path(experiment.test).name}" if experiment.test else by_seed,
        "not used": "; ".join(map(str, data.not_used)) or "nothing is left out",
        "sha256": data.content_sha256 or "not recorded",
    }
    if description is not None:
        height, width, channels = description.image_shape
        median = f"{description.images_per_identity_median:g}"
        groups = ", ".join(f"{group} {count}" for group, count in description.identities_of_group.items())
        facts |= {
            "images of a person": f"{description.images_per_identity_min} to {description.images_per_identity_max}, "
            f"median {median}",
            "prepared as": f"{width} x {height} pixels, {'grey' if channels == 1 else 'colour'}",
            "people by group": groups or "no groups are named",
            "exact duplicates": f"{description.duplicate_images:,}",
            "pairs that look the same": f"{description.near_duplicate_pairs:,}, of them trained on and tested "
            f"{description.near_duplicate_pairs_across_split:,}, of two people "
            f"{description.near_duplicate_pairs_across_identities:,}",
        }
    name = data.name or experiment.data
    lines = ["---", f"pretty_name: {_yaml(name)}", "tags:", "- face-recognition", "---", "", f"# {escaped(name)}", ""]
    lines += [*table(("", ""), facts.items()), ""]
    lines += [f"- {escaped(note)}" for note in data.notes] + [""] * bool(data.notes)
    if description is None:
        missing = "The data as it was in training was not at hand when this was written"
        lines += [f"{missing}: this is what the run recorded of it.", ""]
    for title in ("Where the images are from", "Who agreed to what", "Licence", "Intended use"):
        lines += [f"## {title}", "", _OPEN, ""]
    lines += [f"Written by facesim {__version__} from the run {escaped(run.id)}.", ""]
    return "\n".join(lines)


def _tested(examples: int | None, experiment: Experiment) -> dict[str, str]:
    """How many images a run was tested on, and which, where these are not what is held out."""
    if experiment.validation:
        validated = f"{experiment.validation:.0%} of each person's other images, by seed {experiment.seed}"
    elif experiment.test_part == "val":
        validated = "the part val of the data's own split"
    else:
        return {"images held out": _count(examples)}
    what = f"{validated}; what is held out was not used"
    return {"images validated on": _count(examples), "what is validated on": what}


def _result(run: Run) -> Result:
    result = run.result()
    if result is None:
        raise InputError(f"{run.directory} has no result yet; name a run that has completed")
    return result


def _head(run: Run, evaluations: Sequence[Evaluation]) -> list[str]:
    lines = ["---", "library_name: keras", "pipeline_tag: image-feature-extraction", "tags:"]
    lines += ["- face-recognition", "- face-verification", "- facesim"]
    verified = [(evaluation.title, evaluation.verification) for evaluation in evaluations if evaluation.verification]
    if verified:
        lines += ["model-index:", f"- name: {_yaml(run.id)}", "  results:"]
    for title, scores in verified:
        lines += [
            "  - task:",
            "      type: image-feature-extraction",
            "      name: face verification",
            "    dataset:",
            f"      type: {_yaml(title)}",
            f"      name: {_yaml(title)}",
            "    metrics:",
        ]
        for kind, value in (("accuracy", scores.accuracy), ("roc_auc", scores.auc)):
            lines += [f"    - type: {kind}", f"      value: {value:.4f}"]
    return [*lines, "---", ""]


def _evaluation(evaluation: Evaluation, tested: str) -> list[str]:
    seen = evaluation.identities_seen_in_training
    whom = "people trained on" if seen else "people not trained on"
    if seen is None:
        whom = "whether they were trained on is not known"
    scores, ranked = evaluation.verification, evaluation.identification
    lines = [f"### On {escaped(evaluation.title)} ({whom})", ""]
    if scores:
        lines.append(
            f"- Same person or not: right for {scores.accuracy:.1%} of pairs; AUC {scores.auc:.3f}; "
            f"{count_text(scores.genuine_pairs, 'pair')} of the same and {scores.impostor_pairs:,} of different people."
        )
    if closed := evaluation.closed_set:
        lines.append(
            f"- Which of the people trained on: right for {closed.accuracy:.1%} of "
            f"{count_text(closed.examples, f'{tested} image')}."
        )
    if ranked:
        lines.append(
            f"- Who of {count_text(ranked.gallery_identities, 'person')}: the first name is right for "
            f"{ranked.rank_1:.1%} of {count_text(ranked.probes, 'image')}."
        )
    lines += [f"- Not measured: {escaped(why)}." for why in (evaluation.left_out or {}).values()]
    lines.append("")
    strangers = ranked.open_set if ranked else None
    lines += _thresholds("two pictures", "of the same person pass", scores.calibration if scores else None)
    lines += _thresholds("a stranger looked for in a gallery", "of its people are found", strangers)
    return lines + _groups(evaluation)


def _network(model: str) -> str:
    own_model = OwnModel.find(model)
    return str(own_model._replace(path=Path(own_model.path).name)) if own_model else model


def _thresholds(what: str, passing: str, calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return []
    if not calibration.points:
        return [f"For {what} there are too few trials ({calibration.impostor_trials:,}) for a false accept rate.", ""]
    rows = [
        (f"{point.far:g}", f"{point.threshold:.3f}", f"{point.far_low:.2g} to {point.far_high:.2g}",
         f"{point.true_accept_rate:.1%}")
        for point in calibration.points
    ]  # fmt: skip
    header = (f"false accept rate, {what}", "threshold", "95 % interval of the rate", passing)
    return [
        *table(header, rows),
        "",
        f"By {count_text(calibration.impostor_trials, 'trial')} that should not pass.",
        "",
    ]


def _groups(evaluation: Evaluation) -> list[str]:
    groups = evaluation.groups
    if not groups:
        named_by = "the data" if evaluation.pairs is None else "a list of pairs"
        return [f"Error rates by group of people are not known: {named_by} names no groups.", ""]
    rows = [(what, rate.group, in_words(rate)) for what, rates in groups.rates.items() for rate in rates]
    warning = groups.warning
    return [
        *table(("errors", "group", "rate (95 % interval)"), rows),
        "",
        *([escaped(warning), ""] if warning else []),
    ]


def _limits(run: Run, evaluations: Sequence[Evaluation]) -> list[str]:
    limits = ["It finds no faces: a picture must show one, cut out as those that it was trained on."]
    if not evaluations:
        return [*limits, "How often it errs is not known."]
    verdict = reliance(run)
    if verdict is None or verdict.same_model is False:
        return [*limits, "How often it errs about whether two pictures show one person is not known."]
    if verdict.cannot_tell:
        limits.append(f"Do not use it: {verdict.cannot_tell}.")
    limits += [f"{caution[0].upper()}{caution[1:]}." for caution in verdict.cautions]
    if verdict.right:
        limits.append(f"{verdict.right[0].upper()}{verdict.right[1:]}.")
    return [*limits, "Thresholds are of the images that they were found on; with others evaluate it again."]


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else f"{number:,}"


def _yaml(text: str) -> str:
    """A text as YAML has it: JSON is YAML."""
    return json.dumps(printable(text), ensure_ascii=False)
