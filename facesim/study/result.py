"""A run's end: what training found, what was measured and what it costs become `result.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas

from facesim.billing.bill import discount_of, make_bill
from facesim.billing.catalogue import instance
from facesim.metrics.collectors import ranks
from facesim.metrics.counters import counted
from facesim.metrics.disturbance import measured_load
from facesim.metrics.files import samples_in
from facesim.metrics.machine import machine, packages_here
from facesim.metrics.schema import COUNTER, METRICS
from facesim.metrics.table import Points
from facesim.runs.accounting import of_kind, recovery, replaced_workers
from facesim.runs.audit import audit, idle_accelerators
from facesim.runs.directory import Run
from facesim.runs.events import Event, Submitted, TaskEnded, TaskStarted
from facesim.runs.records import Findings, Result, TaskOutcome
from facesim.runs.states import Measurement, RunState
from facesim.spec.job import Job
from facesim.spec.strategies import Layout

_COUNTERS = [name for name, metric in METRICS.items() if metric.kind == COUNTER]


def finish(run: Run, state: RunState, failure: str | None, measurement: Measurement, total_s: float) -> Result:
    """Write `result.json` and return what it holds.

    `failure` says why a run failed; `total_s` is the time from launch until nothing of the run ran any more. What it is
    billed for follows from its `state` events. What training would have found is null in a run that did not get there.
    """
    job, outcome, samples, events = run.job(), run.outcome(), samples_in(run.metrics), run.events()
    samples = _with_counters_added_up(samples, events)
    resources = _resources(samples)
    findings = {name: getattr(outcome, name) for name in Findings.model_fields} if outcome else {}
    discount = discount_of(job.spot, job.groups)
    bill = make_bill(events, job.groups, discount if job.spot else None)
    # What stands for hosts here is on one machine; real ones are machines of their own.
    load = measured_load(samples, one_machine=measurement is Measurement.EMULATED)
    content = {
        "run_id": run.id,
        "job": job.model_dump(),
        "strategy": job.strategy.name,
        "backend": job.backend.name,
        "seed": job.experiment.seed,
        "state": state,
        "measurement": measurement,
        "failure": failure,
        **findings,
        "total_s": total_s,
        "instance_type": job.shape.instance_type,
        "hosts": job.hosts,
        "cost_usd": bill.on_demand_usd,
        "spot_cost_usd": bill.spot_usd(discount),
        "billing": bill.to_dict(discount),
        "resources": resources,
        "recovery": recovery(events),
        "wire_bytes": _wire_bytes(job, samples),
        "collector_errors": _total(samples, "collector_errors").groupby("source").sum().to_dict(),
        "sync_audit": _audited(job, outcome, run, samples, events),
        "machine": machine(packages_here(job)) | {"kernels": _kernels(events)},
        "load": load.model_dump() | {"beside": _beside(events)},
    }
    result = Result.model_validate(content)
    result.write(run.result_file)
    return result


def _kernels(events: list[Event]) -> str | None:
    """What the run computed with when it was last submitted, where that was recorded."""
    recorded = [submission.kernels for submission in of_kind(events, Submitted) if submission.kernels is not None]
    return recorded[-1] if recorded else None


def _beside(events: list[Event]) -> int:
    return max((event.beside or 0 for event in of_kind(events, Submitted)), default=0)


def _audited(
    job: Job, outcome: TaskOutcome | None, run: Run, samples: pandas.DataFrame, events: list[Event]
) -> dict[str, Any]:
    """Whether replicas trained together, and on what is paid for."""
    outcomes = [*([outcome] if outcome else []), *run.peer_outcomes()]
    sync_audit = audit(
        outcomes,
        job.replicas,
        _received_by_worker(job, samples),
        over_wire=job.hosts > 1 and job.shape.workers_per_host == 1,  # on one host they have other ways
        replaced=replaced_workers(events),
        steps_at_a_time=job.strategy.steps_at_a_time,
        spare=getattr(job.strategy, "backup_workers", 0),
        outcomes_due=job.shape.workers if job.strategy.layout is Layout.PEERS else 1,
        measured=_measured_by_worker(job, samples, events),
    )
    kind = instance(job.shape.instance_type)
    if kind.gpus and job.backend.elsewhere and outcomes:
        use = samples[(samples["name"] == "gpu_percent") & (samples["role"] == "host")]
        idle, evidence = idle_accelerators(
            f"{job.hosts * kind.gpus} {kind.accelerator} of {job.hosts} {kind.name}",
            [task_outcome.devices for task_outcome in outcomes],
            use.groupby("host")["value"].max().to_dict(),
        )
        sync_audit["idle_accelerators"] = idle
        sync_audit["evidence"] = [*sync_audit["evidence"], *([evidence] if evidence else [])]
    return sync_audit


def _resources(samples: pandas.DataFrame) -> dict[str, dict[str, float | None]]:
    """By role: number of tasks, mean CPU of all of them together, memory peak of the largest, bytes of all; None for
    what was not measured.

    The CPU is in percent of what all hosts of the job have.
    """
    measured = samples[samples["source"].isin(ranks()) & (samples["role"] != "gpu")]
    hosts = measured["host"].nunique()
    resources: dict[str, dict[str, float | None]] = {}
    for role, of_role in measured.groupby("role"):
        rows = _heard(of_role)
        cpu = rows[rows["name"] == "cpu_percent"].groupby("task_index")["value"].mean()
        memory = rows[rows["name"] == "memory_bytes"]["value"]
        resources[str(role)] = {
            "tasks": rows["task_index"].nunique(),
            "cpu_percent_mean": cpu.sum() / hosts if len(cpu) else None,
            "memory_peak_bytes": memory.max() if len(memory) else None,
        } | {
            name: sent.sum() if len(sent := _total(rows, name)) else None
            for name in ("net_sent_bytes", "net_received_bytes")
        }
    return resources


def _heard(samples: pandas.DataFrame) -> pandas.DataFrame:
    """Of each metric the samples of one source: that of the lowest rank that has any."""
    rank = samples["source"].map(ranks())
    return samples[rank == rank.groupby(samples["name"]).transform("min")]


def _with_counters_added_up(samples: pandas.DataFrame, events: list[Event]) -> pandas.DataFrame:
    """The samples with what each counter of a task came to over all processes of the task until then."""
    values = samples["value"].copy()
    counters = samples["source"].isin(ranks()) & samples["name"].isin(_COUNTERS) & values.notna()
    for (_, role, index, name), of_task in samples[counters].groupby(["source", "role", "task_index", "name"]):
        points = Points(of_task["time_unix_s"].to_numpy(), of_task["value"].to_numpy())
        values[of_task.index] = counted(points, name, str(role), int(index), events)
    return samples.assign(value=values)


def _total(samples: pandas.DataFrame, name: str) -> pandas.Series:
    """What a counter came to, by source, role and task."""
    return samples[samples["name"] == name].groupby(["source", "role", "task_index"])["value"].max()


def _workers(job: Job) -> dict[tuple[str, int], int]:
    """Each worker's number, as the training tasks have it, by role and index: a chief that trains is the first."""
    chief_trains = not job.strategy.coordinated
    tasks = ([("chief", 0)] if chief_trains else []) + [("worker", index) for index in range(job.shape.workers)]
    return {task: number for number, task in enumerate(tasks)}


