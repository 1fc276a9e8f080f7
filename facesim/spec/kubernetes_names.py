"""Kubernetes' rules for the names that users give, so that a wrong one is reported before anything is sent.

Kubernetes: "Object Names and IDs" and "Labels and Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from facesim.spec import aws_names

#: A DNS label (RFC 1123): the name of a namespace, a pod, or a host.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: A DNS subdomain: the name of most other objects.
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_LONGEST_SUBDOMAIN = 253
#: What a node's label is called, after its prefix, and what its value is.
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def label(name: str) -> str:
    """Return a name of a namespace if it is one; raise ValueError if not."""
    if not _LABEL.fullmatch(name):
        raise ValueError(
            "a namespace's name has up to 63 lower case letters, digits and hyphens, the first and the last a letter "
            "or a digit"
        )
    return name


def subdomain(name: str) -> str:
    """Return the name of a claim or a service account if it is one; raise ValueError if not."""
    if not _is_subdomain(name):
        raise ValueError(
            f"such a name has up to {_LONGEST_SUBDOMAIN} lower case letters, digits, hyphens and dots, with a letter "
            "or a digit at both ends and beside each dot"
        )
    return name


def storage(address: str) -> str:
    """Return the address of a folder in S3, with / at its end, if it is one; raise ValueError if not."""
    bucket, _, folder = address.removeprefix("s3://").strip("/").partition("/")
    if not address.startswith("s3://"):
        raise ValueError("the storage is a folder in S3, s3://BUCKET/FOLDER")
    return f"s3://{aws_names.bucket(bucket)}/" + (f"{aws_names.prefix(folder)}/" if folder else "")


def node_labels(given: Mapping[str, str]) -> dict[str, str]:
    """Return labels of nodes, as a selector has them, if they are such; raise ValueError if not."""
    for key, value in given.items():
        prefix, slash, name = key.rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (slash and not _is_subdomain(prefix)):
            raise ValueError(
                "a label is called by up to 63 letters, digits and -_., a letter or a digit at both ends, perhaps with "
                f"a domain and / before it, such as node.kubernetes.io/instance-type, not {key!r}"
            )
        if value and not _LABEL_NAME.fullmatch(value):
            raise ValueError(
                f"a label's value has up to 63 letters, digits and -_., a letter or a digit at both ends, not {value!r}"
            )
    return dict(given)


def _is_subdomain(name: str) -> bool:
    return len(name) <= _LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(name) is not None
