"""The command `pretrain`: a network to start from, made of rendered people."""

from __future__ import annotations

from pathlib import Path

import click

from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import FilePath, Number, command
from facesim.cli.study import observers
from facesim.util.words import count_text


@command()
@click.argument("out", type=FilePath())
@click.option("--minutes", type=Number(0, 10_000, min_open=True), default=10.0, show_default=True,
              help="how long it may take, about: the longer, the more people are rendered")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def pretrain(out: Path, minutes: float, as_json: bool) -> None:
    """Make a network OUT, a .keras file, for --pretrained: it has learned from rendered people what tells faces apart.

    Trained by the recipe wild, for use with it. Interrupted, it goes on with the same command.
    """
    from facesim.study.pretraining import pretrain as make

    record = make(out, minutes, observers(as_json))
    if as_json:
        echo_json(record.model_dump(mode="json"))
        return
    plan = record.plan
    echo(
        f"{out}: {count_text(plan.epochs, 'epoch')} on {count_text(plan.people.count, 'image')} of "
        f"{count_text(plan.identities, 'rendered person', 'rendered people')}; of those held out "
        f"{record.held_out_accuracy:.1%} are recognised. How it was made: {out}.json"
    )
    echo(f"use it: facesim run --data PHOTOS --recipe {record.recipe} --pretrained {out}")
