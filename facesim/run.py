"""The former place of `facesim.runs.directory`."""

from facesim.runs.directory import Run, check_writable, find_run, find_runs
from facesim.runs.states import RunState as State

__all__ = ["Run", "State", "check_writable", "find_run", "find_runs"]
