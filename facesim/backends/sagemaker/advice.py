"""AWS' errors in words that say what to do."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from facesim.util.errors import CredentialsError, FacesimError, InputError


class AwsError(FacesimError):
    """AWS refused or failed at something after it had begun."""


class QuotaError(AwsError):
    """The account may not have so many instances, or not now, while other jobs have them."""


class BusyError(AwsError):
    """AWS was not reached, or has too much to do, or trouble: the same may go well in a while."""


class RefusedError(AwsError):
    """AWS finds the request itself wrong, such as a name that it does not know: it will be no better the next time."""


class UnknownJobError(RefusedError):
    """The account has no such job in this region."""


class DeniedError(InputError):
    """The credentials are good, but do not allow what was asked."""


class ExpiredError(CredentialsError):
    """The credentials were right, and are not valid any more."""


class _Meaning(NamedTuple):
    """What an error code of AWS' means: the error that it becomes here, and what to do. `asked` is how the operations
    begin that it means this of.
    """

    codes: frozenset[str]
    kind: type[FacesimError]
    advice: str
    asked: str = ""

    def is_of(self, code: str, operation: str) -> bool:
        return code in self.codes and operation.startswith(self.asked)


_WRONG_CLOCK = "this machine's clock is wrong: set it, then try again"
_MEANINGS = (
    _Meaning(
        frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}), CredentialsError, _WRONG_CLOCK
    ),
    _Meaning(
        frozenset({"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}),
        CredentialsError,
        "the secret access key does not belong to the access key id: copy both again (`aws configure`)",
    ),
    _Meaning(
        frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}),
        ExpiredError,
        "the AWS credentials have expired: sign in again",
    ),
    _Meaning(
        frozenset({"400"}),  # what asks S3 for a head alone gets no reason; else it is the answer of a proxy
        ExpiredError,
        "the AWS credentials may have expired: sign in again",
        asked="Head",
    ),
    _Meaning(
        frozenset({
            "AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "MissingAuthenticationToken",
            "MissingAuthenticationTokenException", "UnrecognizedClientException",
        }),
        CredentialsError,
        "the AWS credentials are wrong or have expired: sign in again",
    ),
    _Meaning(
        frozenset({
            "AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "AllAccessDisabled",
            "NotAuthorized", "403",
        }),
        DeniedError,
        "`facesim policy` prints what facesim needs to be allowed",
    ),
    _Meaning(
        frozenset({"ResourceLimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"}),
        QuotaError,
        "ask for more of {quota} (AWS Service Quotas, Amazon SageMaker), wait for other jobs to end (--quota-wait-s), "
        "or use fewer --workers, another --instance-type or another --region",
    ),
    _Meaning(
        frozenset({"301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}),
        InputError,
        "the bucket is in another region: give {region}, or another --bucket",
    ),
    _Meaning(
        frozenset({"BucketAlreadyExists"}), InputError, "that bucket belongs to somebody else: give another --bucket"
    ),
    _Meaning(
        frozenset({"TooManyBuckets"}), InputError, "this account may have no more buckets: name one of them, --bucket"
    ),
    _Meaning(
        frozenset({"ResourceInUse", "ResourceInUseException"}),
        AwsError,
        "there is a training job of that name: start the run again, which gives it another",
    ),
    _Meaning(
        frozenset({
            "KMS.DisabledException", "KMS.InvalidStateException", "KMS.NotFoundException",
            "KMS.KMSInvalidStateException", "DisabledException", "KMSInvalidStateException",
        }),
        InputError,
        "the key cannot be used: look at it in AWS' console (KMS), or give another --kms-key",
    ),
    _Meaning(
        frozenset({
            "Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded",
            "TooManyRequestsException", "SlowDown", "OperationAborted", "RequestThrottled", "RequestThrottledException",
            "429",
        }),
        BusyError,
        "AWS takes only so many requests at a time: try again in a minute",
    ),
    _Meaning(
        frozenset({
            "InternalFailure", "InternalServerError", "InternalError", "ServiceUnavailable",
            "ServiceUnavailableException", "500", "502", "503", "504",
        }),
        BusyError,
        "AWS itself has trouble: try again later, or look at https://health.aws.amazon.com",
    ),
    _Meaning(
        frozenset({
            "BadDigest", "IncompleteBody", "NoSuchUpload", "RequestTimeout", "RequestTimeoutException",
            "XAmzContentSHA256Mismatch",
        }),
        BusyError,
        "something was lost on the way to AWS: is the network good? Try again",
    ),
    _Meaning(
        frozenset({"NotSignedUp", "OptInRequired", "SubscriptionRequiredException"}),
        InputError,
        "this account has not signed up for the service, or not for this region",
    ),
)  # fmt: skip
#: What will be no better the next time, and has no general advice.
_REFUSED = {"ValidationException", "ResourceNotFound", "ResourceNotFoundException"}

#: What to do about a request that AWS finds wrong, by what its message says of it.
_WRONG = (
    (
        re.compile(r"assume.{0,20}role|role.{0,80}assume", re.IGNORECASE),
        "the role must exist and trust SageMaker: `facesim policy trust` prints how; --role names another",
    ),
    (
        re.compile(r"ECR|image", re.IGNORECASE),
        "is the image there? `facesim image build` makes it; tag it, push it to your registry, name it with --image",
    ),
    (
        re.compile(r"subnet|security group|vpc", re.IGNORECASE),
        "look at --subnets and --security-groups: they must be of one VPC, in the region of the job",
    ),
    (
        re.compile(r"instance type|not supported in|availability zone", re.IGNORECASE),
        "not every region has every instance type: give another --instance-type or another --region",
    ),
)

#: In the message of a refused signature: it was made at another time than AWS has.
_BY_THE_CLOCK = re.compile(r"Signature (?:expired|not yet current)")
_QUOTA_NAME = re.compile(r"service limit (?:for )?['\"]?(.+?)['\"]? is ")


#: What to do where AWS was not reached, by the names of botocore's errors.
_UNREACHED = (
    (
        {"SSLError"},
        "where a company's proxy or firewall looks into connections, name its certificates in AWS_CA_BUNDLE",
    ),
    (
        {"ProxyConnectionError", "InvalidProxiesConfigError"},
        "is the proxy right that HTTPS_PROXY names? NO_PROXY names what goes without it",
    ),
    ({"EndpointConnectionError", "ConnectTimeoutError"}, "is the network there, and the region right?"),
)


#: Names of botocore's errors of a connection that may be there again in a while, or of an answer that broke off.
_LOST = {
    "ConnectTimeoutError", "ConnectionClosedError", "EndpointConnectionError", "HTTPClientError", "IncompleteReadError",
    "ReadTimeoutError", "ResponseParserError", "ResponseStreamingError",
}  # fmt: skip
#: And of a sign-in that has expired.
_EXPIRED = {"TokenRetrievalError", "UnauthorizedSSOTokenError", "LoginRefreshRequired"}


def explained(error: Exception, what: str) -> FacesimError:
    """Botocore's or boto3's `error`, met in an attempt to `what`, as an error in words for a user."""
    from botocore import exceptions

    text = f"cannot {what}: {_one_line(str(error))}"
    if isinstance(error, exceptions.NoCredentialsError):
        return CredentialsError(
            "there are no AWS credentials; run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, _credentials()):
        kind = ExpiredError if type(error).__name__ in _EXPIRED else CredentialsError
        return kind(f"{text}; sign in again, or complete the credentials that AWS' own tools use")
    if isinstance(error, exceptions.ConfigParseError):
        return InputError(f"{text}; mend that file, or name another in AWS_CONFIG_FILE")
    if isinstance(error, exceptions.ClientError):
        return _refused(error, text)
    advice = next((advice for names, advice in _UNREACHED if type(error).__name__ in names), None)
    kind = BusyError if type(error).__name__ in _LOST else AwsError
    return kind(f"{text}; {advice}" if advice else text)


def _credentials() -> tuple[type[Exception], ...]:
    from botocore import exceptions

    names = (
        "CredentialRetrievalError", "PartialCredentialsError", "NoAuthTokenError", "TokenRetrievalError",
        "SSOError", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "LoginError",
    )  # fmt: skip
    return tuple(getattr(exceptions, name) for name in names if hasattr(exceptions, name))


def _refused(error: Any, text: str) -> FacesimError:
    """What AWS' answer with an error code means."""
    response = error.response.get("Error", {})  # of an answer that is none of AWS' own there is none
    code, message = response.get("Code", ""), response.get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    operation = error.operation_name
    if not any(meaning.is_of(code, operation) for meaning in _MEANINGS) and (status in (403, 429) or status >= 500):
        code = "503" if status >= 500 else str(status)  # a code that is not known here has at least that meaning
    for meaning in _MEANINGS:
        if meaning.is_of(code, operation):
            named = _QUOTA_NAME.search(message)
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = headers.get("x-amz-bucket-region") or response.get("Region")
            advice = _WRONG_CLOCK if _BY_THE_CLOCK.search(message) else meaning.advice
            advice = advice.format(
                quota=f"the quota “{named[1]}”" if named else "the quota that it names",
                region=f"--region {region}" if region else "the --region that it is in",
            )
            return meaning.kind(f"{text}; {advice}")
    if code in _REFUSED:
        return RefusedError("; ".join([text, *(advice for says, advice in _WRONG if says.search(message))][:2]))
    return AwsError(text)


def _one_line(text: str) -> str:
    from facesim.backends.sagemaker.session import redacted

    return redacted(" ".join(text.split()))
