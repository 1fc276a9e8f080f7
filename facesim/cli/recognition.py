"""Commands that use a run's model: `evaluate`, `embed`, `verify`, `identify`, `sort`, `export`, `card`."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import job_options
from facesim.cli.output import echo, echo_json, padded
from facesim.cli.parsing import Choice, FilePath, Number, command
from facesim.cli.quiet import hush_tensorflow
from facesim.models.exporters import EXPORTERS
from facesim.runs.evaluations import Evaluation
from facesim.util.disk import writing_to
from facesim.util.errors import InputError, doing
from facesim.util.files import check_new, made_whole, write_bytes
from facesim.util.unused import printable
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.recognition.recognizer import Recognizer


#: Of so many strangers `sort` takes one for somebody of the gallery, unless told otherwise.
_SORTING_FAR = 0.01

#: As this `export` writes a model, unless told otherwise.
_EXPORTED = "keras"

#: How the people of an evaluation are called, by whether they were trained on; None where that is not known.
_SEEN = {True: ", people seen in training", None: ", people perhaps seen in training", False: ""}

_threshold = click.option(
    "--threshold", type=Number(-1, 1), help="cosine from which on it is one person  [default: of facesim evaluate]"
)


def _far(help: str) -> Callable[[Any], Any]:
    return click.option("--far", type=Number(0, 1, min_open=True), help=help)


def _recognizer(path: Path) -> Recognizer:
    """The model of the one run at `path`, not loaded yet."""
    from facesim import api

    return api.load(path).model(notice=_notice, before_loading=hush_tensorflow)


def _notice(text: str) -> None:
    echo(f"facesim: {text}", err=True)


@command()
@click.argument("run_directory", metavar="RUN", type=FilePath())
@click.argument("source", metavar="[DATA]", required=False)
@click.option("--pairs", type=FilePath(),
              help="list of pairs: LFW's pairs.txt, CALFW's, CPLFW's, a folder of CFP's (Protocol/Split/FP), or a CSV "
              "of first,second,same; DATA is then the folder of their images")  # fmt: skip
@click.option("--far", type=Number(0, 1), multiple=True,
              help="false accept rate at which to report the true accept rate; repeatable")  # fmt: skip
@click.option("--groups", type=FilePath(),
              help="CSV of label,group, for error rates by group  [default: the data's own groups]")  # fmt: skip
@job_options(only=("image_feature", "label_feature", "max_bad_files"))
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def evaluate(
    run_directory: Path,
    source: str | None,
    pairs: Path | None,
    far: tuple[float, ...],
    groups: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Report how well the model of RUN recognises: closed set, identification, verification, and by group of people.

    Without DATA on the run's own held-out images. With DATA (as --data of compare) on those people, by their embeddings
    alone: let them be people whom the model was not trained on.
    """
    evaluation = _recognizer(run_directory).evaluate(source, pairs=pairs, fars=far or None, groups=groups, **reading)
    if as_json:
        echo_json(evaluation)
        return
    echo("\n".join(_evaluation(evaluation)))


def _evaluation(evaluation: dict[str, Any]) -> list[str]:
    seen = _SEEN[evaluation.get("identities_seen_in_training")]
    lines = [f"{Evaluation.model_validate(evaluation).title}{seen}"]
    if scores := evaluation.get("closed_set"):
        lines.append(
            f"closed set       {scores['accuracy']:7.1%}  of "
            f"{count_text(scores['examples'], evaluation['tested'] + ' image')}, balanced "
            f"{scores['balanced_accuracy']:.1%}"
        )
    if scores := evaluation.get("identification"):
        cmc = scores["cmc"]
        ranks = ", ".join(f"rank {rank} {cmc[rank - 1]:.1%}" for rank in (5, 10) if rank < len(cmc))
        lines.append(
            f"identification   {scores['rank_1']:7.1%}  of {count_text(scores['probes'], 'probe')} among "
            f"{count_text(scores['gallery_identities'], 'person')}" + (f"; {ranks}" if ranks else "")
        )
        lines += [f"  DIR at {text}" for text in _points(scores["open_set"])] or [
            f"  too few images ({scores['probes']}) to tell how many strangers would be taken for somebody"
        ]
    if scores := evaluation.get("verification"):
        lines.append(
            f"verification     {scores['accuracy']:7.1%}  ± {scores['accuracy_se']:.1%} (standard error, "
            f"{scores['folds']} folds); AUC {scores['auc']:.4f} ({scores['auc_low']:.2f} to {scores['auc_high']:.2f}), "
            f"EER {scores['eer']:.1%}, "
            f"threshold {scores['threshold']:.3f}"
        )
        lines.append(
            f"                 {scores['genuine_pairs']} genuine and "
            f"{count_text(scores['impostor_pairs'], 'impostor pair')}"
        )
        lines += [f"  TAR at {text}" for text in _points(scores["calibration"])]
    lines += [f"{protocol:17}not measured: {why}" for protocol, why in evaluation.get("left_out", {}).items()]
    if by_group := evaluation.get("groups"):
        from facesim.recognition.groups import in_words

        for what, rates in by_group["rates"].items():
            lines.append(f"errors by group, {what}")
            told = [f"  {padded(rate['group'], 20)}{in_words(rate)}" for rate in rates]
            lines += told or ["  no trial within a group"]
        lines += [by_group["warning"]] if by_group.get("warning") else []
    return lines


