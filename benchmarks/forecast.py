"""How right the forecast is on clusters that others measured: forecast against published measurements.

    python -m benchmarks.forecast --truth DIR [--json FILE]

Every JSON file of DIR is read that has rows of a known form, those of one source as one study; no network, no
TensorFlow. What goes in is what one machine could tell: the speed of one worker, or of one host; for whole jobs, the
smallest cluster of each GPU. Everything else are constants (`facesim/forecast/constants.json`), fitted without the
model that is forecast where it was among the fitted ones. No row that is forecast is fitted. What cannot be forecast is
listed with the reason.

`--calibrate` fits the constants anew, to DIR, and writes them; nothing else does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.published import allreduce, async_ps, synchronous, transient
from benchmarks.published.calibrate import calibrated
from benchmarks.published.curves import COUNTS, Curve, summary
from facesim.forecast.constants import FILE
from facesim.util.errors import reason
from facesim.util.files import write_json

Reader = Callable[[list[dict[str, Any]], dict[str, Any]], Iterator[Curve]]

#: What a row lacks of what its form needs, by name; a reader leaves out the rows that lack anything.
Lacks = Callable[[dict[str, Any]], list[str]]

#: By the names that rows of each form have, the first that fits is taken.
FORMS: tuple[tuple[frozenset[str], Reader, Lacks], ...] = (
    *((frozenset({"workers", name}), async_ps.curves, async_ps.lacks) for name in async_ps.SPEED_NAMES),
    (frozenset({"mpi", "images_per_s"}), allreduce.horovod, allreduce.horovod_lacks),
    (frozenset({"nodes", "gpus", "step_ms"}), allreduce.ddp, allreduce.ddp_lacks),
    (frozenset({"config", "duration_s"}), transient.curves, transient.lacks),
    (frozenset({"gpus", "images_per_s", "strategy"}), synchronous.curves, synchronous.lacks),
)

#: What is a list of objects, where a file has it.
_LISTS = ("rows", "model_info", "table1", "prices")

#: Forms without a curve of their own: what other files' forecasts use.
_USED_BY_OTHERS = (frozenset({"hours"}),)


def read(folder: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[Curve]]:
    """The contents of the folder's JSON files by name, and, as curves without forecast, what cannot be read."""
    contents, refused = [], []
    for file in sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith(".")):
        if file.suffix != ".json":
            refused.append(Curve("files", file.name, reason="its name does not end in .json"))
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))  # also as some editors write it
        except (OSError, ValueError) as error:
            refused.append(Curve("files", file.name, reason=f"it cannot be read: {error}"))
            continue
        if isinstance(content, list):
            content = {"rows": content}
        if isinstance(content, dict):
            refused.extend(Curve("files", file.name, reason=reason) for reason in _tidied(content))
            contents.append((file.name, content))
        else:
            refused.append(Curve("files", file.name, reason="it is not an object or a list of rows"))
    together = _together(contents)
    for name, content in together.items():
        if name not in dict(contents):
            refused.extend(Curve("files", name, reason=reason) for reason in _tidied(content))
    return list(together.items()), refused


