"""Recognition of few photographs as they are taken in the wild, by proxy: orderly photographs, disturbed.

    python -m benchmarks.wild orl/ --pretrained start.keras

Each photograph is cut out, put before a background, turned, scaled, shifted and coloured, and taken by a poor camera
(`facesim.data.rendering.camera`). Of 29 people a fifth of the photographs is held out. All draws are from `--seed`.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageFilter

from benchmarks.common import run_job, show, write
from facesim.baselines.record import study_baselines
from facesim.data import prepare
from facesim.data.rendering.camera import taken
from facesim.spec.job import make_job

_PEOPLE = 29
_SIZE = 128
_CAMERA = 0.5


def disturbed(face: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """A photograph, uint8 (128, 128, 3), of a face, uint8 (height, width, 3), as tall as its image."""
    turn, shift_x, shift_y, zoom = stream.uniform(-1, 1, 4)
    height, width = face.shape[:2]
    # An ellipse, as tall as the image, is the person; the rest is cut off.
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    cover = np.clip((1.05 - np.hypot(x / 0.82, y)) * 8, 0, 1)
    person = Image.fromarray(np.dstack([face, (255 * cover).astype(np.uint8)]))
    scale = 0.8 * _SIZE / height * np.exp(0.06 * zoom)
    person = person.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    person = person.rotate(5 * turn, Image.Resampling.BICUBIC, expand=True)
    canvas = _background(stream)
    at = [round((_SIZE - side) / 2 + 0.03 * _SIZE * off) for side, off in zip(person.size, (shift_x, shift_y))]
    canvas.paste(person.convert("RGB"), tuple(at), person.getchannel("A"))
    return taken(np.asarray(canvas), _CAMERA, stream)


def _background(stream: np.random.Generator) -> Image.Image:
    """Blots of colour, large and small."""
    coarse, fine = (stream.integers(0, 256, (cells, cells, 3), np.uint8) for cells in (4, 16))
    large, small = (Image.fromarray(cells).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC) for cells in (coarse, fine))
    return Image.blend(large, small, 0.3).filter(ImageFilter.GaussianBlur(stream.uniform(0, 3)))


def proxy(photos: str, seed: int, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Photographs of 29 people of a data set, disturbed: images uint8 (n, 128, 128, 3), labels int32 (n,)."""
    data = prepare(photos, image_size=_SIZE, cache_dir=cache)
    people = np.random.default_rng(seed).permutation(len(data.names))[:_PEOPLE]
    chosen = np.flatnonzero(np.isin(data.labels, people))
    images = [disturbed(data.images[i], np.random.default_rng([seed, 1, int(i)])) for i in chosen]
    return np.stack(images), np.unique(data.labels[chosen], return_inverse=True)[1]


@click.command()
@click.argument("photos")
@click.option("--pretrained", help="also start from this network, which facesim pretrain made")
@click.option("--recipe", "recipes", multiple=True, default=("modern", "wild"), show_default=True)
@click.option("--epochs", default=60, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="of people, disturbance, split and training")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    photos: str, pretrained: str | None, recipes: Sequence[str], epochs: int, seeds: int, path: Path | None
) -> None:
    accuracy = defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory(prefix="facesim-wild-") as folder:
        for seed in range(seeds):
            file = Path(folder) / f"{seed}.npz"
            images, labels = proxy(photos, seed, Path(folder))
            np.savez(file, images=images, labels=labels)
            job = {"data": str(file), "strategy": "single", "epochs": epochs, "evaluate_every": epochs, "seed": seed}
            for recipe in recipes:
                accuracy[f"{recipe}, from nothing"].append(100 * run_job(**job, recipe=recipe)["held_out_accuracy"])
            if pretrained:
                result = run_job(**job, recipe="wild", pretrained=pretrained)
                accuracy["wild, pretrained"].append(100 * result["held_out_accuracy"])
            for score in study_baselines([make_job(**job, image_size=64)], Path(folder))[0]:
                accuracy[score.method].append(100 * score.accuracy)
    write([show(f"{photos} as in the wild: held-out accuracy", accuracy, "lbp-svm", "%")], path)


if __name__ == "__main__":
    main()
