"""Studies that were begun in a folder of runs: for each a file of its options, from which it continues.

The file's name ends with the start of a SHA-256 of its content, so the same study has the same file. Which runs belong
to a study is not written down: they are those of its jobs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from facesim.runs.directory import Run
from facesim.runs.records import Result
from facesim.runs.states import RunState
from facesim.spec.faults import read_faults
from facesim.spec.job import Job, job_sha256
from facesim.spec.study import COMPARED, OF_THE_FILE, OF_THE_STUDY, Study
from facesim.study.observers import Observer
from facesim.study.plan import StudyPlan, job_names, runs_by_job
from facesim.util.errors import InputError, doing
from facesim.util.files import read_toml, write_json

#: In a folder of runs, the folder with its studies.
FOLDER = "studies"


def begun_unix_s(file: Path, settings: Mapping[str, Any]) -> float | None:
    """When a study was begun with --again, by the settings in its file; None where it was begun without.

    Raises:
        InputError: it is no time.
    """
    since_unix_s = settings.get("since_unix_s")
    if isinstance(since_unix_s, bool) or not isinstance(since_unix_s, (int, float, NoneType)):
        raise InputError(
            f"the study {file}: since_unix_s is {since_unix_s!r}; it has to be seconds since 1970",
            field="since_unix_s",
            value=since_unix_s,
        )
    return since_unix_s


@dataclass(frozen=True)
class StudyFile:
    """The file of a study that was begun in the folder `output`."""

    file: Path
    output: Path
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.file.stem

    def text(self, name: str) -> str | None:
        """A setting that is a text; None where it has none.

        Raises:
            InputError: it is something else.
        """
        value = self.settings.get(name)
        if not isinstance(value, (str, NoneType)):
            raise InputError(
                f"the study {self.file}: {name} is {value!r}; it has to be a text", field=name, value=value
            )
        return value

    @property
    def since_unix_s(self) -> float | None:
        """Since when runs of its jobs are its own; None where all are.

        Raises:
            InputError: it is no time.
        """
        return begun_unix_s(self.file, self.settings)

    @cached_property
    def jobs(self) -> list[Job]:
        """Its jobs.

        Raises:
            InputError: this facesim does not understand them.
        """
        of_the_file = (*OF_THE_STUDY, *OF_THE_FILE)
        faults = self.text("faults")
        options = {name.replace("-", "_"): value for name, value in self.settings.items() if name not in of_the_file}
        options.setdefault("strategy", COMPARED)
        return Study.of(options, self.settings.get("seeds", 1), read_faults(faults) if faults else ()).jobs()

    @cached_property
    def _keys(self) -> list[str]:
        return [job_sha256(job) for job in self.jobs]

    def runs(
        self, left_out: Callable[[InputError], None] = lambda _: None
    ) -> list[tuple[str, Run | None, Result | None]]:
        """For each job its name, and the newest run in the folder with its result, where there is one that can be
        read; `left_out` hears what is wrong with another.
        """
        runs_of = runs_by_job(self._keys, self.output, left_out, self.since_unix_s)
        newest = []
        for name, key in zip(job_names(self.jobs), self._keys, strict=True):
            runs = runs_of.get(key, [])
            complete = [(run, result) for run, result in runs if result and result.state is RunState.COMPLETED]
            run, result = (complete or runs or [(None, None)])[-1]
            newest.append((name, run, result))
        return newest

    def all_runs(self, left_out: Callable[[InputError], None]) -> list[Run]:
        """Every run of its jobs in the folder that can be read; `left_out` hears what is wrong with another."""
        runs_of = runs_by_job(self._keys, self.output, left_out, self.since_unix_s)
        return [run for runs in runs_of.values() for run, _ in runs]


#: What may be another each time that the same study continues: where its runs are, and how it is shown.
_OF_THE_COMMAND = frozenset({"output", "parallel", "track", "json_lines"})


def write_study_file(settings: Mapping[str, Any], output: Path, name: str = "study") -> Path:
    """Write down a study's options, and return the file. Of the same study, the last that were written count.

    Raises:
        FacesimError: it cannot be written.
    """
    content = {name: value for name, value in settings.items() if value is not None} | {"output": str(output)}
    identity = {name: value for name, value in content.items() if name not in _OF_THE_COMMAND}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    file = output / FOLDER / f"{name}-{digest[:8]}.json"
    with doing(f"write {file}", "choose another folder with --output"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content)
    return file


class StudyFileWriter(Observer):
    """Writes down a study's options once it is known that it can be run.

    Attributes:
        file: where they are; None before that.
    """

    def __init__(self, settings: Mapping[str, Any], output: Path, name: str = "study"):
        self._arguments = (settings, output, name)
        self.file: Path | None = None

    def planned(self, plan: StudyPlan) -> None:
        self.file = write_study_file(*self._arguments)


def study_files(folder: Path) -> list[Path]:
    """The files of the studies that were begun in a folder of runs, in order of their names."""
    return sorted((folder / FOLDER).glob("*.json"))


def kept_in(file: Path) -> Path | None:
    """The folder of runs that facesim keeps a study's file in, wherever that is by now; None where the file is not
    called as one that it keeps.
    """
    kept = file.suffix == ".json" and Path(os.path.abspath(file)).parent.name == FOLDER
    return _runs_beside(file) if kept else None


def _runs_beside(file: Path) -> Path:
    """The folder that holds the folder of a file, which may be named from within that."""
    return Path(os.path.normpath(file.parent / os.pardir))


def find_study_file(named: str, folder: Path) -> StudyFile | None:
    """The study that `named` means: its file, or its name in a folder of runs; None if it is none."""
    file = Path(named)
    if kept_in(file) and file.is_file():
        return open_study_file(file)
    by_name = {file.stem: file for file in study_files(folder)}
    return open_study_file(by_name[named]) if named in by_name else None


def open_study_file(file: Path) -> StudyFile:
    """The study that is written down in `file`.

    Raises:
        InputError: it cannot be read.
    """
    return StudyFile(file, _runs_beside(file), read_toml(file, "the study"))
