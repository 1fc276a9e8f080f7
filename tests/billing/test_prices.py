"""`facesim prices`: what the catalogue says, and refreshing it from a server that speaks AWS' protocol."""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import sys
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from facesim.billing import assumed_spot_discount, cost_usd, instance, instances
from facesim.billing import instance_types as generator
from facesim.billing.bill import discount_of
from facesim.billing.catalogue import refreshed_file, types
from facesim.forecast.hosts import hosts
from facesim.spec.job import make_job
from facesim.util.errors import InputError
from tests.billing.pricing_api import PAGE, pricing_api, product, virtual_machine
from tests.conftest import Command, facesim_here, parse
from tests.support.serving import serving

M5, C5 = "ml.m5.2xlarge", "ml.c5.xlarge"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A cache folder of the test's own, which this process and the commands it starts use."""
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def without_boto3(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)


def prices(*arguments: str, **environment: str) -> Command:
    """`facesim prices`, which knows of AWS what `environment` tells and nothing else."""
    nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none"}
    nothing |= dict.fromkeys(("FACESIM_PRICE_LIST", "FACESIM_SPOT_ADVISOR"), "http://127.0.0.1:9")  # nobody is there
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in (nothing | environment).items():
            patch.setenv(name, value)
        return facesim_here("prices", *arguments)


def refresh(
    products: list[dict],
    *arguments: str,
    refusal: str | None = None,
    spot_usd: dict[str, list[float]] | None = None,
    **environment: str,
) -> Command:
    with pricing_api(products, refusal, spot_usd) as server:
        where = {"AWS_ENDPOINT_URL_PRICING": server.url, "AWS_ENDPOINT_URL_EC2": server.url}
        return prices("refresh", *arguments, **where, **KEYS, **environment)


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
    names = [name for name in instances() if name.startswith("ml.m5.")]
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


def test_a_refresh_replaces_an_earlier_one_and_says_what_becomes_of_other_types(folder):
    packaged = instances()[C5]
    unpriced = next(name for name in types() if name not in instances())
    refresh([product(M5, "0.5"), product(C5, "0.25"), product(unpriced, "9.5")])
    assert instances()[unpriced].price_usd_per_hour == 9.5

    command = refresh([product(M5, "0.6")])

    priced, none = (line for line in command.output.splitlines() if line.startswith("AWS gives no one price there"))
    assert C5 in priced and priced.endswith("their price is the one that facesim comes with, or your own")
    assert unpriced in none and none.endswith("they have none now")
    assert instances()[C5] == packaged and unpriced not in instances()


def test_a_product_that_is_described_in_another_way_is_told_and_changes_nothing(folder):
    command = refresh([product(M5, "0.5") | {"terms": {"OnDemand": {"x": {}}}}])

    assert (command.code, refreshed_file().exists()) == (1, False)
    assert "not described as it was" in command.errors


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


def test_without_boto3_it_says_what_to_install(folder, without_boto3):
    command = prices("refresh", **KEYS)

    assert command.code == 2
    assert "pip install 'facesim-cluster[aws]'" in command.errors


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


LIST = {
    "offerCode": "AmazonSageMaker",
    "products": {
        sku: {"sku": sku, "attributes": {"instanceName": name, "component": component, "regionCode": "eu-west-1"}}
        for sku, name, component in [
            ("A", M5, "Training"),
            ("B", M5, "Hosting"),
            ("C", "ml.g6.xlarge", "Training"),
            ("D", "ml.later.large", "Training"),
        ]
    },
    "terms": {
        "OnDemand": {
            sku: {f"{sku}.T": {"priceDimensions": {f"{sku}.T.D": {"unit": "Hrs", "pricePerUnit": {"USD": usd}}}}}
            for sku, usd in [("A", "0.5140000000"), ("B", "9.9"), ("C", "1.1267"), ("D", "3")]
        }
    },
}
ADVISOR = {
    "ranges": [{"index": 0, "label": "<5%", "max": 5}, {"index": 4, "label": ">20%", "max": 100}],
    "spot_advisor": {"eu-west-1": {"Linux": {"m5.2xlarge": {"s": 60, "r": 0}, "g6.xlarge": {"s": 25, "r": 4}}}},
}


