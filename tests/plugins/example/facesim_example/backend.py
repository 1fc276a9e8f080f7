"""A backend with an option of its own: this machine, politely."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from cluster.plan import Plan
from cluster.processes import LocalNode
from facesim.backends.local import LocalBackend
from facesim.runs.directory import Run
from facesim.spec.backends import BackendSpec
from facesim.spec.job import Job
from facesim.spec.options import option


class NiceLocal(BackendSpec):
    summary = "this machine, at a lower priority than what else runs on it"
    implementation = "facesim_example.backend:BACKEND"

    name: Literal["nice-local"] = "nice-local"
    niceness: int = option(10, "priority of the processes: 19 is the lowest", "Cluster", ge=0, le=19)


class NiceBackend(LocalBackend):
    """The local backend; its processes inherit the priority of the node that starts them."""

    def loaded(self, job: Job, request: Plan) -> AbstractContextManager[None]:
        """Nothing is loaded before: while a node loads there is time to set its priority."""
        return nullcontext()

    def submit(self, run: Run, request: Plan) -> LocalNode:
        node = super().submit(run, request)
        os.setpriority(os.PRIO_PROCESS, node.pid, run.job().backend.niceness)
        return node


BACKEND = NiceBackend()
