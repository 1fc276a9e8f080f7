"""The registry of an account, Amazon ECR: where it is, and who one is there."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from facesim.backends.sagemaker.session import asking

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account


class Login(NamedTuple):
    """A registry, such as 123456789012.dkr.ecr.us-east-1.amazonaws.com, and a user of it for twelve hours."""

    registry: str
    user: str
    password: str


def login(account: Account) -> Login:
    """Sign in to the account's registry.

    Raises:
        InputError: it is not allowed, or there are no credentials.
        AwsError: AWS cannot be asked.
    """
    with asking("sign in to Amazon ECR"):
        (authorization,) = account.client("ecr").get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(authorization["authorizationToken"]).decode().partition(":")
    return Login(urlsplit(authorization["proxyEndpoint"]).netloc, user, password)
