"""The command line. It imports little, so that `--help` is instant: what a command needs is imported when it runs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim import __version__
from facesim.backends import BACKENDS
from facesim.errors import FacesimError, InputError
from facesim.models import HEADS, MODELS
from facesim.recipes import RECIPES
from facesim.training import STRATEGIES

if TYPE_CHECKING:
    from facesim.baselines import Score
    from facesim.job import Job
    from facesim.recognition.embedding import Recogniser
    from facesim.run import Run

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        return facesim.main(arguments, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FacesimError as error:
        click.secho(f"facesim: {error}", fg="red", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.secho("facesim: interrupted", fg="yellow", err=True)
        return INTERRUPTED


class _CompareByDefault(click.Group):
    """A group whose options alone mean the command `compare`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["compare", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_CompareByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="facesim")
def facesim() -> None:
    """Train the same face recognition on one machine and on a cluster, and compare both honestly.

    Without a command: `compare`, the study of one process against a parameter-server cluster. `facesim compare --help`
    shows its options.
    """


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Let a TOML file give the defaults of the command's options."""
    if path is None:
        return
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"--config {path} cannot be read as TOML: {error}") from None
    settings = {name.replace("-", "_"): value for name, value in content.items()}
    known = {option.name for option in ctx.command.params} - {"config", "dry_run", "as_json"}
    unknown = sorted(settings.keys() - known)
    if unknown:
        raise InputError(f"--config {path}: unknown {', '.join(unknown)}; allowed are {', '.join(sorted(known))}")
    ctx.default_map = settings


