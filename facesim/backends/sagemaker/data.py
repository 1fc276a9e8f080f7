"""What can be known here of data that is at AWS already, and is read by hosts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facesim.backends.sagemaker.session import asking
from facesim.data.unseen import UnseenData
from facesim.spec.remote import Remote, remote
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account
    from facesim.spec.job import Job


def look_at(job: Job, account: Account) -> UnseenData:
    """What there is at a job's --data, by its listing: nothing is downloaded.

    Raises:
        InputError: there is nothing, or it may not be listed.
        AwsError: S3 cannot be asked.
    """
    experiment = job.experiment
    address = remote(experiment.data)
    assert address is not None, "it is no address"
    shape = (experiment.image_size, experiment.image_size, experiment.channels)
    unknown = (
        "each host prepares it by itself, before it trains; who is in it, what cannot be used of it, and whether a "
        "head for so many people fits, is known there alone"
    )
    if address.scheme != "s3":
        size = "how much there is is not known here, so volumes are as small as for little data"
        return UnseenData(experiment.data, shape, (f"{unknown}; {size}",))
    files, size = _listed(account, address, experiment.data)
    return UnseenData(
        experiment.data, shape, (f"{files:,} files, {size / 1e9:.3g} GB, stay where they are; {unknown}",), files, size
    )


def _listed(account: Account, address: Remote, shown: str) -> tuple[int, int]:
    """How many files are there, and how many bytes."""
    files = size = 0
    with asking(f"list {shown}"):
        pages = (
            account.client("s3").get_paginator("list_objects_v2").paginate(Bucket=address.place, Prefix=address.prefix)
        )
        for page in pages:
            for entry in page.get("Contents", []):
                files, size = files + 1, size + entry["Size"]
    if not files:
        raise InputError(f"--data {shown}: there is nothing", field="data", value=shown)
    return files, size
