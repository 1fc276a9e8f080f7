"""The CreateTrainingJob request: what AWS would accept, and what a container makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("botocore")

from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.rules import broken_rules
from facesim.backends.sagemaker.site import site_of
from facesim.backends.sagemaker.validation import problems
from facesim.backends.training_job import Site, TrainingJob, job_json, job_name, job_of, place_of, training_job_request
from facesim.spec.job import make_job
from facesim.util.errors import InputError

SITE = Site(role_arn="arn:aws:iam::123456789012:role/facesim", image="facesim:latest", bucket="a-bucket")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something to upload."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    (folder / "dataset.json").write_text('{"sha256": "1"}')
    (folder / "images.u8").write_bytes(b"1234")
    return folder


def request(folder: Path, site: Site = SITE, name: str = "facesim-one", **options) -> dict:
    job = make_job(backend="sagemaker", **options)
    return training_job_request(job, name, {"data": folder}, site).request


PLACES = {
    "plain": SITE,
    "network": replace(SITE, subnets=("subnet-0a1",), security_groups=("sg-0a1",)),
    "key": replace(SITE, kms_key="arn:aws:kms:us-east-1:123456789012:key/1"),
    "tags": replace(SITE, tags={"team": "faces", "größe": "x y"}),
    "tensorboard": replace(SITE, tensorboard=True),
    "streaming": replace(SITE, input_mode="FastFile"),
    "isolated": replace(SITE, network_isolation=True, encrypt_traffic=True),
    "kept": replace(SITE, keep_alive_s=600, prefix="team/faces"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "options", [{}, {"strategy": "ps-async"}, {"strategy": "ps-sync", "ps_instance_type": "ml.c5.xlarge"}]
)
def test_a_request_is_one_that_aws_describes(folder, place, options):
    assert problems("CreateTrainingJob", request(folder, PLACES[place], **options)) == []


@pytest.mark.parametrize("place", PLACES)
def test_where_a_job_runs_with_is_read_from_what_aws_says_of_it(folder, place):
    site = PLACES[place]

    said = place_of(request(folder, site))  # a description repeats the request, without its tags

    as_a_site = {**said, "role_arn": said["role"], "tags": site.tags}
    del as_a_site["role"]
    assert Site(**as_a_site) == site


def test_a_job_with_aws_own_image_is_known_as_one(folder, tmp_path):
    assert place_of(request(folder, replace(SITE, source=folder)))["image"] == "aws"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"TrainingJobName": "two words"}, "TrainingJobName: 'two words' does not match"),
        ({"RoleArn": "arn:aws:iam::1:role/too-short-a-number"}, "RoleArn: "),
        ({"HyperParameters": {"job": "x" * 2501}}, "HyperParameters.job: 2501 is not within 0..2500"),
        ({"HyperParameters": {"epochs": 3}}, "Invalid type for parameter HyperParameters.epochs"),
        ({"Epochs": 3}, 'Unknown parameter in input: "Epochs"'),
    ],
)
def test_a_request_that_is_wrong_is_found_to_be(folder, change, message):
    (problem,) = problems("CreateTrainingJob", {**request(folder), **change})

    assert message in problem


def test_all_hosts_compute_with_the_same_kernels(folder):
    assert request(folder)["Environment"]["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert request(folder, kernels="eigen")["Environment"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert "TF_ENABLE_ONEDNN_OPTS" not in request(folder, kernels="default")["Environment"]


def test_python_is_the_first_process_of_the_container(folder):
    algorithm = request(folder)["AlgorithmSpecification"]

    assert algorithm["ContainerEntrypoint"] == ["python3", "-m", "cluster.node"]
    assert algorithm["ContainerArguments"] == ["--contract", "facesim.backends.hosted:plan"]


def test_every_hyperparameter_is_text(folder):
    for value in request(folder, epochs=3)["HyperParameters"].values():
        assert isinstance(value, str)


def test_hosts_are_alike_unless_parameter_servers_have_instances_of_their_own(folder):
    alike = request(folder, strategy="ps-async", workers=3)
    apart = request(folder, strategy="ps-async", workers=3, ps=2, ps_instance_type="ml.c5.xlarge")
    without_servers = request(folder, strategy="allreduce", ps_instance_type="ml.c5.xlarge")

    assert alike["ResourceConfig"]["InstanceCount"] == 3
    assert apart["ResourceConfig"]["InstanceGroups"] == [
        {"InstanceGroupName": "worker", "InstanceType": "ml.m5.2xlarge", "InstanceCount": 3},
        {"InstanceGroupName": "ps", "InstanceType": "ml.c5.xlarge", "InstanceCount": 2},
    ]
    assert "InstanceGroups" not in without_servers["ResourceConfig"]


def test_a_spot_job_has_checkpoints_and_a_limit_to_waiting(folder):
    spot = request(folder, spot=True, max_run=600)

    assert spot["EnableManagedSpotTraining"]
    assert spot["CheckpointConfig"] == {
        "S3Uri": "s3://a-bucket/facesim/checkpoints/facesim-one/",
        "LocalPath": "/opt/ml/checkpoints",
    }
    assert spot["StoppingCondition"] == {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 1200}
    assert problems("CreateTrainingJob", spot) == []


@pytest.mark.parametrize(
    "limits, seconds",
    [
        ({}, {"MaxRuntimeInSeconds": 86400, "MaxWaitTimeInSeconds": 172800}),
        ({"max_wait": 900}, {"MaxRuntimeInSeconds": 900, "MaxWaitTimeInSeconds": 900}),
        ({"max_run": 60.5, "max_wait": 90.5}, {"MaxRuntimeInSeconds": 61, "MaxWaitTimeInSeconds": 91}),
    ],
)
def test_waiting_lasts_at_least_as_long_as_running(folder, limits, seconds):
    assert request(folder, spot=True, **limits)["StoppingCondition"] == seconds


@pytest.mark.parametrize(("restarts", "retries"), [(0, None), (3, 3), (100, 30)])
def test_a_job_is_tried_again_on_other_instances_as_often_as_its_tasks_may_restart(folder, restarts, retries):
    made = request(folder, max_restarts=restarts)

    assert made.get("RetryStrategy", {}).get("MaximumRetryAttempts") == retries
    assert problems("CreateTrainingJob", made) == []


def test_spot_without_checkpoints_is_refused(folder):
    with pytest.raises(InputError, match="give --checkpoint-s"):
        request(folder, spot=True, checkpoint_s=0)


def test_the_same_data_has_the_same_address_and_other_data_another(folder, tmp_path):
    first = training_job_request(make_job(), "a", {"data": folder}, SITE).uploads
    again = training_job_request(make_job(seed=1), "b", {"data": folder}, SITE).uploads
    (folder / "dataset.json").write_text('{"sha256": "2"}')
    other = training_job_request(make_job(), "c", {"data": folder}, SITE).uploads

    assert first == again
    assert first.keys() != other.keys()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"recipe": "modern"},
        {"recipe": "modern", "augment": False, "schedule": "constant", "weight_decay": 0.0},
        {"strategy": "ps-sync", "workers": 4, "ps": 2, "backup_workers": 1, "instance_type": "ml.c5.xlarge"},
        {"learning_rate": 0.1, "seed": 7, "epochs": 1, "sampling_s": 0.5},
    ],
)
def test_a_container_reads_the_job_that_was_sent(options):
    job = make_job(backend="sagemaker", **options)

    assert job_of({"job": job_json(job)}) == job


@pytest.mark.parametrize("encode", [str, json.dumps], ids=["as it is", "as JSON"])
def test_a_container_reads_what_sagemakers_sdk_makes_of_hyperparameters(encode):
    job = make_job(backend="sagemaker", strategy="ps-async", workers=3)

    assert job_of({"job": encode(job_json(job)), "sagemaker_program": '"x"'}) == job
    flat = {"strategy": encode("ps-async"), "workers": "3", "sagemaker_region": '"us-east-1"'}
    assert job_of(flat) == job
    with pytest.raises(InputError, match="unknown option --epoch"):
        job_of({"epoch": "3"})


def test_what_belongs_to_the_account_does_not_go_into_the_container():
    job = make_job(backend="sagemaker", role="secret-role", bucket="secret-bucket", tags=["a=b"])

    assert set(json.loads(job_json(job))) == {"experiment", "backend"}


def test_a_job_too_long_for_a_hyperparameter_is_refused():
    with pytest.raises(InputError, match="may have 2500"):
        job_json(make_job(data="/x" * 1300))


@pytest.mark.parametrize(
    "directory", ["20261123-030908-abcd-ps-async-seed0", "with space & umlaut ü", "x" * 100, "--a--", "a" * 54 + "-b"]
)
def test_any_run_directory_gives_a_name_that_sagemaker_takes(directory, folder):
    name = job_name(Path("runs") / directory)

    assert problems("CreateTrainingJob", request(folder, name=name)) == []


def test_aws_own_image_gets_facesim_as_a_channel(folder, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "bootstrap.py").write_text("1")

    made = training_job_request(make_job(), "facesim-one", {"data": folder}, replace(SITE, source=source))

    assert [channel["ChannelName"] for channel in made.request["InputDataConfig"]] == ["data", "source"]
    assert made.request["AlgorithmSpecification"]["ContainerEntrypoint"] == [
        "python3",
        "/opt/ml/input/data/source/bootstrap.py",
    ]
    assert source in made.uploads.values()
    assert problems("CreateTrainingJob", made.request) == []


@pytest.mark.parametrize(("channel", "file"), [("pretrained", "model.keras"), ("network", "net.py")])
def test_a_network_is_a_channel_known_by_its_content_and_copied_also_where_data_is_streamed(
    folder, tmp_path, channel, file
):
    """The network to start from, and the code of the user's own."""
    network = tmp_path / "network"
    network.mkdir()

    def made(content: bytes) -> TrainingJob:
        (network / file).write_bytes(content)
        return training_job_request(make_job(), "facesim-one", {"data": folder, channel: network}, PLACES["streaming"])

    first, other = made(b"1"), made(b"2")

    modes = {channel["ChannelName"]: channel["InputMode"] for channel in first.request["InputDataConfig"]}
    assert modes == {"data": "FastFile", channel: "File"}
    assert set(first.uploads.values()) == {folder, network}
    assert len(first.uploads.keys() & other.uploads.keys()) == 1, "that of the data"
    assert problems("CreateTrainingJob", first.request) == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({"subnets": ["subnet-1"]}, "--subnets needs --security-groups"),
        ({"tags": ["nothing"]}, "KEY=VALUE"),
        ({"ps_instance_type": "ml.m5.larg"}, "did you mean ml.m5.large?"),
        ({"max_cost": 0}, "--max-cost 0 is not allowed"),
        ({"prefix": "/a/"}, "--prefix"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        make_job(backend="sagemaker", **options)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("bucket", "s3://mine/", "--bucket mine"),
        ("bucket", "s3://mine/some/folder", "--bucket mine --prefix some/folder"),
        ("bucket", "arn:aws:s3:::mine/folder", "--bucket mine --prefix folder"),
        ("bucket", "https://s3.eu-west-1.amazonaws.com/mine", "--bucket mine"),
        ("bucket", "s3://", "by its name alone, without s3:// and folders"),
        ("bucket", "My_Bucket", "lower case"),
        ("bucket", "a..b", "two dots"),
        ("bucket", "ab", "3 to 63"),
        ("bucket", "a" * 64, "3 to 63"),
        ("bucket", "-abc", "first and the last"),
        ("bucket", "192.168.1.1", "no IP address"),
        ("bucket", "xn--abc", "for itself"),
        ("bucket", "abc-s3alias", "for itself"),
        ("prefix", "a/../b", "no part of it"),
        ("prefix", "a" * 600, "512"),
        ("role", "two words", "a role is a name"),
        ("role", "arn:aws:iam::1:role/short", "12 digits"),
        ("role", "arn:aws:iam::123456789012:user/me", "role/NAME"),
        ("image", "Faces:1", "lower case"),
        ("image", "faces:1:2", "NAME:TAG"),
        ("image", "https://example.com/faces", "NAME:TAG"),
        ("kms_key", "my key", "1234abcd"),
        ("region", "Virginia", "us-east-1"),
        ("bucket_owner", "me", "12 digits"),
        ("tags", ["aws:team=faces"], "aws:"),
        ("tags", ["team=a,b"], "','"),
        ("tags", [f"{'k' * 129}=v"], "128"),
        ("tags", [f"k{number}=v" for number in range(50)], "50 tags"),
        ("ps_instance_type", "m5.large", "ml.m5.large"),
        ("instance_type", "m5.large", "ml.m5.large"),
    ],
)
def test_names_that_aws_does_not_take_are_refused_before_anything_is_sent(option, value, message):
    with pytest.raises(InputError) as refused:
        make_job(backend="sagemaker", **{option: value})

    assert f"--{option.replace('_', '-')}" in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("subnets", "groups", "message"),
    [
        (["mine"], ["sg-0a1"], "a subnet is given by its id"),
        (["subnet-0a1"], ["default"], "a security group is given by its id"),
        (["subnet-0a1"], [f"sg-{number}" for number in range(6)], "takes 5"),
    ],
)
def test_a_network_is_given_by_ids(subnets, groups, message):
    with pytest.raises(InputError, match=message):
        make_job(backend="sagemaker", subnets=subnets, security_groups=groups)


