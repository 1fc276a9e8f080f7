"""What tests share: a small data set, and one study run once for everything that looks at its remains."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from facesim.backends.kernels import FIXED
from facesim.backends.local import BACKEND
from facesim.cli import main
from facesim.data import RenderSpec, render_folder
from facesim.preflight.inputs import prepare_inputs
from facesim.runs.directory import Run, find_runs
from facesim.spec.job import make_job
from tests.support.events import pids
from tests.support.kernels import keep

# What tests start finds facesim compiled, also where this is set to keep other folders clean.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ORL = Path(__file__).resolve().parents[2] / "shared" / "data" / "orl"


#: What takes longest, with which several processes (`-n 3`) begin, in this order.
_FIRST = ("containers/test_contract", "integration", "profiling", "plugins", "aws", "recognition")
#: Its tests look at all that an engine has: they come when nobody else uses it.
_LAST = "containers"


def _turn(item: pytest.Item) -> int:
    """When a test's file has its turn."""
    place = item.path.relative_to(Path(__file__).parent).as_posix()
    first = next((turn for turn, name in enumerate(_FIRST) if place.startswith(name)), len(_FIRST))
    return first + 1 if first == len(_FIRST) and place.startswith(_LAST) else first


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="also tests that take long and show little that is new")


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "takes_long" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    if not config.getoption("--exhaustive"):
        more = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=more)
        items[:] = [item for item in items if item not in more]
    items.sort(key=_turn)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    _forget_which_test_this_is()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    _forget_which_test_this_is()


def _forget_which_test_this_is() -> None:
    """What is `loaded` is for processes with the same environment, and pytest has the name of the test in that."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)


@pytest.fixture(scope="session")
def takes_long() -> None:
    """Fixtures that train, or start containers, need this: what uses them is marked `slow`."""


@pytest.fixture(scope="session")
def shared(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(pytestconfig, "workerinput") else base  # a process of several: pytest-xdist's


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder in `shared`, made by the first process that needs it; the others wait for that."""
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed to make it
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(shared: Path) -> Path:
    """Prepared data, and what is measured once on a machine, go to a folder of this test session's, not the user's.
    Which kernels are faster is there already: tests beside each other would disturb the measuring, and wait for it.
    """
    os.environ["FACESIM_CACHE"] = str(shared / "cache")
    return made_once(shared / "cache", lambda _: keep(kernels=FIXED))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, with nothing in it."""
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session", autouse=True)
def heeds_signals() -> None:
    """What tests start heeds SIGHUP and SIGINT, also where nohup or a shell's `&` makes the tests ignore them."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def faces(shared: Path) -> Path:
    """An image folder of 8 easy people with 10 images each."""
    spec = RenderSpec(identities=8, images=10, size=32, difficulty=0.2)
    return made_once(shared / "faces", lambda folder: render_folder(spec, folder))


@pytest.fixture(scope="session")
def loaded(faces: Path, tmp_path_factory: pytest.TempPathFactory, takes_long: None) -> Iterator[None]:
    """TensorFlow, loaded once for the runs that this process starts."""
    _forget_which_test_this_is()  # the hook is not called for fixtures of a session
    job = make_job(data=str(faces))
    plan = BACKEND.render(job, tmp_path_factory.mktemp("loaded"), prepare_inputs(job, lambda *_: None))
    with BACKEND.loaded(job, plan):
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB: room for checkpoints of a small network, and soon full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system to fill")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # a file in it may still be open


@pytest.fixture
def largest_file() -> Iterator[Callable[[int], None]]:
    """Sets how many bytes a file may have: to a program that writes more it is as a disk that is full."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@dataclass(frozen=True)
class Command:
    """A finished `python -m facesim`."""

    code: int
    output: str
    errors: str


def facesim(*arguments: object, timeout_s: float = 240) -> Command:
    """Run the command line in a process of its own, as a user would."""
    ended = subprocess.run(
        [sys.executable, "-m", "facesim", *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s
    )
    return Command(ended.returncode, ended.stdout, ended.stderr)


def completed_run(output: Path, *arguments: object) -> Run:
    """The run that `facesim run` leaves in an empty folder; it must complete, with nothing of it running any more."""
    command = facesim_here("run", *arguments, "--output", output)
    assert command.code == 0, command.errors + command.output
    (run,) = find_runs([output])
    assert not still_running(pids_of(run), within_s=1)
    return run


def facesim_here(*arguments: object) -> Command:
    """The same in this process: commands that need TensorFlow have it from those before them."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main([*map(str, arguments)])
    return Command(code, output.getvalue(), errors.getvalue())


@dataclass(frozen=True)
class Study:
    """What the default study left, on small data."""

    directory: Path
    shown: str
    runs: dict[str, Run]

    def result(self, strategy: str) -> dict:
        result = self.runs[strategy].result()
        assert result is not None
        return result


#: Few epochs, but enough to learn from: small easy faces, the small network, a high learning rate.
QUICK = ("--model", "compact-cnn", "--image-size", 32, "--batch", 8, "--learning-rate", 0.003, "--sampling-s", 0.2)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, shared: Path, faces: Path, takes_long: None) -> Study:
    """`python -m facesim` with no command, on small data. Each process has a copy, for tests evaluate its runs."""
    shown = shared / "study.shown"

    def make(folder: Path) -> None:
        command = facesim("--data", faces, "--epochs", 12, *QUICK, "--output", folder)
        assert command.code == 0, command.errors + command.output
        shown.write_text(command.output)

    made = made_once(shared / "study", make)
    copy = Path(shutil.copytree(made, tmp_path_factory.mktemp("study") / "study"))
    return Study(
        copy,
        shown.read_text().replace(str(made), str(copy)),
        {run.job().strategy.name: run for run in find_runs([copy])},
    )


def pids_of(run: Run) -> list[int]:
    """Every process that the run started."""
    return pids(run.events())


def still_running(pids: list[int], within_s: float = 5.0) -> list[psutil.Process]:
    """Which of `pids` still run after `within_s`. (A process that nobody has reaped yet does not run.)"""
    processes = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def carrying(token: str) -> list[psutil.Process]:
    """Which processes that run have `token` in their environment: a command's, and all that it started."""
    processes = []
    for process in psutil.process_iter():
        try:
            if token in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
        except psutil.Error:
            continue  # it has ended, or is somebody else's
    return processes


#: For what has to come, however busy the machine is; a test may take 300 s.
PATIENCE_S = 240.0


def wait_until(happened: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait for what other processes do, that tell nobody."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen within {within_s:.0f} s"
        time.sleep(0.02)


def parse(command: Command) -> dict:
    assert command.code == 0, command.errors
    return json.loads(command.output)
