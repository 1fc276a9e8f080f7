"""Whether rows were tested on the same images, without which their accuracies are not compared.

`facesim.spec.data` says what the same images are. A run tells by their content on which it was tested; of runs of
before that was recorded the options have to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from facesim.report.rows import Row


def unlike(row: Row, other: Row) -> str | None:
    """Why two rows were not, or may not have been, tested on the same images, in words; None if they were."""
    seeds = [seed for seed in row.seeds if seed in other.seeds]
    tested, other_tested = ([side.tested.get(seed) for seed in seeds] for side in (row, other))
    if recorded(row, other) and tested == other_tested:
        return None
    if options := row.data_spec.differences(other.data_spec):
        return ", ".join(
            f"{name.replace('_', ' ')} {_value(here)} and {_value(there)}" for name, (here, there) in options.items()
        )
    changed = [
        str(seed)
        for seed, here, there in zip(seeds, tested, other_tested, strict=True)
        if here and there and here != there
    ]
    if changed:
        where = f"the images in {row.data_spec.data} were others when the one and when the other ran"
        return f"{where} (seed{'' if len(changed) == 1 else 's'} {', '.join(changed)})"
    if any(bool(here) != bool(there) for here, there in zip(tested, other_tested, strict=True)):
        return "only one of them has on record which images those were"
    return None


def recorded(row: Row, other: Row) -> bool:
    """Whether it is on record, for every seed that both have, on which images they were tested."""
    seeds = [seed for seed in row.seeds if seed in other.seeds]
    return bool(seeds) and all(side.tested.get(seed) for seed in seeds for side in (row, other))


def by_test(rows: Sequence[Row]) -> tuple[tuple[Row, ...], ...]:
    """The rows with completed runs, those together that were tested on the same images, in their order. A forecast was
    tested on none.
    """
    tests: list[list[Row]] = []
    for row in rows:
        if row.counted and not row.is_forecast:
            of_row = next((test for test in tests if unlike(row, test[0]) is None), None)
            if of_row is None:
                tests.append(of_row := [])
            of_row.append(row)
    return tuple(map(tuple, tests))


def _value(value: object) -> str:
    return "none" if value is None else str(value)
