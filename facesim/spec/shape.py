"""The machines that a job runs on."""

from __future__ import annotations

from typing import Literal

from facesim.spec.base import Frozen
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.instances import KnownInstance
from facesim.spec.options import option

Kernels = Literal["auto", "onednn", "eigen", "default"]

#: Of one job.
MOST_WORKERS = 64


class Shape(Frozen):
    """The machines: how many workers and parameter servers, of which instance type, with how many threads each, and
    with which kernels.
    """

    workers: int = option(2, "workers of a distributed strategy", "Cluster", common=True, ge=1, le=MOST_WORKERS)
    workers_per_host: int = option(
        1,
        "workers that share a host: as many as the instance type has GPUs, one for each",
        "Cluster",
        ge=1,
        le=64,
    )
    ps: int = option(1, "parameter servers", "Cluster", common=True, ge=1, le=64)
    threads: int | None = option(None, "threads of a task for one operation", "Cluster", shown="a fair share", ge=1)
    kernels: Kernels = option(
        "auto",
        "kernels that TensorFlow computes with: oneDNN's, its own (eigen), or what it takes by default; auto takes the "
        "faster, measured once on this machine, and in containers oneDNN's; networks of your own have eigen",
        "Cluster",
        frameworks=(TENSORFLOW,),
    )
    instance_type: KnownInstance = option(
        "ml.m5.2xlarge",
        "SageMaker instance type: processors, network and price",
        "Cost and spot",
        common=True,
    )
    ps_instance_type: KnownInstance | None = option(
        None, "instances of their own, one each, for parameter servers", "Cost and spot", shown="on the workers' hosts"
    )
