"""GPUs that are paid for: as many as replicas, measured, and computed on, or the run is red."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from facesim.metrics.collectors import make_collectors
from facesim.preflight.checks import CHECKS, Planned
from facesim.runs.audit import idle_accelerators
from facesim.spec.job import make_job
from facesim.training.peers import Peers, number_on_host
from facesim.util.errors import FacesimError, InputError
from tests.frameworks.conftest import need
from tests.support.plugins import write_metadata

PAID = "2 A10G of 2 ml.g5.xlarge"
GPU = "/physical_device:GPU:0"


@pytest.mark.parametrize(
    ("devices", "percent", "idle"),
    [
        ([[GPU]], {}, False),
        ([[GPU], [GPU]], {"algo-1": 80.0, "algo-2": 70.0}, False),
        ([None], {}, False),  # nothing is known: nothing is said
        ([[]], {}, True),
        ([[GPU], []], {}, True),
        ([[]], {"algo-1": 90.0}, True),
        ([None], {"algo-1": 0.0, "algo-2": 0.4}, True),
        ([[GPU]], {"algo-1": 0.0}, True),
        ([[GPU]], {"algo-1": 90.0, "algo-2": 0.0}, True),
    ],
)
def test_what_is_paid_for_and_not_computed_on_is_told(devices, percent, idle):
    notice, _ = idle_accelerators(PAID, devices, percent)

    assert (notice is not None) == idle
    assert notice is None or notice.startswith(f"{PAID} were paid for")


def test_a_host_whose_gpu_stood_still_is_named():
    notice, evidence = idle_accelerators(PAID, [[GPU]], {"algo-1": 90.0, "algo-2": 0.0})

    assert "those of algo-2 computed nothing" in notice
    assert "90 %" in evidence


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ([["cuda:0"], ["cuda:0"]], "it was computed on 2 accelerators"),  # of two hosts
        ([["cuda:0"], None], "it was computed on 1 accelerator;"),
        ([["/job:worker/task:0/device:GPU:0", "/job:worker/task:1/device:GPU:0"]], "on 2 accelerators"),
        ([[], []], "no task saw an accelerator"),
    ],
)
def test_what_each_task_computed_on_is_counted_whatever_computes(devices, said):
    _, evidence = idle_accelerators(PAID, devices, {"algo-1": 90.0})

    assert said in evidence and "TensorFlow" not in evidence


def test_workers_of_a_host_have_a_gpu_each_and_more_than_it_has_are_refused():
    options = {"strategy": "allreduce", "workers": 8, "instance_type": "ml.g5.12xlarge"}  # of four GPUs
    job = make_job(backend="sagemaker", workers_per_host=4, **options)

    assert job.hosts == 2
    assert job.groups == [("ml.g5.12xlarge", 2)]
    assert checked(workers_per_host=4, **options) == []
    assert "--workers-per-host 4 uses them" in str(checked(**options))
    (notice,) = checked(workers_per_host=8, **options)
    assert isinstance(notice, InputError)
    assert "8 replicas on a host, and ml.g5.12xlarge has 4 GPUs (A10G): give --workers-per-host 4 or less" in str(
        notice
    )


def test_each_worker_of_a_host_has_a_number_of_its_own():
    addresses = ["algo-1:2222", "algo-2:2222", "algo-1:2223", "algo-2:2223", "algo-1:2224"]

    assert [number_on_host(addresses, rank) for rank in range(5)] == [0, 0, 1, 1, 2]


def test_workers_of_a_host_compute_on_a_gpu_each_and_more_of_them_are_refused():
    peers = Peers(("algo-1:2222", "algo-2:2222", "algo-1:2223", "algo-1:2224"))

    assert [peers.device(rank, 3) for rank in range(4)] == [0, 0, 1, 2]
    assert [peers.device(rank, 0) for rank in range(4)] == [0, 0, 0, 0]
    assert Peers(()).device(0, 2) == 0
    with pytest.raises(FacesimError, match="this host has 2 GPUs, and 3 or more workers"):
        peers.device(3, 2)


class Built(Exception):
    """Raised where a strategy begins to build its network."""


@pytest.mark.parametrize(
    ("strategy", "replica", "visible"),
    [
        ("single", 0, "gpu-0"),
        ("independent", 0, "gpu-0"),
        ("independent", 1, "gpu-1"),
        ("independent", 3, "gpu-0"),  # workers of a host take turns on its GPUs
        ("mirrored", 0, ["gpu-0", "gpu-1"]),
    ],
)
def test_a_process_of_tensorflow_sees_the_gpus_alone_that_it_computes_on(
    tf, monkeypatch, tmp_path, strategy, replica, visible
):
    def build(*_):
        raise Built

    seen, tasks = [], {"chief": ["127.0.0.1:2222"], "worker": [f"127.0.0.1:{2223 + index}" for index in range(3)]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": tasks}))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["gpu-0", "gpu-1", "gpu-2"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, _: seen.append(devices))
    trainer = importlib.import_module(f"facesim.training.tensorflow.{strategy}")
    monkeypatch.setattr(*((tf.distribute, "MirroredStrategy") if strategy == "mirrored" else (trainer, "Alone")), build)
    context = SimpleNamespace(
        replica=replica, seed=0, task=f"worker-{replica}", checkpoints=tmp_path,
        job=SimpleNamespace(shape=SimpleNamespace(workers=2)),
        recorder=SimpleNamespace(timed=lambda _: contextlib.nullcontext()),
    )  # fmt: skip

    with pytest.raises(Built):
        trainer.train(context)

    assert seen == [visible]


@pytest.mark.frameworks
@pytest.mark.parametrize(("gpus", "library", "chosen"), [(2, "nccl", [1]), (0, "gloo", [])])
def test_a_worker_of_pytorch_computes_on_the_gpu_of_its_number_and_sums_by_nccl(monkeypatch, gpus, library, chosen):
    need("torch")
    import torch
    from torch import distributed

    from facesim.training.torch.connecting import Workers

    taken, joined = [], []
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"chief": ["127.0.0.1:2222"], "worker": ["127.0.0.1:2223"]}}')
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(distributed, "TCPStore", lambda *_, **__: None)
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, **_: joined.append(backend))
    monkeypatch.setattr(distributed, "barrier", lambda: None)

    workers = Workers(1)

    assert (workers.rank, workers.count) == (1, 2)
    assert (taken, joined) == (chosen, [library])


@pytest.mark.frameworks
@pytest.mark.parametrize(("plugin", "chosen"), [("xla_cuda12", [1]), ("no_gpu", [0, 0])])
def test_a_worker_of_jax_takes_the_gpu_of_its_number_and_one_too_many_connects_to_nobody(
    tmp_path, monkeypatch, plugin, chosen
):
    """CUDA's driver shows two GPUs to three workers of a host; JAX computes on them if its plugin is installed."""
    need("jax")
    import jax

    from facesim.training.jax.connecting import Workers

    def count_of(number) -> int:
        number._obj.value = 2
        return 0

    taken = []

    def initialize(*_, local_device_ids, **__):
        taken.append(local_device_ids)
        raise jax.errors.JaxRuntimeError("nobody is there")

    tasks = {"chief": ["127.0.0.1:2222"], "worker": ["127.0.0.1:2223", "127.0.0.1:2224"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": tasks}))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(cuInit=lambda _: 0, cuDeviceGetCount=count_of))
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    write_metadata(tmp_path, "some-plugin", "1.0", {"jax_plugins": {plugin: f"jax_plugins.{plugin}"}})
    monkeypatch.syspath_prepend(tmp_path)

    for rank in (1, 2):
        with pytest.raises((FacesimError, jax.errors.JaxRuntimeError), match="2 GPUs, and 3 or more|nobody is there"):
            Workers(rank)

    assert taken == chosen


def checked(check: str = "accelerators", **options) -> list:
    job = make_job(backend="sagemaker", **options)
    return list(CHECKS[check]([Planned(job, None)]))


def test_more_replicas_than_gpus_are_refused():
    (notice,) = checked(strategy="mirrored", workers=2, instance_type="ml.g5.xlarge")

    assert isinstance(notice, InputError)
    assert "has 2 replicas on a host, and ml.g5.xlarge has 1 GPU (A10G): give --workers 1 or less" in str(notice)
    assert checked(strategy="mirrored", workers=4, instance_type="ml.g5.12xlarge") == []


def test_gpus_that_nothing_would_compute_on_are_told():
    (notice,) = checked(strategy="single", instance_type="ml.g5.12xlarge")

    assert notice == "ml.g5.12xlarge has 4 GPUs (A10G), and --strategy single computes on 1 of them: all are paid for"
    assert checked(strategy="allreduce", workers=2, instance_type="ml.g5.xlarge") == []


def test_accelerators_that_tensorflow_does_not_compute_on_are_refused():
    (notice,) = checked(strategy="single", instance_type="ml.trn1.32xlarge")

    assert isinstance(notice, InputError) and "16 Trainium" in str(notice)


@pytest.mark.parametrize(
    ("precision", "instance_type", "better"),
    [
        ("float16", "ml.m5.xlarge", "bfloat16"),
        ("bfloat16", "ml.g4dn.xlarge", "float16"),
        ("float16", "ml.g4dn.xlarge", None),
        ("bfloat16", "ml.m5.xlarge", None),
        ("bfloat16", "ml.g5.xlarge", None),
        ("float32", "ml.g4dn.xlarge", None),
    ],
)
def test_a_precision_that_the_hardware_has_not_is_told_with_the_one_for_it(precision, instance_type, better):
    notices = checked("precisions", precision=precision, instance_type=instance_type)

    assert [notice.split("--precision ")[1] for notice in notices] == ([f"{better} is for them"] if better else [])


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch) -> SimpleNamespace:
    """A driver with two GPUs, where nvidia-ml-py would be."""
    driver = SimpleNamespace(gpus=[(50, 4, 20_000), (100, 8, None)], processes=[[(11, 3)], [(11, 5), (99, 1)]])
    module = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: len(driver.gpus)
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetUtilizationRates = lambda gpu: SimpleNamespace(gpu=driver.gpus[gpu][0], memory=0)
    module.nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(used=driver.gpus[gpu][1], total=16)

    def power(gpu):
        if driver.gpus[gpu][2] is None:
            raise NVMLError("Not Supported")
        return driver.gpus[gpu][2]

    module.nvmlDeviceGetPowerUsage = power
    module.nvmlDeviceGetComputeRunningProcesses = lambda gpu: [
        SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in driver.processes[gpu]
    ]
    driver.module = module
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return driver


def test_what_a_gpu_does_not_measure_is_left_out_and_the_rest_is_there(nvml):
    def refused(gpu):
        raise NVMLError("Not Supported")

    rates = nvml.module.nvmlDeviceGetUtilizationRates
    nvml.module.nvmlDeviceGetUtilizationRates = lambda gpu: refused(gpu) if gpu == 0 else rates(gpu)
    (collector,) = make_collectors({"chief-0": 11}, ["nvml"])

    readings = {(role, index): values for role, index, values in collector.collect()}

    assert readings["host", 0] == {"gpu_percent": 100, "gpu_memory_percent": 37.5}
    assert "gpu_percent" not in readings["gpu", 0] and readings["gpu", 0]["gpu_memory_bytes"] == 4
    nvml.module.nvmlDeviceGetUtilizationRates = nvml.module.nvmlDeviceGetMemoryInfo = refused
    assert ("host", 0) not in {(role, index) for role, index, _ in collector.collect()}


def test_gpus_are_measured_each_and_by_task(nvml):
    (collector,) = make_collectors({"chief-0": 11, "ps-0": 12}, ["nvml"])

    readings = {(role, index): values for role, index, values in collector.collect()}

    assert readings["host", 0] == {"gpu_percent": 75, "gpu_memory_percent": 37.5}
    assert readings["gpu", 0]["gpu_power_w"] == 20
    assert "gpu_power_w" not in readings["gpu", 1]  # it does not measure it
    assert readings["chief", 0] == {"gpu_memory_bytes": 8}
    assert ("ps", 0) not in readings


def test_a_gpu_that_does_not_tell_its_processes_hides_those_of_no_other(nvml):
    told = nvml.module.nvmlDeviceGetComputeRunningProcesses

    def processes(gpu):
        if gpu == 0:
            raise NVMLError("Not Supported")
        return told(gpu)

    nvml.module.nvmlDeviceGetComputeRunningProcesses = processes
    (collector,) = make_collectors({"chief-0": 11}, ["nvml"])

    readings = {(role, index): values for role, index, values in collector.collect()}

    assert readings["chief", 0] == {"gpu_memory_bytes": 5}
    assert {("gpu", 0), ("gpu", 1)} <= readings.keys()


def test_without_a_gpu_or_a_driver_there_is_no_collector_and_no_word(nvml, monkeypatch, capsys):
    nvml.gpus = []
    assert make_collectors({"chief-0": 11}, ["nvml"]) == []

    def no_driver():
        raise NVMLError("Driver Not Loaded")

    nvml.module.nvmlInit = no_driver
    assert make_collectors({"chief-0": 11}, ["nvml"]) == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert make_collectors({"chief-0": 11}, ["nvml"]) == []
    assert capsys.readouterr().err == ""
