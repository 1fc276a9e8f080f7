"""A job as the CreateTrainingJob request that runs it: the docker backend executes it, the sagemaker backend sends it.

The container contract (AWS, "How Amazon SageMaker AI Processes Training Output", "... Provides Training Information"):

    /opt/ml/input/config/        resourceconfig.json, hyperparameters.json, inputdataconfig.json
    /opt/ml/input/data/data      the prepared data, `facesim.data.prepare`'s folder; or what is at the address
                                 that --data is, which each host prepares itself
    /opt/ml/input/data/pretrained
                                 the network that training starts from, if it does: the folder of
                                 `facesim.preflight.pretrained`
    /opt/ml/input/data/network   the code of a network of the user's own: the folder of `facesim.models.own`
    /opt/ml/checkpoints          restored at the start, synchronised with S3 while the job runs; jobs of SageMaker's
                                 tuner are given one address together, and have a folder of their name each
    /opt/ml/model                becomes model.tar.gz; the chief's host leaves model.keras there
    /opt/ml/output/data          becomes output.tar.gz, one for all hosts: each host writes below its own name, such as
                                 output/data/algo-1, and what it writes there is a run directory
    /opt/ml/output/tensorboard   uploaded while the job runs, to tensorboard/JOB/tensorboard-output: TensorBoard's event
                                 files, where they are wanted
    /opt/ml/output/failure       why it failed
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from facesim.backends import kernels
from facesim.backends.tasks import environment_of
from facesim.billing.catalogue import instance
from facesim.data.prepared import FACTS_FILE
from facesim.metrics import event_files
from facesim.metrics.announced import METRIC_DEFINITIONS
from facesim.preflight.inputs import DATA
from facesim.spec.backends import AWS_IMAGE
from facesim.spec.experiment import Experiment
from facesim.spec.job import Job, make_job
from facesim.spec.remote import Remote, remote
from facesim.util.errors import InputError

#: The hyperparameter that holds the job as JSON.
JOB = "job"

#: The channel that holds facesim itself where the image does not. Others hold what tasks read, and are called like it.
SOURCE = "source"

#: The folder of all results, in that of --prefix.
_RESULTS = "jobs"

CHECKPOINTS = "/opt/ml/checkpoints"
TENSORBOARD = "/opt/ml/output/tensorboard"

#: Names of the instance groups of a job whose parameter servers have instances of another type.
WORKER_GROUP, PS_GROUP = "worker", "ps"

#: Executed as it stands, without a shell: a shell as process 1 would swallow SIGTERM.
ENTRYPOINT = ["python3", "-m", "cluster.node"]
BOOTSTRAP = ["python3", f"/opt/ml/input/data/{SOURCE}/bootstrap.py"]
ARGUMENTS = ["--contract", "facesim.backends.hosted:plan"]

#: After so many seconds with its instances a job is ended whose --max-run nobody said.
USUAL_RUN_S = 24 * 3600
_LONGEST_RUN_S = 28 * 24 * 3600
_LONGEST_VALUE = 2500  # of a hyperparameter
_LONGEST_NAME = 63
_VOLUME_GB = 30
_MOST_RETRIES = 30  # after an instance was lost: what an algorithm does wrong SageMaker does not try again


@dataclass(frozen=True)
class Site:
    """The place that a job runs at: what belongs to an account and not to the job.

    input_mode: `File` copies a channel's files before training starts, `FastFile` streams each when it is read.
    source: a folder with facesim's packages, for an image that lacks them: it is uploaded and becomes a channel, and
        its `bootstrap.py` is what the container executes.
    keep_alive_s: for how long instances are kept after the job, for the next that needs the same.
    tensorboard: hosts write what they measure as TensorBoard reads it, too, which SageMaker uploads as it comes.
    """

    role_arn: str
    image: str
    bucket: str
    prefix: str = "facesim"
    input_mode: str = "File"
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    network_isolation: bool = False
    encrypt_traffic: bool = False
    kms_key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    source: Path | None = None
    keep_alive_s: int | None = None
    tensorboard: bool = False


@dataclass(frozen=True)
class TrainingJob:
    """A request and what must be at its addresses before it can run: `s3://bucket/folder/` -> local folder.

    `placeholders` says what in it stands for something that cannot be known here: such a request can be shown, and
    not be sent. `notices` has what a user should know of the rest. `region` is AWS' where it is to run, if it is.
    """

    request: dict[str, Any]
    uploads: dict[str, Path]
    placeholders: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    region: str | None = None

    @property
    def name(self) -> str:
        return self.request["TrainingJobName"]

    @property
    def bucket(self) -> str:
        """The S3 bucket of all its addresses."""
        return urlsplit(self.request["OutputDataConfig"]["S3OutputPath"]).netloc

    @property
    def kms_key(self) -> str | None:
        """The key that encrypts what is uploaded, and results; None without one of the user's."""
        return self.request["OutputDataConfig"].get("KmsKeyId")

    def to_json(self) -> str:
        uploads = {uri: str(path) for uri, path in self.uploads.items()}
        return json.dumps({"CreateTrainingJob": self.request, "uploads": uploads}, indent=1)


