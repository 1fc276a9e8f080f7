"""Prices, and what spot capacity saves and how often it goes, as AWS publishes them.

AWS' public price list of a region, and the data behind its page "Spot Instance Advisor", are files that anybody may
load. Where the list is out of reach, the Pricing API is asked, which needs credentials.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from facesim.billing.catalogue import refreshed_file, types
from facesim.billing.spot_prices import spot_discounts
from facesim.util.errors import FacesimError, InputError
from facesim.util.files import write_json

#: The Pricing API answers for every region, from a few.
_ENDPOINT_REGION = "us-east-1"

#: Where the files are; the variable names another place, such as a mirror.
_LISTS = {
    "FACESIM_PRICE_LIST": "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonSageMaker/current",
    "FACESIM_SPOT_ADVISOR": "https://spot-bid-advisor.s3.amazonaws.com/spot-advisor-data.json",
}
_TIMEOUT_S = 30

SOURCE = "AWS Pricing API, AmazonSageMaker, Training, on demand"
LIST_SOURCE = "AWS' public price list (no account needed), the same prices as of the Pricing API, on demand"


class PricesUnavailable(FacesimError):
    """The prices could not be fetched; those that there were stay."""


class Refreshed(NamedTuple):
    """What a refresh found: the file written, prices by instance type, types that AWS gives no one price for, for how
    many types it is known what spot capacity saves, and what could not be loaded, in words.
    """

    file: Path
    usd_per_hour: dict[str, float]
    missing: tuple[str, ...]
    spot: int = 0
    notices: tuple[str, ...] = ()


def refresh(region: str, progress: Callable[[int], None] = lambda products: None) -> Refreshed:
    """Fetch what each instance type that SageMaker trains on costs in `region`, and keep it for this user, in place of
    what an earlier refresh found.

    `progress` is called with the number of products read so far. The file is written whole or not at all.

    Raises:
        InputError: AWS sells no training in `region`; or its list cannot be loaded, and boto3 is not installed, or
            there are no credentials.
        PricesUnavailable: AWS cannot be reached or refuses, or the prices cannot be written.
    """
    notices: list[str] = []
    try:
        prices, source = _prices(_listed(region)), LIST_SOURCE
        progress(len(prices))
    except _Unreadable as error:
        notices.append(str(error))
        try:
            prices, source = _prices(_products(region, progress)), SOURCE
        except (InputError, PricesUnavailable) as second:  # what is asked next may not be what the user needs
            raise type(second)(f"{error}; so AWS was asked, and {second}") from None
    usd_per_hour = {name: prices[name].pop() for name in types() if len(prices.get(name, ())) == 1}
    if not usd_per_hour:
        raise InputError(
            f"AWS lists no training price for --region {region!r} of an instance type that facesim knows; "
            f"regions with SageMaker are {', '.join(_regions())}"
        )
    spot: dict[str, dict[str, float]] = {}
    try:
        spot = _spot(region)
    except _Unreadable as error:
        notices.append(f"{error}; what spot capacity saves stays an assumption where AWS does not say its price now")
    try:
        unknown = [name for name in usd_per_hour if name not in spot]
        spot |= {name: {"spot_discount": saved} for name, saved in _spot_now(region, unknown).items()}
    except _Unreadable as error:
        notices.append(str(error))
    file = refreshed_file()
    content = {
        "region": region,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "source": source,
        "usd_per_hour": usd_per_hour,
        "spot": spot,
    }
    _write(file, content)
    missing = tuple(name for name in types() if name not in usd_per_hour)
    return Refreshed(file, usd_per_hour, missing, len(spot), tuple(notices))


class _Unreadable(PricesUnavailable):
    """A file of AWS' could not be loaded, or is not what it was; the message says so."""