@pytest.mark.parametrize(
    "options",
    [
        {"bucket": "my.bucket-1"},
        {"bucket": "123"},
        {"role": "service-role/AmazonSageMaker-1"},
        {"role": "arn:aws-us-gov:iam::123456789012:role/service-role/a+b"},
        {"image": "localhost:5000/team/faces@sha256:" + "0" * 64},
        {"image": "aws"},
        {"kms_key": "alias/faces"},
        {"kms_key": "1234abcd-12ab-34cd-56ef-1234567890ab"},
        {"kms_key": "arn:aws:kms:us-east-1:123456789012:alias/faces"},
        {"tags": ["größe=x y", "team:a/b=1@c"]},
        {"region": "ap-southeast-2"},
        {"subnets": ["subnet-0123456789abcdef0"], "security_groups": ["sg-01234567"]},
    ],
    ids=str,
)
def test_names_that_aws_takes_are_taken(options):
    make_job(backend="sagemaker", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": "arn:aws-cn:iam::123456789012:role/x"}, "--role .*is of aws-cn and .*us-east-1"),
        ({"region": "us-gov-west-1"}, "--role .*is of aws and .*aws-us-gov"),
        ({"kms_key": "arn:aws:kms:eu-west-1:123456789012:alias/faces"}, "--kms-key .*is of eu-west-1"),
    ],
)
def test_what_is_of_another_part_of_aws_is_refused(options, message):
    here = {"role": "arn:aws:iam::123456789012:role/x", "region": "us-east-1"}
    aws = make_job(backend="sagemaker", **{**here, **options}).backend

    with pytest.raises(InputError, match=message):
        site_of(aws, Names(aws.region))


