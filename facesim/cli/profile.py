"""The command that measures this machine: `profile`."""

from __future__ import annotations

from typing import Any

import click

from facesim.cli.options import GroupedCommand, command_option, help_all, job_options
from facesim.cli.output import console, echo, echo_json

#: Options of an experiment on which its speed depends, and those that say what its data is.
EXPERIMENT = (
    "recipe", "data", "test", "split", "test_part", "subset", "min_images", "image_size", "channels", "image_feature",
    "label_feature", "held_out", "cache", "model", "head", "sample_rate", "batch", "augment", "mirror_test",
    "precision", "optimizer", "momentum", "weight_decay", "clip_norm", "label_smoothing", "seed", "max_bad_files",
    "framework", "kernels",
)  # fmt: skip


@click.command(cls=GroupedCommand)
@job_options(only=EXPERIMENT)
@command_option("--fresh", is_flag=True, help="measure again where there is a profile already")
@command_option("--json", "as_json", is_flag=True, help="print JSON for machines")
@help_all()
def profile(fresh: bool, as_json: bool, **options: Any) -> None:
    """Measure what this machine needs for a training, in a few minutes: what a forecast is made from.

    The profile is kept in the cache folder, for this machine, these versions, this network and images of this size.
    """
    from facesim.profiling.display import lines_of, make_watcher
    from facesim.profiling.profile import profile_of
    from facesim.spec.job import make_job

    watcher = make_watcher(console(), quiet=as_json)
    try:
        measured, file = profile_of(make_job(**options), fresh=fresh, watcher=watcher)
    finally:
        watcher.close()
    if as_json:
        echo_json(measured.model_dump(mode="json"))
        return
    for line in lines_of(measured):
        echo(line)
    echo(f"kept in {file}")
