"""What an organisation, and the user for all tools, has set for training jobs: the defaults files of SageMaker's SDK.

They are `config.yaml` in the folders of an admin (/etc/xdg/sagemaker) and of the user (~/.config/sagemaker), the user's
above the admin's; SAGEMAKER_ADMIN_CONFIG_OVERRIDE and SAGEMAKER_USER_CONFIG_OVERRIDE name others (AWS, "Configuring and
using defaults with the SageMaker Python SDK"). Here they are the lowest layer of options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import platformdirs
import pydantic

from facesim.spec.options import flag
from facesim.util.errors import InputError
from facesim.util.files import read_text, why_unread

if TYPE_CHECKING:
    from facesim.spec.backends import SageMaker

_JOB = ("SageMaker", "TrainingJob")
_SESSION = ("SageMaker", "PythonSDK", "Modules", "Session")

#: Where in a file an option's value is. Of two places, the first that has one.
_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "role": ((*_JOB, "RoleArn"),),
    "bucket": ((*_SESSION, "DefaultS3Bucket"),),
    "prefix": ((*_SESSION, "DefaultS3ObjectKeyPrefix"),),
    "subnets": ((*_JOB, "VpcConfig", "Subnets"),),
    "security_groups": ((*_JOB, "VpcConfig", "SecurityGroupIds"),),
    "kms_key": ((*_JOB, "OutputDataConfig", "KmsKeyId"), (*_JOB, "ResourceConfig", "VolumeKmsKeyId")),
    "network_isolation": ((*_JOB, "EnableNetworkIsolation"),),
    "encrypt_traffic": ((*_JOB, "EnableInterContainerTrafficEncryption"),),
    "tags": ((*_JOB, "Tags"),),
}


class Layered(NamedTuple):
    """Options with the defaults below them, and in words which values are from which file."""

    aws: SageMaker
    notices: tuple[str, ...]


def layered(aws: SageMaker) -> Layered:
    """`aws` above what the defaults files have: what the user gave stays, tags of both are joined, and what a file
    forbids (isolation and encryption) stays forbidden.

    Raises:
        InputError: a file cannot be read, or has what is not allowed.
    """
    options, notices = aws.model_dump(), []
    defaults: dict[str, tuple[Any, Path]] = {}
    for file in _files():
        defaults |= {option: (value, file) for option, value in _values(file, options).items()}
    for option, (value, file) in defaults.items():
        chosen = _joined(option, options[option], value)
        if chosen != options[option]:
            options[option] = chosen
            notices.append(f"{flag(option)} {_in_words(value)} is from {file}")
    try:
        return Layered(type(aws).model_validate(options), tuple(notices))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = " and ".join(map(str, _files()))
        raise InputError(
            f"{where}: {flag(str(first['loc'][0])) if first['loc'] else 'the defaults'}: {first['msg']}"
        ) from None


def _joined(option: str, given: Any, default: Any) -> Any:
    if option == "tags":
        return {**default, **given}
    if option == "prefix":  # as the SDK has it: the folder that everything is put into
        return given if given.startswith(f"{default}/") else f"{default}/{given}"
    return given or default


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={one}" for key, one in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _files() -> list[Path]:
    """The defaults files that there are, the lower layer first.

    Raises:
        InputError: one that is named is not there, or is not a file.
    """
    places = {
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": platformdirs.site_config_path("sagemaker"),
        "SAGEMAKER_USER_CONFIG_OVERRIDE": platformdirs.user_config_path("sagemaker"),
    }
    files = []
    for variable, folder in places.items():
        named = os.environ.get(variable)
        if named and named.startswith("s3://"):
            raise InputError(f"{variable} names {named}, and facesim reads files alone: copy it, and name the copy")
        path = Path(named) if named else folder
        file = path / "config.yaml" if os.path.isdir(path) else path
        if os.path.isfile(file):
            files.append(file)
        elif named:
            raise InputError(f"{variable} names {named}, which is not there; name a config.yaml, or its folder")
    return files


def _values(file: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a defaults file says of options, a key apart that is given."""
    content = _read(file)
    values: dict[str, Any] = {}
    for option, places in _PLACES.items():
        for place in places if not (option == "kms_key" and options[option]) else ():
            value: Any = content
            for name in place:
                value = value.get(name) if isinstance(value, Mapping) else None
            if value and values.setdefault(option, value) != value:
                raise InputError(
                    f"{file} has two keys, for results and for volumes, and a job here has one: give --kms-key"
                )
    try:
        if "tags" in values:
            values["tags"] = {tag["Key"]: tag["Value"] for tag in values["tags"]}
        if "prefix" in values:
            values["prefix"] = values["prefix"].strip("/")
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{file}: Tags must be a list of Key and Value, and DefaultS3ObjectKeyPrefix a text") from None
    return values


def _read(file: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise InputError(f"{file} is read with more packages: pip install 'facesim-cluster[aws]'") from None
    try:
        return yaml.safe_load(read_text(file))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {why_unread(error)}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}; mend it") from None
