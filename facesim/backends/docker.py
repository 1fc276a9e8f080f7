"""`docker`: this machine executes the CreateTrainingJob request that `sagemaker` would send, a container a host."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.containers.engine import EngineError, capacity
from cluster.containers.job import ContainerJob
from facesim.backends import image
from facesim.backends.base import Backend, HostMemory
from facesim.backends.collect_results import collect_results
from facesim.backends.emulation import Emulation, emulation_of, shared_capacity, unequal_hosts
from facesim.backends.followed_job import FollowedJob
from facesim.backends.kernels import unmeasured
from facesim.backends.sagemaker.advice import AwsError
from facesim.backends.sagemaker.storage import unpack
from facesim.backends.training_job import Site, TrainingJob, job_name, limits_s, training_job_request
from facesim.metrics.files import SampleWriter
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import Event, FaultDone, MachineDivided, NodeEnded, StateEntered, event_of
from facesim.runs.states import Outcome
from facesim.spec.job import Job
from facesim.util.errors import DiskFull, InputError

#: Stands where an account's role and bucket would: nothing here asks for the one or looks into the other.
_ROLE, _BUCKET = "arn:aws:iam::000000000000:role/nobody", "this-machine"

#: A folder of the run directory for what hosts work with, gone when the run has ended.
_SCRATCH = ".hosts"


class DockerBackend(Backend):
    """Runs a job's request with the engine of this machine."""

    #: Hosts have two minutes, as at SageMaker, and then leave what they found.
    ends_within_s = 180.0

    def render(self, job: Job, directory: Path, inputs: Inputs) -> TrainingJob:
        """The request as SageMaker would get it, but for the account's names."""
        site = Site(
            role_arn=_ROLE,
            image=job.backend.image or image.IMAGE + image.variant(job.framework),
            bucket=_BUCKET,
            prefix=job.backend.prefix,
            input_mode=job.backend.input_mode,
            network_isolation=job.backend.network_isolation,
            encrypt_traffic=job.backend.encrypt_traffic,
            tags=job.backend.tags,
        )
        return training_job_request(job, job_name(directory), inputs.folders, site)

    def kernels(self, job: Job) -> str | None:
        return unmeasured(job)

    def host_memory(self, job: Job, instance_type: str) -> HostMemory:
        factor = emulation_of(job, *shared_capacity()).memory_factor
        return HostMemory("a container on this machine", factor * super().host_memory(job, instance_type).bytes)

    def limits_s(self, job: Job) -> tuple[float, float | None]:
        return limits_s(job)

    def unequal(self, jobs: Sequence[Job]) -> str | None:
        try:
            cpus, _ = capacity()
        except EngineError:  # which `check` tells
            return None
        return unequal_hosts(jobs, cpus)

    def check(self, job: Job) -> None:
        if job.backend.image is None:
            image.check(image.IMAGE + image.variant(job.framework), job.framework)
        else:
            image.check_present(job.backend.image, job.framework)

    def submit(self, run: Run, request: TrainingJob) -> DockerExecution:
        run.plan_file.write_text(request.to_json(), encoding="utf-8")
        return DockerExecution(run, request)


