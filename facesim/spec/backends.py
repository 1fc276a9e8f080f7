"""Backends: where a job runs, as far as a job has to say it. What runs it there is `facesim.backends`.

A backend is a class with its own options as fields; class variables declare what it can do, so that no caller asks
which one it is. One of another package subclasses `BackendSpec` and is named by an entry point of `facesim.backends`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, SerializeAsAny, model_validator

from facesim.spec import aws_names, kubernetes_names
from facesim.spec.base import Frozen, named_part
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.options import OneOf, option
from facesim.spec.remote import SCHEMES
from facesim.util.registry import Registry, resolve

if TYPE_CHECKING:
    from facesim.backends.base import Backend


def _pairs(given: Any) -> Any:
    """`["team=faces"]`, as a command line gives it, -> `{"team": "faces"}`."""
    if isinstance(given, dict):
        return given
    wrong = [text for text in given if "=" not in text[1:]]
    if wrong:
        raise ValueError(f"must be KEY=VALUE, not {wrong[0]}")
    return dict(text.split("=", 1) for text in given)


def _named(check: Callable[[Any], Any]) -> AfterValidator:
    """Check a value, unless it is None, by the rules of the place that gets it."""
    return AfterValidator(lambda value: value if value is None else check(value))


class BackendSpec(Frozen):
    """A place where jobs run.

    Attributes:
        summary: one line for listings.
        measurement: how its numbers are marked wherever they are shown: `emulated` or `measured`.
        implementation: where the `facesim.backends.base.Backend` is, `module:attribute`.
        costs_money: whether its jobs are paid for, by prices that facesim knows.
        elsewhere: whether its jobs run on other machines than this one.
        owns_capacity: whether it takes spot capacity away and brings it back itself; elsewhere facesim plays it.
        owns_limits: whether it ends a job at --max-run and --max-wait itself.
        own_hosts: whether each host of a job has memory and processors of its own; elsewhere all tasks share this
            machine's.
        disturbs_networks: whether faults can disturb the network between tasks.
        can_attach: whether a job outlives the command that submitted it and can be followed again.
        lists_tags: whether the list that it has of its jobs says their tags.
        has_tuner: whether it has a tuner of its own, which searches hyperparameters.
        reads: schemes of addresses (`facesim.spec.remote`) that its hosts read data from themselves.
        frameworks: those that its hosts can have, by the image that they run; None: what this machine has.
    """

    summary: ClassVar[str]
    measurement: ClassVar[Literal["emulated", "measured"]] = "emulated"
    implementation: ClassVar[str]
    costs_money: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = False
    owns_capacity: ClassVar[bool] = False
    owns_limits: ClassVar[bool] = False
    own_hosts: ClassVar[bool] = False
    disturbs_networks: ClassVar[bool] = False
    can_attach: ClassVar[bool] = False
    lists_tags: ClassVar[bool] = False
    has_tuner: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    frameworks: ClassVar[tuple[str, ...] | None] = None

    name: str
    tags: Annotated[dict[str, str], BeforeValidator(_pairs), _named(aws_names.tags)] = option(
        {}, "tag of the run, to find it by; repeatable", "Output", metavar="KEY=VALUE"
    )

    def open(self) -> Backend:
        """What runs jobs there."""
        return resolve(self.implementation)


class Local(BackendSpec):
    summary = "this machine, each task a process of its own"
    implementation = "facesim.backends.local:BACKEND"
    disturbs_networks = True

    name: Literal["local"] = "local"


#: The name of an image that means AWS' own TensorFlow image.
AWS_IMAGE = "aws"

_PREFIX = r"^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$"


class _Containers(BackendSpec):
    """Backends whose hosts are containers.

    image: of a container registry.
    network_isolation: containers reach each other and nothing else.
    """

    own_hosts = True
    frameworks = (TENSORFLOW, "torch", "jax")

    image: Annotated[str | None, _named(aws_names.image)] = option(
        None,
        "container image; at AWS `aws` is AWS' TensorFlow image",
        "Cluster",
        shown="facesim's own",
        metavar="IMAGE",
    )
    network_isolation: bool = option(False, "containers reach each other and nothing else", "Cluster")


class _Remote(BackendSpec):
    """Backends whose jobs run on other machines, and go on without the command that submitted them.

    on_interrupt: what Ctrl-C does to such a job.
    """

    elsewhere = True
    owns_capacity = True
    owns_limits = True
    can_attach = True

    on_interrupt: Literal["ask", "stop", "leave"] = option(
        "ask", "what Ctrl-C does to a job that runs on other machines", "Cluster"
    )


class _TrainingJobs(_Containers):
    """What docker, which executes a CreateTrainingJob request, and sagemaker, which sends it, have in common.

    Of `image`, `aws` is AWS' own TensorFlow image, into which facesim is brought as a channel.

    input_mode: `File` copies the data before training, `FastFile` streams it as it is read. SageMaker's `Pipe` is one
        stream of all files, without their names, that is read once: hosts prepare data from files, in several passes.
    encrypt_traffic: at AWS, what containers tell each other is encrypted, which takes time.
    """

    prefix: Annotated[str, _named(aws_names.prefix)] = option("facesim", "folder in the bucket", "AWS", pattern=_PREFIX)
    input_mode: Literal["File", "FastFile"] = option(
        "File", "copy the data, or stream files as they are read (Pipe has none)", "AWS"
    )
    encrypt_traffic: bool = option(False, "encrypt traffic between containers", "AWS")

    @model_validator(mode="after")
    def _isolated_with_all_that_it_needs(self) -> _TrainingJobs:
        if self.network_isolation and self.image == AWS_IMAGE:
            raise ValueError(
                f"--network-isolation does not go with --image {AWS_IMAGE}, into which packages are downloaded; name "
                "an image that has them (facesim image build)"
            )
        return self


class Docker(_TrainingJobs):
    """`host_cpus` and `host_gbps` are what every host has in place of what its instance type has, before all are scaled
    down to fit on this machine.
    """

    summary = "this machine, each host a container, from the request that sagemaker sends"
    implementation = "facesim.backends.docker:BACKEND"

    name: Literal["docker"] = "docker"
    host_cpus: float | None = option(
        None, "docker: processors of a host", "Cluster", shown="as its instance type has", gt=0
    )
    host_gbps: float | None = option(
        None, "docker: Gbit/s that a host sends and receives", "Cluster", shown="as its instance type has", gt=0
    )


class SageMaker(_TrainingJobs, _Remote):
    """What is None has a default that depends on the account: `facesim.backends.sagemaker.site`.

    bucket_owner: the number of the account that owns the bucket, if that is not the one that runs the job.
    max_cost: dollars that the jobs of a command may cost together at the most; they are refused if they could cost
        more. What was billed for earlier ones of a study that continues is not in it.
    """

    summary = "AWS SageMaker, each host an instance"
    measurement = "measured"
    implementation = "facesim.backends.sagemaker.backend:BACKEND"
    costs_money = True
    has_tuner = True
    reads = SCHEMES

    name: Literal["sagemaker"] = "sagemaker"
    region: Annotated[str | None, _named(aws_names.region)] = option(
        None, "AWS region", "AWS", common=True, shown="as AWS' own tools are configured"
    )
    role: Annotated[str | None, _named(aws_names.role)] = option(
        None, "IAM role, or its name, that training jobs run as", "AWS", shown="facesim-training", commas=True
    )
    bucket: Annotated[str | None, _named(aws_names.bucket)] = option(
        None, "S3 bucket for data and results", "AWS", common=True, shown="sagemaker-REGION-ACCOUNT"
    )
    bucket_owner: Annotated[str | None, _named(aws_names.account)] = option(
        None, "number of the account that owns the bucket", "AWS", shown="your own", metavar="ACCOUNT"
    )
    subnets: Annotated[tuple[str, ...], _named(aws_names.subnets)] = option(
        (), "subnet of a VPC to run in; repeatable", "AWS"
    )
    security_groups: Annotated[tuple[str, ...], _named(aws_names.security_groups)] = option(
        (), "security group of a VPC; repeatable", "AWS"
    )
    kms_key: Annotated[str | None, _named(aws_names.kms_key)] = option(
        None, "KMS key that encrypts data, volumes and results", "AWS"
    )
    keep_alive_s: int | None = option(
        None, "seconds for which instances are kept, and paid for, after a job, for the next of the same shape", "AWS",
        ge=60, le=21_600,
    )  # fmt: skip
    quota_wait_s: float = option(
        0.0, "seconds to wait where the account's quota, or AWS itself, has no instances left for a job", "AWS", ge=0
    )
    tensorboard: bool = option(
        False, "hosts also write what they measure to the bucket, while they run, as TensorBoard reads it", "AWS"
    )
    max_cost: float | None = option(
        None,
        "dollars: refuse jobs that could cost more together at AWS, beside what was billed before",
        "AWS",
        common=True,
        gt=0,
    )

    @model_validator(mode="after")
    def _whole_network(self) -> SageMaker:
        if bool(self.subnets) != bool(self.security_groups):
            given, missing = ("--subnets", "--security-groups") if self.subnets else ("--security-groups", "--subnets")
            raise ValueError(f"{given} needs {missing}: a network of one's own takes both")
        return self


class Kubernetes(_Containers, _Remote):
    """Pods have the CPUs and the memory of an instance type on whatever nodes there are, so numbers are `emulated`.

    storage_claim: a persistent volume claim with room for the data, checkpoints and results; pods on several nodes need
        one that many can write to (ReadWriteMany).
    storage: a folder in S3 that pods read from and write to in place of that claim, by the rights of their service
        account or with the variables of `storage_secret`.
    pod_cpus, pod_memory_gib: what every pod asks for, and gets, in place of what its instance type has.
    retention_s: for how long the cluster keeps a JobSet that has ended, with its pods and their logs.
    """

    summary = "a Kubernetes cluster, each host a pod of a JobSet"
    implementation = "facesim.backends.kubernetes.backend:BACKEND"
    lists_tags = True

    name: Literal["kubernetes"] = "kubernetes"
    kube_context: str | None = option(None, "context of the kubeconfig file", "Kubernetes", shown="the current one")
    namespace: Annotated[str, _named(kubernetes_names.label)] = option(
        "default", "namespace of the job", "Kubernetes", common=True
    )
    storage_claim: Annotated[str, _named(kubernetes_names.subdomain)] = option(
        "facesim",
        "persistent volume claim for data, checkpoints and results",
        "Kubernetes",
        common=True,
        metavar="CLAIM",
    )
    storage: Annotated[str | None, _named(kubernetes_names.storage)] = option(
        None, "folder in S3 for data, checkpoints and results, in place of a claim", "Kubernetes", metavar="ADDRESS"
    )
    storage_secret: Annotated[str | None, _named(kubernetes_names.subdomain)] = option(
        None,
        "secret with AWS_... variables for --storage",
        "Kubernetes",
        shown="the service account's own rights",
        metavar="SECRET",
    )
    service_account: Annotated[str | None, _named(kubernetes_names.subdomain)] = option(
        None, "service account of the pods, whose token they do not get", "Kubernetes", shown="the namespace's default"
    )
    node_selector: Annotated[
        dict[str, str], BeforeValidator(_pairs), _named(kubernetes_names.node_labels)
    ] = option({}, "label of the nodes to run on; repeatable", "Kubernetes", metavar="KEY=VALUE")  # fmt: skip
    pod_cpus: float | None = option(None, "CPUs of a pod", "Kubernetes", shown="as its instance type has", ge=0.001)
    pod_memory_gib: float | None = option(
        None, "GiB of memory of a pod", "Kubernetes", shown="as its instance type has", gt=0
    )
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = option(
        "IfNotPresent", "when nodes pull the image", "Kubernetes"
    )
    retention_s: int = option(
        86_400, "seconds for which the cluster keeps a job that has ended", "Kubernetes", ge=0, le=2**31 - 1
    )

    @model_validator(mode="after")
    def _image_that_nodes_can_pull(self) -> Kubernetes:
        if self.image == AWS_IMAGE:
            raise ValueError(
                f"--image {AWS_IMAGE} is for --backend sagemaker: name facesim's image (facesim image build) in a "
                "registry that the cluster's nodes can pull from"
            )
        return self

    @model_validator(mode="after")
    def _storage_that_pods_reach(self) -> Kubernetes:
        if self.storage_secret and not self.storage:
            raise ValueError("--storage-secret is for --storage: give s3://BUCKET/FOLDER, too, or leave it out")
        if self.storage and self.network_isolation:
            raise ValueError("--network-isolation does not go with --storage, which pods reach over the network")
        return self


#: Backend classes by name.
BACKENDS: Registry[type[BackendSpec]] = Registry(
    "backend",
    "facesim.backends",
    {"local": Local, "docker": Docker, "sagemaker": SageMaker, "kubernetes": Kubernetes},
)


def _backend_of(given: Any) -> Any:
    """A backend from its name, or from its fields as JSON has them."""
    return named_part(given, BackendSpec, BACKENDS, "local")


#: A field that holds any backend: given as one, by its name, or by its fields.
AnyBackend = Annotated[
    SerializeAsAny[BackendSpec], BeforeValidator(_backend_of), OneOf("facesim.spec.backends:BACKENDS")
]
