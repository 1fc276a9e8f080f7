"""Whether a run's times are its own: what else the machine did meanwhile.

Other programs on the machine, and other guests on the processors under it (steal), make a run slower and nothing in its
own record shows it: the same job then has another ratio each time. So both are measured beside the run, and from the
shares below on its times are called disturbed: they are shown as such, and nothing is concluded from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import pandas

#: Of all CPU time of the machine, in percent, what other programs may use. An idle system's services use 1 to 3.
MAX_FOREIGN_CPU_PERCENT = 10.0

#: Of all CPU time of the machine, in percent, what its hypervisor may give to others while programs here want it.
MAX_STEAL_PERCENT = 3.0


class Load(BaseModel):
    """What else used the machine's CPUs, 0-100 % of all of them, mean over the run; None where it was not measured.

    foreign_cpu_percent: by programs that are not the run's. steal_percent: by other guests of the hypervisor.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    foreign_cpu_percent: float | None = None
    steal_percent: float | None = None

    @property
    def disturbances(self) -> tuple[str, ...]:
        """What is beyond its share, in words; empty if nothing is known to be."""
        told = []
        if (self.foreign_cpu_percent or 0.0) > MAX_FOREIGN_CPU_PERCENT:
            told.append(f"other programs used {self.foreign_cpu_percent:.0f} % of the machine's CPU time")
        if (self.steal_percent or 0.0) > MAX_STEAL_PERCENT:
            told.append(f"the hypervisor took {self.steal_percent:.0f} % of it for others")
        return tuple(told)


def measured_load(samples: pandas.DataFrame, one_machine: bool) -> Load:
    """The load beside a run, from its samples.

    What programs used of the machine, less what the run's tasks and their monitors did. `one_machine` says that all
    hosts of the job were on one; else each has its own, and the most disturbed of them counts, for the others wait for
    it.
    """
    taken = samples[samples["source"] == "psutil"]
    hosts = taken[taken["role"] == "host"].pivot_table(index="host", columns="name", values="value", aggfunc="mean")
    if not {"machine_busy_percent", "machine_cpu_count", "cpu_count"} <= set(hosts.columns):
        return Load()
    rounds = taken[taken["name"] == "machine_busy_percent"].groupby("host").size()
    tasks = taken[(taken["role"] != "host") & (taken["name"] == "cpu_percent")].groupby("host")["value"].sum()
    # A task's percent is of what its host was given. One that was sampled for a part of the run counts for that part.
    own_cpus = (tasks / rounds).reindex(hosts.index).fillna(0.0) / 100 * hosts["cpu_count"]
    if one_machine:
        own_cpus[:] = own_cpus.sum()
    foreign = hosts["machine_busy_percent"] - 100 * own_cpus / hosts["machine_cpu_count"]
    steal = float(hosts["steal_percent"].max()) if "steal_percent" in hosts else None
    return Load(foreign_cpu_percent=max(0.0, float(foreign.max())), steal_percent=steal)
