"""The report as one HTML file that needs nothing else: no font, no request, and one small script, without which all can
be read, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from facesim.billing import instances
from facesim.report.answer import answer, question
from facesim.report.cells import AUDIT_WORDS, Line, curve_lines, lines
from facesim.report.comparison import Comparison
from facesim.report.load import RunRecord, since_launch_s
from facesim.report.measures import instance_s
from facesim.report.plots import plots
from facesim.report.plots.drawing import colours
from facesim.report.rows import shape_in_words
from facesim.report.settings import faults_in_words
from facesim.report.verdict import Finding
from facesim.report.words import estimated, percent, quantity
from facesim.runs.records import MAX_FOREIGN_CPU_PERCENT, MAX_STEAL_PERCENT, Data
from facesim.spec.command_line import as_command
from facesim.util.disk import is_full, no_room
from facesim.util.errors import DiskFull, InputError, reason
from facesim.util.files import check_replaceable, write_text
from facesim.util.pages import page_environment

_TEMPLATE = "template.html"

#: Of more rows than this, tables have a line each and columns of measures, and statements are folded.
_FEW = 4

#: What a reader sees first.
_FIRST_PLOTS = ("pareto", "accuracies")

PLOT_TITLES = {
    "pareto": "Time and cost",
    "accuracies": "Held-out accuracy, and whether replicas trained together",
    "curve": "Learning curves",
    "accuracy": "Held-out accuracy against time",
    "loss": "Training loss",
    "time": "Where the time went",
    "cost": "What it cost",
    "cpu": "CPU by role",
    "memory": "Memory by role",
    "wire": "Bytes on the wire",
    "scaling": "Scaling",
    "staleness": "Staleness by worker",
    "interruptions": "Interruptions",
    "tasks": "Tasks, and what they receive",
    "roc": "Verification",
    "cmc": "Identification",
}


def render(comparison: Comparison) -> str:
    """`comparison` as an HTML page. Whatever comes from data is escaped."""
    from markupsafe import Markup

    from facesim.report.page import summary

    drawn = [(name, PLOT_TITLES[name], Markup(svg)) for name, svg in plots(comparison).items()]
    groups, commands = _groups(comparison), list(_commands(comparison))
    return (
        page_environment(Path(__file__).parent)
        .get_template(_TEMPLATE)
        .render(
            comparison=comparison,
            question=question(comparison),
            answer=answer(comparison),
            first_plots=[plot for plot in drawn if plot[0] in _FIRST_PLOTS],
            contents=_contents(comparison, len(drawn), groups, commands),
            findings_by_topic=_by_topic(comparison.findings),
            few=_FEW,
            commands=commands,
            markdown=summary(comparison),
            sections=_sections(lines(comparison)),
            rows=list(zip(comparison.rows, colours(comparison), strict=True)),
            audit_words=AUDIT_WORDS,
            curve_lines=curve_lines(comparison),
            published_lines=comparison.published.beside(comparison.rows) if comparison.published else [],
            plots=[plot for plot in drawn if plot[0] not in _FIRST_PLOTS],
            experiment=_by_row(
                comparison, lambda record: {k: v for k, v in record.job.experiment.items() if k != "seed"}
            ),
            data=_by_row(comparison, lambda record: _data(record.result.data)),
            machine=_by_row(comparison, lambda record: _machine(record.result.machine)),
            groups=groups,
            timeline=_timeline,
            quantity=quantity,
            estimated=estimated,
            spot_discounts=_spot_discounts(comparison),
            unverified=_unverified(comparison),
            price_regions=_price_regions(comparison),
            instance_s=instance_s,
            max_foreign_percent=MAX_FOREIGN_CPU_PERCENT,
            max_steal_percent=MAX_STEAL_PERCENT,
            made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def check_output(output: Path) -> None:
    """Raise InputError if `output` is there and no regular file."""
    try:
        check_replaceable(output)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot write the report {output}: {reason(error)}; choose another file with --output"
        ) from None


def write_html(comparison: Comparison, output: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        InputError: `output` cannot be written.
    """
    check_output(output)  # before the work of drawing
    page = render(comparison)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, page)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_full(error):
            raise DiskFull(no_room(output.parent)) from None
        raise InputError(
            f"cannot write the report {output}: {reason(error)}; choose another file with --output"
        ) from None


def _contents(
    comparison: Comparison, drawn: int, groups: Sequence[Any], commands: Sequence[Any]
) -> list[tuple[str, str]]:
    """The sections of this page: the identifier and the title of each."""
    sections = (
        ("compare", "Before you compare", comparison.warnings),
        ("words", "In words", True),
        ("numbers", "Numbers", True),
        ("published", "Beside what was published", comparison.published),
        ("classical", "Without a network", comparison.baselines),
        ("curves", "Learning curves", comparison.curves),
        ("scaling", "Scaling", comparison.scales),
        ("groups", "Errors by group", groups),
        ("forecasts", "Forecast against run", comparison.forecast_checks),
        ("plots", "Plots", drawn > len(_FIRST_PLOTS)),
        ("bills", "Bills", any(record.result.billing for record in comparison.records)),
        ("experiment", "Experiment, data, machine", True),
        ("repeat", "Run it again", commands),
        ("runs", "Runs", True),
        ("reading", "How to read this", True),
    )
    return [(name, title) for name, title, there in sections if there]