class DockerExecution:
    """A request that is being executed, and comes home into `run`."""

    def __init__(self, run: Run, request: TrainingJob):
        self._run = run
        self._request = request
        self._store = FolderStore(run.directory / _SCRATCH / "store", places_of(run, request))
        job = run.job()
        BACKEND.check(job)
        try:
            self._emulation: Emulation = emulation_of(job, *capacity())
            self._job = ContainerJob(
                request.request,
                self._store,
                run.directory / _SCRATCH / "hosts",
                shapes=self._emulation.shapes,
                sampling_s=job.sampling_s,
                frozen_s=job.recovery.hang_s or None,
            )
        except EngineError as error:
            raise InputError(str(error)) from None
        self._followed = FollowedJob(run)
        self._writers: dict[str, SampleWriter] = {}
        # Drained, killed, interrupted as the job itself is.
        self.stop, self.kill = self._job.stop, self._job.kill
        self.interrupt, self.kill_host = self._job.interrupt, self._job.kill_host

    def events(self, tick_s: float) -> Iterator[Event | None]:
        yield MachineDivided(**self._emulation.facts())
        for message in self._job.events(tick_s):
            if message is None:
                yield None
            elif message["event"] == "log":
                reported = self._followed.printed(message["host"], message["line"], message["time_unix_s"])
                if isinstance(reported, FaultDone) and reported.kind == "interrupt":
                    self._job.interrupt(reported.notice_s, reported.for_s or 0.0)
                if reported:
                    yield reported
            elif message["event"] == "stats":
                self._record(**message)
            elif isinstance(event := event_of(message), StateEntered):
                yield from self._followed.entered(event)
            elif isinstance(event, NodeEnded):
                details = event.details()
                outcome, reason = Outcome(details.pop("outcome")), details.pop("reason", None)
                missing = self._collect_results() or self._followed.missing_outcome(outcome)
                yield from self._followed.ended(outcome, missing, reason, time_unix_s=event.time_unix_s, **details)
            else:
                yield event

    def close(self) -> None:
        self._job.close()
        shutil.rmtree(self._run.directory / _SCRATCH, ignore_errors=True)

    def _record(self, time_unix_s: float, event: str, host: str, **values: float) -> None:
        """One round of the engine's own measurements of a host."""
        if host not in self._writers:
            self._writers[host] = SampleWriter(
                self._run.metrics / f"docker-{host}.jsonl", run_id=self._run.id, host=host, source="docker"
            )
        self._writers[host].write(time_unix_s, "host", int(host.rsplit("-", 1)[1]) - 1, values)

    def _collect_results(self) -> list[str]:
        """Put what the hosts left into the run directory; what is missing of it, in words."""
        scratch = self._run.directory / _SCRATCH
        results = f"{self._request.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self._request.name}/output"
        archives, missing = self._store.folder(results), []
        for name in ("output", "model"):
            archive = archives / f"{name}.tar.gz"
            (scratch / name).mkdir(parents=True, exist_ok=True)
            try:
                unpack(archive, scratch / name)
            except (AwsError, DiskFull) as error:
                missing.append(str(error))
        collect_results(scratch / "output", scratch / "model", self._run)
        return missing


def places_of(run: Run, request: TrainingJob) -> dict[str, Path]:
    """Where a request's addresses lead: what would be uploaded, and checkpoints, which stay on this machine."""
    checkpoints = request.request["CheckpointConfig"]["S3Uri"]
    return {**request.uploads, checkpoints: run.checkpoint_directory(run.job())}


class FolderStore:
    """Folders in place of S3: `places` says where some addresses lead, all others are below `root`.

    Unlike S3 it lets go of what a folder that is uploaded again has not any more: old checkpoints do not pile up.
    """

    def __init__(self, root: Path, places: dict[str, Path]):
        self._root = root
        self._had: dict[Path, set[Path]] = {}
        self._places = {uri.rstrip("/"): folder for uri, folder in places.items()}

    def folder(self, uri: str) -> Path:
        """Where an address leads."""
        address = uri.rstrip("/")
        return self._places.get(address) or self._root / address.removeprefix("s3://")

    def download(self, uri: str, directory: Path) -> None:
        source = self.folder(uri)
        if source.is_dir():
            shutil.copytree(source, directory, dirs_exist_ok=True)

    def upload(self, directory: Path, uri: str) -> None:
        target, files = (
            self.folder(uri),
            {path.relative_to(directory) for path in directory.rglob("*") if path.is_file()},
        )
        for name in sorted(files):
            file, copy = directory / name, target / name
            if not copy.exists() or _differ(file, copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, copy)
        for name in self._had.get(directory, set()) - files:
            (target / name).unlink(missing_ok=True)
        self._had[directory] = files


def _differ(file: Path, copy: Path) -> bool:
    now, then = file.stat(), copy.stat()
    return (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns)


BACKEND = DockerBackend()
