"""Clients of one AWS region, and what AWS refuses in words that say what to do."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from facesim.errors import FacesimError, InputError


class AwsError(FacesimError):
    """AWS refused or failed at something after it had begun."""


class Account:
    """An AWS account as the user's own configuration names it (environment, profile, instance role), in one region.

    Raises:
        InputError: boto3 is missing, or no region is configured.
    """

    def __init__(self, region: str | None = None):
        boto3 = _boto3()
        from botocore.exceptions import ProfileNotFound

        try:
            # AWS' other tools read AWS_REGION, boto3 only AWS_DEFAULT_REGION.
            self.session = boto3.Session(region_name=region or os.environ.get("AWS_REGION") or None)
        except ProfileNotFound as error:
            raise InputError(f"{error}; name one of ~/.aws/config in AWS_PROFILE") from None
        if not self.session.region_name:
            raise InputError("no AWS region is configured; give --region, such as us-east-1, or set AWS_REGION")

    @property
    def region(self) -> str:
        return self.session.region_name

    @property
    def partition(self) -> str:
        return self.session.get_partition_for_region(self.region)

    @functools.cached_property
    def id(self) -> str:
        """The account's number.

        Raises:
            InputError: there are no credentials, or they are not valid.
        """
        with asking("ask who you are"):
            return self.client("sts").get_caller_identity()["Account"]

    @functools.cached_property
    def emulator(self) -> str | None:
        """The endpoint of training jobs, if it is not AWS' own but one that was configured in its place; else None.

        A private endpoint of AWS in a VPC is AWS' own: it is in the same domain.
        """
        from botocore.config import Config

        asked = self.client("sagemaker").meta.endpoint_url
        own = self.session.client("sagemaker", config=Config(ignore_configured_endpoint_urls=True)).meta.endpoint_url
        host, own_host = (urlsplit(url).hostname or "" for url in (asked, own))
        domain = own_host.rpartition(f"{self.region}.")[2]
        return None if host == own_host or host.endswith(f".{domain}") else asked

    @functools.cache  # noqa: B019 - an account lives as long as the process
    def client(self, service: str) -> Any:
        from botocore.config import Config

        return self.session.client(service, config=Config(retries={"total_max_attempts": 5, "mode": "standard"}))


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise InputError("the sagemaker backend needs more packages: pip install 'facesim[aws]'") from None
    return boto3


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Within it, what AWS answers to an attempt to `what` becomes an error that says what to do.

    Raises:
        InputError: no credentials, or they do not allow it.
        AwsError: AWS cannot be reached, or refuses for another reason.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError:
        raise InputError(
            "there are no AWS credentials; run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except ClientError as error:
        code = error.response["Error"]["Code"]
        text = f"cannot {what}: {redacted(str(error))}"
        if code in _NOT_ALLOWED:
            raise InputError(f"{text}; `facesim policy` prints what facesim needs to be allowed") from None
        if code in _NOT_VALID:
            raise InputError(f"{text}; the AWS credentials are wrong or have expired: sign in again") from None
        raise AwsError(text) from None
    except BotoCoreError as error:
        raise AwsError(f"cannot {what}: {redacted(str(error))}") from None


_NOT_ALLOWED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}
_NOT_VALID = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}

#: Access key ids, and what stands behind the names under which secrets are written.
_SECRETS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"
    r"|(?<=X-Amz-Signature=)[0-9a-f]+|(?<=X-Amz-Security-Token=)[^&\s]+|(?<=X-Amz-Credential=)[^&\s]+"
    r"|(?i:(?<=aws_secret_access_key)|(?<=aws_session_token))\s*[=:]\s*\S+"
)


def redacted(text: str) -> str:
    """`text` without credentials, whoever put them there: those in use now, and whatever looks like any."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "[removed]")
    return _SECRETS.sub("[removed]", text)


#: Shorter ones are placeholders such as `test`, which may be any word of a text.
_SHORTEST_SECRET = 12
