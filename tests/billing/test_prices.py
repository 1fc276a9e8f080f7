"""`facesim prices`: what the catalogue says, and refreshing it from a server that speaks AWS' protocol."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from facesim.billing import cost_usd, instances
from facesim.billing.catalogue import refreshed_file
from facesim.util.errors import InputError
from tests.billing.pricing_api import PAGE, pricing_api, product
from tests.conftest import Command, parse

M5, C5 = "ml.m5.2xlarge", "ml.c5.xlarge"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
COMMAND = ("-m", "facesim")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A cache folder of the test's own, which this process and the commands it starts use."""
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def prices(*arguments: str, how: tuple[str, ...] = COMMAND, **environment: str) -> Command:
    """`facesim prices` in a process that knows of AWS what `environment` tells and nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none"}
    ended = subprocess.run(
        [sys.executable, *how, "prices", *arguments],
        capture_output=True,
        text=True,
        env=kept | nothing | environment,
        timeout=120,
    )
    return Command(ended.returncode, ended.stdout, ended.stderr)


def refresh(products: list[dict], *arguments: str, refusal: str | None = None) -> Command:
    with pricing_api(products, refusal) as server:
        return prices("refresh", *arguments, AWS_ENDPOINT_URL_PRICING=server.url, **KEYS)


def test_the_table_shows_shape_price_and_whether_and_since_when_it_is_verified(folder):
    shown = prices()

    lines = {line.split()[0]: line.split() for line in shown.output.splitlines() if line.startswith("ml.")}
    assert lines[M5] == [M5, "0.4610", "8", "32", "2.5/10", "UNVERIFIED", "us-east-1", "2026-11"]
    assert "verified" in lines["ml.m5.large"]
    assert "from public price lists" in shown.output


def test_refreshed_prices_win_and_are_verified(folder):
    command = refresh([product(M5, "0.5000000000"), product(C5, "0.25")])

    assert command.code == 0, command.errors
    assert instances()[M5].price_usd_per_hour == 0.5
    assert instances()[M5].price_verified
    assert "Pricing API" in instances()[M5].price_source
    assert cost_usd(M5, hosts=2, billable_s=3600) == 1.0
    shown = {row["name"]: row for row in parse(prices("--json"))["instances"]}
    assert shown[C5]["price_verified"]
    assert shown["ml.p3.2xlarge"]["price_verified"] is False
    assert "ml.p3.2xlarge" in command.output  # it was not among the answers, and that is told


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_PRICING"])
def test_another_endpoint_can_be_named(folder, variable):
    with pricing_api([product(M5, "0.5")]) as server:
        command = prices("refresh", **{variable: server.url}, **KEYS)

    assert command.code == 0, command.errors
    assert server.requests[0]["ServiceCode"] == "AmazonSageMaker"


def test_every_page_of_the_answer_is_read_and_only_training_in_the_region_is_asked_for(folder):
    names = [name for name in instances() if name.startswith("ml.m5")]
    assert len(names) > PAGE
    products = [product(name, "0.7", "eu-west-1") for name in names]
    products += [product(M5, "9.9", "us-east-1"), product(M5, "8.8", "eu-west-1", component="Hosting")]

    shown = parse(refresh(products, "--region", "eu-west-1", "--json"))

    assert shown["usd_per_hour"] == dict.fromkeys(names, 0.7)
    assert instances()[M5].price_region == "eu-west-1"
    assert instances()[C5].price_region == "us-east-1"


def test_a_price_that_is_not_one_price_an_hour_is_not_taken(folder):
    products = [
        product(M5, "0.46"),
        product(M5, "0.99"),
        product(C5, "0.2"),
        product("ml.c5.2xlarge", "0.3", unit="GB"),
    ]

    shown = parse(refresh([*products, product("ml.g5.xlarge", "0.0000000000")], "--json"))

    assert shown["usd_per_hour"] == {C5: 0.2}
    assert {M5, "ml.c5.2xlarge", "ml.g5.xlarge"} <= set(shown["missing"])
    assert not instances()[M5].price_verified


def test_a_region_without_prices_is_told_with_those_that_there_are(folder):
    command = refresh([product(M5, "0.5")], "--region", "eu-moon-1")

    assert command.code == 2
    assert "--region 'eu-moon-1'" in command.errors
    assert "eu-west-1" in command.errors
    assert not refreshed_file().exists()


def test_a_refusal_is_told_and_changes_nothing(folder):
    refresh([product(M5, "0.5")])

    command = refresh([product(M5, "0.6")], refusal="AccessDeniedException")

    assert command.code == 1
    assert "AccessDeniedException: not for you" in command.errors
    assert "pricing:GetProducts" in command.errors
    assert instances()[M5].price_usd_per_hour == 0.5


def test_without_credentials_it_says_how_to_have_some(folder):
    command = prices("refresh")

    assert command.code == 2
    assert "aws configure" in command.errors


def test_an_api_that_cannot_be_reached_is_told(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

    command = prices("refresh", AWS_ENDPOINT_URL_PRICING=url, **KEYS)

    assert command.code == 1
    assert "did not answer" in command.errors
    assert url in command.errors


def test_without_boto3_it_says_what_to_install(folder):
    absent = "import sys; sys.modules['boto3'] = None; from facesim.cli import main; sys.exit(main(sys.argv[1:]))"

    command = prices("refresh", how=("-c", absent), **KEYS)

    assert command.code == 2
    assert "pip install 'facesim[aws]'" in command.errors


def test_prices_that_cannot_be_written_are_told(folder):
    folder.write_text("a file where the folder should be")

    command = refresh([product(M5, "0.5")])

    assert command.code == 1
    assert "FACESIM_CACHE" in command.errors


@pytest.mark.parametrize("content", ["", "[]", '{"usd_per_hour": {}}', '{"usd_per_hour": {"ml.m5.large": -1}}'])
def test_refreshed_prices_that_are_damaged_are_told(folder, content):
    folder.mkdir()
    refreshed_file().write_text(content)

    with pytest.raises(InputError, match="run facesim prices refresh again, or delete the file"):
        instances()


def test_a_price_for_a_type_that_the_catalogue_does_not_have_is_ignored(folder):
    folder.mkdir()
    origin = {"region": "us-east-1", "date": "2026-11-23", "source": "a later facesim"}
    refreshed_file().write_text(json.dumps(origin | {"usd_per_hour": {"ml.later.large": 1.0, M5: 0.4}}))

    assert "ml.later.large" not in instances()
    assert instances()[M5].price_usd_per_hour == 0.4
