"""Prices from AWS' Pricing API, for the instance types of the catalogue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from facesim.billing.catalogue import instances, refreshed_file
from facesim.util.errors import FacesimError, InputError
from facesim.util.files import write_json

#: The Pricing API answers for every region, from a few.
_ENDPOINT_REGION = "us-east-1"

SOURCE = "AWS Pricing API, AmazonSageMaker, Training, on demand"


class PricesUnavailable(FacesimError):
    """The prices could not be fetched; those that there were stay."""


class Refreshed(NamedTuple):
    """What a refresh found: the file written, prices by instance type, and types that keep the price they had."""

    file: Path
    usd_per_hour: dict[str, float]
    missing: tuple[str, ...]


def refresh(region: str, progress: Callable[[int], None] = lambda products: None) -> Refreshed:
    """Fetch what each instance type of the catalogue costs in `region`, and keep it for this user.

    `progress` is told how many products have been read so far. The file is written whole or not at all.

    Raises:
        InputError: boto3 is not installed, there are no credentials, or AWS sells no training in `region`.
        PricesUnavailable: AWS cannot be reached or refuses, or the prices cannot be written.
    """
    prices = _prices(_products(region, progress))
    known = instances()
    unambiguous = {name: prices[name].pop() for name in known if len(prices.get(name, ())) == 1}
    if not unambiguous:
        raise InputError(
            f"AWS' Pricing API lists no training price for --region {region!r} of an instance type that facesim knows; "
            f"regions with SageMaker are {', '.join(_regions())}"
        )
    file = refreshed_file()
    content = {
        "region": region,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "source": SOURCE,
        "usd_per_hour": unambiguous,
    }
    _write(file, content)
    return Refreshed(file, unambiguous, tuple(name for name in known if name not in unambiguous))


def _products(region: str, progress: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """Every product that is SageMaker training in `region`, page after page."""
    boto3 = _boto3()
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    read = 0
    try:
        configuration = Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3})
        try:
            client = boto3.client("pricing", _ENDPOINT_REGION, config=configuration)
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


def _prices(products: Iterator[dict[str, Any]]) -> dict[str, set[float]]:
    """Dollars an hour by instance type: several where products of one type disagree."""
    prices: dict[str, set[float]] = {}
    for product in products:
        name = product["product"]["attributes"].get("instanceName")
        for term in product.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                price = float(dimension["pricePerUnit"].get("USD", 0))
                if name and price > 0 and dimension.get("unit", "Hrs").lower().startswith("h"):
                    prices.setdefault(name, set()).add(price)
    return prices


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise InputError("fetching prices needs boto3, which is not installed: pip install 'facesim[aws]'") from None
    return boto3


def _regions() -> list[str]:
    return _boto3().session.Session().get_available_regions("sagemaker")


def _write(file: Path, content: dict[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content)
    except OSError as error:
        raise PricesUnavailable(
            f"cannot write the prices to {file}: {error.strerror}; FACESIM_CACHE names another folder"
        ) from None
