"""The image as SageMaker's SDK runs it in its local mode: `train` alone, mounts of its own, options as JSON texts."""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
import textwrap
from pathlib import Path

import pytest

#: In place of docker-compose, which the SDK calls: runs what its file describes by the engine's own command.
COMPOSE = """\
    #!{python}
    import subprocess, sys, yaml
    if "version" in sys.argv:
        sys.exit(print("v2.0.0"))
    content = yaml.safe_load(open(sys.argv[sys.argv.index("-f") + 1]))
    (network,) = (one["name"] for one in content["networks"].values())
    subprocess.run(["docker", "network", "create", network], check=True)
    started = []
    try:
        for host, service in content["services"].items():
            words = ["docker", "run", "--rm", "--network", network, "--network-alias", host, "--hostname", host]
            words += [word for one in service["volumes"] for word in ("-v", one)]
            words += [word for one in service["environment"] for word in ("-e", one)]
            started.append(subprocess.Popen([*words, service["image"], *service.get("command", "").split()]))
        sys.exit(max(process.wait() for process in started))
    finally:
        subprocess.run(["docker", "network", "rm", network])
"""


@pytest.fixture
def compose(tmp_path, monkeypatch):
    pytest.importorskip("sagemaker.core.modules.local_core")
    program = tmp_path / "bin" / "docker-compose"
    program.parent.mkdir()
    program.write_text(textwrap.dedent(COMPOSE).format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_sdks_local_mode_trains_on_images_as_they_are(containers, compose, faces, tmp_path):
    from sagemaker.core.modules.configs import Channel
    from sagemaker.core.modules.local_core.local_container import _LocalContainer
    from sagemaker.core.shapes import DataSource, FileSystemDataSource

    place = FileSystemDataSource(
        file_system_id="local", file_system_access_mode="ro", file_system_type="EFS", directory_path=str(faces)
    )
    options = {"strategy": "single", "epochs": 1, "image_size": 32, "model": "compact-cnn", "sagemaker_region": "x"}
    (tmp_path / "job").mkdir()
    job = _LocalContainer(
        training_job_name="facesim-local",
        instance_type="local_cpu",
        instance_count=1,
        image=containers,
        container_root=str(tmp_path / "job"),
        input_data_config=[Channel(channel_name="data", data_source=DataSource(file_system_data_source=place))],
        hyper_parameters={name: json.dumps(value) for name, value in options.items()},
        environment={},
        container_entrypoint=None,
        container_arguments=None,
    )

    artifacts = job.train(wait=True)

    model = Path(artifacts.removeprefix("file://"))
    with tarfile.open(model) as tar:
        assert any(name.endswith("model.keras") for name in tar.getnames())
    with tarfile.open(model.with_name("output.tar.gz")) as tar:
        (outcome,) = [name for name in tar.getnames() if name.endswith("outcome.json")]
        assert json.load(tar.extractfile(outcome))["held_out_accuracy"] > 0