def test_the_network_can_be_closed_and_what_crosses_it_encrypted(folder):
    closed = request(folder, replace(SITE, network_isolation=True, encrypt_traffic=True))

    assert closed["EnableNetworkIsolation"] is True
    assert closed["EnableInterContainerTrafficEncryption"] is True
    assert problems("CreateTrainingJob", closed) == []
    assert {"EnableNetworkIsolation", "EnableInterContainerTrafficEncryption"}.isdisjoint(request(folder))


def test_a_closed_network_does_not_go_with_an_image_that_downloads_what_it_lacks():
    with pytest.raises(InputError, match="--network-isolation does not go with --image aws"):
        make_job(backend="sagemaker", network_isolation=True, image="aws")


def test_runs_of_one_study_have_jobs_of_different_names_however_long_these_are():
    begin = "20261126-021641-47ea-ps-async-identities-1000-images-50-of-many"
    names = {job_name(Path(f"{begin}-seed{seed}"), again) for seed in range(20) for again in range(3)}

    assert len(names) == 60
    assert max(map(len, names)) <= 63
    assert job_name(Path("short"), again=2) == "facesim-short-again2"


def test_a_job_that_may_run_longer_than_sagemaker_allows_is_refused(folder):
    request(folder, max_run=28 * 24 * 3600)

    with pytest.raises(InputError, match="--max-run .*28 days"):
        request(folder, max_run=28 * 24 * 3600 + 1)


