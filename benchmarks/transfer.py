"""What rendered people teach a network for photographs: accuracy against how many they are and how hard to recognise.

    python -m benchmarks.transfer photos/ --identities 250,1000,4000 --difficulty 0.5,0.7,0.9 --held-out 0.9

Each network to start from sees the same number of rendered images (`--examples`), so that more people are not more
training. Then, for each seed, the photographs are trained on from it, and from nothing. Verification is by the network
to start from alone, which has not seen a photograph. With the defaults hours on two cores; run it on a quiet machine.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.common import run_completed, run_job, show, write
from facesim.data import RenderSpec, render_folder
from facesim.recognition.recognizer import Recognizer

_NOTHING = "from nothing"


def _listed(kind: type) -> Any:
    return lambda _ctx, _param, text: [kind(part) for part in text.split(",")]


@click.command()
@click.argument("photos")
@click.option("--identities", default="250,1000,4000", show_default=True, callback=_listed(int))
@click.option("--difficulty", default="0.5,0.7,0.9", show_default=True, callback=_listed(float))
@click.option("--images", default=12, show_default=True, help="of each rendered person")
@click.option("--wild", default=0.0, show_default=True, help="as `facesim data render` has it")
@click.option("--recipe", default="modern", show_default=True)
@click.option("--examples", default=160_000, show_default=True, help="rendered images that a network sees")
@click.option("--held-out", default=0.9, show_default=True, help="share of the photographs not trained on")
@click.option("--epochs", default=150, show_default=True, help="on the photographs")
@click.option("--image-size", default=96, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    photos: str,
    identities: Sequence[int],
    difficulty: Sequence[float],
    images: int,
    wild: float,
    recipe: str,
    examples: int,
    held_out: float,
    epochs: int,
    image_size: int,
    seeds: int,
    path: Path | None,
) -> None:
    same = {"recipe": recipe, "strategy": "single", "image_size": image_size}
    on_photos = {**same, "data": photos, "held_out": held_out, "epochs": epochs, "evaluate_every": epochs}
    accuracy, auc = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)

    def train_on(name: str, **start: str) -> None:
        for seed in range(seeds):
            accuracy[name].append(100 * run_job(**on_photos, **start, seed=seed)["held_out_accuracy"])
        click.echo(f"{name}: {', '.join(f'{each:.1f}' for each in accuracy[name])} %")

    train_on(_NOTHING)
    for people in identities:
        for hardness in difficulty:
            name = f"{people} people, difficulty {hardness:g}"
            with tempfile.TemporaryDirectory(prefix="facesim-rendered-") as rendered:
                spec = RenderSpec(people, images, image_size, hardness, seed=777, wild=wild)
                render_folder(spec, Path(rendered))
                rounds = max(1, round(examples / (people * images * (1 - 2 / images))))
                learning = {"epochs": rounds, "evaluate_every": rounds, "batch": 64, "learning_rate": 0.002}
                with run_completed(**same, **learning, data=rendered, held_out=2 / images) as start:
                    auc[name].append(Recognizer(start).evaluate(photos)["verification"]["auc"])
                    train_on(name, pretrained=str(start.directory))
    first = next(iter(auc))
    write(
        [
            show(f"{photos}: held-out accuracy, {1 - held_out:.0%} trained on", accuracy, _NOTHING, "%"),
            show(f"{photos}: AUC of verification by the network to start from", auc, first, ""),
        ],
        path,
    )


if __name__ == "__main__":
    main()
