"""A study's page in Markdown, with its pictures as SVG files beside: what a reader of the documentation sees of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from facesim.report.answer import answer, question
from facesim.report.cells import AUDIT_WORDS, MAIN_MEASURES, NOTHING, cell_text
from facesim.report.comparison import Comparison
from facesim.report.html import PLOT_TITLES
from facesim.report.markdown import escaped, table
from facesim.report.plots import plots
from facesim.report.rows import Row
from facesim.report.verdict import PLAIN
from facesim.report.words import estimated
from facesim.spec.frameworks import FRAMEWORKS
from facesim.util.errors import doing
from facesim.util.files import write_text
from facesim.util.words import count_text

#: The pictures of a page, where there are data for them.
_PICTURES = ("pareto", "accuracies", "scaling", "staleness", "curve", "accuracy", "time")

#: Of the warnings these say what a study varies.
_OF_THE_STUDY = ("not the same experiment", "not the same work")


def write_page(comparison: Comparison, file: Path, *, title: str, about: str, command: str) -> list[Path]:
    """Write the page and its pictures, and return their files.

    Args:
        about: what the study is, in Markdown.
        command: with which it is run again.

    Raises:
        FacesimError: they cannot be written.
    """
    drawn = plots(comparison)
    pictures = {name: file.with_name(f"{file.stem}-{name}.svg") for name in _PICTURES if name in drawn}
    with doing(f"write {file}", "choose another file with --output"):
        file.parent.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            write_text(picture, _alone(drawn[name]))
        write_text(file, "\n\n".join(_parts(comparison, pictures, title, about, command)) + "\n")
    return [file, *pictures.values()]


def _parts(comparison: Comparison, pictures: dict[str, Path], title: str, about: str, command: str) -> Iterable[str]:
    runs = len(comparison.records)
    yield f"# {title}"
    if about:
        yield about.strip()
    yield f"Made by `{command}`, from {count_text(runs, 'run')}. Numbers are {_marks(comparison)}."
    yield "## What it shows"
    yield "\n".join(f"- {escaped(sentence.text)}" for sentence in answer(comparison))
    yield "## In detail"
    yield "\n".join(f"- {escaped(headline.text)}" for headline in comparison.headlines)
    if cautions := [finding for finding in comparison.findings if finding.tone != PLAIN]:
        yield "\n".join(f"- *{finding.topic}*: {escaped(finding.text)}" for finding in cautions)
    yield "## Numbers"
    yield _numbers(comparison)
    yield "Means over seeds; ± is half of a 95 % interval."
    if comparison.published:
        yield "## Beside what was published"
        yield f"{comparison.published.source}."
        heading, *body = comparison.published.beside(comparison.rows)
        yield "\n".join(table(heading, body))
        yield "\n".join(f"- {note}" for note in comparison.published.notes)
    if comparison.baselines:
        yield "## Without a network"
        methods = [
            (f"{one.method}{f' ({one.lacking})' if one.lacking else ''}", estimated(one.accuracy, "share"))
            for one in comparison.baselines
        ]
        yield "\n".join(table(("", "held-out accuracy"), methods))
    if pictures:
        yield "## Pictures"
        yield from (f"![{PLOT_TITLES[name]}]({picture.name})" for name, picture in pictures.items())
    if warnings := [text for text in comparison.warnings if not text.startswith(_OF_THE_STUDY)]:
        yield "## Before you compare"
        yield "\n".join(f"- {escaped(text)}" for text in warnings)
    yield "## Runs"
    yield "\n".join(f"- {name}: {escaped(', '.join(values))}" for name, values in _machines(comparison).items())


def summary(comparison: Comparison) -> str:
    """The first screen of a report in Markdown: question, answer and the most important numbers."""
    parts = [
        f"# {question(comparison)}",
        "\n".join(f"- {escaped(sentence.text)}" for sentence in answer(comparison)),
        _numbers(comparison),
        f"Numbers are {_marks(comparison)}: means over seeds; ± is half of a 95 % interval.",
    ]
    return "\n\n".join(parts) + "\n"


def _marks(comparison: Comparison) -> str:
    return " and ".join(dict.fromkeys(row.measurement for row in comparison.rows if row.measurement)) or "unknown"


def _shown(comparison: Comparison) -> list[str]:
    return [name for name in MAIN_MEASURES if any(row.estimate(name) for row in comparison.rows)]


def _numbers(comparison: Comparison) -> str:
    headings = [comparison.measures[name].label for name in _shown(comparison)]
    rows = [_line(comparison, row) for row in comparison.rows]
    return "\n".join(table(("", "trained together?", *headings), rows))


def _line(comparison: Comparison, row: Row) -> tuple[str, ...]:
    cells = []
    for name in _shown(comparison):
        measure = comparison.measures[name]
        # Here an accuracy's interval has no line of its own.
        accuracy = row.estimate(name) if name == "held_out_accuracy" else None
        cells.append(estimated(accuracy, measure.unit) if accuracy else cell_text(row, name, measure))
    return (row.label, AUDIT_WORDS.get(row.audit, row.audit or NOTHING), *cells)


def _machines(comparison: Comparison) -> dict[str, list[str]]:
    """On what, where and with what it was run: each value once."""
    machines: dict[str, dict[str, None]] = {}
    for record in comparison.records:
        data = record.result.data
        if None not in (data.name, data.identities, data.training_examples, data.held_out_examples):
            images = f"{count_text(data.training_examples, 'image')} trained on, {data.held_out_examples:,} held out"
            machines.setdefault("data", {})[f"{data.name} ({count_text(data.identities, 'person')}, {images})"] = None
        for name in ("cpu_model", "cpu_count", *FRAMEWORKS, "facesim"):
            if (value := record.result.machine.get(name)) is not None:
                machines.setdefault({"cpu_model": "CPU", "cpu_count": "CPUs"}.get(name, name), {})[str(value)] = None
    return {name: list(values) for name, values in machines.items()}


def _alone(svg: str) -> str:
    """A plot that stands on a page of its own, which gives it no colours."""
    return svg.replace("currentColor", "#222222").replace("<svg ", '<svg style="background:#ffffff" ', 1) + "\n"
