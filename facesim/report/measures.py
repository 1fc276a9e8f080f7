"""What one run contributes to each line of the comparison: one entry a line, each a function of the run's record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from facesim.billing.bill import billed_until_s
from facesim.metrics.schema import COUNTER, METRICS
from facesim.report.load import RunRecord, Utilisation
from facesim.report.statistics import time_to_reach
from facesim.report.words import percent
from facesim.runs.records import Billing

if TYPE_CHECKING:
    import numpy as np


class Measure(NamedTuple):
    """A line of the comparison: section, label and unit: `s`, `1/s`, `%`, `B`, `iB` for memory, `USD`, `x`, `1`, and
    `share`, 0-1, which is shown in percent.
    """

    section: str
    label: str
    unit: str
    of: Callable[[RunRecord], float | None]


def measures(target_accuracy: float | None) -> dict[str, Measure]:
    """Every measure by name, in the order of the table; time-to-accuracy is the time to `target_accuracy`, 0-1."""
    target = "a target" if target_accuracy is None else percent(target_accuracy)
    return {
        "launch_to_first_step_s": Measure("Time", "start-up, to first step", "s", _phase("launch_to_first_step_s")),
        "training_s": Measure("Time", "training", "s", _result("training_s")),
        "evaluation_s": Measure("Time", "evaluation", "s", _phase("evaluation_s")),
        "total_s": Measure("Time", "total", "s", _result("total_s")),
        "images_per_s": Measure("Time", "images/s", "1/s", _result("images_per_s")),
        "target_accuracy": Measure("Time", "target, held-out", "share", lambda _: target_accuracy),
        "time_to_accuracy_s": Measure(
            "Time", f"time to {target} held-out", "s", _reached("since_first_step_s", target_accuracy)
        ),
        "time_to_accuracy_since_launch_s": Measure(
            "Time", "the same, since launch", "s", _reached("since_launch_s", target_accuracy)
        ),
        "held_out_accuracy": Measure("Learning", "held-out accuracy", "share", _result("held_out_accuracy")),
        "training_accuracy": Measure("Learning", "training accuracy", "share", _result("training_accuracy")),
        "chance_accuracy": Measure("Learning", "accuracy by chance", "share", chance_accuracy),
        "examples_seen": Measure("Learning", "examples seen", "1", _result("examples_seen")),
        "updates": Measure("Learning", "updates", "1", _result("updates")),
        "cpu_percent": Measure("Resources", "CPU of all tasks, mean", "%", _tasks_cpu),
        "host_cpu_percent": Measure("Resources", "CPU of the whole host, mean", "%", _host_cpu),
        "memory_peak_task_bytes": Measure("Resources", "peak memory, largest task", "iB", _largest_task),
        "memory_peak_all_bytes": Measure("Resources", "peak memory, all tasks", "iB", _all_tasks),
        "wire_bytes": Measure("Resources", "bytes on the wire", "B", _result("wire_bytes")),
        "wire_bytes_per_update": Measure("Resources", "… an update", "B", _wire_per_update),
        "wire_models_per_update": Measure("Resources", "… in sizes of the model", "x", _wire_models_per_update),
        "restarts": Measure("Failure", "restarts", "1", _recovery("restarts")),
        "lost_examples": Measure("Failure", "examples lost", "1", _recovery("lost_examples")),
        "lost_s": Measure("Failure", "time lost by that", "s", _recovery("lost_s")),
        "down_s": Measure("Failure", "time until it continued", "s", _recovery("down_s")),
        "checkpoints_failed": Measure("Failure", "checkpoints that failed", "1", _recovery("checkpoints_failed")),
        "checkpoints": Measure("Failure", "checkpoints", "1", _recovery("checkpoints")),
        "checkpoint_s": Measure("Failure", "… time to write them", "s", _phase("checkpoint_s")),
        "checkpoint_bytes": Measure("Failure", "… written", "B", _recovery("checkpoint_bytes")),
        "instance_s": Measure("Cost", "instance-seconds", "s", instance_s),
        "cost_usd": Measure("Cost", "on demand", "USD", _result("cost_usd")),
        "spot_cost_usd": Measure("Cost", "spot, assumed discount", "USD", _result("spot_cost_usd")),
        "lost_work_usd": Measure("Cost", "lost work", "USD", _extra_usd("lost_work_usd")),
        "restart_usd": Measure("Cost", "starting again", "USD", _extra_usd("restart_usd")),
        "instance_s_to_accuracy": Measure(
            "Cost", f"cost to {target}, instance-s", "s", _instance_s_to(target_accuracy)
        ),
        "cost_to_accuracy_usd": Measure("Cost", f"cost to {target} held-out", "USD", _cost_to(target_accuracy)),
        "interruptions": Measure("Spot capacity", "interruptions", "1", _spot("interruptions")),
        "waiting_s": Measure("Spot capacity", "waiting and starting, not billed", "s", _spot("waiting_s")),
        "billable_s": Measure("Spot capacity", "billable seconds, each host", "s", _spot("billable_s")),
        "savings_percent": Measure("Spot capacity", "savings", "%", _spot("savings_percent")),
        "billed_usd": Measure("Spot capacity", "billed", "USD", _spot("cost_usd")),
    }


def instance_s(record: RunRecord) -> float | None:
    """Seconds for which the run had its instances, times their number: what is billed on demand, whatever the price."""
    result = record.result
    if result.billing is not None:
        whole = result.billing.instance_s  # not in the bills of earlier versions
        return result.billing.hosts * result.billing.training_s if whole is None else whole
    return None if result.hosts is None or result.total_s is None else result.hosts * result.total_s


class ByRole(NamedTuple):
    """A metric by role, at instants in seconds since launch; NaN where no task of the role counts."""

    since_launch_s: np.ndarray
    roles: dict[str, np.ndarray]

    def of_tasks(self) -> np.ndarray | None:
        """The sum over all roles but the host's; None if there are none."""
        import numpy as np

        tasks = [values for role, values in self.roles.items() if role != "host"]
        return np.nansum(tasks, axis=0) if tasks else None


