"""The arithmetic of one forecast, step by step, with its numbers and where each formula is from: for a teacher."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pydantic

from facesim.forecast import laws
from facesim.forecast.constants import constants
from facesim.forecast.hosts import HostType
from facesim.forecast.model import Forecast
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape
from facesim.forecast.speeds import Speeds, Table
from facesim.planning.quantities import dollars_text, time_text
from facesim.planning.search import Axes, Plan, Row, clustered
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError
from facesim.util.words import count_text


class Step(NamedTuple):
    """One step of the arithmetic: what it is about, the numbers, the source of the formula."""

    title: str
    lines: tuple[str, ...]
    source: str = ""


_WORKERS = re.compile(r"(?:workers?=)?(\d+)(?:w|workers?)|workers?=(\d+)")
_SERVERS = re.compile(r"(\d+)ps|ps=(\d+)")


def read_shape(text: str, among: Mapping[str, HostType], usual: ClusterShape, axes: Axes) -> ClusterShape:
    """`ps-async:ml.m5.xlarge:4w:2ps:spot`, in any order, `,` or spaces in place of `:`; what is left out is `usual`'s,
    and what such a text cannot say is as in `axes`.

    Raises:
        InputError: a part of it means nothing, or there is no such shape.
    """
    fields: dict[str, object] = {}
    value: object
    for part in filter(None, re.split(r"[:,\s]+", text.strip())):
        if part == "spot":
            field, value = "spot", True
        elif match := _SERVERS.fullmatch(part):
            field, value = "ps", int(match[1] or match[2])
        elif match := _WORKERS.fullmatch(part):
            field, value = "workers", int(match[1] or match[2])
        elif part in among:
            field, value = "instance_type", part
        elif part in STRATEGIES:
            field, value = "strategy", part
        else:
            raise InputError(
                f"--explain {text!r}: {part!r} is no part of a shape; write it like ps-async:ml.m5.xlarge:4w:2ps, or "
                f"cheapest, fastest; strategies are {', '.join(STRATEGIES)}"
            )
        if field in fields:
            raise InputError(f"--explain {text!r} says twice what {field} is, {fields[field]} and {value}: say it once")
        fields[field] = value
    said = {name: getattr(usual, name) for name in ("strategy", "instance_type", "workers", "ps", "spot")} | fields
    try:
        shape = ClusterShape.model_validate({**axes.fixed_for(str(said["strategy"])), **said})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = f"{first['loc'][0]} {first['input']}: " if first["loc"] else ""
        raise InputError(f"--explain {text!r}: {field}{first['msg'].removeprefix('Value error, ')}") from None
    for name, count in (("workers", shape.replicas), ("ps", shape.ps if shape.served else 0)):
        if fields.get(name, count) != count:
            raise InputError(f"--explain {text!r}: {shape.strategy} has no {fields[name]} {name}; leave that out")
    return shape


def row_of(plan: Plan, text: str) -> Row:
    """The row that a text names: `cheapest`, `fastest`, or a shape as `read_shape` has it, which is forecast now where
    it is none of the plan's.

    Raises:
        InputError: as `read_shape`; nobody knows how fast the type is.
    """
    cheapest, fastest = plan.cheapest or plan.cheapest_of_all, plan.fastest or plan.fastest_of_all
    named = {"cheapest": cheapest, "fastest": fastest}
    if text.strip() in named:
        return named[text.strip()]
    shape = read_shape(text, plan.known, cheapest.forecast.shape, plan.axes)
    planned = (row for row in plan.rows if _said(row.forecast.shape) == _said(shape))
    return next(planned, None) or plan.row(shape)


def _said(shape: ClusterShape) -> tuple[object, ...]:
    """What a text says of a shape, as far as it means something to its strategy."""
    return (
        shape.strategy,
        shape.instance_type,
        shape.replicas,
        shape.ps if shape.served else None,
        shape.spot,
    )


def explain(plan: Plan, row: Row) -> list[Step]:
    """The steps by which a row of a plan is computed."""
    return [*_steps(plan, row)]


def _steps(plan: Plan, row: Row) -> Iterator[Step]:
    profile, forecast, shape = plan.profile, row.forecast, row.forecast.shape
    table = Table(profile, [shape], plan.known, plan.update_batch)
    burst = Speeds(table, base=False)
    compute_s, ratio, worker_batch = float(table.compute_s[0]), float(table.ratio[0]), int(table.worker_batch[0])
    here_s = float(profile.step_s(np.array(worker_batch)))
    kind = plan.known[shape.instance_type]
    yield from _of_computing(profile, shape, plan.update_batch, worker_batch, here_s, compute_s, ratio, kind)
    if shape.served:
        yield _of_servers(profile, table, shape)
    elif shape.summed:
        yield _of_the_ring(profile, table, shape)
    yield _of_an_update(profile, table, burst, forecast.update_s)
    updates_an_epoch = count_text(-(-profile.examples // plan.update_batch), "update")
    yield Step(
        "Updates",
        (
            f"{count_text(profile.examples, 'example')} / {plan.update_batch} an update = {updates_an_epoch} an epoch; "
            f"times {count_text(plan.epochs, 'epoch')} = {forecast.updates:,}",
        ),
    )
    yield _of_the_phases(forecast)
    yield _of_the_bill(forecast, plan.known)
    yield _of_the_interval(plan, row)
    yield Step("What bounds it", (bound_in_words(forecast.bound),))


def _of_computing(
    profile: Profile,
    shape: ClusterShape,
    batch: int,
    worker_batch: int,
    here_s: float,
    compute_s: float,
    ratio: float,
    kind: HostType,
) -> Iterator[Step]:
    measured = ", ".join(f"{each.step_s * 1000:.4g} ms at {each.batch}" for each in profile.compute)
    shared = worker_batch != batch
    counted = count_text(shape.workers - shape.backup_workers, "worker")
    if shape.backup_workers:
        counted += f" that are waited for, of {shape.workers}"
    least, most = profile.batches
    how = "as measured" if worker_batch in [each.batch for each in profile.compute] else "on the line between these"
    if not least <= worker_batch <= most:
        how = f"beyond what was measured, {least} to {most}: the line goes on"
    yield Step(
        "Computing one step on the machine of the profile",
        (
            f"batch of an update {batch}"
            + (f", divided among {counted}: {worker_batch} each" if shared else ", whole for one worker"),
            f"measured: {measured}",
            f"at {worker_batch}: {here_s * 1000:.4g} ms ({how})",
        ),
        "facesim profile",
    )
    reference = constants("reference_core")
    yield Step(
        f"The same on {kind.name}",
        (
            f"this machine makes {profile.machine.sgemm_gflops:.4g} GFLOP/s of a matrix product; a reference core "
            f"{reference.values['sgemm_gflops']:g}; {kind.name} is worth {kind.relative_speed:.4g} reference cores "
            f"({kind.speed_origin}{', ' + kind.speed_date if kind.speed_date else ''})",
            f"so it is {kind.relative_speed:.4g} x {reference.values['sgemm_gflops']:g} / "
            f"{profile.machine.sgemm_gflops:.4g} = {ratio:.3g} times as fast: {here_s * 1000:.4g} ms / {ratio:.3g} = "
            f"{here_s / ratio * 1000:.4g} ms",
            *(
                f"with {count} of {count_text(shape.workers, 'worker')} on {name}"
                for name, count in shape.other_workers
            ),
            *([f"all alike would be as fast with {compute_s * 1000:.4g} ms each"] if shape.other_workers else []),
        ),
        kind.speed_source or reference.source,
    )


def _of_servers(profile: Profile, table: Table, shape: ClusterShape) -> Step:
    server, batch = profile.served, float(table.worker_batch[0])
    loads = profile.loads(shape.ps, batch)
    busiest = max(loads, key=lambda load: load.pull_bytes + load.push_bytes)
    messages = busiest.pull_messages + busiest.push_messages
    sent = busiest.pull_bytes + busiest.push_bytes
    multiplied = f"{busiest.push_flops / 1e9:.3g} GFLOP / {profile.machine.core_flops_per_s / 1e9:.3g} GFLOP/s"
    core = float(table.server_core[0])
    processor_s = sum(profile.modelled_s(busiest))
    lines = [
        f"{count_text(len(profile.variables), 'variable lies', 'variables lie')} on {count_text(shape.ps, 'server')}; "
        f"an update asks the busiest for {count_text(messages, 'message')} and {sent / 1e6:.3g} MB, both ways together",
        f"its processor: {server.update_s * 1000:.3g} ms + {server.message_s * 1000:.3g} ms x {messages} + "
        f"{server.byte_s * 1e9 / 2:.3g} ns x {sent / 1e6:.3g} MB"
        + (f" + {multiplied} (gradients that it multiplies)" if busiest.push_flops else "")
        + f" = {processor_s * 1000:.3g} ms on this machine's core",
    ]
    if server.saturation_s is not None:
        factor = profile.saturation_factor
        processor_s *= factor
        lines.append(
            f"the saturation test found {server.saturation_s * 1000:.3g} ms an update on one server: corrected "
            f"by {factor:.3g}, {processor_s * 1000:.3g} ms"
        )
    lines.append(
        f"a core of the servers' host is {core:.3g} times as fast: D = {processor_s / core * 1000:.3g} ms an update"
    )
    host = table.server_host[0]
    for name, rate in (("burst", host.peak_bytes_per_s), ("base", host.base_bytes_per_s)):
        link_s = max(busiest.pull_bytes, busiest.push_bytes) / rate
        lines.append(
            f"its link, {name} rate {rate * 8 / 1e9:.3g} Gbit/s of payload: {link_s * 1000:.3g} ms each way, before "
            "what stays on the host"
        )
    return Step(
        "The servers",
        tuple(lines),
        "service demand max(u + a M + b S, S / (eta B)): Lazowska et al., Quantitative System Performance, 1984",
    )


def _of_the_ring(profile: Profile, table: Table, shape: ClusterShape) -> Step:
    workers, size = shape.workers, float(table.sum_bytes[0])
    core = float(table.ratio[0]) * profile.machine.cores / table.worker_host[0].cores
    link = float(min(table.link(base=False, servers=False)[0], table.flow()[0]))
    rate = min(link, core / max(profile.ring.byte_s, 1e-15))
    alpha_s = profile.ring.alpha_s / core
    exchange_s = 2 * (workers - 1) / workers * size / rate + 2 * (workers - 1) * alpha_s
    summed = "parameters" if shape.kind.averaging else "gradients"
    multiplied = [
        f"of large dense layers' gradients the factors, in place of {profile.gradient_bytes / 1e6:.3g} MB of these; "
        f"each worker multiplies those of all, which takes {table.multiply_s[0] * 1000:.3g} ms more"
    ]
    lines = [
        *(multiplied if table.multiply_s[0] else []),
        f"{size / 1e6:.3g} MB of {summed}; over a link of {link * 8 / 1e9:.3g} Gbit/s, copied and added by a core at "
        f"{core / max(profile.ring.byte_s, 1e-15) * 8 / 1e9:.3g} Gbit/s: the slower, {rate * 8 / 1e9:.3g} Gbit/s, sets "
        "the pace",
        f"2 (w-1)/w S / B + 2 (w-1) alpha = 2 x {workers - 1}/{workers} x {size / 1e6:.3g} MB / {rate / 1e6:.4g} MB/s "
        f"+ {2 * (workers - 1)} x {alpha_s * 1000:.3g} ms = {exchange_s * 1000:.4g} ms",
    ]
    if not shape.kind.averaging:
        lines.append(f"of it computing hides what p = {profile.ring.overlap:.2f} of the profile says (1: nothing)")
    return Step(
        "Summing over the ring", tuple(lines), "Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms, JPDC 2009"
    )


def _of_an_update(profile: Profile, table: Table, burst: Speeds, update_s: float) -> Step:
    (shape,) = table.shapes
    formula = shape.kind.declared_formula()
    assert formula is not None  # no other shape can be made
    compute_s, burst_s = float(table.compute_s[0]), float(burst.update_s[0])
    lines, step_s = [formula.words], compute_s
    if shape.served:
        served_s, dispatch_s = float(table.served_s[0]), float(table.dispatch_s[0])
        step_s = served_s + dispatch_s
        lines.append(
            f"C = {served_s * 1000:.4g} ms, of computing without the optimiser, which is the servers', and of what "
            f"sending takes of a worker's cores beside it, + {dispatch_s * 1000:.4g} ms until the chief has handed out "
            "a step"
        )
    if shape.workers > 1:
        lines.append(f"w = {shape.workers}, C = {step_s * 1000:.4g} ms, spread of a step {100 * profile.cv:.1f} %")
    if shape.workers > 1 and not shape.kind.asynchronous and (shape.served or shape.summed):
        lines += _of_the_slowest(profile, shape, step_s, burst_s)
    credit = " while the network has credit" if clustered(shape) else ""
    lines.append(f"an update takes {burst_s * 1000:.4g} ms{credit}")
    if abs(update_s - burst_s) > 1e-3 * burst_s:
        lines.append(f"{update_s * 1000:.4g} ms over the whole job: later the network falls to its base rate")
    alone_s = compute_s if shape.kind.asynchronous or not shape.kind.replicated else None
    if alone_s and shape.workers > 1:
        lines.append(f"one worker's computing alone would be {alone_s * 1000:.4g} ms: {alone_s / update_s:.3g} times")
    return Step("One update", tuple(lines), formula.source)


def _of_the_slowest(profile: Profile, shape: ClusterShape, step_s: float, burst_s: float) -> Iterator[str]:
    """Of workers that wait for each other: how long for the slowest, and what an update takes beside that."""
    local = shape.local_steps if shape.kind.averaging else 1
    needed = shape.workers - shape.backup_workers
    slowest_s = float(laws.slowest_s(step_s, profile.cv / local**0.5, shape.workers, needed))
    which = f"the slowest of {shape.workers}" if needed == shape.workers else f"number {needed} of {shape.workers}"
    steps = f", over sums of H = {local} steps, by H" if local > 1 else ""
    rest = "pulling, pushing, and what servers and chief do" if shape.served else "of the ring what is not hidden"
    yield (f"{which}{steps}: {slowest_s * 1000:.4g} ms; {rest} + {max(0.0, burst_s - slowest_s) * 1000:.4g} ms")


def _of_the_phases(forecast: Forecast) -> Step:
    phases = forecast.phases
    burst = " in the network's burst phase" if clustered(forecast.shape) else ""
    named = (
        ("waiting for instances", phases.waiting_s),
        ("download of image and data", phases.download_s),
        ("start to the first step", phases.start_s),
        (f"{count_text(forecast.updates, 'update')}{burst}", phases.training_burst_s),
        ("and in its base phase", phases.training_base_s),
        ("workers that wait for the last before each evaluation and checkpoint", phases.drain_s),
        ("evaluations", phases.evaluation_s),
        ("writing checkpoints", phases.checkpoint_s),
        ("work again after interruptions", phases.interrupted_s),
        ("upload of results", phases.upload_s),
    )
    lines = [f"{time_text(value)} {name}" for name, value in named if value > 0]
    return Step("The whole job", (*lines, f"= {time_text(forecast.time_s)}"))


def _of_the_bill(forecast: Forecast, known: Mapping[str, HostType]) -> Step:
    lines = []
    for name, count in forecast.shape.groups:
        usd = known[name].usd_per_hour(forecast.shape.spot)
        lines.append(
            f"{count} x {name} at ${usd:.4g} an hour x {count_text(round(forecast.phases.billed_s), 'billed second')} "
            f"/ 3600 = {dollars_text(count * usd * round(forecast.phases.billed_s) / 3600)}"
        )
    lines.append(f"= {dollars_text(forecast.cost_usd)}; waiting for instances is not billed")
    return Step("The bill", tuple(lines), "SageMaker bills whole seconds of each instance, from download to upload")


def _of_the_interval(plan: Plan, row: Row) -> Step:
    forecast = row.forecast
    doubts = plan.doubts(row)
    lines = [f"± {100 * doubt.half_width:.1f} % {doubt.cause}" for doubt in doubts]
    lines.append(
        f"independent, so in quadrature: ± {100 * forecast.half_width:.1f} %, "
        f"{time_text(forecast.low_s)} to {time_text(forecast.high_s)} and {dollars_text(forecast.low_usd)} to "
        f"{dollars_text(forecast.high_usd)}, 8 times in 10"
    )
    return Step("How sure", tuple(lines), constants("residuals").source)


def bound_in_words(bound: str) -> str:
    """What a bound is, and what helps."""
    return {
        "compute": "computing: more workers, or faster ones, help",
        "server CPU": "the servers' processors: another --ps helps, more workers do not",
        "host CPU": "the cores of a host, which its tasks share: a larger type helps",
        "network in": "what the busiest link receives: a type with more network helps; of servers, another --ps",
        "network out": "what the busiest link sends: a type with more network helps; of servers, another --ps",
        "start-up": "starting, downloading and uploading take longer than training: nothing makes this job much faster",
    }[bound]


def numbered_lines(steps: list[Step]) -> list[str]:
    """The steps as lines of text, numbered."""
    lines = []
    for number, step in enumerate(steps, 1):
        lines.append(f"{number}. {step.title}")
        lines += [f"   {line}" for line in step.lines]
        if step.source:
            lines.append(f"   [{step.source}]")
    return lines