def limits_s(job: Job) -> tuple[float, float | None]:
    """After how many seconds SageMaker ends a job: of having its instances and, on spot capacity, from its submission
    on. What the job does not say is `USUAL_RUN_S`, or less if it may not wait so long, and twice as long.
    """
    run_s = job.max_run_s or min(USUAL_RUN_S, job.max_wait_s or USUAL_RUN_S)
    return run_s, (job.max_wait_s or 2 * run_s) if job.spot else None


def training_job_request(
    job: Job,
    name: str,
    folders: Mapping[str, Path],
    site: Site,
    *,
    checkpoints_uri: str | None = None,
    checkpoint_bytes: int = 0,
    unseen_bytes: int = 0,
    environment: Mapping[str, str] | None = None,
) -> TrainingJob:
    """The request that runs `job` as the training job `name`.

    Every job has checkpoints, so spot capacity that is taken away costs no more than what came after the newest.

    Args:
        folders: what its tasks read, by name, as `facesim.preflight.inputs.Inputs` has it.
        checkpoints_uri: where the job that this one continues has its checkpoints; left out, it begins anew.
        checkpoint_bytes: what a checkpoint takes beyond the room that every job has; its volume is sized for them.
        unseen_bytes: what hosts keep of data that they read themselves.
        environment: variables of the container, beside those that every job has.

    Raises:
        InputError: SageMaker could not run this job.
    """
    check_spot(job)
    max_run_s, max_wait_s = limits_s(job)
    if max_run_s > _LONGEST_RUN_S:
        raise InputError(
            f"--max-run {max_run_s:g} is longer than SageMaker lets a training job run: {_LONGEST_RUN_S} s (28 days) "
            "at the most"
        )
    home = f"s3://{site.bucket}/{site.prefix}"
    channels = {**folders, **({SOURCE: site.source} if site.source else {})}
    addresses = {channel: f"{home}/{channel}/{content_key(folder)}/" for channel, folder in channels.items()}
    entrypoint = BOOTSTRAP if site.source else ENTRYPOINT
    address = remote(job.experiment.data)
    given = [_given_channel(address, site.input_mode)] if address else []
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": site.role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": site.image,
            "TrainingInputMode": site.input_mode,
            "ContainerEntrypoint": entrypoint,
            "ContainerArguments": ARGUMENTS,
            "MetricDefinitions": METRIC_DEFINITIONS,
        },
        "HyperParameters": {JOB: job_json(job)},
        "Environment": {
            **environment_of(job),
            **kernels.environment(kernels.unmeasured(job)),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        },
        "InputDataConfig": [
            *given,
            # Only data is worth streaming.
            *(
                _channel(channel, uri, site.input_mode if channel == DATA else "File")
                for channel, uri in addresses.items()
            ),
        ],
        "OutputDataConfig": {"S3OutputPath": f"{home}/{_RESULTS}/", "CompressionType": "GZIP"},
        "CheckpointConfig": {
            "S3Uri": checkpoints_uri or f"s3://{site.bucket}/{checkpoints_prefix(site.prefix)}{name}/",
            "LocalPath": CHECKPOINTS,
        },
        "ResourceConfig": _resources(job, channels.values(), checkpoint_bytes, unseen_bytes),
        "StoppingCondition": {"MaxRuntimeInSeconds": math.ceil(max_run_s)},
        "EnableManagedSpotTraining": job.spot is not None,
        "Tags": [{"Key": key, "Value": value} for key, value in {"facesim": "run", **site.tags}.items()],
    }
    if job.recovery.max_restarts:
        request["RetryStrategy"] = {"MaximumRetryAttempts": min(job.recovery.max_restarts, _MOST_RETRIES)}
    if max_wait_s is not None:
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = math.ceil(max_wait_s)
    if site.kms_key:
        request["OutputDataConfig"]["KmsKeyId"] = site.kms_key
        if _takes_key(job):
            request["ResourceConfig"]["VolumeKmsKeyId"] = site.kms_key
    if site.tensorboard:
        request["TensorBoardOutputConfig"] = {"LocalPath": TENSORBOARD, "S3OutputPath": f"{home}/tensorboard/"}
        request["Environment"][event_files.FOLDER] = TENSORBOARD
    if site.keep_alive_s:
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = site.keep_alive_s
    if site.network_isolation:
        request["EnableNetworkIsolation"] = True
    if site.encrypt_traffic:
        request["EnableInterContainerTrafficEncryption"] = True
    if site.subnets:
        request["VpcConfig"] = {"Subnets": list(site.subnets), "SecurityGroupIds": list(site.security_groups)}
    return TrainingJob(request, {addresses[channel]: folder for channel, folder in channels.items()})


