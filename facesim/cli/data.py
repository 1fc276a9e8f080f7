"""Commands about images: `data render`, `data align`, `data describe`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import DATA, job_options
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import FilePath, Number, group
from facesim.cli.quiet import hush_tensorflow
from facesim.util.errors import doing
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.data import Description
    from facesim.data.alignment import Faces
    from facesim.data.describe import Sizes
    from facesim.data.rendering import Progress
    from facesim.spec.job import Job

#: Fewer images are done before one would look at a progress bar.
_MANY = 20_000

#: Suspected pairs, and unreadable files, that are shown as text.
_SHOWN = 20


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    """A bar on standard error, and what moves it."""
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def progress(_: str, done: int, due: int) -> None:
            bar.length = due
            bar.update(done - bar.pos)

        yield progress


@group()
def data() -> None:
    """Images to train on."""


@data.command("render")
@click.argument("out", type=FilePath())
@click.option("--identities", default=29, show_default=True, help="people")
@click.option("--images", default=15, show_default=True, help="images of each")
@click.option("--size", default=64, show_default=True, help="height and width in pixels")
@click.option("--difficulty", default=0.65, show_default=True, help="0 passport photographs .. 1 anything goes")
@click.option("--wild", default=0.0, show_default=True,
              help="0 .. 1 more pose, light, misplacement; a poor camera: colours, blur, grain, JPEG")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="which people")
def render(out: Path, **options: Any) -> None:
    """Write rendered faces as an image folder OUT, a folder of PNG files for each person."""
    from facesim.data import RenderSpec, render_folder

    spec = RenderSpec(**options)
    with (
        doing(f"write images into {out}", "name a folder with room for them"),
        click.progressbar(length=spec.identities * spec.images, label=f"rendering into {out}", file=sys.stderr) as bar,
    ):
        render_folder(spec, out, lambda _, done, __: bar.update(done - bar.pos))


@data.command("align")
@click.argument("source", metavar="IN", type=FilePath())
@click.argument("out", type=FilePath())
@click.option("--detector", default="mtcnn", show_default=True, help="what finds faces; also a file, detector.onnx")
@click.option("--size", type=click.IntRange(32, 512), default=112, show_default=True, help="height and width in pixels")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def align(source: Path, out: Path, detector: str, size: int, as_json: bool) -> None:
    """Cut the faces out of a folder of people IN, all alike, into the same folders in OUT.

    Eyes, nose and mouth are found, and each picture is turned, scaled and shifted so that they lie where ArcFace's
    template has them. Images without a face that is found are left out, and listed.
    """
    from dataclasses import asdict

    from facesim.data.alignment import align_folder, in_lines
    from facesim.data.detectors import detector_called

    hush_tensorflow()
    detect = detector_called(detector)
    with (
        doing(f"write images into {out}", "name a folder with room for them"),
        _bar(f"aligning into {out}") as progress,
    ):
        aligned = align_folder(source, out, detect, size, progress)
    if as_json:
        echo_json(asdict(aligned))
        return
    for line in in_lines(aligned):
        echo(line)


@data.command("describe")
@click.argument("source")
@job_options(only=(*DATA, "seed"))
@click.option("--near", default=0.09, show_default=True, type=Number(0, 0.5),
              help="share of a perceptual hash in which images that look the same may differ")  # fmt: skip
@click.option("--detector", help="also count faces in the images of a folder, found by this, such as mtcnn")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def describe(source: str, near: float, detector: str | None, as_json: bool, **options: Any) -> None:
    """Describe the data set SOURCE: identities, images of each, unreadable files, suspected duplicates."""
    from dataclasses import asdict

    from facesim.data import describe as describe_data
    from facesim.data.alignment import count_faces
    from facesim.data.describe import original_sizes
    from facesim.data.detectors import detector_called
    from facesim.preflight.inputs import prepare_data
    from facesim.spec.job import make_job

    if detector:
        hush_tensorflow()
    detect = detector_called(detector) if detector else None
    job = make_job(data=source, **options)
    spec = job.experiment.data_spec
    prepared = prepare_data(_however_bad(job), lambda *_: None)
    if len(prepared.labels) < _MANY:
        description = describe_data(prepared, spec, near)
    else:
        with click.progressbar(length=len(prepared.labels), label="looking for duplicates", file=sys.stderr) as bar:
            description = describe_data(prepared, spec, near, lambda done, _: bar.update(done - bar.pos))
    features = (job.experiment.image_feature, job.experiment.label_feature)
    sizes = original_sizes(source, job.experiment.image_size, *features)
    faces = None
    if detect:
        with _bar("looking for faces") as progress:
            faces = count_faces(Path(source), detect, progress, *features)
    if as_json:
        face_counts = {} if faces is None else {"faces": asdict(faces)}
        echo_json({**asdict(description), "original_sizes": sizes and asdict(sizes), **face_counts})
        return
    for line in [*_description(description, sizes), *(_faces_in_lines(faces) if faces else [])]:
        echo(line)


def _however_bad(job: Job) -> Job:
    """A job as this one that reads its data however many files cannot be read."""
    return job.model_copy(update={"experiment": job.experiment.model_copy(update={"max_bad_files": 1.0})})


def _faces_in_lines(faces: Faces) -> list[str]:
    counts = (
        f"one in {count_text(faces.one, 'image')}, several in {len(faces.several):,}, none in {len(faces.without):,}"
    )
    lines = [f"{'faces':26}{counts}"]
    for what, paths in (("several faces", faces.several), ("no face", faces.without)):
        lines += [f"{what}: {path}" for path in paths[:_SHOWN]]
    return lines


def _description(description: Description, sizes: Sizes | None) -> list[str]:
    per_identity = f"{description.images_per_identity_min} to {description.images_per_identity_max}"
    height, width, channels = description.image_shape
    facts = {
        "name": description.name,
        "identities": f"{description.identities:,}",
        "images": f"{description.images:,}",
        "images of an identity": f"{per_identity}, median {description.images_per_identity_median:g}",
        "the files' own size": "not files of images" if sizes is None else _sizes(sizes),
        "prepared as": f"{width} x {height} pixels, {'grey' if channels == 1 else 'colour'}",
        "groups": ", ".join(f"{group} {count}" for group, count in description.identities_of_group.items())
        or "none named",
        "exact duplicates": f"{description.duplicate_images:,}",
        "pairs that look the same": f"{description.near_duplicate_pairs:,}",
        "  trained on and tested": f"{description.near_duplicate_pairs_across_split:,}",
        "  of two identities": f"{description.near_duplicate_pairs_across_identities:,}",
        "unreadable files": f"{len(description.bad_files):,}",
        "not used": "nothing is left out"
        if not description.unused
        else f"for {_reasons(len(description.unused))}, see below",
        "sha256": description.sha256,
    }
    lines = [f"{name:26}{value}" for name, value in facts.items()]
    lines += [f"a training refuses this: {description.refused}"] if description.refused else []
    lines += [f"note: {note}" for note in description.notes]
    lines += [f"not used: {one}" for one in description.unused]
    lines += [f"unreadable: {bad.path}: {bad.reason}" for bad in description.bad_files[:_SHOWN]]
    for pair in description.suspects[:_SHOWN]:
        names = (pair.first_identity, pair.second_identity)
        remarks = [
            "identical" if pair.identical else f"distance {pair.distance:.3f}",
            *(["one is a crop of the other"] if pair.cropped else []),
            *(["trained on and tested"] if pair.across_split else []),
            *([f"one labelled {names[0]}, the other {names[1]}"] if pair.across_identities else []),
        ]
        lines.append(f"look the same: {pair.first} and {pair.second} ({', '.join(remarks)})")
    if max(len(description.suspects), len(description.bad_files)) > _SHOWN:
        lines.append(f"of each the first {_SHOWN} are shown; more with --json")
    return lines


def _reasons(count: int) -> str:
    return count_text(count, "reason")


def _sizes(sizes: Sizes) -> str:
    (narrow, width, wide), (low, height, high) = sizes.width, sizes.height
    text = f"{width:g} x {height:g} pixels"
    if (narrow, low) != (wide, high):
        text = f"{narrow} x {low} to {wide} x {high} pixels, median {width:g} x {height:g}"
    return text + (f"; {sizes.scaled_up:,} are scaled up" if sizes.scaled_up else "")