@pytest.fixture
def public(tmp_path):
    """AWS' public files as a server has them; and the environment that leads there."""
    root = tmp_path / "public"
    (root / "current" / "eu-west-1").mkdir(parents=True)
    (root / "current" / "eu-west-1" / "index.json").write_text(json.dumps(LIST))
    (root / "advisor.json").write_text(json.dumps(ADVISOR))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=root)
    with serving(handler) as url:
        yield root, {"FACESIM_PRICE_LIST": f"{url}/current", "FACESIM_SPOT_ADVISOR": f"{url}/advisor.json"}


def test_the_public_list_gives_prices_and_spot_discounts_without_an_account(folder, without_boto3, public):
    answer = parse(prices("refresh", "--region", "eu-west-1", "--json", **public[1]))

    assert parse(prices("--json", "refresh", "--region", "eu-west-1", **public[1])) == answer
    assert answer["usd_per_hour"] == {M5: 0.514, "ml.g6.xlarge": 1.1267}
    assert answer["spot_types"] == 2 and answer["notices"] == []
    kind = instance("ml.g6.xlarge")  # its price was not known before
    assert (kind.gpus, kind.accelerator, kind.gpu_memory_gib, kind.price_verified) == (1, "L4", 22.4, True)
    assert kind.spot_discount == 0.25
    assert discount_of(None, [(M5, 2)]) == 0.6
    both = 2 * 0.514 * 0.6 + 1.1267 * 0.25
    assert discount_of(None, [(M5, 2), ("ml.g6.xlarge", 1)]) == pytest.approx(both / (2 * 0.514 + 1.1267))
    assert discount_of(None, [(M5, 2), (C5, 1)]) == assumed_spot_discount()
    shown = prices().output
    assert f"{M5} as spot capacity: 60% less, up to 5 % reclaimed in a month (--spot-rate 7e-05)" in shown


def test_a_list_that_is_not_as_it_was_is_told_and_changes_nothing(folder, public):
    root, where = public
    (root / "current" / "eu-west-1" / "index.json").write_text('{"products": {"A": {}}}')

    command = prices("refresh", "--region", "eu-west-1", **where)

    assert command.code == 2
    assert not refreshed_file().exists()


def test_without_the_advisor_prices_are_taken_and_the_discount_stays_assumed(folder, public):
    (public[0] / "advisor.json").unlink()

    command = prices("refresh", "--region", "eu-west-1", **public[1])

    assert command.code == 0
    assert "what spot capacity saves stays an assumption" in command.errors
    assert discount_of(None, [(M5, 1)]) == assumed_spot_discount()


