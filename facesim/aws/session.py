"""Clients of one AWS region, and what AWS refuses in words that say what to do."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from facesim.errors import FacesimError, InputError


class AwsError(FacesimError):
    """AWS refused or failed at something after it had begun."""


class Account:
    """An AWS account as the user's own configuration names it (environment, profile, instance role), in one region.

    Raises:
        InputError: boto3 is missing, no region is configured, or the configuration cannot be used.
    """

    def __init__(self, region: str | None = None):
        boto3 = _boto3()
        with _configuring():
            # AWS' other tools read AWS_REGION, boto3 only AWS_DEFAULT_REGION.
            self.session = boto3.Session(region_name=region or os.environ.get("AWS_REGION") or None)
            configured = self.session.region_name
        if not configured:
            raise InputError("no AWS region is configured; give --region, such as us-east-1, or set AWS_REGION")

    @property
    def region(self) -> str:
        return self.session.region_name

    @property
    def partition(self) -> str:
        with _configuring():
            return self.session.get_partition_for_region(self.region)

    @functools.cached_property
    def id(self) -> str:
        """The account's number.

        Raises:
            InputError: there are no credentials, or they are not valid.
        """
        with asking("ask who you are"):
            return self.client("sts").get_caller_identity()["Account"]

    @functools.cache  # noqa: B019 - an account lives as long as the process
    def client(self, service: str) -> Any:
        from botocore.config import Config

        with _configuring():
            return self.session.client(service, config=Config(retries={"total_max_attempts": 5, "mode": "standard"}))


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise InputError("the sagemaker backend needs more packages: pip install 'facesim[aws]'") from None
    return boto3


@contextmanager
def _configuring() -> Iterator[None]:
    """Within it, what boto3 does not take of the user's configuration becomes an error that says where to look.

    Raises:
        InputError: a profile, region, endpoint, file or variable cannot be used.
    """
    from botocore.exceptions import BotoCoreError, ProfileNotFound, UnknownRegionError

    try:
        yield
    except ProfileNotFound as error:
        raise InputError(f"{error}; name one of ~/.aws/config in AWS_PROFILE") from None
    except UnknownRegionError as error:
        raise InputError(f"{error}; give --region one of AWS' regions, such as us-east-1") from None
    except (BotoCoreError, OSError, ValueError) as error:
        raise InputError(
            f"the AWS configuration cannot be used: {redacted(str(error))}; look at ~/.aws/config, ~/.aws/credentials "
            "and the AWS_... variables of the environment (AWS_ENDPOINT_URL begins with https:// or http://)"
        ) from None


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Within it, what AWS answers to an attempt to `what` becomes an error that says what to do.

    Raises:
        InputError: no credentials, they want an answer that nobody gives, or they do not allow it.
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
    except EOFError:
        raise InputError(
            f"cannot {what}: AWS' credentials ask for something, such as an MFA code, and there is nobody to answer; "
            "run this on a terminal, or sign in before"
        ) from None
    except (BotoCoreError, UnicodeError) as error:
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
