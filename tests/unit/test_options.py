"""Options are defined once, at their fields: the command line, TOML keys and the arguments of `make_job` follow."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from facesim.cli import facesim
from facesim.spec.job import Job, flat, make_job, options
from facesim.spec.options import GROUPS, flag


@pytest.mark.parametrize("name", options())
def test_every_option_has_help_and_a_group(name):
    one = options()[name]

    assert one.help
    assert one.about.group in GROUPS


def test_a_job_goes_through_its_flat_options_and_back():
    job = make_job(strategy="local-sgd", local_steps=3, backend="sagemaker", bucket="mine", spot_rate=2.0, epochs=7)

    assert make_job(**flat(job)) == job


def test_the_command_line_has_every_option_and_nothing_else_about_jobs():
    shown = CliRunner().invoke(facesim, ["compare", "--help-all"]).output

    missing = [name for name in options() if name != "seed" and flag(name) not in shown]
    assert missing == []


def test_help_shows_the_common_options_in_groups_and_how_to_see_the_rest():
    shown = CliRunner().invoke(facesim, ["compare", "--help"]).output

    headings = [line.rstrip(":") for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == list(GROUPS)
    assert "--workers" in shown
    assert "--margin-scale" not in shown
    assert "more options: --help-all" in shown


def test_a_job_of_an_older_version_is_read():
    now = make_job(strategy="ps-async", steps_per_dispatch=3, backend="sagemaker", region="eu-west-1")
    older = now.model_dump(mode="json")
    older["strategy"], older["backend"] = "ps-async", "sagemaker"
    older["shape"] |= {"steps_per_dispatch": 3, "backup_workers": 0}
    older["shape"].pop("ps_instance_type")
    older["experiment"]["local_steps"] = 8
    older["aws"] = {"region": "eu-west-1", "ps_instance_type": None, "subnets": []}

    assert Job.model_validate_json(json.dumps(older)) == now