def place_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options that belong to an account, by their names, those that a training job's description says: the
    reverse of what `training_job_request` makes of a `Site`.
    """
    algorithm, output = description.get("AlgorithmSpecification", {}), description.get("OutputDataConfig", {})
    home, network = urlsplit(output.get("S3OutputPath", "")), description.get("VpcConfig", {})
    with_source = algorithm.get("ContainerEntrypoint") == BOOTSTRAP
    said = {
        "role": description.get("RoleArn"),
        "image": AWS_IMAGE if with_source else algorithm.get("TrainingImage"),
        "bucket": home.netloc,
        "prefix": home.path.strip("/").removesuffix(f"/{_RESULTS}"),
        "input_mode": algorithm.get("TrainingInputMode"),
        "subnets": tuple(network.get("Subnets", ())),
        "security_groups": tuple(network.get("SecurityGroupIds", ())),
        "network_isolation": description.get("EnableNetworkIsolation"),
        "encrypt_traffic": description.get("EnableInterContainerTrafficEncryption"),
        "kms_key": output.get("KmsKeyId"),
        "keep_alive_s": description.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds"),
        "tensorboard": "TensorBoardOutputConfig" in description,
    }
    return {option: value for option, value in said.items() if value}


def check_spot(job: Job) -> None:
    """Raise InputError for spot capacity without checkpoints."""
    if job.spot and not (job.recovery.checkpoint_s or job.recovery.checkpoint_steps):
        raise InputError(
            "--spot without checkpoints would begin again after each interruption, for money; give --checkpoint-s or "
            "--checkpoint-steps, or leave --spot out"
        )


def checkpoints_prefix(prefix: str) -> str:
    """The folder of all checkpoints: one of their own, so that a bucket's lifecycle can remove old ones."""
    return f"{prefix}/checkpoints/"


def job_name(directory: Path, again: int = 0, attempt: int = 0, longest: int = _LONGEST_NAME) -> str:
    """The training job's name for a run directory: SageMaker allows letters, digits and hyphens, 63 at most.

    Directories of different names have jobs of different names, and so has a run each time that it goes on `again`, and
    each further `attempt` to have instances for it.
    """
    allowed = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in directory.name)
    name = "-".join(word for word in f"facesim-{allowed}".split("-") if word)
    suffix = (f"-again{again}" if again else "") + (f"-try{attempt + 1}" if attempt else "")
    if len(name + suffix) > longest:
        suffix = f"-{hashlib.sha256(directory.name.encode()).hexdigest()[:8]}{suffix}"
        name = name[: longest - len(suffix)].rstrip("-")
    return name + suffix


def job_json(job: Job) -> str:
    """A job as short as it can be: what is as its recipe and facesim have it by default is left out.

    Raises:
        InputError: even so it is longer than a hyperparameter may be.
    """
    given = job.model_dump(mode="json", exclude_defaults=True, exclude={"experiment", "backend"})
    if "strategy" in given:
        given["strategy"] = {"name": job.strategy.name, **given["strategy"]}
    given["backend"] = {"name": job.backend.name}  # its own options belong to the account, and concern no host
    # Not pydantic's exclude_defaults: what a recipe sets, and the user set back to the default, must stay.
    recipe = Experiment(recipe=job.experiment.recipe).model_dump(mode="json")
    experiment = {k: v for k, v in job.experiment.model_dump(mode="json").items() if v != recipe[k]}
    experiment["recipe"] = job.experiment.recipe
    text = json.dumps({"experiment": experiment, **given}, separators=(",", ":"))
    if len(text) > _LONGEST_VALUE:
        raise InputError(
            f"the job takes {len(text)} characters and a hyperparameter of SageMaker's may have {_LONGEST_VALUE}; "
            "shorten the path of --data"
        )
    return text


