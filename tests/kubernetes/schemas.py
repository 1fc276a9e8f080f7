"""Kubernetes' own schemas, and JobSet's, which a document has to keep to."""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate

#: The oldest and the newest versions of Kubernetes whose schemas are held against.
VERSIONS = ("1.31", "1.37")

#: What of JobSet's definition (kubernetes-sigs/jobset, charts/jobset/crds/jobset.x-k8s.io_jobsets.yaml) is used here.
JOBSET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "ttlSecondsAfterFinished": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
                "network": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "enableDNSHostnames": {"type": "boolean"},
                        "publishNotReadyAddresses": {"type": "boolean"},
                    },
                },
                "failurePolicy": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "maxRestarts": {"type": "integer", "minimum": 0},
                        "restartStrategy": {"enum": ["Recreate", "BlockingRecreate"]},
                        "rules": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name", "action"],
                                "properties": {
                                    "name": {"pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                                    "action": {
                                        "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
                                    },
                                    # What a Job's condition Failed may have as its reason (its webhook).
                                    "onJobFailureReasons": {
                                        "type": "array",
                                        "items": {
                                            "enum": [
                                                "BackoffLimitExceeded",
                                                "DeadlineExceeded",
                                                "FailedIndexes",
                                                "MaxFailedIndexesExceeded",
                                                "PodFailurePolicy",
                                            ]
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
                "replicatedJobs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name", "template"],
                        "properties": {
                            "name": {"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$"},
                            "replicas": {"type": "integer", "minimum": 0},
                            "template": {"type": "object"},
                        },
                    },
                },
            },
        },
    },
}


def validate(documents: list[dict[str, Any]]) -> None:
    """Hold documents against the schemas of their kinds, in which nothing unknown is allowed."""
    for document in documents:
        if document["kind"] == "JobSet":
            jsonschema.validate(document, JOBSET)
            for group in document["spec"]["replicatedJobs"]:
                name = f"{document['metadata']['name']}-{group['name']}-0"
                # The longest pod's name, with what a Job appends to it (the webhook of JobSet).
                assert len(f"{name}-{group['template']['spec']['completions'] - 1}-abcde") <= 63
                validate([{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, **group["template"]}])
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


def violations(document: dict[str, Any]) -> str:
    """What is wrong with a document, in words; nothing if it is not."""
    try:
        validate([document])
    except (jsonschema.ValidationError, AssertionError) as error:
        return str(error).splitlines()[0]
    return ""
