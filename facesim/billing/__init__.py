"""What a run costs: the catalogue of instance types and the rules by which SageMaker bills them.

catalogue  instance types and prices (`instances.json`)
refresh    prices from AWS' Pricing API
market     spot capacity: when a job has its hosts and when it loses them
synthetic  how the packaged trace of capacity was made up
cost       dollars for instances and seconds
bill       the bill of a run, from the states that it went through
"""

from facesim.billing.bill import Bill, make_bill, price_usd
from facesim.billing.catalogue import Instance, assumed_spot_discount, instance, instances
from facesim.billing.cost import cost_usd, spot_cost_usd, spot_savings_percent

__all__ = [
    "Bill",
    "Instance",
    "assumed_spot_discount",
    "cost_usd",
    "instance",
    "instances",
    "make_bill",
    "price_usd",
    "spot_cost_usd",
    "spot_savings_percent",
]
