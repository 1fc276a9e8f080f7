"""Frameworks: what computes gradients, as far as it can be told without importing one.

Keras builds the same networks on each. A framework of another package is named by an entry point of
`facesim.frameworks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from facesim.util.errors import InputError
from facesim.util.registry import Registry

TENSORFLOW = "tensorflow"


@dataclass(frozen=True)
class Framework:
    """What trains.

    summary: one line for listings.
    tasks: the module whose `train(run_directory, threads, data_directory, checkpoint_directory, pretrained)` is a
        training task, and whose `serve(run_directory, threads)` is a worker or parameter server that a chief
        coordinates, where it has such strategies.
    preload: modules that are imported once, before tasks are forked.
    packages: what must be installed, as it is imported.
    extra: the extra of facesim that brings them; None: facesim itself does.
    environment: what must be set before it is imported.
    measured: the module that measures its training for forecasts, as `facesim.profiling` has it; None: there are none.
    cpu_package, cuda_package: what facesim's images of hosts get of it, without CUDA and with it; None: there is no
        such image.
    """

    summary: str
    tasks: str
    preload: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    measured: str | None = None
    cpu_package: str | None = None
    cuda_package: str | None = None

    def check(self) -> None:
        """Look whether it is installed here; imports nothing.

        Raises:
            InputError: it is not.
        """
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            wanted = f"facesim-cluster[{self.extra}]" if self.extra else "facesim-cluster"
            raise InputError(
                f"{', '.join(missing)} is not installed, which this framework needs: python3 -m pip install '{wanted}'"
            )


FRAMEWORKS: Registry[Framework] = Registry(
    "framework",
    "facesim.frameworks",
    {
        TENSORFLOW: Framework(
            "TensorFlow: all strategies",
            "facesim.training.tensorflow.task",
            ("facesim.training.tensorflow.preload", "facesim.training.tensorflow.task"),
            ("tensorflow",),
            environment={
                "KERAS_BACKEND": "tensorflow",
                "TF_CPP_MIN_LOG_LEVEL": "1",  # warnings and errors
                # gRPC reads a message of megabytes in large pieces, and wakes up for these only, when it is told to:
                # ps-async gained 2 to 8 %.
                "GRPC_EXPERIMENTS": (
                    "tcp_frame_size_tuning,tcp_rcv_lowat,unconstrained_max_quota_buffer_size,free_large_allocator"
                ),
            },
            measured="facesim.profiling.of_tensorflow",
            cpu_package="tensorflow-cpu",  # a third of the size of the one that can use GPUs
            cuda_package="tensorflow[and-cuda]",
        ),
        "torch": Framework(
            "PyTorch: single, allreduce and local-sgd",
            "facesim.training.torch.task",
            ("facesim.training.torch.preload", "facesim.training.torch.task"),
            ("torch",),
            "torch",
            # Keras looks for GPUs when a node loads it; looked for by CUDA, tasks that are forked could not use any.
            {"KERAS_BACKEND": "torch", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            measured="facesim.profiling.of_torch",
            cpu_package="torch",  # PyPI's has CUDA all the same; PyTorch's own index has one without
            cuda_package="torch",
        ),
        "jax": Framework(
            "JAX: single, allreduce and local-sgd",
            "facesim.training.jax.task",
            ("facesim.training.jax.preload", "facesim.training.jax.task"),
            ("jax", "jaxlib"),
            "jax",
            {"KERAS_BACKEND": "jax"},
            measured="facesim.profiling.of_jax",
            cpu_package="jax",
            cuda_package="jax[cuda12]",
        ),
    },
)
