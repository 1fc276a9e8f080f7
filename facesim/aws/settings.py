"""The options of a job that belong to an AWS account and not to the training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from facesim.billing.catalogue import instance
from facesim.errors import InputError


def _known_instance(name: str | None) -> str | None:
    try:
        return name and instance(name).name
    except InputError as error:
        raise ValueError(str(error)) from None


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
    input_mode: `File` copies the data before training, `FastFile` streams it as it is read.
    max_cost: dollars that the study may cost at the most; it is refused if it could cost more.
    on_interrupt: what Ctrl-C does to the job at AWS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str | None = None
    role: str | None = None
    image: str | None = None
    bucket: str | None = None
    prefix: str = Field("facesim", pattern=r"^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$")
    input_mode: Literal["File", "FastFile"] = "File"
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    kms_key: str | None = None
    tags: Annotated[dict[str, str], BeforeValidator(_pairs)] = {}
    ps_instance_type: Annotated[str | None, AfterValidator(_known_instance)] = None
    max_cost: float | None = Field(None, gt=0)
    on_interrupt: Literal["ask", "stop", "leave"] = "ask"

    @model_validator(mode="after")
    def _whole_network(self) -> Aws:
        if bool(self.subnets) != bool(self.security_groups):
            given, missing = ("--subnets", "--security-groups") if self.subnets else ("--security-groups", "--subnets")
            raise ValueError(f"{given} needs {missing}: a network of one's own takes both")
        return self
