"""What the forecast's tests share: a profile, and where published measurements lie, if they are there."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from facesim.cli import main
from facesim.forecast.hosts import hosts
from facesim.forecast.profile_data import Compute, FixedTimes, Machine, Profile, Ring, Server, Variable

ROOT = Path(__file__).resolve().parents[2]

#: The kernels and biases of the paper's network, as far as their sizes matter.
SHAPES = [
    (3, 3, 3, 32),
    (32,),
    (3, 3, 32, 64),
    (64,),
    (3, 3, 64, 128),
    (128,),
    (4608, 1024),
    (1024,),
    (1024, 29),
    (29,),
]


def variable(number: int, shape: tuple[int, ...]) -> Variable:
    size = 4 * math.prod(shape)
    return Variable(name=f"v{number}", shape=shape, held_bytes=size, sent_bytes=size)


def changed(profile: Profile, **values) -> Profile:
    return Profile.model_validate({**profile.model_dump(), **values})


@pytest.fixture(scope="session")
def profile() -> Profile:
    return Profile(
        machine=Machine(cores=2, sgemm_gflops=150),
        model="paper-cnn",
        batch=32,
        examples=870,
        compute=(
            Compute(batch=8, step_s=0.02, cv=0.05),
            Compute(batch=32, step_s=0.06, cv=0.05, repeats_s=(0.059, 0.06, 0.061)),
            Compute(batch=128, step_s=0.22, cv=0.05),
        ),
        variables=tuple(variable(number, shape) for number, shape in enumerate(SHAPES)),
        server=Server(message_s=1e-4, byte_s=1e-9, saturation_s=0.02),
        ring=Ring(alpha_s=2e-4, byte_s=3e-10),
        fixed=FixedTimes(start_s=5, first_step_s=2, evaluation_s=0.3, checkpoint_s=0.2),
        cpu_s_per_update={"worker": 0.1, "ps": 0.02, "chief": 0.005},
    )


@pytest.fixture(scope="session")
def truth() -> Path:
    """Published measurements: FACESIM_TRUTH, or ../shared/truth beside the repository."""
    folder = Path(os.environ.get("FACESIM_TRUTH", ROOT.parent / "shared" / "truth"))
    if not folder.is_dir():
        pytest.skip(f"published measurements are not at {folder}; FACESIM_TRUTH names another folder")
    return folder


@pytest.fixture
def file(profile, tmp_path) -> Path:
    file = tmp_path / "profile.json"
    profile.save(file)
    return file


@pytest.fixture
def plan(file, tmp_path, capsys):
    """Runs `facesim plan` from the saved profile, returns its code, output and errors."""

    def run(*options: str) -> tuple[int, str, str]:
        code = main(["plan", "--profile", str(file), "--runs", str(tmp_path / "runs"), *options])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def this_machine(profile):
    """A type of host that is the machine of the profile, without a limit of its network."""
    reference = hosts()["ml.m5.large"]
    speed = profile.machine.sgemm_gflops / 75.0
    fast = {"network_base_gbps": 1000, "network_peak_gbps": 1000, "network_burst_s": None, "single_flow_gbps": None}
    machine = {"name": "here", "relative_speed": speed, "cores": 2, "speed_origin": "measured"}
    return {"here": reference.model_copy(update={**machine, **fast})}


@pytest.fixture(scope="session")
def two_types(this_machine):
    """The machine of the profile, and one that is a quarter as fast."""
    here = this_machine["here"]
    slow = here.model_copy(update={"name": "slow", "relative_speed": here.relative_speed / 4})
    return this_machine | {"slow": slow}