def _points(calibration: dict[str, Any]) -> list[str]:
    return [
        f"FAR {point['far']:<6g}{point['true_accept_rate']:7.1%}, threshold {point['threshold']:.3f} (FAR "
        f"{point['far_low']:.2g} to {point['far_high']:.2g} by {count_text(calibration['impostor_trials'], 'trial')})"
        for point in calibration["points"]
    ]


@command()
@click.argument("run_directory", metavar="RUN", type=FilePath())
@click.argument("images", nargs=-1, required=True, type=FilePath())
@click.option("--output", type=FilePath(), default=Path("embeddings.npz"), show_default=True,
              help="npz file of embeddings and paths; it must not exist")  # fmt: skip
def embed(run_directory: Path, images: tuple[Path, ...], output: Path) -> None:
    """Write the embeddings of IMAGES, files or folders of them, by the model of RUN."""
    import numpy as np

    from facesim.recognition.photographs import image_files

    if output.suffix != ".npz":
        raise InputError(f"--output {printable(str(output))} must end in .npz, the format that is written")
    check_new(output)
    files = image_files(images, _notice)
    embeddings = _recognizer(run_directory).embed(files)
    content = io.BytesIO()
    np.savez(content, embeddings=embeddings, paths=[printable(str(file)) for file in files])
    with doing(f"write {output}", "name another file with --output"), writing_to(output.parent):
        write_bytes(output, content.getvalue())
    echo(f"{output}: {count_text(embeddings.shape[0], 'embedding')} of {count_text(embeddings.shape[1], 'dimension')}")


@command()
@click.argument("run_directory", metavar="RUN", type=FilePath())
@click.argument("first", metavar="A", type=FilePath())
@click.argument("second", metavar="B", type=FilePath())
@_far("take the threshold for this false accept rate: so many of different people pass for the same one")
@_threshold
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def verify(
    run_directory: Path, first: Path, second: Path, far: float | None, threshold: float | None, as_json: bool
) -> None:
    """Decide whether the images A and B show the same person, by the model of RUN.

    Without --threshold by the one of the newest `facesim evaluate RUN` on people whom the model was not trained on, or
    else of the newest: the best one, or that for --far. There is no answer where the model was not found to tell
    people apart.
    """
    answer = _recognizer(run_directory).verify(first, second, threshold, far)
    if as_json:
        echo(json.dumps(answer.to_json()))
        return
    against = "" if answer.threshold is None else f", threshold {answer.threshold:.3f}"
    echo("\n  ".join([f"{answer.verdict}; similarity {answer.similarity:.3f}{against}", *answer.notes]))


