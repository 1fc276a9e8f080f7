"""What `facesim audit` sees of processes that are no training: how they end, what they share, what their GPUs do."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from facesim.audit.verdict import Rank, judge
from facesim.audit.watch import watch
from tests.conftest import facesim_here, still_running

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory and GPUs of other processes are in Linux' /proc")

#: Starts a process for each rank; words: `behind` lets the ranks outlive it, `stubborn` has them ignore Ctrl-C.
RANKS = """
import os, subprocess, sys
rank = "import mmap, os, signal, sys, time; open(sys.argv[1] + os.environ['RANK'], 'w').close()\\n"
if "stubborn" in sys.argv:
    rank += "signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
if "shared" in sys.argv:
    rank += "memory = mmap.mmap(os.open(sys.argv[2], os.O_RDWR), 1 << 16)\\n"
rank += f"time.sleep({sys.argv[1]})"
ranks = [
    subprocess.Popen([sys.executable, "-c", rank, *sys.argv[2:4]], env={**os.environ, "RANK": str(number)})
    for number in range(2)
]
if "behind" not in sys.argv:
    sys.exit(max(each.wait() for each in ranks))
"""


def ranks(tmp_path: Path, seconds: float, *words: str) -> list[str]:
    (tmp_path / "memory").write_bytes(bytes(1 << 16))
    return [sys.executable, "-c", RANKS, str(seconds), str(tmp_path / "started-"), str(tmp_path / "memory"), *words]


def test_ranks_that_a_command_leaves_behind_are_watched_to_their_end(tmp_path):
    seen = watch(ranks(tmp_path, 1.5, "behind"), tmp_path, sampling_s=0.1)

    assert seen.seconds > 1.5 and seen.failure is None
    assert [rank.name for rank in seen.ranks()] == ["rank 0", "rank 1"]


def test_ranks_whose_starter_has_gone_are_watched_while_the_command_runs(tmp_path):
    started = "(for n in 0 1; do RANK=$n WORLD_SIZE=2 sleep 3 & done); sleep 4"

    seen = watch(["sh", "-c", started], tmp_path, sampling_s=0.1)

    assert [rank.name for rank in seen.ranks()] == ["rank 0", "rank 1"]


#: A rank that takes connections, and one that opens some of them and closes them at once.
BRIEFLY = """
import os, socket, sys, time
if os.environ["RANK"] == "0":
    server = socket.create_server(("127.0.0.1", 0))
    open(sys.argv[1] + ".new", "w").write(str(server.getsockname()[1]))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    for _ in range(3):
        server.accept()[0].recv(1)
    time.sleep(1.0)
else:
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    for _ in range(3 if "briefly" in sys.argv else 0):
        time.sleep(0.3)
        socket.create_connection(("127.0.0.1", int(open(sys.argv[1]).read()))).close()
    if "briefly" not in sys.argv:
        kept = [socket.create_connection(("127.0.0.1", int(open(sys.argv[1]).read()))) for _ in range(3)]
        time.sleep(1.0)
"""


@linux
@pytest.mark.parametrize("words", [(), ("briefly",)])
def test_connections_that_come_and_go_between_two_looks_are_noticed(tmp_path, words):
    started = " & ".join(f'RANK={rank} \'{sys.executable}\' -c "$0" "$@"' for rank in range(2))

    seen = watch(["sh", "-c", f"{started}; wait", BRIEFLY, str(tmp_path / "port"), *words], tmp_path, sampling_s=0.1)

    assert seen.missed == bool(words)
    assert [rank.connects_briefly for rank in seen.ranks()] == [bool(words)] * 2


@linux
def test_memory_that_ranks_have_in_common_is_seen_and_excuses_that_nothing_was_received(tmp_path):
    apart, sharing = (
        watch(ranks(tmp_path, 2.0, *words), tmp_path, sampling_s=0.1).ranks() for words in [(), ("shared",)]
    )

    assert [rank.shares_memory for rank in apart] == [False, False]
    assert [rank.shares_memory for rank in sharing] == [True, True]
    busy = [Rank(f"rank {number}", cpu_s=60.0, received_bytes=0.0) for number in range(2)]
    assert judge(busy).verdict == "apart"
    excused = judge([Rank(rank.name, 60.0, 0.0, shares_memory=True) for rank in busy])
    assert excused.verdict == "unknown" and any("memory in common" in sentence for sentence in excused.evidence)


@pytest.mark.parametrize(
    ("signals", "words"), [((signal.SIGINT, signal.SIGTERM), ("stubborn",)), ((signal.SIGTERM,), ())]
)
def test_asked_to_end_it_ends_all_and_writes_what_was_seen(tmp_path, signals, words):
    command = ranks(tmp_path, 60, *words)
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    audit = subprocess.Popen(
        [sys.executable, "-m", "facesim", "audit", "--output", str(tmp_path), "--", *command],
        env=around, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("started-*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    pids = [process.pid for process in psutil.Process(audit.pid).children(recursive=True)]
    assert len(pids) == 3

    for number in signals:
        os.killpg(audit.pid, number) if number == signal.SIGINT else audit.send_signal(number)
    output, errors = audit.communicate(timeout=30)

    assert not still_running(pids, within_s=1)
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["interrupted"] and audit.returncode not in (0, 1), output + errors
    assert {process["rank"] for process in written["processes"]} >= {"rank 0", "rank 1"}
    assert "The command was interrupted." in output and "Traceback" not in errors
    assert "interrupted" in (tmp_path / "audit.html").read_text()


def test_a_command_that_fails_is_reported_with_its_exit_code_and_is_not_called_apart(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import facesim.audit, os, sys, time\n"
        "for _ in range(1 + 20 * int(os.environ['RANK'])):\n    facesim.audit.step(1)\n"
        "time.sleep(0.6); sys.exit(3)"
    )
    command = f"RANK=0 '{sys.executable}' '{script}' & RANK=1 '{sys.executable}' '{script}'"

    ended = facesim_here("audit", "--output", tmp_path, "--", "sh", "-c", command)

    assert ended.code == 3
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["verdict"] != "apart" and "The command failed with exit code 3." in ended.output


def test_a_command_whose_watching_fails_is_ended(tmp_path, monkeypatch):
    status, pids, before = psutil.Process.status, [], set(psutil.Process().children(recursive=True))

    def fail_when_all_have_started(process: psutil.Process):
        if len(list(tmp_path.glob("started-*"))) == 2:
            pids.extend(child.pid for child in set(psutil.Process().children(recursive=True)) - before)
            raise RuntimeError("unforeseen")
        return status(process)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="unforeseen"):
        patch.setattr(psutil.Process, "status", fail_when_all_have_started)
        watch(ranks(tmp_path, 60), tmp_path, sampling_s=0.1)

    assert len(pids) == 3 and not still_running(pids, within_s=0)


@linux
@pytest.mark.parametrize("refusal", ["at once", "when asked"])
def test_where_the_kernel_does_not_tell_connections_a_command_is_watched_without_them(tmp_path, monkeypatch, refusal):
    from pyroute2.netlink.exceptions import NetlinkError

    from facesim.metrics.collectors import sockets

    class Refused:
        """As pyroute2's, in a container that forbids it."""

        def bind(self) -> None:
            if refusal == "at once":
                raise PermissionError("Operation not permitted")

        def get_sock_stats(self, **_) -> None:
            raise NetlinkError(errno.EPERM)

    monkeypatch.setattr(sockets, "DiagSocket", Refused)

    seen = watch(ranks(tmp_path, 0.5), tmp_path, sampling_s=0.1)

    assert (seen.exit_code, seen.counted) == (0, False)
    assert [rank.received_bytes for rank in seen.ranks()] == [None, None]
    assert "Bytes between processes cannot be counted on this system." in judge(seen.ranks()).evidence