def _received_by_worker(job: Job, samples: pandas.DataFrame) -> dict[int, float]:
    """Bytes that each worker received; a worker whose connections nobody measured is left out."""
    rows, workers = samples[samples["source"] == "sockets"], _workers(job)
    received = {(role, index): value for (_, role, index), value in _total(rows, "net_received_bytes").items()}
    return {workers[task]: value for task, value in received.items() if task in workers}


def _measured_by_worker(job: Job, samples: pandas.DataFrame, events: list[Event]) -> dict[int, float]:
    """The share of its processes' lives, 0-1, for which each worker's connections were measured.

    A connection's counter has all from its begin on. What a process received after its last sample nobody knows, and
    where samples are further apart than they should be, connections may have come and gone.
    """
    rows, workers = samples[samples["source"] == "sockets"], _workers(job)
    apart_s = max(5.0, 5 * job.sampling_s)
    shares = {}
    for task, of_task in rows.groupby(["role", "task_index"]):
        if task not in workers:
            continue
        due_s = covered_s = 0.0
        for begin_s, end_s in _lives(events, f"{task[0]}-{task[1]}"):
            times = of_task["time_unix_s"]
            seen = [begin_s, *sorted(times[(times > begin_s) & (times <= end_s)])]
            covered_s += sum(after - before for before, after in zip(seen, seen[1:]) if after - before <= apart_s)
            due_s += end_s - begin_s
        if due_s > 0:
            shares[workers[task]] = covered_s / due_s
    return shares


def _lives(events: list[Event], task: str) -> Iterator[tuple[float, float]]:
    """From when to when each process of a task lived, in seconds since 1970."""
    begin_s: float | None = None
    for event in events:
        if isinstance(event, (TaskStarted, TaskEnded)) and event.task == task:
            if begin_s is not None:
                yield begin_s, event.time_unix_s
            begin_s = event.time_unix_s if isinstance(event, TaskStarted) else None
    if begin_s is not None:
        yield begin_s, events[-1].time_unix_s


def _wire_bytes(job: Job, samples: pandas.DataFrame) -> float | None:
    """Bytes that crossed between tasks: what all of them received. None where that was not measured."""
    if not job.strategy.distributed:
        return 0
    rows = samples[samples["source"] == "sockets"]
    return _total(rows, "net_received_bytes").sum() if len(rows) else None
