"""What EC2's spot capacity, which SageMaker's is, costs now, against its price on demand: where AWS' advisor does not
know what it saves. AWS says it to accounts alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timezone
from statistics import fmean
from typing import Any

#: EC2's price list, of virtual machines as SageMaker's are.
_PLAIN = {
    "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used",
    "marketoption": "OnDemand",
}  # fmt: skip
_TYPES_AT_ONCE = 100

#: Dollars an hour by name, from products as the Pricing API describes them; the second argument says which attribute
#: is the name.
Reader = Callable[[Iterator[dict[str, Any]], str], dict[str, set[float]]]


def spot_discounts(region: str, types: Collection[str], client: Callable[..., Any], prices: Reader) -> dict[str, float]:
    """By SageMaker's instance type, the part of the price on demand, 0-1, that spot capacity saves now, in the mean of
    a region's zones; those of `types` alone for which it is known. `client` makes a client of a service and a region.

    Raises:
        botocore.exceptions.BotoCoreError, ClientError: there are no credentials, or AWS does not say it.
    """
    names = [name.removeprefix("ml.") for name in types]
    spot_usd: defaultdict[str, list[float]] = defaultdict(list)
    now = datetime.now(timezone.utc)
    history = client("ec2", region).get_paginator("describe_spot_price_history")
    for begin in range(0, len(names), _TYPES_AT_ONCE):
        pages = history.paginate(
            InstanceTypes=names[begin : begin + _TYPES_AT_ONCE],
            ProductDescriptions=["Linux/UNIX"],
            StartTime=now,
            EndTime=now,  # from which each zone's price then follows
        )
        for page in pages:
            for entry in page["SpotPriceHistory"]:
                spot_usd[entry["InstanceType"]].append(float(entry["SpotPrice"]))
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in _PLAIN.items()]
    filters.append({"Type": "TERM_MATCH", "Field": "regionCode", "Value": region})
    pages = client("pricing", None).get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    on_demand = prices((json.loads(product) for page in pages for product in page["PriceList"]), "instanceType")
    discounts = {}
    for name, each_usd in spot_usd.items():
        if len(on_demand.get(name, ())) == 1:
            (usd,) = on_demand[name]
            if 0 < (saved := 1 - fmean(each_usd) / usd) < 1:
                discounts[f"ml.{name}"] = round(saved, 4)
    return discounts