def test_volumes_of_instances_with_disks_of_their_own_take_no_key(folder):
    gpu = request(folder, PLACES["key"], instance_type="ml.g5.xlarge")

    assert "VolumeKmsKeyId" not in gpu["ResourceConfig"]
    assert gpu["OutputDataConfig"]["KmsKeyId"] == PLACES["key"].kms_key
    assert "VolumeKmsKeyId" in request(folder, PLACES["key"])["ResourceConfig"]
    with pytest.raises(InputError, match=r"ml\.g5\.xlarge has a disk of its own"):
        request(
            folder, PLACES["key"], strategy="ps-async", instance_type="ml.g5.xlarge", ps_instance_type="ml.c5.xlarge"
        )


def test_the_volume_has_room_for_checkpoints(folder):
    job = make_job(backend="sagemaker", checkpoint_keep=3)

    made = training_job_request(job, "facesim-one", {"data": folder}, SITE, checkpoint_bytes=2 * 10**9)

    assert made.request["ResourceConfig"]["VolumeSizeInGB"] == 30 + 1 + 5 * 2


def test_data_that_the_disk_of_an_instance_does_not_hold_is_refused(folder):
    with (folder / "images.u8").open("wb") as large:
        large.truncate(96 * 10**9)

    assert request(folder)["ResourceConfig"]["VolumeSizeInGB"] == 127
    with pytest.raises(InputError, match=r"ml\.g4dn\.xlarge has a disk of 125 GB and this job needs 127 GB"):
        request(folder, instance_type="ml.g4dn.xlarge")