def _job_options(default_strategies: list[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that describe jobs. What is left out is `facesim.job`'s default."""
    file = click.Path(path_type=Path)
    options = [
        click.option("--backend", type=click.Choice(list(BACKENDS)), default="local", show_default=True,
                     help="where to run"),
        click.option("--data", help="rendered (default), olivetti, lfw, or a folder, .npz or .csv of images"),
        click.option("--strategy", type=click.Choice(list(STRATEGIES)), multiple=True, default=default_strategies,
                     show_default=True, help="how replicas train together; repeatable"),
        click.option("--recipe", type=click.Choice(list(RECIPES)),
                     help="defaults of model, head, optimiser, ... (facesim recipes)  [default: paper]"),
        click.option("--model", type=click.Choice(list(MODELS)), help="network (facesim models)  [default: paper-cnn]"),
        click.option("--head", type=click.Choice(list(HEADS)), help="from features to logits  [default: softmax]"),
        click.option("--margin", type=float, help="cosface: cosine, arcface: radians  [default: 0.2]"),
        click.option("--margin-scale", type=float, help="what cosines are multiplied with  [default: 30]"),
        click.option("--label-smoothing", type=float, help="share of the truth spread over everybody  [default: 0]"),
        click.option("--workers", type=int, help="workers of a distributed strategy  [default: 2]"),
        click.option("--ps", type=int, help="parameter servers  [default: 1]"),
        click.option("--backup-workers", type=int, help="ps-sync: workers that may come too late  [default: 0]"),
        click.option("--local-steps", type=int, help="local-sgd: steps between averagings  [default: 8]"),
        click.option("--threads", type=int, help="threads of a task for one operation  [default: a fair share]"),
        click.option("--epochs", type=int, help="times that every training example is seen  [default: 50]"),
        click.option("--batch", type=int, help="examples in one update  [default: 32]"),
        click.option("--learning-rate", type=float, help="Adam's learning rate  [default: 0.0001]"),
        click.option("--schedule", type=click.Choice(["constant", "cosine"]), help="of the rate  [default: constant]"),
        click.option("--warmup", type=float, help="share of updates in which a cosine rate rises  [default: 0.05]"),
        click.option("--weight-decay", type=float, help="AdamW's weight decay; 0 is Adam  [default: 0]"),
        click.option("--clip-norm", type=float, help="bound of the whole gradient's norm  [default: none]"),
        click.option("--augment/--no-augment", default=None, help="alter training images at random  [default: no]"),
        click.option("--mirror-test/--no-mirror-test", default=None,
                     help="test on each image and its mirror image, averaged  [default: no]"),
        click.option("--scale-lr", type=click.Choice(["none", "linear", "sqrt"]),
                     help="with the workers of an update, --batch being each one's  [default: none]"),
        click.option("--warmup-epochs", type=int, help="epochs until a scaled rate is reached  [default: 5]"),
        click.option("--precision", type=click.Choice(["float32", "bfloat16"]), help="compute in  [default: float32]"),
        click.option("--cache", type=click.Choice(["memory", "disk"]),
                     help="where tasks keep decoded images  [default: memory]"),
        click.option("--image-size", type=int, help="height and width in pixels  [default: 64]"),
        click.option("--held-out", type=float, help="share of an identity's images kept for testing  [default: 0.2]"),
        click.option("--max-bad-files", type=float, help="share of files that may be unreadable  [default: 0.05]"),
        click.option("--min-images", type=int, help="leave out identities with fewer images  [default: none; lfw: 15]"),
        click.option("--evaluate-every", type=int, help="epochs between evaluations  [default: 1]"),
        click.option("--seeds", type=click.IntRange(1), default=1, show_default=True,
                     help="runs of each strategy, with seeds 0, 1, ...; an accuracy statement needs 3"),
        click.option("--instance-type", help="SageMaker instance whose price is used  [default: ml.m5.2xlarge]"),
        click.option("--sampling-s", type=float, help="seconds between resource samples  [default: 1]"),
        click.option("--output", type=file, default=Path("runs"), show_default=True,
                     help="folder for run directories and report"),
        click.option("--config", type=file, is_eager=True, expose_value=False, callback=_read_config,
                     help="TOML file with any of these options; flags win over it"),
        click.option("--dry-run", is_flag=True, help="print the exact processes, TF_CONFIGs and files; start nothing"),
        click.option("--json", "as_json", is_flag=True, help="print JSON for machines in place of text"),
    ]  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@facesim.command()
@_job_options(["single"])
def run(**options: Any) -> int:
    """Train with one strategy (or several) and show what came of it."""
    return _study(**options)


@facesim.command()
@_job_options(["single", "ps-async"])
@click.option("--baselines/--no-baselines", default=True, show_default=True,
              help="also recognise with classical methods, the bar for any network")  # fmt: skip
def compare(**options: Any) -> int:
    """Train with several strategies, the same examples for each, and compare time, accuracy, resources and cost."""
    return _study(**options)


def _study(
    strategy: tuple[str, ...],
    seeds: int,
    output: Path,
    dry_run: bool,
    as_json: bool,
    baselines: bool = False,
    **options: Any,
) -> int:
    from facesim.job import make_job

    jobs = [make_job(strategy=name, seed=seed, **options) for seed in range(seeds) for name in dict.fromkeys(strategy)]
    if dry_run:
        return _print_dry_run(jobs, output)

    from rich.console import Console

    from facesim.progress import make_watcher
    from facesim.run import State
    from facesim.study import run_study

    runs = run_study(jobs, output, make_watcher(Console(), quiet=as_json))
    states = {result["state"] for run in runs if (result := run.result())}
    if baselines and State.STOPPED not in states:
        _baselines(jobs[0], range(seeds), output)
    _report(runs, output / f"report-{time.strftime('%Y%m%d-%H%M%S')}.html", as_json)
    if State.STOPPED in states:
        return INTERRUPTED
    return 1 if State.FAILED in states else 0


def _baselines(job: Job, seeds: range, output: Path) -> list[Score]:
    """Have the classical methods' scores in the study's output folder."""
    from facesim.baselines import MAX_IMAGES
    from facesim.baselines.record import record_baselines
    from facesim.study import prepare_data

    data = prepare_data(job, lambda *_: None)
    if len(data.labels) > MAX_IMAGES:
        click.echo(f"no classical baselines: they take too long on more than {MAX_IMAGES:,} images", err=True)
        return []
    return record_baselines(data, job.experiment.model_dump(), seeds, output)


def _print_dry_run(jobs: list[Job], output: Path) -> int:
    from facesim.run import Run
    from facesim.study import prepare_data, render_jobs

    data = prepare_data(jobs[0], lambda *_: None)
    shown = [
        {
            "run_directory": str(directory),
            "job": job.model_dump(),
            "request": json.loads(request.to_json()),
            "files": Run.files(),
        }
        for job, directory, request in render_jobs(jobs, output, data)
    ]
    click.echo(json.dumps({"data": str(data.directory), "runs": shown}, indent=1))
    return 0


def _report(runs: list[Run], html: Path, as_json: bool) -> None:
    from facesim.report import print_report, to_json, write_report

    comparison = write_report(runs, html)
    if as_json:
        results = [run.result() for run in runs]
        click.echo(json.dumps({"report": str(html), "results": results, "comparison": to_json(comparison)}, indent=1))
    else:
        print_report(comparison)
        click.echo(f"\nreport: {html}")


@facesim.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="HTML file"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines in place of the table")
def report(runs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Make the report again from run directories alone: RUNS are run directories, or folders of them."""
    from facesim.run import find_runs

    _report(find_runs(list(runs)), output, as_json)


@facesim.command()
@click.argument("source", metavar="DATA")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="splits, with seeds 0, 1, ...")
@click.option("--image-size", type=int, help="height and width in pixels  [default: 64]")
@click.option("--held-out", type=float, help="share of each identity's images kept for testing  [default: 0.2]")
@click.option("--min-images", type=int, help="leave out identities with fewer images  [default: none; lfw: 15]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="folder that keeps the scores as baselines.json")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def baselines(source: str, seeds: int, output: Path, as_json: bool, **options: Any) -> None:
    """Recognise with classical methods: the bar that a network has to pass on DATA (as --data of compare)."""
    from facesim.baselines import BASELINES, means
    from facesim.job import make_job

    table = means(_baselines(make_job(data=source, **options), range(seeds), output))
    if as_json:
        click.echo(json.dumps(table, indent=1))
        return
    click.echo(f"{'':12}{'held-out':>10}{'sd':>8}{'balanced':>10}{'seconds':>10}")
    for name, own in table.items():
        spread = "" if own["accuracy_sd"] is None else f"{100 * own['accuracy_sd']:.1f} %"
        figures = (
            f"{100 * own['accuracy']:8.1f} %{spread:>8}{100 * own['balanced_accuracy']:8.1f} %{own['seconds']:10.2f}"
        )
        click.echo(f"{name:12}{figures}  {BASELINES[name].summary}")


@facesim.group()
def data() -> None:
    """Images to train on."""


@data.command("render")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--identities", default=29, show_default=True, help="people")
@click.option("--images", default=15, show_default=True, help="images of each")
@click.option("--size", default=64, show_default=True, help="height and width in pixels")
@click.option("--difficulty", default=0.65, show_default=True, help="0 passport photographs .. 1 anything goes")
@click.option("--seed", default=0, show_default=True, help="which people")
def render(out: Path, **options: Any) -> None:
    """Write rendered faces as an image folder OUT, a folder of PNG files for each person."""
    from facesim.data import RenderSpec, render_folder

    spec = RenderSpec(**options)
    with click.progressbar(length=spec.identities * spec.images, label=f"rendering into {out}") as bar:
        render_folder(spec, out, lambda _, done, __: bar.update(done - bar.pos))


@data.command("describe")
@click.argument("source")
@click.option("--image-size", default=64, show_default=True, help="height and width in pixels")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def describe(source: str, image_size: int, as_json: bool) -> None:
    """Say what the data set SOURCE holds: identities, images of each, unreadable files, duplicates."""
    from dataclasses import asdict

    from facesim.data import describe as describe_data
    from facesim.job import make_job
    from facesim.study import prepare_data

    prepared = prepare_data(make_job(data=source, image_size=image_size, max_bad_files=1.0), lambda *_: None)
    facts = asdict(describe_data(prepared))
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):28} {value}")


def _recogniser(path: Path) -> tuple[Run, Recogniser]:
    """The one run at `path` and its model."""
    from facesim.run import find_runs

    found = find_runs([path])
    if len(found) > 1:
        names = ", ".join(run.id for run in found[:3])
        raise InputError(f"{path} holds {len(found)} runs ({names}, ...); name the directory of one")
    _hush_tensorflow()
    from facesim.recognition.embedding import Recogniser

    return found[0], Recogniser(found[0])


def _hush_tensorflow() -> None:
    """Keep what TensorFlow tells about the machine off a command's output."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@facesim.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("source", metavar="[DATA]", required=False)
@click.option("--pairs", type=click.Path(path_type=Path), help="pairs file of LFW's; DATA is then LFW's folder")
@click.option("--far", type=float, multiple=True,
              help="false accept rate at which to tell the true accept rate; repeatable")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def evaluate(
    run_directory: Path, source: str | None, pairs: Path | None, far: tuple[float, ...], as_json: bool
) -> None:
    """Say how well the model of RUN recognises: closed set, identification, verification.

    Without DATA on the run's own held-out images. With DATA (as --data of compare) on those people, by their embeddings
    alone: let them be people whom the model was not trained on.
    """
    from facesim.run import write_json
    from facesim.study import prepare_data

    if pairs and not source:
        raise InputError(f"--pairs {pairs} needs DATA, the folder of LFW's images that it names")
    run, recogniser = _recogniser(run_directory)
    from facesim.recognition.assess import assess_lfw, assess_others, assess_own

    job = run.job()
    fars = far or None
    if pairs:
        found = assess_lfw(recogniser, pairs, Path(source), fars)
    elif source is None or source == job.experiment.data:
        found = assess_own(recogniser, prepare_data(job, lambda *_: None), fars)
    else:
        other = job.model_copy(update={"experiment": job.experiment.model_copy(update={"data": source})})
        found = assess_others(recogniser, prepare_data(other, lambda *_: None), fars)
    earlier = json.loads(run.evaluation_file.read_text()) if run.evaluation_file.exists() else {}
    earlier.pop(found["data"], None)
    write_json(run.evaluation_file, {**earlier, found["data"]: found})  # the newest last
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for line in _evaluation(found):
        click.echo(line)


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
        f"AUC {own['auc']:.4f}, EER {own['eer']:.1%}, threshold {own['threshold']:.3f}"
    )
    lines.append(f"                 {own['genuine_pairs']} genuine and {own['impostor_pairs']} impostor pairs")
    lines += [f"  TAR at FAR {far:5}{tar:8.1%}" for far, tar in own["tar_at_far"].items()]
    return lines


@facesim.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=Path("embeddings.npz"), show_default=True,
              help="npz file of embeddings and paths")  # fmt: skip
def embed(run_directory: Path, images: tuple[Path, ...], output: Path) -> None:
    """Write the embeddings of IMAGES, files or folders of them, by the model of RUN."""
    import numpy as np

    files = _image_files(images)
    _, recogniser = _recogniser(run_directory)
    embeddings = recogniser.embed(recogniser.read(files))
    np.savez(output, embeddings=embeddings, paths=[str(file) for file in files])
    click.echo(f"{output}: {embeddings.shape[0]} embeddings of {embeddings.shape[1]} dimensions")


def _image_files(paths: tuple[Path, ...]) -> list[Path]:
    """The image files that `paths` name, folders searched through, in order."""
    from facesim.data.layouts import list_images

    files = [file for path in paths for file in (sorted(list_images(path)) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"no images in {', '.join(map(str, paths))}; name image files or folders of them")
    return files


@facesim.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--threshold", type=float, help="cosine from which on it is one person  [default: of facesim evaluate RUN]"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def verify(run_directory: Path, first: Path, second: Path, threshold: float | None, as_json: bool) -> None:
    """Say whether the images A and B show the same person, by the model of RUN."""
    run, recogniser = _recogniser(run_directory)
    one, other = recogniser.embed(recogniser.read([first, second]))
    similarity = float(one @ other)
    origin = "given"
    if threshold is None and run.evaluation_file.exists():
        newest = list(json.loads(run.evaluation_file.read_text()).values())[-1]
        threshold, origin = newest["verification"]["threshold"], f"best on {newest['data']}"
    same = None if threshold is None else similarity >= threshold
    if as_json:
        click.echo(json.dumps({"similarity": similarity, "threshold": threshold, "same": same}))
    elif threshold is None:
        click.echo(
            f"similarity {similarity:.3f}; for a threshold give --threshold or run: facesim evaluate {run.directory}"
        )
    else:
        verdict = "the same person" if same else "different people"
        click.echo(f"{verdict}: similarity {similarity:.3f}, threshold {threshold:.3f} ({origin})")


@facesim.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("gallery", type=click.Path(path_type=Path))
@click.argument("probe", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def identify(run_directory: Path, gallery: Path, probe: tuple[Path, ...], as_json: bool) -> None:
    """Say who of the GALLERY, a folder for each person, each PROBE image shows, by the model of RUN."""
    import numpy as np

    from facesim.data import find_examples
    from facesim.recognition.protocols import likeness

    examples, files = find_examples(gallery), _image_files(probe)
    names = sorted({example.identity for example in examples})
    if len(names) < 2:
        raise InputError(f"the gallery {gallery} shows only {names[0]}; it takes two people to tell one from the other")
    _, recogniser = _recogniser(run_directory)
    labels = np.array([names.index(example.identity) for example in examples])
    known = recogniser.embed(recogniser.read([example.path for example in examples]))
    found = likeness(known, labels, recogniser.embed(recogniser.read(files)))
    ranked = [
        {
            "probe": str(file),
            "likest": [{"identity": names[at], "similarity": float(own[at])} for at in np.argsort(-own)[:3]],
        }
        for file, own in zip(files, found)
    ]
    if as_json:
        click.echo(json.dumps(ranked, indent=1))
        return
    for entry in ranked:
        told = ", ".join(f"{each['identity']} {each['similarity']:.3f}" for each in entry["likest"])
        click.echo(f"{entry['probe']}: {told}")


@facesim.command()
@click.option("--image-size", default=64, show_default=True, help="height and width in pixels")
@click.option("--head", type=click.Choice(list(HEADS)), default="softmax", show_default=True, help="classifier")
@click.option("--identities", default=29, show_default=True, help="people that the classifier knows")
@click.option("--batch", default=32, show_default=True, help="examples in one update")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def models(image_size: int, head: str, identities: int, batch: int, as_json: bool) -> None:
    """List the networks and heads: parameters, operations an image, memory that the classifier takes in training."""
    _hush_tensorflow()
    from facesim.models.size import size

    sizes = {name: size(name, head, (image_size, image_size, 3), identities, batch)._asdict() for name in MODELS}
    if as_json:
        click.echo(json.dumps(sizes, indent=1))
        return
    click.echo(f"{'--model':17}{'parameters':>14}{'MFLOPs':>10}{'head, MB':>10}")
    for name, own in sizes.items():
        figures = f"{own['parameters']:14,}{own['flops'] / 1e6:10,.0f}{own['head_bytes'] / 1e6:10,.1f}"
        click.echo(f"{name:17}{figures}  {MODELS[name].summary}")
    click.echo(
        f"\n{image_size}x{image_size} pixels, {identities:,} identities, {head} head, batch {batch}. FLOPs: an image's"
    )
    click.echo("forward pass. Head: its parameters, gradient and Adam's moments, and a batch's logits, in training.\n")
    for name, about in HEADS.items():
        click.echo(f"--head {name:10}{about.summary}")


@facesim.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def recipes(as_json: bool) -> None:
    """List the recipes and what each sets; an option given with one wins over it."""
    from facesim.job import flag

    if as_json:
        click.echo(json.dumps({name: recipe._asdict() for name, recipe in RECIPES.items()}, indent=1))
        return
    for name, recipe in RECIPES.items():
        click.echo(f"--recipe {name:10}{recipe.summary}")
        for setting, value in recipe.settings.items():
            click.echo(f"    {flag(setting)}" + ("" if value is True else f" {value}"))


@facesim.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def doctor(as_json: bool) -> int:
    """Check that this machine can run facesim, and say what to do where it cannot."""
    from facesim.doctor import examine

    checks = examine()
    if as_json:
        click.echo(json.dumps([check._asdict() for check in checks], indent=1))
    else:
        for check in checks:
            mark, colour = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "fail": ("FAIL", "red")}[check.level]
            click.echo(f"{click.style(mark, fg=colour)} {check.name}: {check.finding}")
    return 1 if any(check.level == "fail" for check in checks) else 0
