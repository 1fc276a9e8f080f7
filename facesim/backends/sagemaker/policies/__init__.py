"""What has to be allowed, as IAM policies: no more than the calls that facesim, and SageMaker in its name, really make.

user.json   of the user who runs facesim
role.json   of the role that training jobs run as
trust.json  who may take that role: SageMaker, for this account
setup.json  of the one who runs `facesim aws setup` and `facesim image push`

A statement with `Only` is for jobs that need it: with a `key` of one's own, in a `network` of one's own, or on `data`
that is in a bucket of one's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

POLICIES = ("user", "role", "trust", "setup")

#: The key of the description below that says what a statement is for; IAM does not know it.
_ONLY = "Only"


def policy(
    name: str, places: Mapping[str, str], *, kms_key: str | None = None, vpc: bool = False, data: str | None = None
) -> str:
    """The policy called `name`.

    Args:
        places: gives PARTITION, ACCOUNT, REGION, BUCKET, PREFIX and ROLE (its name).
        kms_key: the id, alias or ARN of the key that data, volumes and results are encrypted with.
        vpc: whether jobs run in subnets of their own.
        data: an address in S3 that hosts read, s3://BUCKET/FOLDER.
    """
    text = Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8")
    key, alias = _key(kms_key or "", places)
    bucket, _, folder = (data or "").removeprefix("s3://").partition("/")
    content = json.loads(Template(text).substitute({**places, "KEY": key, "DATA_BUCKET": bucket, "DATA": folder}))
    wanted = {None, *(["key"] if kms_key else []), *(["network"] if vpc else []), *(["data"] if data else [])}
    content["Statement"] = [statement for statement in content["Statement"] if statement.pop(_ONLY, None) in wanted]
    if alias:
        for statement in content["Statement"]:
            if statement.get("Resource") == key:
                condition: dict[str, Any] = statement.setdefault("Condition", {})
                condition["ForAnyValue:StringEquals"] = {"kms:ResourceAliases": alias}
    return json.dumps(content, indent=1)


def _key(given: str, places: Mapping[str, str]) -> tuple[str, str | None]:
    """The ARN of a key as a policy names it, and its alias: a policy cannot name a key by that alone."""
    arn = re.match(r"(arn:[^:]+:kms:[^:]+:\d+:)(.+)", given)
    begin, name = arn.groups() if arn else ("arn:{PARTITION}:kms:{REGION}:{ACCOUNT}:".format(**places), given)
    if name.startswith("alias/"):
        return f"{begin}key/*", name
    return f"{begin}key/{name.removeprefix('key/')}", None