ONE_GROUP = {"InstanceGroupName": "worker", "InstanceType": "ml.m5.large", "InstanceCount": 1}


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("StoppingCondition", {"MaxRuntimeInSeconds": 28 * 86400 + 1}, "28 days"),
        ("StoppingCondition", {"MaxWaitTimeInSeconds": 10**6}, "--max-wait, is for spot capacity"),
        ("ResourceConfig", {"VolumeSizeInGB": 20_000}, "1 to 16,384 GB"),
        ("ResourceConfig", {"KeepAlivePeriodInSeconds": 30}, "60 s or more"),
        ("ResourceConfig", {"InstanceGroups": [ONE_GROUP]}, "does not go with InstanceCount and InstanceType"),
        ("ResourceConfig", {"InstanceGroups": [ONE_GROUP] * 2}, "'worker' is there 2 times"),
        ("ResourceConfig", {"InstanceGroups": [ONE_GROUP], "KeepAlivePeriodInSeconds": 60}, "--ps-instance-type"),
        ("HyperParameters", {"k" * 257: "v"}, "name of 257 characters"),
        ("HyperParameters", {"k": "v" * 2501}, "value of 2501"),
        ("HyperParameters", {str(number): "" for number in range(100)}, "101 hyperparameters"),
        ("Environment", {"K": "v" * 513}, "value of 513: 512 and 512"),
        ("Environment", {str(number): "" for number in range(101)}, "environment variables"),
    ],
)
def test_rules_that_aws_describes_in_words_only_are_kept(folder, part, change, message):
    made = request(folder)
    assert broken_rules(made) == []

    assert message in "; ".join(broken_rules({**made, part: {**made[part], **change}}))


@pytest.mark.parametrize(
    ("part", "added", "message"),
    [
        ("Tags", {"Key": "facesim", "Value": "x"}, "the tag 'facesim' is there 2 times"),
        ("Tags", {"Key": "AWS:x", "Value": "x"}, "AWS keeps what begins with aws:"),
        ("InputDataConfig", {"ChannelName": "data", "DataSource": {}}, "the channel 'data' is there 2 times"),
    ],
)
def test_names_of_tags_and_channels_are_checked(folder, part, added, message):
    made = request(folder)

    assert message in "; ".join(broken_rules({**made, part: [*made[part], added]}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_alive_s": 600, "spot": True}, "leave out one of --spot and --keep-alive-s"),
        ({"keep_alive_s": 600, "strategy": "ps-sync", "ps_instance_type": "ml.c5.xlarge"}, "--ps-instance-type"),
    ],
)
def test_instances_are_not_kept_where_sagemaker_does_not_keep_them(folder, options, message):
    made = request(folder, replace(SITE, keep_alive_s=600), **options)

    assert message in "; ".join(broken_rules(made))
    kept = request(folder, replace(SITE, keep_alive_s=600))
    assert kept["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert broken_rules(kept) == [] == problems("CreateTrainingJob", kept)


def test_spot_waits_as_long_as_it_runs_at_least(folder):
    spot = request(folder, spot=True, max_run=600)
    short = {**spot, "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 599}}

    assert broken_rules(spot) == []
    assert "--max-wait 599 must be at least --max-run 600" in "; ".join(broken_rules(short))
    without = {**spot, "StoppingCondition": {"MaxRuntimeInSeconds": 600}}
    assert "give --max-wait" in "; ".join(broken_rules(without))
