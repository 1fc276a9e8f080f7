"""From what each host of a job left to one ordinary run directory."""

from __future__ import annotations

import filecmp
import json
import shutil
from pathlib import Path

from facesim.runs.directory import Run

#: SageMaker's description of the hosts, as each host was given it.
RESOURCES = "resourceconfig.json"


def collect_results(hosts: Path, model: Path, run: Run) -> None:
    """Put together what hosts left: `hosts` holds a run directory a host, named as it; `model` what the job saved.

    Samples get the run's id and the host's name as SageMaker gives it. A file that several hosts have, such as a
    monitor's log, keeps its host's name beside its own; what happened on a host, and what it knew of the others,
    stays in `hosts/HOST`. Files of an earlier job of the run are set aside, but for samples: hosts go on with those.
    """
    logs: set[Path] = set()
    for folder in sorted(path for path in hosts.iterdir() if path.is_dir()):
        host = folder.name
        host_run = Run(folder)
        for file in sorted(host_run.metrics.glob("*.jsonl")):
            _adopt_samples(file, run.metrics / f"{file.stem}-{host}.jsonl", run.id, host)
        for file in sorted(host_run.logs.glob("*")):
            log = run.logs / file.name
            if log in logs:
                log = run.logs / f"{file.stem}-{host}{file.suffix}"
            logs.add(log)
            _copy(file, log)
        for task_folder in sorted(host_run.tasks.glob("*")):
            shutil.copytree(task_folder, run.tasks / task_folder.name, dirs_exist_ok=True)
        if host_run.outcome_file.exists():
            shutil.copy2(host_run.outcome_file, run.outcome_file)
        host_folder = run.directory / "hosts" / host
        host_folder.mkdir(parents=True, exist_ok=True)
        for file in (host_run.events_file, host_run.directory / RESOURCES):
            if file.exists():
                _copy(file, host_folder / file.name)
    saved = model / run.model_file.name
    if saved.exists():
        shutil.copy2(saved, run.model_file)


def _adopt_samples(source: Path, target: Path, run_id: str, host: str) -> None:
    with source.open("rb") as lines, target.open("w", encoding="utf-8") as adopted:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # torn when its writer was killed
            if isinstance(row, dict):
                adopted.write(json.dumps({**row, "run_id": run_id, "host": host}) + "\n")


def _copy(file: Path, target: Path) -> None:
    if target.exists() and not filecmp.cmp(file, target, shallow=False):  # the same is what was brought home before
        set_aside(target)
    shutil.copy2(file, target)


def set_aside(file: Path) -> None:
    """Keep a file that an earlier job of its run left, where the next has one of that name: `worker-1-earlier1.log`."""
    number = 1
    while (aside := file.with_name(f"{file.stem}-earlier{number}{file.suffix}")).exists():
        number += 1
    file.rename(aside)
