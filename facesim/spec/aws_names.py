"""AWS' rules for the names that users give, so that a wrong one is reported before anything is sent.

S3: "General purpose bucket naming rules". IAM: "IAM and AWS STS quotas, name requirements". ECR and Docker: the
reference grammar of the OCI distribution specification. The rest is botocore's description of CreateTrainingJob and
"Tag naming limits and requirements".
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Mapping

#: SageMaker takes so many tags, subnets and security groups of one training job.
MOST_TAGS, MOST_SUBNETS, MOST_SECURITY_GROUPS = 50, 16, 5

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: What comes before a bucket's name in an address, or an ARN, of what is in it.
_ADDRESS = re.compile(
    r"s3[an]?://|arn:aws[a-z-]*:s3:::|https?://s3[a-z0-9.-]*\.amazonaws\.com(?:\.cn)?/", re.IGNORECASE
)
_BUCKET_BEGINS = ("xn--", "sthree-", "amzn-s3-demo-")
_BUCKET_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_LONGEST_PREFIX = 512

_ROLE_NAME = re.compile(r"(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,64}", re.ASCII)
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,64}", re.ASCII)

_IMAGE = re.compile(
    r"(?:(?P<registry>[a-zA-Z0-9][a-zA-Z0-9-]*(?:\.[a-zA-Z0-9-]+)*(?::\d+)?)/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
#: Amazon ECR's registries, as AWS' documentation of it names them ("Private registries", with FIPS and dual-stack
#: endpoints).
_ECR = re.compile(
    r"\d{12}\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.(?:aws|amazonwebservices\.com\.cn))",
    re.ASCII,
)

_SUBNET = re.compile(r"subnet-[0-9a-f]{1,17}")
_SECURITY_GROUP = re.compile(r"sg-[0-9a-f]{1,17}")
_KMS_KEY = re.compile(
    r"(?:arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(?:key/[a-zA-Z0-9-]+|alias/[\w/-]+)"
    r"|alias/[\w/-]+|mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
    re.ASCII,
)
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-\d+", re.ASCII)
_ACCOUNT = re.compile(r"\d{12}")


def bucket(name: str) -> str:
    """Return the name of an S3 bucket if it is one.

    Raises:
        ValueError: it is not, and why.
    """
    if "/" in name or ":" in name:
        bucket_name, _, folder = _ADDRESS.sub("", name).strip("/").partition("/")
        inside = f" --prefix {folder}" if folder else ""
        means = f": --bucket {bucket_name}{inside}" if _BUCKET.fullmatch(bucket_name) else ""
        raise ValueError(f"a bucket is given by its name alone, without s3:// and folders{means}")
    if not _BUCKET.fullmatch(name):
        raise ValueError(
            "a bucket's name has 3 to 63 lower case letters, digits, hyphens and dots, the first and the last a letter "
            "or a digit"
        )
    if ".." in name or _is_address(name):
        raise ValueError("a bucket's name has no two dots in a row, and is no IP address")
    if name.startswith(_BUCKET_BEGINS) or name.endswith(_BUCKET_ENDS):
        raise ValueError(f"S3 keeps names that begin with {', '.join(_BUCKET_BEGINS)} or end with "
                         f"{', '.join(_BUCKET_ENDS)} for itself")  # fmt: skip
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def prefix(name: str) -> str:
    """Return a folder in a bucket if it is one; raise ValueError if not."""
    if len(name) > _LONGEST_PREFIX or {".", ".."} & set(name.split("/")):
        raise ValueError(f"a folder has up to {_LONGEST_PREFIX} characters, and no part of it is . or ..")
    return name


def role(name: str) -> str:
    """Return the name, or ARN, of an IAM role if it is one; raise ValueError if not."""
    if not (_ROLE_ARN if name.startswith("arn:") else _ROLE_NAME).fullmatch(name):
        raise ValueError(
            "a role is a name of up to 64 letters, digits and +=,.@_-, or arn:aws:iam::ACCOUNT:role/NAME, the account "
            "with 12 digits"
        )
    return name


def image(name: str) -> str:
    """Return the name of a container image if it is one; raise ValueError if not."""
    if len(name) > 255 or not _IMAGE.fullmatch(name):
        raise ValueError(
            "an image is NAME:TAG, in lower case but for the tag, perhaps with a registry before it, such as "
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/facesim:1; or `aws`"
        )
    return name


def ecr_region(name: str) -> str | None:
    """The region of the registry of Amazon ECR that an image names; None if it names none, or another registry."""
    match = _ECR.fullmatch(name.partition("/")[0])
    return match["region"] if match else None


def subnets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ids of subnets if they are such; raise ValueError if not."""
    return _ids(names, _SUBNET, "a subnet", "subnet-0123456789abcdef0", MOST_SUBNETS)


def security_groups(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ids of security groups if they are such; raise ValueError if not."""
    return _ids(names, _SECURITY_GROUP, "a security group", "sg-0123456789abcdef0", MOST_SECURITY_GROUPS)


def _ids(names: tuple[str, ...], pattern: re.Pattern[str], what: str, example: str, most: int) -> tuple[str, ...]:
    wrong = [name for name in names if not pattern.fullmatch(name)]
    if wrong:
        raise ValueError(f"{what} is given by its id, such as {example}, not {wrong[0]!r}")
    if len(names) > most:
        raise ValueError(f"a training job takes {most} of them at the most")
    return names


def kms_key(name: str) -> str:
    """Return the id, alias or ARN of a KMS key if it is one; raise ValueError if not."""
    if not _KMS_KEY.fullmatch(name):
        raise ValueError(
            "a KMS key is given by its id (such as 1234abcd-12ab-34cd-56ef-1234567890ab), as alias/NAME, or by the ARN "
            "of either"
        )
    return name


def region(name: str) -> str:
    """Return the name of an AWS region if it may be one; raise ValueError if not."""
    if not _REGION.fullmatch(name):
        raise ValueError("a region is named like us-east-1")
    return name


def account(number: str) -> str:
    """Return the number of an AWS account if it is one; raise ValueError if not."""
    if not _ACCOUNT.fullmatch(number):
        raise ValueError("an account's number has 12 digits")
    return number


def tags(given: Mapping[str, str]) -> dict[str, str]:
    """Return tags if AWS takes them; raise ValueError if not."""
    for key, value in given.items():
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise ValueError(f"a tag's key has 1 to 128 characters and its value up to 256, not as {key!r}")
        if key.lower().startswith("aws:"):
            raise ValueError(f"a tag's key does not begin with aws:, which AWS keeps for itself, as {key!r} does")
        wrong = [letter for letter in key + value if not _of_tags(letter)]
        if wrong:
            raise ValueError(f"a tag has letters, digits, spaces and _.:/=+-@, not {wrong[0]!r} as {key!r} has")
    if len(given) >= MOST_TAGS:
        raise ValueError(f"a training job takes {MOST_TAGS} tags at the most, one of them facesim's own")
    return dict(given)


def _of_tags(letter: str) -> bool:
    return letter in "_.:/=+-@" or unicodedata.category(letter)[0] in "LZN"
