"""What a run costs: the catalogue of instance types and the rules by which SageMaker bills them."""

from facesim.billing.catalogue import Instance, assumed_spot_discount, instance, instances
from facesim.billing.cost import cost_usd, spot_cost_usd, spot_savings_percent

__all__ = [
    "Instance",
    "assumed_spot_discount",
    "cost_usd",
    "instance",
    "instances",
    "spot_cost_usd",
    "spot_savings_percent",
]
