"""What a cluster's processes find around them: pure functions of what the user has."""

from __future__ import annotations

import os
import sys

import pytest

from cluster.surroundings import cluster_environment, import_path, without_proxies, without_settings

STANDARD = os.path.dirname(os.__file__)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy", "no_grpc_proxy"])
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title], ids=["lower", "upper", "mixed"])
def test_no_proxy_reaches_a_cluster(name, spell):
    around = {spell(name): "http://127.0.0.1:9", "HOME": "/home/ann"}

    assert without_proxies(around) == {"HOME": "/home/ann"}
    assert spell(name) not in cluster_environment(around, {})
    assert without_settings(around) == around  # boto3 and pip go on using it


def test_a_cluster_computes_as_the_job_says_and_not_as_other_programs_are_set_up():
    settings = (
        "TF_CONFIG TF_XLA_FLAGS TF_USE_LEGACY_KERAS KERAS_HOME KERAS_BACKEND GRPC_VERBOSITY OMP_NUM_THREADS "
        "MPLBACKEND MATPLOTLIBRC PYTHONPATH PYTHONSTARTUP PYTHONOPTIMIZE PYTHONIOENCODING PYTHONWARNINGS "
        "MALLOC_ARENA_MAX TF2_BEHAVIOR AUTOGRAPH_STRICT_CONVERSION PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION "
        "GLIBC_TUNABLES NVIDIA_TF32_OVERRIDE NUMPY_EXPERIMENTAL_DTYPE_API SCIPY_ARRAY_API PANDAS_FUTURE "
        "SKLEARN_ASSUME_FINITE JOBLIB_START_METHOD SOURCE_DATE_EPOCH JAX_ENABLE_X64 TORCH_LOGS GLOO_SOCKET_IFNAME"
    )

    environment = cluster_environment(dict.fromkeys(settings.split(), "the user's"), {"KERAS_BACKEND": "tensorflow"})

    assert environment == {"KERAS_BACKEND": "tensorflow", "PYTHONHASHSEED": "0", "PYTHONUTF8": str(sys.flags.utf8_mode)}


def test_what_says_where_things_are_stays():
    names = "HOME LANG TMPDIR LD_LIBRARY_PATH CUDA_VISIBLE_DEVICES PYTHONUSERBASE JAX_COMPILATION_CACHE_DIR"
    around = dict.fromkeys(names.split(), "x")

    assert cluster_environment(around, {}).items() >= around.items()


def test_the_users_folders_are_not_imported_from(tmp_path):
    cwd, script, libraries, installed = (str(tmp_path / name) for name in ("cwd", "script", "libraries", "installed"))
    path = [script, cwd, "", libraries, STANDARD, f"{STANDARD}/lib-dynload", installed]

    places = import_path(path, cwd, script, our_folder=installed)

    assert places == [STANDARD, f"{STANDARD}/lib-dynload", libraries, installed]


def test_packages_that_are_only_in_the_current_folder_are_found_last(tmp_path):
    clone, installed = str(tmp_path / "clone"), str(tmp_path / "installed")

    assert import_path([clone, STANDARD, installed], clone, None, our_folder=clone) == [STANDARD, installed, clone]


def test_a_folder_that_is_gone_or_reached_through_a_link_is_the_users_too(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert import_path([str(tmp_path / "link"), STANDARD], str(tmp_path / "real"), None, our_folder=STANDARD) == [
        STANDARD
    ]
    assert import_path(["", STANDARD], None, None, our_folder=STANDARD) == [STANDARD]
