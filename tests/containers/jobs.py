"""Jobs whose hosts run small scripts in place of trainings, followed to their ends."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from cluster.containers.host import HostShape
from cluster.containers.job import ContainerJob
from facesim.backends.docker import FolderStore
from tests.support.events import values_of

#: The name of these tests' jobs: others may use the same engine.
NAME = f"test-{os.getpid()}"

TYPE = "ml.m5.large"
SHAPES = {TYPE: HostShape(cpus=0.5, memory_bytes=300 * 2**20)}


def script(text: str) -> list[str]:
    return ["python3", "-u", "-c", textwrap.dedent(text)]


def request_for(image: str, text: str, hosts: int = 1, **fields) -> dict:
    return {
        "TrainingJobName": NAME,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": script(text)[:3],
            "ContainerArguments": script(text)[3:],
        },
        "HyperParameters": {"greeting": "hello"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs/"},
        "ResourceConfig": {"InstanceType": TYPE, "InstanceCount": hosts, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **fields,
    }


class Played:
    """A job that was followed to its end; `on` is called with it and each event."""

    def __init__(self, request: dict, directory: Path, on=lambda job, event: None, shapes=SHAPES, **options):
        self.store = FolderStore(directory / "store", {})
        job = ContainerJob(request, self.store, directory / "hosts", shapes=shapes, sampling_s=0.2, **options)
        self.events: list[dict] = []
        try:
            for event in job.events(5.0):
                if event is not None:
                    self.events.append(event)
                    on(job, event)
        finally:
            job.close()
        assert not (directory / "hosts").exists()

    @property
    def states(self) -> list[str]:
        return values_of(self.events, "state", "state")

    @property
    def end(self) -> dict:
        return self.events[-1]

    def lines(self, host: str = "algo-1") -> list[str]:
        return [event["line"] for event in self.events if event["event"] == "log" and event["host"] == host]


def when_it_says(word: str, do):
    """Do it once, when a host has printed the word."""
    printed = []

    def on(job: ContainerJob, event: dict) -> None:
        if event["event"] == "log" and word in event["line"] and not printed:
            printed.append(word)
            do(job)

    return on