def write_own_prices(tmp_path, monkeypatch, text: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    monkeypatch.setenv("FACESIM_PRICES", str(file))


def test_what_the_advisor_does_not_know_of_spot_capacity_is_asked_of_ec2(folder, public):
    root, where = public
    (root / "advisor.json").write_text(json.dumps({**ADVISOR, "spot_advisor": {}}))
    machines = [
        virtual_machine("m5.2xlarge", "0.4", "eu-west-1"),
        virtual_machine("m5.2xlarge", "0.9", "eu-west-1", operatingSystem="Windows"),
        virtual_machine("g6.xlarge", "0.8", "eu-west-1"),
    ]
    spot_usd = {"m5.2xlarge": [0.1, 0.2], "g6.xlarge": [0.9]}  # the second costs more than on demand

    answer = parse(refresh(machines, "--region", "eu-west-1", "--json", spot_usd=spot_usd, **where))

    assert answer["notices"] == []
    assert instance(M5).spot_discount == 0.625
    assert instance(M5).interruptions_percent is None
    assert instance("ml.g6.xlarge").spot_discount is None
    assert f"{M5} as spot capacity: 62% less" in prices().output


@pytest.mark.parametrize("variable", ["FACESIM_CACHE", "FACESIM_PRICES"])
def test_prices_where_this_user_may_not_look_are_told(folder, tmp_path, monkeypatch, variable):
    """Python raises for a folder that this user may not enter as for a name that is too long."""
    monkeypatch.setenv(variable, str(tmp_path / ("x" * 300)))

    told = prices()

    assert told.code == 2
    assert f"its path is too long; name another place with {variable}" in told.errors


def test_own_prices_win_and_types_of_ones_own_are_known(folder, tmp_path, monkeypatch):
    write_own_prices(
        tmp_path,
        monkeypatch,
        f"""
        ["{M5}"]
        usd_per_hour = 0.4
        spot_usd_per_hour = 0.1
        relative_speed = 3
        ["ml.g6.xlarge"]
        usd_per_hour = 1
        ["ml.z9.48xlarge"]
        usd_per_hour = 90
        vcpu = 192
        memory_gib = 2048
        network_peak_gbps = 3200
        gpus = 8
        accelerator = "Z9"
    """,
    )

    assert (instance(M5).price_usd_per_hour, instance(M5).spot_discount) == (0.4, 0.75)
    assert hosts()[M5].speed_origin == "measured" and hosts()[M5].speed_source == "the user's prices.toml"
    assert instance("ml.g6.xlarge").memory_gib == 16
    new = instance("ml.z9.48xlarge")
    assert (new.cores, new.network_base_gbps, new.cuda, new.price_source) == (96, 3200, True, "the user's prices.toml")
    job = make_job(backend="sagemaker", instance_type="ml.z9.48xlarge")
    assert job.groups == [("ml.z9.48xlarge", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["ml.z9.48xlarge"]\nusd_per_hour = 9', "must say what is not known of the type: vcpu, memory_gib"),
        ('["ml.g6.xlarge"]\nvcpu = 9', "not known of the type: usd_per_hour"),
        (f'["{M5}"]\nusd_per_hour = -1', "usd_per_hour = -1"),
        (f'["{M5}"]\nprice = 1', "it may have usd_per_hour"),
        (f'["{M5}"]\nusd_per_hour = 1\nspot_usd_per_hour = 2', "needs a usd_per_hour above it"),
        (f'["{M5}"]\nusd_per_hour = true', "usd_per_hour = True: Input should be a valid number"),
        (f'["{M5}"]\nusd_per_hour = "0.4"', "usd_per_hour = '0.4': Input should be a valid number"),
        (f'["{M5}"]\nusd_per_hour = 1e308', "usd_per_hour = 1e+308"),
        (f'["{M5}"]\nnetwork_peak_gbps = 0.1', "it must be at most network_peak_gbps, 0.1: say both"),
        (f'["{M5}"]\ncores = 300', "cores is 300; it must be at most vcpu, 8: say both"),
        ('["lab "]\nusd_per_hour = 1', "a type cannot be called 'lab '"),
        ('["a\\u001b[31m"]\nusd_per_hour = 1', "a type cannot be called 'a\\x1b[31m'"),
        ("usd_per_hour = 1", "must be a table"),
        ("[", "cannot be read as TOML"),
    ],
)
def test_own_prices_that_cannot_be_are_told(folder, tmp_path, monkeypatch, text, message):
    write_own_prices(tmp_path, monkeypatch, text)

    with pytest.raises(InputError, match=re.escape(message)):
        instances()


def test_every_type_that_sagemaker_trains_on_is_known_with_what_it_has():
    from botocore.session import get_session

    model = get_session().get_service_model("sagemaker")
    assert set(model.shape_for("TrainingInstanceType").enum) == set(types())
    for name, kind in types().items():
        assert 0 < kind["cores"] <= kind["vcpu"] and kind["memory_gib"] > 0 and kind["network_peak_gbps"] > 0, name
        assert (kind["gpus"] > 0) == (kind["accelerator"] is not None) == (kind["gpu_memory_gib"] is not None), name
    assert set(instances()) <= set(types())


def test_the_file_of_types_is_what_its_generator_makes():
    pytest.importorskip("moto")
    packaged = (Path(generator.__file__).with_suffix(".json")).read_text()
    made = generator.generate()

    head = packaged.index('"types"')
    assert packaged[head:].strip() == made[made.index('"types"') :].strip()


def test_a_type_whose_price_is_not_known_says_how_to_know_it():
    with pytest.raises(InputError, match="the price of instance type 'ml.p5e.48xlarge' is not known.*prices refresh"):
        instance("ml.p5e.48xlarge")


def test_a_price_for_a_type_that_the_catalogue_does_not_have_is_ignored(folder):
    folder.mkdir()
    origin = {"region": "us-east-1", "date": "2026-11-23", "source": "a later facesim"}
    refreshed_file().write_text(json.dumps(origin | {"usd_per_hour": {"ml.later.large": 1.0, M5: 0.4}}))

    assert "ml.later.large" not in instances()
    assert instances()[M5].price_usd_per_hour == 0.4