def by_role(utilisation: Utilisation, metric: str) -> ByRole:
    """`metric` summed over the tasks of each role. A percentage is of what all hosts have.

    Tasks need not be sampled at the same instants: between two of its samples a task keeps its value. It counts nothing
    before its first, nor after its last, except that a counter stays. Empty if nothing recorded `metric`.
    """
    import numpy as np

    from facesim.metrics.table import joined

    recorded = {task: used[metric] for task, used in utilisation.items() if metric in used}
    recorded = {task: (times, values) for task, (times, values) in recorded.items() if len(times)}
    moments = np.unique(joined(times for times, _ in recorded.values()))
    sums: dict[str, np.ndarray] = {}
    for task, (times, values) in recorded.items():
        newest = np.searchsorted(times, moments, side="right") - 1
        seen = newest >= 0
        if METRICS[metric].kind != COUNTER:
            seen &= moments <= times[-1]
        total = sums.setdefault(task.role, np.full(len(moments), np.nan))
        total[seen] = np.nan_to_num(total[seen]) + values[newest[seen]]
    hosts = len({task.host for task in recorded}) if METRICS[metric].unit == "%" else 1
    return ByRole(moments, {role: sums[role] / hosts for role in sorted(sums)})


def _result(name: str) -> Callable[[RunRecord], float | None]:
    return lambda record: _finite(getattr(record.result, name))


def chance_accuracy(record: RunRecord) -> float | None:
    """The accuracy, 0-1, of always naming the person with the most images."""
    return record.result.data.chance_accuracy


def _phase(name: str) -> Callable[[RunRecord], float | None]:
    return lambda record: _finite(record.phases.get(name))


def _recovery(name: str) -> Callable[[RunRecord], float | None]:
    """What failure cost; None, not 0, where there was none, so that most reports have no such line."""
    return lambda record: record.result.recovery.get(name) or None


