"""A framework's image, and a training by it in containers."""

from __future__ import annotations

import pytest

from facesim.backends import image
from facesim.runs.directory import find_runs
from facesim.util.errors import InputError
from tests.conftest import facesim
from tests.containers.conftest import up_to_date

# Its image takes minutes and gigabytes: it is made where the other tests of PyTorch run, too.
pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def torch_image() -> str:
    return up_to_date("torch")


def test_two_containers_train_together_with_pytorch(torch_image, faces, tmp_path):
    options = ("--strategy", "allreduce", "--workers", 2, "--data", faces, "--image-size", 32, "--model", "compact-cnn")

    command = facesim(
        "run", "--backend", "docker", "--framework", "torch", *options, "--epochs", 2, "--output", tmp_path
    )

    assert command.code == 0, command.errors + command.output
    (run,) = find_runs([tmp_path])
    audit = run.result()["sync_audit"]
    assert audit["verdict"] == "together", audit["evidence"]


def test_an_image_with_another_framework_is_refused(torch_image):
    with pytest.raises(InputError, match="has torch, and the job is for --framework jax"):
        image.check_present(torch_image, "jax")
