"""What a training job left in S3 comes home."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.backends.collect_results import collect_results
from facesim.backends.sagemaker.advice import AwsError
from facesim.backends.sagemaker.session import asking, redacted
from facesim.backends.sagemaker.storage import download, unpack
from facesim.util.disk import MAKE_ROOM, writing_to

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account
    from facesim.runs.directory import Run


def fetch_results(account: Account, description: dict[str, Any], run: Run) -> list[str]:
    """Put what the hosts left, and the model, into the run directory.

    Returns what is missing of it, or damaged, in words; of a damaged archive what can be read comes home.

    Raises:
        AwsError: S3 cannot be reached; the same may go well later.
        DiskFull: there is no room for it here; the same.
        InputError: S3 does not allow it.
    """
    output = description["OutputDataConfig"]["S3OutputPath"].rstrip("/") + f"/{description['TrainingJobName']}/output"
    owner = run.job().backend.bucket_owner or account.id
    missing = []
    with (
        writing_to(run.directory, MAKE_ROOM),
        tempfile.TemporaryDirectory(prefix=".home-", dir=run.directory, ignore_cleanup_errors=True) as folder,
    ):
        scratch = Path(folder)
        for name in ("output", "model"):
            (scratch / name).mkdir()
            archive = scratch / f"{name}.tar.gz"
            with asking(f"download {output}/{archive.name}"):
                exists = download(account.client("s3"), f"{output}/{archive.name}", archive, owner)
            if not exists:
                missing.append(f"{archive.name} is not at {output}/")
                continue
            try:
                unpack(archive, scratch / name)
            except AwsError as error:
                missing.append(f"{error} (at {output}/)")
            archive.unlink()
        for log in (scratch / "output").glob("*/logs/*"):
            log.write_text(redacted(log.read_text(errors="replace", encoding="utf-8")), encoding="utf-8")
        collect_results(scratch / "output", scratch / "model", run)
    return missing