def _spot(name: str) -> Callable[[RunRecord], float | None]:
    """What the bill of a run on spot capacity says; None on demand."""

    def of(record: RunRecord) -> float | None:
        billing = record.result.billing
        return _finite(getattr(billing, name)) if billing and billing.spot else None

    return of


def _extra_usd(name: str) -> Callable[[RunRecord], float | None]:
    """What interruptions and failures cost; None, not 0, where there was none."""
    return lambda record: (record.result.billing and getattr(record.result.billing, name)) or None


def _cost_to(target: float | None) -> Callable[[RunRecord], float | None]:
    """What had been billed when the target was reached."""
    reached = _reached("time_unix_s", target)

    def of(record: RunRecord) -> float | None:
        moment_unix_s, billing = reached(record), record.result.billing
        if moment_unix_s is None or billing is None or not billing.training_s:
            return None
        return math.fsum(
            seconds * (cost_usd / whole_s if whole_s else 0.0)
            for seconds, _, whole_s, cost_usd in _billed_until(record, billing, moment_unix_s)
        )

    return of


def _instance_s_to(target: float | None) -> Callable[[RunRecord], float | None]:
    """Seconds for which the run had had its instances when the target was reached, times their number."""
    reached = _reached("time_unix_s", target)

    def of(record: RunRecord) -> float | None:
        moment_unix_s, billing = reached(record), record.result.billing
        if moment_unix_s is None or billing is None:
            return None
        return math.fsum(seconds * hosts for seconds, hosts, *_ in _billed_until(record, billing, moment_unix_s))

    return of


def _billed_until(
    record: RunRecord, billing: Billing, moment_unix_s: float
) -> Iterator[tuple[float, int, float, float]]:
    """By life of the run: seconds with instances until a moment, their number, seconds and dollars of all the life."""
    if len(billing.lives) != len(record.lives):  # earlier versions made one bill of all
        whole = (billing.hosts, billing.training_s, billing.cost_usd)
        yield billed_until_s(billing.transitions, moment_unix_s), *whole
        return
    begins = [*(life.begin_unix_s for life in record.lives[1:]), math.inf]
    since_unix_s = -math.inf
    for life, until_unix_s in zip(billing.lives, begins, strict=True):
        of_life = [each for each in billing.transitions if since_unix_s <= each.begin_unix_s < until_unix_s]
        yield billed_until_s(of_life, moment_unix_s), life.hosts, life.training_s, life.cost_usd
        since_unix_s = until_unix_s


def _reached(clock: str, target: float | None) -> Callable[[RunRecord], float | None]:
    def of(record: RunRecord) -> float | None:
        if target is None:
            return None
        times, accuracies = record.curve("held_out_accuracy", clock)
        return time_to_reach(times.tolist(), accuracies.tolist(), target)

    return of


def _tasks_cpu(record: RunRecord) -> float | None:
    used = [task.cpu_percent_mean for role, task in record.result.resources.items() if role != "host"]
    return _finite(math.fsum(percent for percent in used if percent is not None)) if used else None


def _host_cpu(record: RunRecord) -> float | None:
    host = record.result.resources.get("host")
    return None if host is None else _finite(host.cpu_percent_mean)


def _largest_task(record: RunRecord) -> float | None:
    peaks = [used.memory_peak_bytes for role, used in record.result.resources.items() if role != "host"]
    return max((peak for peak in peaks if peak is not None), default=None)


def _all_tasks(record: RunRecord) -> float | None:
    memory = by_role(record.utilisation, "memory_bytes").of_tasks()
    return None if memory is None else _finite(float(memory.max()))


def _wire_per_update(record: RunRecord) -> float | None:
    result = record.result
    return result.wire_bytes / result.updates if result.wire_bytes is not None and result.updates else None


def _wire_models_per_update(record: RunRecord) -> float | None:
    per_update, model_bytes = _wire_per_update(record), record.result.parameter_bytes
    return per_update / model_bytes if per_update is not None and model_bytes else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
