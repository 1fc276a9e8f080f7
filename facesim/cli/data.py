"""Commands about images: `data render`, `data describe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.group()
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