def _by_topic(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Statements of one topic and tone together."""
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        grouped.setdefault((finding.topic, finding.tone), []).append(finding)
    return [(topic, statements) for (topic, _), statements in grouped.items()]


def _commands(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    """The command that runs each row again, where the job is one that this facesim knows; and in words the faults that
    it had, which are not in the command.
    """
    for row in comparison.rows:
        if row.counted and not row.is_forecast:
            try:
                job = row.counted[0].run.job()
            except InputError:
                continue
            yield row.label, as_command(job, row.seeds), faults_in_words(row.counted[0].job.faults)


def _sections(table: list[Line]) -> dict[str, list[Line]]:
    grouped: dict[str, list[Line]] = {}
    for line in table:
        grouped.setdefault(line.section, []).append(line)
    return grouped


def _by_row(comparison: Comparison, facts_of: Any) -> list[tuple[str, str]]:
    """Facts of the runs as (name, value); where rows differ, each value with the rows that it belongs to."""
    facts = {row.label: facts_of((row.counted or row.records)[0]) for row in comparison.rows}
    shown = []
    for name in dict.fromkeys(name for of_row in facts.values() for name in of_row):
        values = {label: _value(of_row[name]) for label, of_row in facts.items() if name in of_row}
        distinct = dict.fromkeys(values.values())
        if len(distinct) == 1:
            shown.append((_words(name), next(iter(distinct))))
        else:
            shown.append((_words(name), "; ".join(f"{value} ({label})" for label, value in values.items())))
    return shown


def _machine(machine: dict[str, Any]) -> dict[str, Any]:
    facts = {name: value for name, value in machine.items() if value is not None}
    if isinstance(facts.get("memory_bytes"), (int, float)):
        facts["memory"] = quantity(facts.pop("memory_bytes"), "iB")
    return facts


def _data(data: Data) -> dict[str, Any]:
    """Of SHA-256 sums the first digits; that of the tested images is another for each seed."""
    facts = data.model_dump(exclude_none=True, exclude={"not_used", "notes", "tested_sha256"})
    if data.content_sha256:
        facts["content_sha256"] = data.content_sha256[:16]
    texts = {"not_used": "; ".join(map(str, data.not_used)), "notes": " ".join(data.notes)}
    return facts | {name: text for name, text in texts.items() if text}


def _groups(comparison: Comparison) -> list[dict[str, Any]]:
    """Error rates by group, by each run's newest evaluation that has them: title, warning, a line a group and rate."""
    shown = []
    for row in comparison.rows:
        for record in row.counted:
            if (newest := record.evaluation_with("groups")) and (groups := newest.groups):
                lines = [(what, rate) for what, rates in groups["rates"].items() for rate in rates]
                title = f"{row.label}, seed {record.result.seed}, {newest.title}"
                shown.append({"title": title, "warning": groups["warning"], "lines": lines})
    return shown


def _timeline(record: RunRecord) -> list[tuple[str, str, str]]:
    """The run's events as (seconds since launch, event, details)."""
    shown = []
    for event in record.events:
        since = f"{float(since_launch_s(record.lives, event.time_unix_s)):,.1f} s"
        fields = event.details()
        if isinstance(fields.get("shape"), dict):
            fields["shape"] = shape_in_words(record.job.strategy, fields["shape"])
        details = ", ".join(f"{name} {_value(value)}" for name, value in fields.items())
        shown.append((since, event.event.replace("_", " "), details))
    return shown


def _unverified(comparison: Comparison) -> list[str]:
    """The instance types in the comparison whose price was not tied to a result of AWS's Pricing API."""
    named = dict.fromkeys(name for record in comparison.records for name in record.result.instances)
    return [name for name in named if name in instances() and not instances()[name].price_verified]


def _spot_discounts(comparison: Comparison) -> list[str]:
    """What spot capacity takes off the price where the report shows what it costs, each part once, in percent."""
    shown = [
        bill.spot_discount
        for row in comparison.rows
        for record in row.records
        if (bill := record.result.billing) and (bill.spot or row.priced)
    ]
    return [percent(part) for part in sorted({*shown} - {0.0})]


def _price_regions(comparison: Comparison) -> list[str]:
    """The AWS regions whose prices the dollars are from; those that a user gave are of none."""
    priced = (record for row in comparison.rows if row.priced for record in row.records if record.result.billing)
    groups = (group for record in priced for life in record.result.billing.lives for group in life.groups)
    return sorted({group.price_region for group in groups if group.price_region} - {"own"})


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def _words(name: str) -> str:
    named = {
        "chance_accuracy": "accuracy by chance",
        "cpu_count": "CPUs",
        "cpu_model": "CPU",
        "content_sha256": "SHA-256 of all images",
        "held_out": "held-out share",
        "validation": "validation share",
    }
    return named.get(name, name.replace("_", " "))
