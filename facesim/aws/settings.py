"""The options of a job that belong to an AWS account and not to the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from facesim.aws import names
from facesim.billing.catalogue import instance
from facesim.errors import InputError

#: The name of `--image` that means AWS' own TensorFlow image.
AWS_IMAGE = "aws"


def _known_instance(name: str | None) -> str | None:
    try:
        return name and instance(name).name
    except InputError as error:
        raise ValueError(str(error)) from None


def _named(check: Callable[[Any], Any]) -> AfterValidator:
    """Check a value, unless it is None, by AWS' rules."""
    return AfterValidator(lambda value: value if value is None else check(value))


def _pairs(given: Any) -> Any:
    """`["team=faces"]`, as a command line gives it, -> `{"team": "faces"}`."""
    if isinstance(given, dict):
        return given
    wrong = [text for text in given if "=" not in text[1:]]
    if wrong:
        raise ValueError(f"a tag is written KEY=VALUE, not {wrong[0]}")
    return dict(text.split("=", 1) for text in given)


class Aws(BaseModel):
    """Where at AWS a job runs, and as whom. What is None has a default that depends on the account: `aws.site`.

    image: of a container registry; `aws` is AWS' own TensorFlow image, into which facesim is brought as a channel.
    bucket_owner: the number of the account that owns the bucket, if that is not the one that runs the job.
    input_mode: `File` copies the data before training, `FastFile` streams it as it is read.
    network_isolation: containers reach each other and nothing else.
    encrypt_traffic: what containers tell each other is encrypted, which takes time.
    max_cost: dollars that the study may cost at the most; it is refused if it could cost more.
    on_interrupt: what Ctrl-C does to the job at AWS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: Annotated[str | None, _named(names.region)] = None
    role: Annotated[str | None, _named(names.role)] = None
    image: Annotated[str | None, _named(names.image)] = None
    bucket: Annotated[str | None, _named(names.bucket)] = None
    bucket_owner: Annotated[str | None, _named(names.account)] = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$"), _named(names.prefix)] = (
        "facesim"
    )
    input_mode: Literal["File", "FastFile"] = "File"
    subnets: Annotated[tuple[str, ...], _named(names.subnets)] = ()
    security_groups: Annotated[tuple[str, ...], _named(names.security_groups)] = ()
    network_isolation: bool = False
    encrypt_traffic: bool = False
    kms_key: Annotated[str | None, _named(names.kms_key)] = None
    tags: Annotated[dict[str, str], BeforeValidator(_pairs), _named(names.tags)] = {}
    ps_instance_type: Annotated[str | None, AfterValidator(_known_instance)] = None
    max_cost: float | None = Field(None, gt=0)
    on_interrupt: Literal["ask", "stop", "leave"] = "ask"

    @model_validator(mode="after")
    def _isolated_with_all_that_it_needs(self) -> Aws:
        if self.network_isolation and self.image == AWS_IMAGE:
            raise ValueError(
                f"--network-isolation does not go with --image {AWS_IMAGE}, into which packages are downloaded; name "
                "an image that has them (facesim image build)"
            )
        return self

    @model_validator(mode="after")
    def _whole_network(self) -> Aws:
        if bool(self.subnets) != bool(self.security_groups):
            given, missing = ("--subnets", "--security-groups") if self.subnets else ("--security-groups", "--subnets")
            raise ValueError(f"{given} needs {missing}: a network of one's own takes both")
        return self
