"""AWS' errors in words that say what to do."""

from __future__ import annotations

import re
from typing import Any

from facesim.errors import FacesimError, InputError


class AwsError(FacesimError):
    """AWS refused or failed at something after it had begun."""


class RefusedError(AwsError):
    """AWS finds the request itself wrong, such as a name that it does not know: it will be no better the next time."""


class DeniedError(InputError):
    """The credentials are good, but do not allow what was asked."""


class CredentialsError(InputError):
    """There are no credentials, or they are wrong, or have expired: with new ones the same may go well."""


_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AllAccessDisabled", "403"}
_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
_WRONG_SIGNATURE = {"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}
_WRONG_CLOCK = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
_QUOTA = {"ResourceLimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"}
_ELSEWHERE = {
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
}
_TAKEN = {"BucketAlreadyExists"}
_REFUSED = {"ValidationException", "ResourceNotFound", "ResourceNotFoundException"}
_NOT_SIGNED_UP = {"OptInRequired", "SubscriptionRequiredException"}

#: In the message of a refused signature: it was made at another time than AWS has.
_BY_THE_CLOCK = re.compile(r"Signature (?:expired|not yet current)")
_QUOTA_NAME = re.compile(r"service limit '([^']+)'")


def said(error: Exception, what: str) -> FacesimError:
    """What botocore's or boto3's `error`, met in an attempt to `what`, is for a user."""
    from botocore import exceptions

    text = f"cannot {what}: {_one_line(str(error))}"
    if isinstance(error, exceptions.NoCredentialsError):
        return CredentialsError(
            "there are no AWS credentials; run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, _credentials()):
        return CredentialsError(f"{text}; sign in again, or complete the credentials that AWS' own tools use")
    if isinstance(error, exceptions.ConfigParseError):
        return InputError(f"{text}; mend that file, or name another in AWS_CONFIG_FILE")
    if isinstance(error, exceptions.ClientError):
        return _refused(error, text)
    if isinstance(error, exceptions.EndpointConnectionError):
        return AwsError(f"{text}; is the network there, and the region right?")
    return AwsError(text)


def _credentials() -> tuple[type[Exception], ...]:
    from botocore import exceptions

    names = (
        "CredentialRetrievalError", "PartialCredentialsError", "NoAuthTokenError", "TokenRetrievalError",
        "SSOError", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "LoginError",
    )  # fmt: skip
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


def _refused(error: Any, text: str) -> FacesimError:
    """What AWS' answer with an error code means."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in _WRONG_CLOCK or (code in _WRONG_SIGNATURE and _BY_THE_CLOCK.search(message)):
        return CredentialsError(f"{text}; this machine's clock is wrong: set it, then try again")
    if code in _WRONG_SIGNATURE:
        return CredentialsError(
            f"{text}; the secret access key does not belong to the access key id: copy both again (`aws configure`)"
        )
    if code in _EXPIRED:
        return CredentialsError(f"{text}; the AWS credentials are wrong or have expired: sign in again")
    if code in _DENIED:
        return DeniedError(f"{text}; `facesim policy` prints what facesim needs to be allowed")
    if code in _QUOTA:
        named = _QUOTA_NAME.search(message)
        quota = f"the quota “{named[1]}”" if named else "the quota that it names"
        return AwsError(
            f"{text}; ask for more of {quota} (AWS Service Quotas, Amazon SageMaker), or use fewer --workers, another "
            "--instance-type or another --region"
        )
    if code in _ELSEWHERE:
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or error.response["Error"].get("Region")
        there = f"--region {region}" if region else "the --region that it is in"
        return InputError(f"{text}; the bucket is in another region: give {there}, or another --bucket")
    if code in _TAKEN:
        return InputError(f"{text}; that bucket belongs to somebody else: give another --bucket")
    if code in _NOT_SIGNED_UP:
        return InputError(f"{text}; this account has not signed up for the service, or not for this region")
    return (RefusedError if code in _REFUSED else AwsError)(text)


def _one_line(text: str) -> str:
    from facesim.aws.session import redacted

    return redacted(" ".join(text.split()))
