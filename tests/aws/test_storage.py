"""What goes to S3, and what comes out of an archive that a container made."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from facesim.backends.sagemaker.session import Account, AwsError
from facesim.backends.sagemaker.storage import Sent, create_bucket, have_bucket, prune_checkpoints, unpack, upload
from facesim.util.errors import DiskFull, InputError


def archive(path: Path, *members: tarfile.TarInfo, content: bytes = b"harm") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_files_and_folders_are_unpacked(tmp_path):
    made = archive(
        tmp_path / "a.tar.gz",
        member(".", tarfile.DIRTYPE),
        member("./metrics", tarfile.DIRTYPE),
        member("./metrics/a.jsonl"),
    )

    unpack(made, tmp_path / "out")

    assert (tmp_path / "out" / "metrics" / "a.jsonl").read_bytes() == b"harm"


EVIL = {
    "absolute": [member("/tmp/facesim-evil")],
    "parent": [member("../evil")],
    "hidden parent": [member("metrics/../../evil")],
    "link": [member("link", tarfile.SYMTYPE, "/etc/passwd")],
    "through a link": [member("link", tarfile.SYMTYPE, ".."), member("link/evil")],
    "hard link": [member("link", tarfile.LNKTYPE, "../../evil")],
    "device": [member("null", tarfile.CHRTYPE)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("kind", EVIL)
def test_what_would_write_or_read_elsewhere_is_refused(kind, tmp_path):
    made = archive(tmp_path / "a.tar.gz", *EVIL[kind])

    with pytest.raises(AwsError, match="it is not unpacked"):
        unpack(made, tmp_path / "out" / "deep")

    assert not (tmp_path / "out" / "evil").exists()
    assert not (tmp_path / "evil").exists()
    assert not os.path.lexists("/tmp/facesim-evil")


def test_an_archive_that_would_fill_the_disk_is_refused_before_it_does(tmp_path):
    huge = member("huge")
    huge.size = 1 << 50
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(huge.tobuf() + bytes(4096))

    with pytest.raises(AwsError, match=r"more than can be unpacked: 1 file .*, 1,125,899,906,842,624 bytes \(at most"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")

    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_for_which_there_is_no_room_now_is_not_called_damaged(tmp_path, monkeypatch, largest_file):
    made = archive(tmp_path / "a.tar.gz", member("a"), content=os.urandom(100_000))
    usage = shutil.disk_usage(tmp_path)

    with monkeypatch.context() as nearly_full:
        nearly_full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(DiskFull, match="no room left in .*out: 0.0 MB are free on its disk; make room there"):
            unpack(made, tmp_path / "out")
    largest_file(1000)
    with pytest.raises(DiskFull, match="no room left in .*out: .*ulimit -f.*; make room there"):
        unpack(made, tmp_path / "out")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    header = member("long", tarfile.GNUTYPE_LONGNAME)
    header.size = 1 << 33
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(4096))

    with pytest.raises(AwsError, match="cannot be unpacked: a header of 8,589,934,592 bytes"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_damaged_archive_holds_the_error_is_one_for_the_user(tmp_path, seed):
    random = np.random.default_rng(seed)
    whole = archive(tmp_path / "a.tar.gz", *map(member, "abc"), content=random.bytes(5000))
    content = bytearray(whole.read_bytes() if seed % 2 else gzip.decompress(whole.read_bytes()))
    for at in random.integers(0, len(content) if seed % 2 else 2000, 8):
        content[at] = random.integers(256)
    whole.write_bytes(content if seed % 2 else gzip.compress(content))

    try:
        unpack(whole, tmp_path / "out")
    except AwsError as error:
        assert str(error)


def test_a_damaged_archive_is_told(tmp_path):
    whole = archive(tmp_path / "a.tar.gz", member("a"), content=os.urandom(100_000))
    whole.write_bytes(whole.read_bytes()[:50_000])

    with pytest.raises(AwsError, match=r"a\.tar\.gz cannot be unpacked"):
        unpack(whole, tmp_path / "out")


@pytest.fixture
def bucket(account):
    s3 = account.client("s3")
    s3.create_bucket(Bucket="a-bucket")
    return s3


def test_a_large_file_tells_how_far_it_is(bucket, tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(30_000_000))

    progress = list(upload(bucket, tmp_path, "s3://a-bucket/there/"))

    assert progress[-1] == Sent(tmp_path / "large", 30_000_000, 30_000_000, True)
    assert [sent.sent_bytes for sent in progress] == sorted(sent.sent_bytes for sent in progress)
    assert bucket.head_object(Bucket="a-bucket", Key="there/large")["ContentLength"] == 30_000_000


def test_an_upload_that_is_not_wanted_any_more_leaves_nothing_half_done(bucket, tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(60_000_000))
    sending = upload(bucket, tmp_path, "s3://a-bucket/there/")
    next(sending)

    sending.close()

    assert bucket.list_objects_v2(Bucket="a-bucket")["KeyCount"] == 0
    assert "Uploads" not in bucket.list_multipart_uploads(Bucket="a-bucket")


def test_a_bucket_is_made_in_the_region_where_the_jobs_are(account):
    elsewhere = Account("eu-west-1")
    have_bucket(elsewhere.client("s3"), "a-bucket", "eu-west-1", owner=None)
    have_bucket(elsewhere.client("s3"), "a-bucket", "eu-west-1", owner=None)

    assert elsewhere.client("s3").get_bucket_location(Bucket="a-bucket")["LocationConstraint"] == "eu-west-1"


def test_checkpoints_are_pruned_in_s3_as_on_a_disk(endpoint, account, monkeypatch):
    monkeypatch.setattr("facesim.backends.sagemaker.storage._MOST_AT_ONCE", 5)
    s3 = account.client("s3")
    s3.create_bucket(Bucket="a-bucket")
    names = [f"checkpoint-{step:09d}.npz" for step in range(14)] + ["damaged-checkpoint-000000001.npz", "other"]
    unfinished = [f".checkpoint-{step:09d}.npz.77" for step in (5, 13, 14)]
    for name in [*unfinished, *names]:
        s3.put_object(Bucket="a-bucket", Key=f"facesim/checkpoints/one/{name}", Body=b"")
    s3.put_object(Bucket="a-bucket", Key="facesim/checkpoints/two/checkpoint-000000001.npz", Body=b"")

    assert prune_checkpoints(s3, "s3://a-bucket/facesim/checkpoints/one/", keep=2, owner=account.id) == 14

    left = [one["Key"].rpartition("/")[2] for one in s3.list_objects_v2(Bucket="a-bucket")["Contents"]]
    assert left == [unfinished[2], *names[12:], "checkpoint-000000001.npz"]  # that is being written now


def test_each_folder_keeps_its_own_newest_checkpoints(bucket, account):
    """Tasks of `independent` have a folder each, and are at different steps."""
    kept = [
        "one/chief-0/checkpoint-000000900.npz",
        "one/worker-0/.checkpoint-000000030.npz.77",
        "one/worker-0/checkpoint-000000010.npz",
        "one/worker-0/checkpoint-000000020.npz",
    ]
    old = ["one/chief-0/.checkpoint-000000900.npz.77", "one/worker-0/checkpoint-000000009.npz"]
    for key in [*kept, *old]:
        bucket.put_object(Bucket="a-bucket", Key=key, Body=b"")

    assert prune_checkpoints(bucket, "s3://a-bucket/one/", keep=2, owner=account.id) == 2

    assert [one["Key"] for one in bucket.list_objects_v2(Bucket="a-bucket")["Contents"]] == kept


def test_a_bucket_that_another_job_makes_at_the_same_time_is_the_bucket(endpoint):
    s3 = Account("eu-west-1").client("s3")  # in us-east-1 AWS does not mind

    for _ in range(2):
        create_bucket(s3, "a-bucket", "eu-west-1")


def test_a_bucket_of_another_region_is_refused_before_anything_is_put_there(bucket):
    with pytest.raises(InputError, match="is in us-east-1 and the job would run in eu-west-1: give --region us-east-1"):
        have_bucket(Account("eu-west-1").client("s3"), "a-bucket", "eu-west-1", owner=None)


def test_a_checkpoint_that_may_not_be_removed_is_told(account):
    """S3 answers as if all were well, and lists what it did not remove."""
    from botocore.stub import Stubber

    keys = [f"one/checkpoint-{step:09d}.npz" for step in (1, 2)]
    s3 = account.client("s3")
    with Stubber(s3) as answers:
        answers.add_response("list_objects_v2", {"Contents": [{"Key": key} for key in keys]})
        answers.add_response("delete_objects", {"Errors": [{"Key": keys[0], "Code": "AccessDenied", "Message": "no"}]})

        with pytest.raises(AwsError, match=f"cannot remove {keys[0]} from S3: AccessDenied"):
            prune_checkpoints(s3, "s3://a-bucket/one/", keep=1)
