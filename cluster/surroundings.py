"""What a process of a cluster finds around it: its environment, and the folders that it imports from.

What runs is what the plan says. So the settings that a user made for other programs do not reach the processes of a
cluster, and neither do files that happen to lie in the folder where the user started them. The user's own process
keeps its environment: what it downloads or sends to AWS goes through the user's proxy.

This module imports only what Python itself has loaded when it starts, so that it can be the first that is imported.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: How the names of variables begin that set up Python, or the libraries that compute, communicate, draw and allocate.
_SETTINGS = (
    "PYTHON", "TF_", "TF2_", "TFE_", "TSL_", "XLA_", "PJRT_", "MLIR_", "TENSORFLOW_", "AUTOGRAPH_", "KERAS_", "GRPC_",
    "JAX_", "TORCH_", "PYTORCH_", "GLOO_", "PROTOCOL_BUFFERS_", "TEMPORARILY_DISABLE_PROTOBUF", "ABSL_", "WRAPT_",
    "NVIDIA_TF32_", "TEST_TMPDIR",
    "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "ACCELERATE_", "DNNL_", "ONEDNN_",
    "NPY_", "NUMPY_", "NUMEXPR_", "SCIPY_", "PANDAS_", "SKLEARN_", "SKIMAGE_", "JOBLIB_", "LOKY_", "PYDANTIC_",
    "PILLOW_", "MALLOC_", "GLIBC_TUNABLES", "TCMALLOC_", "MPL", "MATPLOTLIB", "SOURCE_DATE_EPOCH",
)  # fmt: skip

#: Those that say where this Python and its packages are, or where its files go, and nothing about what is computed.
_KEPT = {
    "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE",
    "MPLCONFIGDIR", "JAX_COMPILATION_CACHE_DIR",
}  # fmt: skip

#: Files and connections that a task may have open: more than any needs, and as many as macOS allows.
_OPEN_FILES = 10_240

#: What a child executes first. It imports from where its parent does; packages that are beside ours, from where its
#: parent has them, should they be found elsewhere, too. Then it becomes the module.
_BECOME = """
import sys
sys.path[:], packages = eval(sys.argv[1])
import importlib.util, runpy
for name, folder in packages:
    spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def cluster_environment(around: Mapping[str, str], additions: Mapping[str, str]) -> dict[str, str]:
    """The environment of a cluster's processes: `around` without proxies and settings, and with `additions`.

    GPUs are chosen (CUDA_VISIBLE_DEVICES), libraries found (LD_LIBRARY_PATH) and text encoded (LANG) as around.
    """
    return {
        **without_settings(without_proxies(around)),
        # Of two processes both or neither must take the names of files for UTF-8.
        "PYTHONUTF8": str(sys.flags.utf8_mode),
        "PYTHONHASHSEED": "0",
        **additions,
    }


def without_proxies(around: Mapping[str, str]) -> dict[str, str]:
    """`around` without what may send gRPC to a proxy, which waits for ever for one that does not answer.

    That is any name with "proxy" in it, in any case: http_proxy, GRPC_PROXY, No_Proxy, GRPC_ADDRESS_HTTP_PROXY, ...
    """
    return {name: value for name, value in around.items() if not _is_proxy(name)}


def without_settings(around: Mapping[str, str]) -> dict[str, str]:
    """`around` without what sets up Python and the libraries that compute, such as TF_CONFIG or OMP_NUM_THREADS."""
    return {name: value for name, value in around.items() if not _is_setting(name)}


def _is_proxy(name: str) -> bool:
    return "proxy" in name.lower()


def _is_setting(name: str) -> bool:
    return name.startswith(_SETTINGS) and name not in _KEPT and not _is_proxy(name)


def set_environment(environment: Mapping[str, str]) -> None:
    """Make `environment` this process's own."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def allow_open_files() -> None:
    """Let this process and its children have as many files and connections open as they may: shells allow fewer."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a Python process that becomes `module`, as `python -m` has it, with this one's imports.

    Unlike `python -m` it looks for no module in the current folder.
    """
    path = import_path(sys.path, current_folder(), _script_folder(), home())
    return [sys.executable, "-c", _BECOME, repr((path, _packages_beside())), module, *arguments]


def current_folder() -> str | None:
    """The folder that this process works in; None where that has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def home() -> str:
    """The folder that this package lies in."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def import_path(path: Sequence[str], folder: str | None, script_folder: str | None, our_folder: str) -> list[str]:
    """`path`, a `sys.path`, without the folders that are in it only because the user is or has a script there.

    Args:
        folder: the current one. script_folder: where the user's script lies, if there is one.
        our_folder: where our packages are: it is looked at last, unless it is in the path anyway.

    What PYTHONPATH names stays before what is installed, but comes after the standard library.
    """
    begin = next((place for place, entry in enumerate(path) if _is_standard(entry)), 0)
    users = {os.path.realpath(entry) for entry in (folder, script_folder) if entry is not None}
    standard = [entry for entry in path if _is_standard(entry)]
    front = [os.path.abspath(entry) for entry in path[:begin] if entry and os.path.realpath(entry) not in users]
    return list(dict.fromkeys([*standard, *front, *filter(None, path[begin:]), our_folder]))


def _is_standard(entry: str) -> bool:
    """Whether an entry of a `sys.path` is of the standard library: its folder, its archive, its compiled part."""
    name = os.path.basename(entry)
    archive = name.startswith("python") and name.endswith(".zip")
    return entry == os.path.dirname(os.__file__) or name == "lib-dynload" or archive


def _script_folder() -> str | None:
    """Where the script lies that this process executes; None if it executes none, or a module of a package."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return os.path.dirname(os.path.abspath(file)) if file and getattr(main, "__spec__", None) is None else None


def _packages_beside() -> list[tuple[str, str]]:
    """(name, folder) of the packages that this process has from beside this one, unless that is where all are."""
    if os.path.basename(home()) in ("site-packages", "dist-packages"):
        return []
    folders = {name: os.path.join(home(), name) for name in list(sys.modules) if "." not in name}
    return [(name, folder) for name, folder in sorted(folders.items()) if folder in _places(name)]


def _places(name: str) -> list[str]:
    module = sys.modules[name]
    return list(getattr(module, "__path__", ())) if getattr(module, "__file__", None) else []