def _together(contents: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Contents by name; rows of one form and one source are one study, in however many files they are."""
    studies: dict[Any, tuple[str, dict[str, Any]]] = {}
    for name, content in contents:
        form, source = form_of(content), content.get("source")
        study = (form, source) if form and isinstance(source, str) else name
        first, held = studies.get(study, ("", {}))
        lists = {each: [*held.get(each, []), *content[each]] for each in _LISTS if content.get(each)}
        studies[study] = f"{first}, {name}".lstrip(", "), {**content, **held, **lists}
    return dict(studies.values())


def _tidied(content: dict[str, Any]) -> Iterator[str]:
    """Leaves objects alone in a content's lists, and each once; says what else was in them."""
    for name in _LISTS:
        listed = content.get(name)
        if listed is None:
            continue
        if not isinstance(listed, list):
            del content[name]
            yield f"its {name} are no list"
            continue
        objects = [row for row in listed if isinstance(row, dict)]
        content[name] = objects
        if not _is_used_by_others(content):  # lifetimes of hosts may be alike
            content[name] = list({json.dumps(row, sort_keys=True): row for row in objects}.values())
        if no_objects := len(listed) - len(objects):
            yield f"{no_objects} of its {name} are no objects: left out"
        if again := len(objects) - len(content[name]):
            yield f"{again} of its {name} are there already: each counts once"


def _unusable(content: dict[str, Any], lacks: Lacks) -> str | None:
    """Which of the rows have not the numbers that their form needs."""
    rows = content["rows"]
    missing = [each for row in rows if (each := lacks(row))]
    names = dict.fromkeys(name for each in missing for name in each)
    kinds = (("whole numbers", [n for n in names if n in COUNTS]), ("numbers", [n for n in names if n not in COUNTS]))
    needed = "; ".join(f"{', '.join(of)} must be {kind} above 0" for kind, of in kinds if of)
    return f"{len(missing)} of {len(rows)} rows left out: {needed}" if missing else None


def judge(folder: Path) -> list[Curve]:
    """Every curve of the folder's files, with its forecast or the reason why there is none."""
    named, curves = read(folder)
    contents = [content for _, content in named]
    for name, content in named:
        if isinstance(content.get("table1"), list):
            curves.extend(transient.plans(contents, content))
        elif form := form_of(content):
            reader, lacks = form
            curves.extend(reader(contents, content))
            if reason := _unusable(content, lacks):
                curves.append(Curve("files", name, reason=reason))
        elif not _is_used_by_others(content):
            reason = "its rows are of no known form" if _names(content) else "it has no rows"
            curves.append(Curve("files", name, reason=reason))
    return curves


def form_of(content: dict[str, Any]) -> tuple[Reader, Lacks] | None:
    names = _names(content)
    return next(((reader, lacks) for form, reader, lacks in FORMS if form <= names), None)


def _names(content: dict[str, Any]) -> set[str]:
    """What the rows tell: each name that any of them has."""
    rows = content.get("rows")
    return set().union(*rows) if isinstance(rows, list) and rows else set()


def _is_used_by_others(content: dict[str, Any]) -> bool:
    return isinstance(content.get("models"), dict) or any(form <= _names(content) for form in _USED_BY_OTHERS)


def show(report: dict[str, Any]) -> None:
    for study, figures in report["studies"].items():
        click.echo(f"\n{study}")
        for curve in figures["curves"]:
            if "reason" in curve:
                click.echo(f"  {curve['name']:52} no forecast: {curve['reason']}")
                continue
            note = curve.get("note", "")
            errors = [f"{100 * point['error']:+.1f}" for point in curve["points"]]
            shown = ", ".join(errors) if len(errors) <= 12 else f"{len(errors)} points"
            click.echo(
                f"  {curve['name']:52} mean {100 * curve['mean_error']:5.1f} %, "
                f"worst {100 * curve['worst_error']:5.1f} %   ({shown})" + (f"; {note}" if note else "")
            )
        if figures["mean_error"] is not None:
            click.echo(
                f"  {'mean of curves':52} {100 * figures['mean_error']:.1f} %; "
                f"worst curve {100 * figures['worst_curve']:.1f} %, worst point {100 * figures['worst_point']:.1f} %; "
                f"{_covered(figures)}"
            )
    click.echo("\nWhat is lost by choosing as forecast, against the best shape")
    for name, figures in report["regret"].items():
        click.echo(f"  {name:66} " + ", ".join(f"{kind} {100 * lost:.1f} %" for kind, lost in figures.items()))


def _covered(report: dict[str, Any]) -> str:
    if report["coverage"] is None:
        return f"{report['points']} points without intervals"
    count, others = report["points_with_interval"], report["points"] - report["points_with_interval"]
    without = f"; {others} more have none" if others else ""
    return f"80 % intervals cover {100 * report['coverage']:.0f} % of {count} points{without}"


@click.command()
@click.option("--truth", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=False, flag_value="-", help="also as JSON: to this file, or printed alone")
@click.option("--calibrate", is_flag=True, help="first fit the constants to these files, and write them")
def main(truth: Path, as_json: str | None, calibrate: bool) -> None:
    if not any(truth.glob("*.json")):
        raise click.ClickException(f"no file of {truth} ends in .json: measurements are read from such files")
    if calibrate:
        contents = [content for _, content in read(truth)[0]]
        packaged = json.loads(FILE.read_text(encoding="utf-8"))
        write_json(FILE, packaged | calibrated(contents))
    report = summary(judge(truth))
    if as_json == "-":
        json.dump(report, sys.stdout, indent=1)
        click.echo()
        return
    show(report)
    if as_json:
        try:
            write_json(Path(as_json), report)
        except OSError as error:
            raise click.ClickException(f"cannot write {as_json}: {reason(error)}; name another file") from None


if __name__ == "__main__":
    main()
