"""Commands that tell what there is: `models`, `recipes`, `doctor`."""

from __future__ import annotations

from typing import Any

import click

from facesim.cli.options import job_options
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice, command
from facesim.cli.quiet import hush_tensorflow
from facesim.models import HEADS, MODELS
from facesim.spec.recipes import RECIPES
from facesim.spec.strategies import STRATEGIES
from facesim.util.words import count_text


@command()
@click.option("--image-size", default=64, show_default=True, help="height and width in pixels")
@click.option("--head", type=Choice(list(HEADS)), default="softmax", show_default=True, help="classifier")
@click.option("--identities", default=29, show_default=True, help="people that the classifier knows")
@click.option("--batch", default=32, show_default=True, help="examples in one update")
@click.option("--sample-rate", default=0.1, show_default=True, help="share of the people in one, with a sampled head")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def models(image_size: int, head: str, identities: int, batch: int, sample_rate: float, as_json: bool) -> None:
    """List the networks and heads: parameters, operations an image, memory that the classifier takes in training."""
    hush_tensorflow()
    import psutil

    from facesim.models.size import size

    sizes = {
        name: size(name, head, (image_size, image_size, 3), identities, batch, sample_rate)._asdict()
        for name, _ in MODELS.available()
    }
    if as_json:
        echo_json(sizes)
        return
    echo(f"{'--model':17}{'parameters':>14}{'MFLOPs':>10}{'head, MB':>10}")
    for name, needs in sizes.items():
        figures = f"{needs['parameters']:14,}{needs['flops'] / 1e6:10,.0f}{needs['head_bytes'] / 1e6:10,.1f}"
        echo(f"{name:17}{figures}  {MODELS[name].summary}")
    echo(
        f"\n{image_size}x{image_size} pixels, {count_text(identities, 'identity')}, {head} head, batch {batch}. FLOPs: "
        "an image's"
    )
    echo("forward pass. Head: its parameters, gradient and Adam's moments, and a batch's logits, in training.\n")
    memory = psutil.virtual_memory().total
    if large := [name for name, needs in sizes.items() if needs["head_bytes"] > memory]:
        warning = f"Too large for the {memory / 2**30:.1f} GiB of this machine: {', '.join(large)}.\n"
        echo(click.style(warning, fg="red"))
    for name, about in HEADS.available():
        echo(f"--head {name:12}{about.summary}")


@command()
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def recipes(as_json: bool) -> None:
    """List the recipes and what each sets; an option given with one wins over it."""
    from facesim.spec.options import flag

    if as_json:
        echo_json({name: recipe._asdict() for name, recipe in RECIPES.available()})
        return
    for name, recipe in RECIPES.available():
        echo(f"--recipe {name:10}{recipe.summary}")
        for setting, value in recipe.settings.items():
            echo(f"    {flag(setting)}" + ("" if value is True else f" {value}"))


@command()
@click.option("--strategy", type=Choice(list(STRATEGIES)),
              help="how replicas train together  [default: ps-async; of torch and jax allreduce]")  # fmt: skip
@job_options(only=("backend", "framework", "workers", "workers_per_host", "ps", "instance_type", "ps_instance_type",
                   "max_run", "region", "role", "bucket", "bucket_owner", "image", "keep_alive_s",
                   "namespace", "kube_context", "storage_claim", "storage"))  # fmt: skip
@click.option("--spot", is_flag=True, help="with spot capacity")
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def doctor(as_json: bool, spot: bool, strategy: str | None, framework: str | None, **options: Any) -> int:
    """Check that this machine can run facesim, and say what to do where it cannot.

    With --backend sagemaker also the account: credentials, role, bucket, image, and quotas for the job that the other
    options describe (the cluster of the default study, if there are none). With --backend kubernetes the cluster:
    whether it has JobSets, and the storage of such a job.
    """
    from facesim.cli.doctor import examine
    from facesim.spec.job import make_job

    if strategy is None:
        coordinated = framework is None or framework in STRATEGIES["ps-async"].trainers
        strategy = "ps-async" if coordinated else "allreduce"
    checks = examine(make_job(strategy=strategy, framework=framework, spot=spot or None, **options))
    if as_json:
        echo_json([check._asdict() for check in checks])
    else:
        for check in checks:
            mark, colour = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "fail": ("FAIL", "red")}[check.level]
            echo(f"{click.style(mark, fg=colour)} {check.name}: {check.finding}")
    return 1 if any(check.level == "fail" for check in checks) else 0
