"""Whether a run's times are its own: what else the machine did meanwhile.

Other programs on the machine, and other guests on the processors under it (steal), make a run slower and nothing in its
own record shows it: the same job then has another ratio each time. So both are measured beside the run, and from the
shares below on its times are called disturbed: they are shown as such, and nothing is concluded from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facesim.runs.records import Load

if TYPE_CHECKING:
    import pandas


def measured_load(samples: pandas.DataFrame, one_machine: bool) -> Load:
    """The load beside a run, from its samples.

    What programs used of the machine, less what the run's tasks and their monitors did. `one_machine` says that all
    hosts of the job were on one; else each has its own, and the most disturbed of them counts, for the others wait for
    it.
    """
    taken = samples[samples["source"] == "psutil"]
    rounds = ["host", "time_unix_s"]
    of_host, of_tasks = (
        taken[taken["role"] == "host"],
        taken[(taken["role"] != "host") & (taken["name"] == "cpu_percent")],
    )
    machine = of_host.pivot_table(index=rounds, columns="name", values="value")
    needed = ["machine_busy_percent", "machine_cpu_count", "cpu_count"]
    if not set(needed) <= set(machine.columns):
        return Load()
    machine = machine.dropna(subset=needed)
    tasks = of_tasks.pivot_table(index=rounds, columns=["role", "task_index"], values="value").reindex(machine.index)
    # What a task used in the round in which it ended nobody could ask it: that round would take it for a stranger's.
    before = tasks.notna().groupby(level="host").shift(fill_value=False).astype(bool)
    whole = ~(before & tasks.isna()).any(axis="columns")
    machine = machine[whole]
    # A task's percent is of what its host was given.
    own_cpus = (tasks[whole].sum(axis="columns") / 100 * machine["cpu_count"]).groupby(level="host").mean()
    hosts = machine.groupby(level="host").mean()
    if hosts.empty:
        return Load()
    if one_machine:
        own_cpus[:] = own_cpus.sum()
    foreign = hosts["machine_busy_percent"] - 100 * own_cpus / hosts["machine_cpu_count"]
    steal = float(hosts["steal_percent"].max()) if "steal_percent" in hosts else None
    return Load(foreign_cpu_percent=max(0.0, float(foreign.max())), steal_percent=steal)