@command()
@click.argument("run_directory", metavar="RUN", type=FilePath())
@click.argument("gallery", type=FilePath())
@click.argument("probe", nargs=-1, required=True, type=FilePath())
@_far("it may be nobody of the gallery: so many strangers are taken for somebody of it")
@_threshold
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def identify(
    run_directory: Path,
    gallery: Path,
    probe: tuple[Path, ...],
    far: float | None,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Name the person of the GALLERY, a folder for each person, that each PROBE image shows, by the model of RUN.

    How often it is right, and the threshold for --far, is taken from `facesim evaluate RUN`, as for `verify`.
    """
    from facesim.recognition.photographs import Gallery, image_files

    known, files = Gallery.read(gallery, _notice), image_files(probe, _notice)
    answers = _recognizer(run_directory).identify(known, files, threshold, far)
    if as_json:
        echo_json([answer.to_json() for answer in answers])
        return
    for answer in answers:
        people = ", ".join(f"{name} {similarity:.3f}" for name, similarity in answer.closest)
        if answer.identity is None:
            people = f"nobody of the gallery; closest are {people}; threshold {answer.threshold:.3f}"
        elif answer.like_enough is False:
            people += "; less than the threshold, so perhaps none of them"
        echo(f"{answer.probe}: {people}")
    why_not, notes = answers[0].cannot_tell, answers[0].notes  # the same for all
    echo("\n  ".join([f"cannot tell: {why_not}" if why_not else "how far to rely on that:", *notes]))


def _register(run_directory: Path, group: str, region: str | None) -> None:
    from facesim.backends.sagemaker.model_registry import register
    from facesim.backends.sagemaker.session import Account
    from facesim.runs.directory import Run

    run = Run.open(run_directory)
    account = Account(region or getattr(run.job().backend, "region", None))
    with tempfile.TemporaryDirectory() as folder:
        _recognizer(run_directory).export(saved_model := Path(folder, "model"), "savedmodel")
        echo(register(run, saved_model, group, account))


@command()
@click.argument("run_directory", metavar="RUN", type=FilePath())
@click.argument("gallery", type=FilePath())
@click.argument("photos", nargs=-1, required=True, type=FilePath())
@click.option("--output", type=FilePath(), default=Path("sorted"), show_default=True,
              help="folder that is made; it must not exist")  # fmt: skip
@_far("so many strangers are taken for somebody of the gallery  [default: 0.01]")
@_threshold
@click.option("--links", is_flag=True, help="make links to the photographs in place of copies")
@click.option("--dry-run", is_flag=True, help="show each decision and write nothing")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def sort(
    run_directory: Path,
    gallery: Path,
    photos: tuple[Path, ...],
    output: Path,
    far: float | None,
    threshold: float | None,
    links: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Sort PHOTOS, files or folders of them, by person of the GALLERY, a folder for each, by the model of RUN.

    Each person has a folder in OUTPUT/people. Who is nobody of the gallery is in OUTPUT/unknown, in a folder of its own
    where there are several photographs. OUTPUT/decisions.csv has each decision. The photographs themselves stay where
    they are. The threshold is from `facesim evaluate RUN`, as for `identify`. Let each photograph show one face, cut
    out as those that the model was trained on.
    """
    far = _SORTING_FAR if far is None and threshold is None else far
    sorting = _recognizer(run_directory).sort(gallery, photos, None if dry_run else output, threshold, far, links)
    if as_json:
        echo_json(sorting.to_json())
        return
    for decision in sorting.decisions if dry_run else sorting.left_out:
        similarity = "" if decision.similarity is None else f" ({decision.closest} {decision.similarity:.3f})"
        echo(f"{printable(str(decision.photo))}: {decision.verdict}{similarity}")
    for folder, count in sorting.counts.items():
        echo(f"{count:6,}  {folder}")
    where = "nothing is written" if dry_run else f"{output / 'decisions.csv'} has each decision"
    echo("\n  ".join([f"{where}; how far to rely on that:", *sorting.basis.notes]))


@command()
@click.argument("run_directory", metavar="RUN", type=FilePath())
@click.option("--format", "kind", type=Choice(list(EXPORTERS)),
              help="file for Keras, ONNX or LiteRT, or folder for TensorFlow and its servers  "
              f"[default: {_EXPORTED}]")  # fmt: skip
@click.option("--output", type=FilePath(), help="[default: face-model.keras, face-model.onnx, ...]")
@click.option("--registry", metavar="GROUP", help="register it at AWS, as a version of this group of SageMaker's Model "
              "Registry, in place of writing it here")  # fmt: skip
@click.option("--region", help="AWS region of the registry  [default: as the run, or AWS' own tools are configured]")
def export(
    run_directory: Path, kind: str | None, output: Path | None, registry: str | None, region: str | None
) -> None:
    """Write the model of RUN for use without facesim: images in, embedding, logits and probabilities out.

    The names of the people, in the order of the logits, are written with it. The model takes pixels as they are; its
    input is described in the file itself where the format has room for that (onnx, litert).
    """
    if registry is not None:
        if kind is not None or output is not None:
            raise click.UsageError(
                "--format and --output are of what is written here, and with --registry nothing is: leave them out"
            )
        return _register(run_directory, registry, region)
    if region is not None:
        raise click.UsageError("--region is of the registry at AWS: give --registry, too, or leave it out")
    kind = kind or _EXPORTED
    written = _recognizer(run_directory).export(output or f"face-model{EXPORTERS[kind].suffix}", kind)
    height, width, channels = written.image_shape
    echo(
        f"{written.path}: {width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}, uint8, to embeddings of "
        f"{count_text(written.dimensions, 'dimension')} and {count_text(len(written.names), 'person')}"
    )


@command()
@click.argument("run_directory", metavar="RUN", type=FilePath())
@click.option("--output", type=FilePath(), default=Path("cards"), show_default=True,
              help="folder that is made; it must not exist")  # fmt: skip
def card(run_directory: Path, output: Path) -> None:
    """Write a model card and a data card of RUN in Markdown, as those who get the model need them.

    The model card has the results of every `facesim evaluate RUN`: thresholds, error rates by group of people, limits.
    It begins as the Hugging Face Hub reads it. What only you can know is left open.
    """
    from facesim.data import describe
    from facesim.preflight.inputs import prepare_data
    from facesim.preflight.lineage import is_as_trained
    from facesim.report.card import data_card, model_card
    from facesim.runs.directory import find_run

    check_new(output)
    run = find_run(run_directory)
    cards, description = {"model-card.md": model_card(run)}, None
    try:
        job = run.job()
        data = prepare_data(job, lambda *_: None)
        if not is_as_trained(run, data):
            raise InputError(f"{data.name} has changed since the model was trained")
        description = describe(data, job.experiment.data_spec)
    except InputError as error:
        _notice(f"the data card has only what the run recorded: {error}")
    cards["data-card.md"] = data_card(run, description)
    with doing(f"write {output}", "name another place"), writing_to(output.parent), made_whole(output) as new:
        new.mkdir()
        for name, text in cards.items():
            (new / name).write_text(text, encoding="utf-8")
    echo("\n".join(str(output / name) for name in cards))
