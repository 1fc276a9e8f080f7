"""Numbers as a reader wants them: three figures, a unit, an interval where there is one."""

from __future__ import annotations

from facesim.report.statistics import MIN_SEEDS, Estimate
from facesim.util.words import count_text

_FIXED_PLACES = {"%": 1, "1": 0}
_DECIMAL = ("B", "kB", "MB", "GB", "TB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def quantity(value: float, unit: str) -> str:
    """`value` in a measure's unit: `12.3 s`, `91.2 %`, `61.2 MB`, `$0.0123`; a share is shown in percent."""
    if unit == "share":
        return percent(value)
    if unit in ("B", "iB"):
        scaled, name = _scaled(value, unit)
        return f"{_figures(scaled)} {name}"
    return _with_unit(_decimals(value, _places(value, unit)), unit)


def estimated(estimate: Estimate, unit: str) -> str:
    """The mean and, from three runs on, the half-width of its 95 % interval: `12.3 ± 0.4 s`."""
    if unit == "share":
        return estimated(estimate.scaled(100), "%")
    if estimate.low is None or estimate.high is None or estimate.n < MIN_SEEDS:
        return quantity(estimate.mean, unit)
    half = (estimate.high - estimate.low) / 2
    if half < 1e-9 * max(1.0, abs(estimate.mean)):
        return quantity(estimate.mean, unit)
    if unit in ("B", "iB"):
        scaled, name = _scaled(estimate.mean, unit)
        factor = scaled / estimate.mean if estimate.mean else 1.0
        return f"{_figures(scaled)} ± {_decimals(half * factor, _places(scaled, ''))} {name}"
    places = _places(estimate.mean, unit)
    return _with_unit(f"{_decimals(estimate.mean, places)} ± {_decimals(half, places)}", unit)


def percent(share: float) -> str:
    """A share, 0-1, as `91.2 %`."""
    return f"{100 * share:.1f} %"


def percent_interval(interval: tuple[float, float], joined: str = " to ") -> str:
    """The bounds of an interval of shares in percent, without the sign: `67.1 to 84.6`."""
    return joined.join(f"{100 * bound:.1f}" for bound in interval)


def times(factor: float) -> str:
    """A factor: `1.42`, `12.3`, `123`."""
    return _figures(factor)


def p_value(p: float | None) -> str:
    return "p unknown" if p is None else f"p = {p:.2g}"


def confidence(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def signed_points(difference: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def points_text(difference: float) -> str:
    """A difference of shares, which is not negative, in percentage points."""
    number = f"{100 * difference:.1f}".removesuffix(".0")
    return f"{number} percentage point{'' if number == '1' else 's'}"


def hosts_text(n: int | None) -> str:
    return "unknown hosts" if n is None else count_text(n, "host")


def _with_unit(number: str, unit: str) -> str:
    if unit == "USD":
        return f"${number}"
    if unit == "x":
        return f"{number} ×"
    return number if unit in ("1", "1/s") else f"{number} {unit}"


def _places(value: float, unit: str) -> int:
    """Decimals that show three figures; a percentage has one, a count none."""
    if unit in _FIXED_PLACES:
        return _FIXED_PLACES[unit]
    size = abs(value)
    if size == 0 or size >= 100:
        return 0
    if size >= 1:
        return 1 if size >= 10 else 2
    if unit == "USD":
        return 4 if size >= 0.0001 else 6
    return 3


def _figures(value: float) -> str:
    return _decimals(value, _places(value, ""))


def _decimals(value: float, places: int) -> str:
    return f"{value:,.{places}f}"


def _scaled(value: float, unit: str) -> tuple[float, str]:
    base, names = (1024.0, _BINARY) if unit == "iB" else (1000.0, _DECIMAL)
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value /= base
        power += 1
    return value, names[power]