def test_a_command_that_is_not_there_is_refused_and_leaves_no_report(tmp_path):
    refused = facesim_here("audit", "--output", tmp_path / "audit", "--", "no-such-command", "train.py")

    assert refused.code == 2 and "there is no command no-such-command" in refused.errors
    assert not (tmp_path / "audit").exists()


class NVMLError(Exception):
    pass


def test_what_gpus_do_is_told_by_rank(tmp_path, monkeypatch):
    """A driver with two GPUs, where nvidia-ml-py would be: the first computes for rank 1, half of the time; the second
    does not say for whom.
    """
    module = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: 2
    module.nvmlDeviceGetHandleByIndex = lambda index: index

    def running() -> list[int]:
        children = psutil.Process().children(recursive=True)
        return [child.pid for child in children if _rank(child) == "1"]

    def processes(gpu: int) -> list[SimpleNamespace]:
        if gpu == 1:
            raise NVMLError("Not Supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=3_000_000_000) for pid in running()]

    module.nvmlDeviceGetComputeRunningProcesses = processes

    def utilisation(gpu: int, since_us: int) -> list[SimpleNamespace]:
        if gpu == 1:
            raise NVMLError("Not Supported")
        return [SimpleNamespace(pid=pid, timeStamp=since_us + 1, smUtil=50) for pid in running()]

    module.nvmlDeviceGetProcessUtilization = utilisation
    monkeypatch.setitem(sys.modules, "pynvml", module)

    seen = watch(ranks(tmp_path, 1.5), tmp_path, sampling_s=0.1)

    idle, busy = seen.ranks()
    assert (idle.uses_gpu, idle.gpu_s, busy.uses_gpu) == (False, 0.0, True)
    assert 0.3 < busy.gpu_s < 0.5 * seen.seconds and busy.gpu_memory_bytes == 3e9
    assert any("GPU time and memory by rank: rank 0: 0.0 s" in sentence for sentence in judge(seen.ranks()).evidence)


def _rank(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("RANK")
    except psutil.Error:
        return None


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("words", "verdict"), [((), "together"), (("apart",), "apart")])
def test_ranks_of_mpirun_that_exchange_through_shared_memory_are_judged_by_all_that_they_say(tmp_path, words, verdict):
    mpirun = shutil.which("mpirun")
    if mpirun is None or b"Open MPI" not in subprocess.run([mpirun, "--version"], capture_output=True).stdout:
        pytest.skip("Open MPI is not installed")
    launcher = (mpirun, "--allow-run-as-root", "--oversubscribe", "-n", 2, "-x", f"PYTHONPATH={ROOT}")

    ended = facesim_here("audit", "--output", tmp_path, "--", *launcher, sys.executable, HERE / "mpi.py", *words)

    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["verdict"] == verdict, (written["evidence"], ended.output)
    assert {process["rank"] for process in written["processes"]} >= {"rank 0", "rank 1"}
    assert any("memory in common" in sentence for sentence in written["evidence"])


def test_a_verdict_is_shown_where_its_report_cannot_be_written(tmp_path):
    ended = facesim_here("audit", "--output", tmp_path / "audit", "--", "rmdir", tmp_path / "audit")

    assert ended.code == 1 and "trained together? unknown" in ended.output
    assert f"cannot write {tmp_path / 'audit'}: No such file" in ended.errors
