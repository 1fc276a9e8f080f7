"""Clients of one AWS region, and what AWS refuses in words that say what to do."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from facesim.backends.sagemaker.advice import AwsError, CredentialsError, DeniedError, RefusedError, explained
from facesim.util.errors import InputError

__all__ = ["Account", "AwsError", "CredentialsError", "DeniedError", "NoAccount", "RefusedError", "asking", "redacted"]


class NoAccount(InputError):
    """AWS cannot be asked from here: boto3 is missing, or no region is configured."""


class Account:
    """An AWS account as the user's own configuration names it (environment, profile, instance role), in one region.

    Raises:
        NoAccount: boto3 is missing, or no region is configured.
        InputError: the configuration cannot be used: its file, profile, region or endpoint.
    """

    def __init__(self, region: str | None = None):
        # AWS' other tools read AWS_REGION, boto3 only AWS_DEFAULT_REGION.
        self._asked = region or os.environ.get("AWS_REGION") or None
        self.renew()
        if not self.session.region_name:
            raise NoAccount("no AWS region is configured; give --region, such as us-east-1, or set AWS_REGION")
        _check_region(self.session)

    def renew(self) -> None:
        """Read the user's configuration again: credentials that have expired may have been replaced there.

        Raises:
            InputError: it cannot be used any more.
        """
        boto3 = _boto3()
        from botocore.exceptions import BotoCoreError, ProfileNotFound

        try:
            self.session = boto3.Session(region_name=self._asked)
        except ProfileNotFound as error:
            raise InputError(f"{error}; name one of ~/.aws/config in AWS_PROFILE") from None
        except BotoCoreError as error:
            raise explained(error, "read AWS' configuration") from None
        self._clients: dict[str, Any] = {}

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

    @functools.cached_property
    def emulator(self) -> str | None:
        """The endpoint of training jobs, if it is not AWS' own but one that was configured in its place; else None.

        A private endpoint of AWS in a VPC is AWS' own: it is in the same domain.
        """
        from botocore.config import Config

        endpoint = self.client("sagemaker").meta.endpoint_url
        default_endpoint = self.session.client(
            "sagemaker", config=Config(ignore_configured_endpoint_urls=True)
        ).meta.endpoint_url
        host, default_host = (urlsplit(url).hostname or "" for url in (endpoint, default_endpoint))
        domain = default_host.rpartition(f"{self.region}.")[2]
        return None if host == default_host or host.endswith(f".{domain}") else endpoint

    def client(self, service: str) -> Any:
        """A client of `service`, the same one until the account is renewed.

        Raises:
            InputError: the configured endpoint is none.
        """
        from botocore.config import Config

        if service not in self._clients:
            # `adaptive` sends more slowly once AWS says that it is too much, as many jobs at the same time may be.
            configuration = Config(connect_timeout=10, retries={"total_max_attempts": 5, "mode": "adaptive"})
            with asking(f"use AWS' {service}"):
                try:
                    self._clients[service] = self.session.client(service, config=configuration)
                except ValueError as error:
                    raise InputError(
                        f"the endpoint of AWS' {service} cannot be used: {error}; AWS_ENDPOINT_URL, or endpoint_url in "
                        "~/.aws/config, must be a URL such as https://example.com or http://127.0.0.1:5055"
                    ) from None
        return self._clients[service]


def _check_region(session: Any) -> None:
    """Raise InputError unless there is such a region."""
    known = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("sagemaker", partition_name=partition)
    }
    if known and session.region_name not in known:
        close = difflib.get_close_matches(session.region_name, sorted(known), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(
            f"there is no AWS region {session.region_name!r} with SageMaker{hint} (a new one may need a newer boto3); "
            "give another --region, such as us-east-1"
        )


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise NoAccount("the sagemaker backend needs more packages: pip install 'facesim-cluster[aws]'") from None
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
        CredentialsError: there are none, or they are not valid (any more).
        DeniedError: the credentials do not allow it.
        InputError: it cannot be done with what the user gave.
        AwsError: AWS cannot be reached, or refuses for another reason.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except EOFError:
        raise InputError(
            f"cannot {what}: AWS' credentials ask for something, such as an MFA code, and there is nobody to answer; "
            "run this on a terminal, or sign in before"
        ) from None
    except (ClientError, BotoCoreError, Boto3Error, ResponseParserError) as error:
        raise explained(error, what) from None


#: Access key ids, and what stands behind the names under which secrets are written.
_SECRETS = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"
    r"|(?<=X-Amz-Signature=)[0-9a-f]+|(?<=X-Amz-Security-Token=)[^&\s]+|(?<=X-Amz-Credential=)[^&\s]+"
    r"|(?i:(?<=aws_secret_access_key)|(?<=aws_session_token))\s*[=:]\s*\S+"
)


def redacted(text: str) -> str:
    """`text` without credentials, wherever they are from: those in use now, and what looks like any."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "[removed]")
    return _SECRETS.sub("[removed]", text)


#: Shorter ones are placeholders such as `test`, which may be any word of a text.
_SHORTEST_SECRET = 12
