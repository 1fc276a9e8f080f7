"""What a training job left in S3 comes home."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.aws.session import redacted
from facesim.aws.storage import download, unpack
from facesim.backends.homecoming import bring_home

if TYPE_CHECKING:
    from facesim.aws.session import Account
    from facesim.runs.directory import Run


def fetch_results(account: Account, description: dict[str, Any], run: Run) -> None:
    """Put what the hosts left, and the model, into the run directory. What a job did not leave is missing."""
    output = description["OutputDataConfig"]["S3OutputPath"].rstrip("/") + f"/{description['TrainingJobName']}/output"
    scratch = Path(tempfile.mkdtemp(prefix=".home-", dir=run.directory))
    try:
        for name in ("output", "model"):
            (scratch / name).mkdir()
            archive = scratch / f"{name}.tar.gz"
            if download(account.client("s3"), f"{output}/{archive.name}", archive):
                unpack(archive, scratch / name)
                archive.unlink()
        for log in (scratch / "output").glob("*/logs/*"):
            log.write_text(redacted(log.read_text(errors="replace")))
        bring_home(scratch / "output", scratch / "model", run)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
