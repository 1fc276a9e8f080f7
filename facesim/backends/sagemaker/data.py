"""What can be known here of data that is at AWS already, and is read by hosts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facesim.backends.sagemaker.session import Account, CredentialsError, NoAccount, asking
from facesim.data.unseen import UnseenData
from facesim.spec.remote import Remote, remote
from facesim.util.errors import InputError
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.spec.job import Job


def look_at(job: Job) -> UnseenData:
    """What there is at a job's --data, by its listing: nothing is downloaded. Without an account, nothing is known.

    Raises:
        InputError: there is nothing, or it may not be listed.
        AwsError: S3 cannot be asked.
    """
    experiment = job.experiment
    address = remote(experiment.data)
    assert address is not None, "it is no address"
    files = size = None
    uncounted = "how much there is is not known here, so volumes are as small as for little data"
    if address.scheme == "s3":
        try:
            files, size = _listed(Account(job.backend.region), address, experiment.data)
        except (NoAccount, CredentialsError) as error:
            uncounted = f"how much there is cannot be asked: {error}"
    amount = (
        uncounted if size is None else f"{count_text(files or 0, 'file')}, {size / 1e9:.3g} GB, left where the data is"
    )
    note = (
        f"{amount}; each host prepares them by itself, before it trains; who is in it, what cannot be used of it, and "
        "whether a head for so many people fits, is known there alone"
    )
    shape = (experiment.image_size, experiment.image_size, experiment.channels)
    return UnseenData(experiment.data, shape, (note,), files, size)


def _listed(account: Account, address: Remote, shown: str) -> tuple[int, int]:
    """How many files are there, and how many bytes."""
    files = size = 0
    region = account.region
    with asking(f"list {shown}"):
        pages = (
            account.client("s3").get_paginator("list_objects_v2").paginate(Bucket=address.place, Prefix=address.prefix)
        )
        for page in pages:
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # a folder, as AWS' console makes them
                    files, size = files + 1, size + entry["Size"]
            region = page["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", region)
    if not files:
        raise InputError(f"--data {shown}: there is nothing", field="data", value=shown)
    if region != account.region:
        raise InputError(
            f"--data {shown} is in {region} and the job would run in {account.region}: SageMaker reads data of its own "
            f"region only; give --region {region}, or copy the data",
            field="data",
            value=shown,
        )
    return files, size
