"""Whether an account can run a job: what would be found out by failing, found out before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from facesim.backends.base import Finding
from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.organisation import layered
from facesim.backends.sagemaker.session import Account, DeniedError, asking
from facesim.backends.sagemaker.setup import REPOSITORY
from facesim.backends.sagemaker.site import site_of
from facesim.backends.sagemaker.storage import has_bucket
from facesim.spec.frameworks import TENSORFLOW
from facesim.util.errors import FacesimError, InputError

if TYPE_CHECKING:
    from facesim.backends.training_job import Site
    from facesim.spec.job import Job

_SETUP = "`facesim aws setup` makes it"

#: The quota of how long a training job may run; AWS begins with 5 days.
_LONGEST_RUN = "Longest run time for a training job"


def examine(job: Job, account: Account | None = None) -> Iterator[Finding]:
    """What there is of what `job` needs at AWS, and what is missing. Without an account that is the only finding."""
    aws = job.backend
    try:
        account = account or Account(aws.region)
        number = account.id
    except FacesimError as error:
        yield Finding("AWS account", "fail", str(error))
        return
    where = f"{number} in {account.region}" + (f", emulated by {account.emulator}" if account.emulator else "")
    yield Finding("AWS account", "ok", where)
    try:
        aws, notices = layered(aws)
        for notice in notices:
            yield Finding("defaults", "ok", notice)
        site = site_of(aws, Names(aws.region), [kind for kind, _ in job.groups], job.framework)
    except InputError as error:
        yield Finding("options", "fail", str(error))
        return
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("role", lambda: _role(account, site)),
        ("bucket", lambda: _bucket(account, site, aws.bucket_owner)),
        ("image", lambda: _image(account, site, job.framework)),
        ("quotas", lambda: _quotas(account, job)),
    )
    for name, check in checks:
        try:
            with asking(f"look at the {name}"):
                yield from check()
        except DeniedError as error:  # the job may go well all the same
            yield Finding(name, "note", f"it is not known whether it is right: {error}")
        except FacesimError as error:
            yield Finding(name, "fail", str(error))


def _role(account: Account, site: Site) -> Iterator[Finding]:
    iam = account.client("iam")
    name = site.role_arn.rpartition("/")[2]
    try:
        role = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        yield Finding("role", "fail", f"there is no role {name}: {_SETUP}, or name another with --role")
        return
    statements = role["AssumeRolePolicyDocument"]["Statement"]
    each = statements if isinstance(statements, list) else [statements]  # IAM takes a single one without a list
    trusted = [statement.get("Principal", {}) for statement in each]
    services = [principal.get("Service", []) for principal in trusted if isinstance(principal, dict)]
    if not any("sagemaker.amazonaws.com" in ([names] if isinstance(names, str) else names) for names in services):
        problem = f"{name} does not let SageMaker take it: `facesim policy trust` prints what has to be there"
        yield Finding("role", "fail", problem)
    elif role["Arn"] != site.role_arn:
        yield Finding("role", "fail", f"{site.role_arn} is to be used, and the role {name} is {role['Arn']}")
    else:
        yield Finding("role", "ok", name)


def _bucket(account: Account, site: Site, owner: str | None) -> Iterator[Finding]:
    if has_bucket(account.client("s3"), site.bucket, owner or account.id):
        yield Finding("bucket", "ok", site.bucket)
    else:
        yield Finding("bucket", "note", f"there is no bucket {site.bucket} yet: the first job makes it; {_SETUP}, too, "
                      "with a lifecycle that removes old checkpoints")  # fmt: skip


def _image(account: Account, site: Site, framework: str) -> Iterator[Finding]:
    registry, _, name = site.image.partition("/")
    number = registry.partition(".")[0]
    if number != account.id:
        yield Finding("image", "ok", f"{site.image}, of another account ({number}), where it cannot be looked for")
        return
    repository, _, version = name.partition("@") if "@" in name else name.partition(":")
    wanted = {"imageDigest": version} if "@" in name else {"imageTag": version or "latest"}
    ecr = account.client("ecr")
    which = "" if framework == TENSORFLOW else f" --framework {framework}"
    push = f"`facesim image build{which}` and `facesim image push{which}` bring it there"
    try:
        ecr.describe_images(repositoryName=repository, registryId=number, imageIds=[wanted])
        yield Finding("image", "ok", site.image)
    except ecr.exceptions.RepositoryNotFoundException:
        makes = f"{_SETUP}; then {push}" if repository == REPOSITORY else "make it, or give another --image"
        yield Finding("image", "fail", f"there is no repository {repository} in Amazon ECR: {makes}")
    except ecr.exceptions.ImageNotFoundException:
        yield Finding("image", "fail", f"{site.image} is not in Amazon ECR: {push}")


def _quotas(account: Account, job: Job) -> Iterator[Finding]:
    pages = account.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {quota["QuotaName"]: quota for page in pages for quota in page.get("Quotas", [])}
    use = "spot training job usage" if job.spot else "training job usage"
    counts: Counter[str] = Counter()
    for kind, count in job.groups:
        counts[kind] += count
    for kind, count in counts.items():
        yield _enough(account, quotas.get(f"{kind} for {use}"), f"{kind} for {use}", count)
        if job.backend.keep_alive_s:
            kept = f"{kind} for training warm pool usage"
            found = _enough(account, quotas.get(kept), kept, count)
            if found.level == "fail":  # the job runs all the same
                found = Finding("quota", "note", f"{found.finding}; until then --keep-alive-s keeps no instances")
            yield found
    if job.max_run_s and (longest := quotas.get(_LONGEST_RUN)):
        yield _enough(account, longest, _LONGEST_RUN, job.max_run_s)


def _enough(account: Account, quota: dict[str, Any] | None, name: str, needed: float) -> Finding:
    if quota is None:
        return Finding("quota", "note", f"AWS tells no quota “{name}”: the instance type may be missing in the region")
    comparison = f"{name}: {quota['Value']:g}, {needed:g} needed"
    if quota["Value"] >= needed:
        return Finding("quota", "ok", comparison)
    if not quota.get("Adjustable", True):
        return Finding("quota", "fail", f"{comparison}; AWS does not give more: use another region, or less")
    ask = (
        f"aws service-quotas request-service-quota-increase --service-code sagemaker --quota-code {quota['QuotaCode']} "
        f"--desired-value {needed:g} --region {account.region}"
    )
    return Finding("quota", "fail", f"{comparison}; ask for more: {ask}")