def job_of(hyperparameters: Mapping[str, str]) -> Job:
    """The job that a container's hyperparameters are: what `job_json` wrote, with the options of its experiment that
    SageMaker's tuner set, by their names; or else a job's options by their names.

    SageMaker's SDK encodes values as JSON, or does not, and adds some of its own, sagemaker_...

    Raises:
        InputError: an option is unknown, or a value is not allowed.
    """
    if JOB not in hyperparameters:
        return make_job(**{"backend": "sagemaker", **_options(hyperparameters)})
    text = hyperparameters[JOB]
    encoded = _decoded(text)
    job = Job.model_validate_json(encoded if isinstance(encoded, str) else text)
    if not is_tuned(hyperparameters):
        return job
    experiment = {**job.experiment.model_dump(), **_options(hyperparameters)}
    return Job.model_validate({**job.model_dump(), "experiment": experiment})


def is_tuned(hyperparameters: Mapping[str, str]) -> bool:
    """Whether SageMaker's tuner set options of a training job."""
    return JOB in hyperparameters and bool(_options(hyperparameters))


def checkpoints_of(request: Mapping[str, Any]) -> str | None:
    """The address of a training job's checkpoints by its request or description; None without one.

    All jobs of a tuning job are given one address: each has a folder of its name there (`facesim.backends.hosted`).
    """
    uri = request.get("CheckpointConfig", {}).get("S3Uri")
    if uri and is_tuned(request.get("HyperParameters", {})):
        return f"{uri.rstrip('/')}/{request['TrainingJobName']}/"
    return uri


def _options(hyperparameters: Mapping[str, str]) -> dict[str, Any]:
    """Options by their names, without what SageMaker adds: `sagemaker_...`, `_tuning_objective_metric`."""
    return {
        name: _decoded(text)
        for name, text in hyperparameters.items()
        if name != JOB and not name.startswith(("sagemaker_", "_"))
    }


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _takes_key(job: Job) -> bool:
    """Whether a key may be given for the volumes: not where instances have disks of their own, which their hardware
    encrypts, with keys that end with the instance (AWS, ResourceConfig, VolumeKmsKeyId).

    Raises:
        InputError: some have, and others have not: one request cannot be right for both.
    """
    disks = {kind: instance(kind).local_storage_gb is not None for kind, _ in job.groups}
    if len(set(disks.values())) > 1:
        with_disk = next(kind for kind, has_disk in disks.items() if has_disk)
        raise InputError(
            f"--kms-key cannot encrypt the volumes of {' and '.join(disks)} together: {with_disk} has a disk of its "
            "own, for which SageMaker takes no key; give both groups instance types with such disks, or neither"
        )
    return not all(disks.values())


def _resources(job: Job, folders: Iterable[Path], checkpoint_bytes: int, unseen_bytes: int) -> dict[str, Any]:
    """Instances: all alike, or the parameter servers' of a type of their own."""
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    data_bytes = sum(file.stat().st_size for file in files)
    # A new checkpoint is whole before the oldest goes, and the model is no larger than one.
    kept_bytes = checkpoint_bytes * (job.recovery.checkpoint_keep + 2)
    volume_gb = _VOLUME_GB + math.ceil((data_bytes + unseen_bytes + kept_bytes) / 1e9)
    for kind, _ in job.groups:
        disk_gb = instance(kind).local_storage_gb
        if disk_gb is not None and volume_gb > disk_gb:
            raise InputError(
                f"{kind} has a disk of {disk_gb} GB and this job needs {volume_gb} GB: use another --instance-type, or "
                "fewer images (--subset)"
            )
    volume = {"VolumeSizeInGB": volume_gb}
    groups = job.groups
    if len(groups) == 1:
        return {"InstanceType": groups[0][0], "InstanceCount": groups[0][1], **volume}
    return {
        "InstanceGroups": [
            {"InstanceGroupName": name, "InstanceType": kind, "InstanceCount": count}
            for name, (kind, count) in zip((WORKER_GROUP, PS_GROUP), groups, strict=True)
        ],
        **volume,
    }


def _channel(name: str, uri: str, input_mode: str) -> dict[str, Any]:
    place = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "InputMode": input_mode, "DataSource": {"S3DataSource": place}}


def _given_channel(address: Remote, input_mode: str) -> dict[str, Any]:
    """Data where it is."""
    if address.scheme == "s3":
        return _channel(DATA, f"s3://{address.place}/{address.prefix}", input_mode)
    place = {
        "FileSystemId": address.place,
        "FileSystemType": {"efs": "EFS", "fsx": "FSxLustre"}[address.scheme],
        "FileSystemAccessMode": "ro",
        "DirectoryPath": f"/{address.path.strip('/')}",
    }
    return {"ChannelName": DATA, "InputMode": "File", "DataSource": {"FileSystemDataSource": place}}


def content_key(folder: Path) -> str:
    """A name that tells this content from any other.

    A prepared data set's description holds the checksum of all the rest, so that it alone need be read.
    """
    description = folder / FACTS_FILE
    files = [description] if description.exists() else sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:32]
