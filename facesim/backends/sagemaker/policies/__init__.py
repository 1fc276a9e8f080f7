"""What has to be allowed, as IAM policies: no more than the calls that facesim, and SageMaker in its name, really make.

user.json   of the user who runs facesim
role.json   of the role that training jobs run as
trust.json  who may take that role: SageMaker, for this account
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

POLICIES = ("user", "role", "trust")


def policy(name: str, places: Mapping[str, str]) -> str:
    """The policy called `name`; `places` gives PARTITION, ACCOUNT, REGION, BUCKET, PREFIX and ROLE (its name)."""
    return Template(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8")).substitute(places)