def _load(variable: str, path: str = "") -> Any:
    address = os.environ.get(variable) or _LISTS[variable]
    url = f"{address.rstrip('/')}/{path}" if path else address
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise _Unreadable(f"{url} was refused: {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _Unreadable(f"{url} cannot be loaded: {getattr(error, 'reason', error)}") from None


def _listed(region: str) -> Iterator[dict[str, Any]]:
    """Every product that is SageMaker training in `region`, from the public list, as the Pricing API describes it."""
    content = _load("FACESIM_PRICE_LIST", f"{region}/index.json")
    try:
        terms = content["terms"]["OnDemand"]
        chosen = [
            {"product": product, "terms": {"OnDemand": terms.get(sku, {})}}
            for sku, product in content["products"].items()
            if product["attributes"].get("component") == "Training"
            and product["attributes"].get("regionCode", region) == region
        ]
    except (KeyError, TypeError, AttributeError):
        raise _Unreadable(f"the price list of {region} is not as it was: it has no products and terms") from None
    return iter(chosen)


def _spot(region: str) -> dict[str, dict[str, float]]:
    """By instance type: what spot capacity saves, 0-1, and which share of hosts, in percent, is reclaimed in a month at
    the most. Of EC2's spot capacity, which SageMaker's is.
    """
    content = _load("FACESIM_SPOT_ADVISOR")
    spot_facts: dict[str, dict[str, float]] = {}
    try:
        most = {band["index"]: float(band["max"]) for band in content["ranges"]}
        for name, advice in content["spot_advisor"].get(region, {}).get("Linux", {}).items():
            if f"ml.{name}" in types() and 0 < advice["s"] < 100:
                percent = min(100.0, most[advice["r"]])
                spot_facts[f"ml.{name}"] = {"spot_discount": advice["s"] / 100, "interruptions_percent": percent}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise _Unreadable("the data of AWS' Spot Instance Advisor is not as it was") from None
    return spot_facts


def _spot_now(region: str, types: Sequence[str]) -> dict[str, float]:
    """What spot capacity of types saves now; nothing where there is no account to ask with."""
    try:
        boto3 = _boto3()
    except InputError:
        return {}
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    configuration = Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 1})

    def client(service: str, of_region: str | None) -> Any:
        return boto3.Session().client(service, of_region or _ENDPOINT_REGION, config=configuration)

    try:
        return spot_discounts(region, types, client, _prices) if types else {}
    except (NoCredentialsError, PartialCredentialsError):
        return {}
    except (ClientError, BotoCoreError, ValueError) as error:
        permissions = "ec2:DescribeSpotPriceHistory and pricing:GetProducts"
        raise _Unreadable(f"what spot capacity costs now is not known: {error} (it needs {permissions})") from None


def _products(region: str, progress: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """Every product that is SageMaker training in `region`, page after page."""
    boto3 = _boto3()
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    read = 0
    try:
        configuration = Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3})
        try:
            client = boto3.Session().client("pricing", _ENDPOINT_REGION, config=configuration)
        except ValueError as error:
            raise InputError(
                f"the Pricing API cannot be asked: {error}; AWS_ENDPOINT_URL, or endpoint_url in ~/.aws/config, must "
                "be a URL such as https://example.com"
            ) from None
        pages = client.get_paginator("get_products").paginate(
            ServiceCode="AmazonSageMaker",
            FormatVersion="aws_v1",
            Filters=[
                {"Type": "TERM_MATCH", "Field": "regionCode", "Value": region},
                {"Type": "TERM_MATCH", "Field": "component", "Value": "Training"},
            ],
        )
        for page in pages:
            for product in page["PriceList"]:
                read += 1
                yield json.loads(product)
            progress(read)
    except (NoCredentialsError, PartialCredentialsError):
        raise InputError(
            "no AWS credentials were found, and the Pricing API answers nobody without; run aws configure, or set "
            "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except ClientError as error:
        response = error.response["Error"]
        raise PricesUnavailable(
            f"AWS' Pricing API refused: {response['Code']}: {response['Message']}; the credentials need the permission "
            "pricing:GetProducts. The prices are as they were"
        ) from None
    except BotoCoreError as error:
        raise PricesUnavailable(f"AWS' Pricing API did not answer: {error}. The prices are as they were") from None


def _prices(products: Iterator[dict[str, Any]], attribute: str = "instanceName") -> dict[str, set[float]]:
    """Dollars an hour by instance type, an attribute: several where products of one type disagree."""
    prices: dict[str, set[float]] = {}
    for product in products:
        try:
            name = product["product"]["attributes"].get(attribute)
            for term in product.get("terms", {}).get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    price = float(dimension["pricePerUnit"].get("USD", 0))
                    if name and price > 0 and dimension.get("unit", "Hrs").lower().startswith("h"):
                        prices.setdefault(name, set()).add(price)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise _Unreadable("a product of AWS' price list is not described as it was") from None
    return prices


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise InputError(
            "fetching prices needs boto3, which is not installed: pip install 'facesim-cluster[aws]'"
        ) from None
    return boto3


def _regions() -> list[str]:
    try:
        return _boto3().Session().get_available_regions("sagemaker")
    except InputError:
        return ["those of https://aws.amazon.com/about-aws/global-infrastructure"]


def _write(file: Path, content: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content)
    except OSError as error:
        raise PricesUnavailable(
            f"cannot write the prices to {file}: {error.strerror}; FACESIM_CACHE names another folder"
        ) from None
