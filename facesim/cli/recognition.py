"""Commands that use a run's model: `evaluate`, `embed`, `verify`, `identify`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim import unused
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice, Number, command
from facesim.cli.quiet import hush_tensorflow
from facesim.disk import writing_to
from facesim.errors import FacesimError, InputError, doing
from facesim.files import open_regular, why_unread, write_bytes
from facesim.unused import Unused, printable

if TYPE_CHECKING:
    from facesim.data.prepare import PreparedData
    from facesim.recognition.embedding import Recogniser
    from facesim.runs.directory import Run
    from facesim.spec.job import Job


def _recogniser(path: Path) -> tuple[Run, Recogniser]:
    """The one run at `path` and its model."""
    from facesim.runs.directory import find_run

    run = find_run(path)
    try:
        open_regular(run.model_file).close()  # before TensorFlow is loaded, which takes seconds
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run.directory} has no model: {run.model_file.name}: {why_unread(error)}; name a run that has completed"
        ) from None
    hush_tensorflow()
    from facesim.recognition.embedding import Recogniser

    return run, Recogniser(run)


@command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("source", metavar="[DATA]", required=False)
@click.option("--pairs", type=click.Path(path_type=Path), help="pairs file of LFW's; DATA is then LFW's folder")
@click.option("--far", type=Number(0, 1), multiple=True,
              help="false accept rate at which to tell the true accept rate; repeatable")  # fmt: skip
@click.option("--groups", type=click.Path(path_type=Path),
              help="CSV of label,group, for error rates by group  [default: the data's own groups]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def evaluate(
    run_directory: Path,
    source: str | None,
    pairs: Path | None,
    far: tuple[float, ...],
    groups: Path | None,
    as_json: bool,
) -> None:
    """Say how well the model of RUN recognises: closed set, identification, verification, and by group of people.

    Without DATA on the run's own held-out images. With DATA (as --data of compare) on those people, by their embeddings
    alone: let them be people whom the model was not trained on.
    """
    from facesim.inputs import prepare_data
    from facesim.runs.records import Evaluation

    if pairs and not source:
        raise InputError(f"--pairs {pairs} needs DATA, the folder of LFW's images that it names")
    if pairs and groups:
        raise InputError(f"--groups {groups} does not go with --pairs, whose people it does not know")
    run, recogniser = _recogniser(run_directory)
    from facesim.recognition.assess import assess_lfw, assess_others, assess_own
    from facesim.recognition.groups import with_groups
    from facesim.recognition.reliance import mark

    job = run.job()
    fars = far or None

    def prepared(job: Job) -> PreparedData:
        data = prepare_data(job, lambda *_: None)
        return with_groups(data, groups) if groups else data

    if pairs:
        found = assess_lfw(recogniser, pairs, Path(source), fars)
    elif source is None or source == job.experiment.data:
        found = assess_own(recogniser, prepared(job), fars)
    else:
        other = job.model_copy(
            update={"experiment": job.experiment.model_copy(update={"data": source, "subset": None})}
        )
        found = assess_others(recogniser, prepared(other), fars)
    found = mark(run, found)
    unkept = None
    try:
        with writing_to(run.directory, "make room there"):
            run.keep_evaluation(Evaluation.model_validate(found))
    except FacesimError as error:  # what there is to say can be shown nevertheless
        unkept = error
    if as_json:
        echo_json(found)
    else:
        echo("\n".join(_evaluation(found)))
    if unkept:
        raise unkept


def _evaluation(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['data']}{', people seen in training' if found.get('identities_seen_in_training') else ''}"]
    if own := found.get("closed_set"):
        lines.append(
            f"closed set       {own['accuracy']:7.1%}  of {own['examples']} held-out images, "
            f"balanced {own['balanced_accuracy']:.1%}"
        )
    if own := found.get("identification"):
        cmc = own["cmc"]
        ranks = ", ".join(f"rank {rank} {cmc[rank - 1]:.1%}" for rank in (5, 10) if rank < len(cmc))
        lines.append(
            f"identification   {own['rank_1']:7.1%}  of {own['probes']} probes among {own['gallery_identities']} people"
            + (f"; {ranks}" if ranks else "")
        )
    own = found["verification"]
    lines.append(
        f"verification     {own['accuracy']:7.1%}  ± {own['accuracy_se']:.1%} (standard error, {own['folds']} folds); "
        f"AUC {own['auc']:.4f} ({own['auc_low']:.2f} to {own['auc_high']:.2f}), EER {own['eer']:.1%}, "
        f"threshold {own['threshold']:.3f}"
    )
    lines.append(f"                 {own['genuine_pairs']} genuine and {own['impostor_pairs']} impostor pairs")
    lines += [f"  TAR at FAR {far:5}{tar:8.1%}" for far, tar in own["tar_at_far"].items()]
    if by_group := found.get("groups"):
        from facesim.recognition.groups import told

        for what, rates in by_group["rates"].items():
            lines.append(f"errors by group, {what}")
            lines += [f"  {rate['group']:20}{told(rate)}" for rate in rates]
        lines += [by_group["warning"]] if by_group["warning"] else []
    return lines


@command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("embeddings.npz"), show_default=True,
              help="npz file of embeddings and paths")  # fmt: skip
def embed(run_directory: Path, images: tuple[Path, ...], output: Path) -> None:
    """Write the embeddings of IMAGES, files or folders of them, by the model of RUN."""
    import numpy as np

    if output.suffix != ".npz":
        raise InputError(f"--output {printable(str(output))} must end in .npz, the format that is written")
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output.absolute().parent} is no folder; make it, or name another with --output")
    files = _image_files(images)
    _, recogniser = _recogniser(run_directory)
    embeddings = recogniser.embed(recogniser.read(files))
    content = io.BytesIO()
    np.savez(content, embeddings=embeddings, paths=[printable(str(file)) for file in files])
    with writing_to(output.parent), doing(f"write {output}", "name another file with --output"):
        write_bytes(output, content.getvalue())
    echo(f"{output}: {embeddings.shape[0]} embeddings of {embeddings.shape[1]} dimensions")


def _image_files(paths: tuple[Path, ...]) -> list[Path]:
    """The image files that `paths` name, folders searched through, in order."""
    files = [file for path in paths for file in (_images_below(path) if os.path.isdir(path) else [path])]
    if not files:
        named = printable(", ".join(map(str, paths)))
        raise InputError(f"no images in {named}; name image files or folders of them")
    return files


def _images_below(folder: Path) -> Sequence[Path]:
    from facesim.data.walk import walk

    walked = walk(folder)
    _tell(folder, walked.unused)
    return walked.images


def _tell(folder: Path, left_out: Sequence[Unused], notes: Sequence[str] = ()) -> None:
    """Say on stderr what of a folder is not used, and how it was read."""
    for text in (*([f"not used: {unused.told(left_out)}"] if left_out else []), *notes):
        echo(f"facesim: {printable(str(folder))}: {text}", err=True)


@command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--threshold", type=Number(-1, 1), help="cosine from which on it is one person  [default: of facesim evaluate]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def verify(run_directory: Path, first: Path, second: Path, threshold: float | None, as_json: bool) -> None:
    """Say whether the images A and B show the same person, by the model of RUN.

    Without --threshold by the one of the newest `facesim evaluate RUN` on people whom the model was not trained on, or
    else of the newest. There is no answer where the model was not found to tell people apart.
    """
    run, recogniser = _recogniser(run_directory)
    from facesim.recognition.reliance import reliance

    one, other = recogniser.embed(recogniser.read([first, second]))
    similarity, found = float(one @ other), reliance(run)
    why_not = found.cannot_tell if found else None
    notes = [f"{run.directory} was not evaluated: run facesim evaluate {run.directory} DATA"]
    if threshold is not None:
        same: bool | None = similarity >= threshold
        verdict = f"{'the same person' if same else 'different people'}, if the threshold that was given is right"
        notes = ["how often the given threshold errs is not known", *([why_not] if why_not else [])]
    elif found is None:
        same, verdict = None, "for an answer give --threshold or evaluate the model"
    else:
        threshold, notes = found.threshold, [found.origin, *found.cautions]
        same = None if why_not else similarity >= threshold
        verdict = f"cannot tell: {why_not}" if why_not else "the same person" if same else "different people"
    if as_json:
        told = {"similarity": similarity, "threshold": threshold, "same": same, "cannot_tell": why_not}
        echo(json.dumps({**told, "evaluation": found and found.to_json(), "notes": notes}))
        return
    against = "" if threshold is None else f", threshold {threshold:.3f}"
    echo("\n  ".join([f"{verdict}; similarity {similarity:.3f}{against}", *notes]))


@command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("gallery", type=click.Path(path_type=Path))
@click.argument("probe", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def identify(run_directory: Path, gallery: Path, probe: tuple[Path, ...], as_json: bool) -> None:
    """Say who of the GALLERY, a folder for each person, each PROBE image shows, by the model of RUN.

    How often it is right is told from `facesim evaluate RUN`, as for `verify`.
    """
    import numpy as np

    from facesim.data.layouts import look_through
    from facesim.recognition.protocols import likeness
    from facesim.recognition.reliance import reliance

    found, files = look_through(gallery), _image_files(probe)
    examples = found.examples
    _tell(gallery, found.unused, found.notes)
    names = sorted({example.identity for example in examples})
    if len(names) < 2:
        raise InputError(f"the gallery {gallery} shows only {names[0]}; it takes two people to tell one from the other")
    run, recogniser = _recogniser(run_directory)
    labels = np.array([names.index(example.identity) for example in examples])
    known = recogniser.embed(recogniser.read([example.path for example in examples]))
    alike = likeness(known, labels, recogniser.embed(recogniser.read(files)))
    evaluated = reliance(run)
    why_not = evaluated.cannot_identify if evaluated else None
    ranked = [
        {
            "probe": printable(str(file)),
            "likest": [{"identity": names[at], "similarity": float(own[at])} for at in np.argsort(-own)[:3]],
            "like_enough": None if evaluated is None or why_not else bool(own.max() >= evaluated.threshold),
            "cannot_tell": why_not,
        }
        for file, own in zip(files, alike)
    ]
    notes = [f"how often that is right is not known: run facesim evaluate {run.directory} DATA"]
    if evaluated:
        notes = [*([evaluated.right] if evaluated.right else []), evaluated.origin, *evaluated.cautions]
    if as_json:
        evaluation = evaluated and evaluated.to_json()
        echo_json([{**entry, "evaluation": evaluation, "notes": notes} for entry in ranked])
        return
    for entry in ranked:
        told = ", ".join(f"{each['identity']} {each['similarity']:.3f}" for each in entry["likest"])
        stranger = "; less than the threshold, so perhaps none of them" if entry["like_enough"] is False else ""
        echo(f"{entry['probe']}: {told}{stranger}")
    echo("\n  ".join([f"cannot tell: {why_not}" if why_not else "how far to rely on that:", *notes]))


@command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=Choice(["keras", "savedmodel"]), default="keras", show_default=True,
              help="one file for Keras, or a folder for TensorFlow and its servers")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="[default: face-model.keras, or face-model]")
def export(run_directory: Path, kind: str, output: Path | None) -> None:
    """Write the model of RUN for use without facesim: images in, embedding, logits and probabilities out.

    The names of the people, in the order of the logits, are written with it.
    """
    from facesim.inputs import prepare_data

    output = output or Path("face-model.keras" if kind == "keras" else "face-model")
    if kind == "keras" and output.suffix != ".keras":
        raise InputError(f"--output {output} must end in .keras, by which Keras knows the format")
    if output.exists():
        raise InputError(f"{output} already exists; name another with --output")
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output.absolute().parent} is no folder; make it, or name another with --output")
    run, recogniser = _recogniser(run_directory)
    try:
        names = prepare_data(run.job(), lambda *_: None).names
    except InputError as error:
        names = ()
        echo(f"facesim: people have numbers in place of names: {error}", err=True)
    if len(names) != recogniser.identities:
        names = [str(number) for number in range(recogniser.identities)]
    from facesim.models.export import portable, write_keras, write_savedmodel

    experiment = recogniser.experiment
    model = portable(recogniser.model, experiment.model, experiment.mirror_test)
    with writing_to(output.parent), doing(f"write {output}", "name another place with --output"):
        (write_keras if kind == "keras" else write_savedmodel)(model, names, output)
    height, width, channels = model.input_shape[1:]
    echo(
        f"{output}: {width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}, uint8, to embeddings of "
        f"{model.outputs[0].shape[-1]} dimensions and {len(names)} people"
    )
