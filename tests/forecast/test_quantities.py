"""Durations, dollars, shares and ranges as people write them."""

from __future__ import annotations

import pytest

from facesim.planning import quantities
from facesim.util.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45 s", 45), ("1.5 h", 5400), ("2 d", 172800), ("1H 5MIN", 3900)],
)
def test_durations(text, seconds):
    assert quantities.seconds(text, "--deadline") == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2x", "-2h", "2h30", "0s", "1h,5m", "nan h", "inf"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InputError, match="--deadline .*such as 2h, 90m"):
        quantities.seconds(text, "--deadline")


@pytest.mark.parametrize(
    ("text", "usd"), [("5", 5), ("$5", 5), ("5.50 USD", 5.5), ("$ 0.80", 0.8), ("80 cents", 0.8), ("5 dollars", 5)]
)
def test_dollars(text, usd):
    assert quantities.dollars(text, "--budget") == pytest.approx(usd)


@pytest.mark.parametrize("text", ["", "five", "-5", "0", "$", "5 EUR", "1e3", "nan"])
def test_what_is_no_money_is_refused(text):
    with pytest.raises(InputError, match="--budget"):
        quantities.dollars(text, "--budget")


@pytest.mark.parametrize(("text", "share"), [("0.95", 0.95), ("95 %", 0.95), ("95%", 0.95), ("1", 1)])
def test_shares(text, share):
    assert quantities.share(text, "--min-accuracy") == pytest.approx(share)


@pytest.mark.parametrize("text", ["95", "0", "-0.1", "101 %", "nan", "high", ""])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(InputError, match="--min-accuracy .*1 to 100 %"):
        quantities.share(text, "--min-accuracy")


@pytest.mark.parametrize(
    ("text", "numbers"), [("1..4", (1, 2, 3, 4)), ("4", (4,)), ("1,2,4..6", (1, 2, 4, 5, 6)), ("3, 1", (1, 3))]
)
def test_ranges(text, numbers):
    assert quantities.counts(text, "--workers") == numbers


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("4..1", "nothing in it"),
        ("0..3", "out of bounds"),
        ("1..9999", "out of bounds"),
        ("1-3", "is no range"),
        ("", "is no range"),
        ("1..", "is no range"),
    ],
)
def test_what_is_no_range_is_refused(text, why):
    with pytest.raises(InputError, match=f"--workers .*{why}.*such as 4, 1,2,4 or 1..16"):
        quantities.counts(text, "--workers")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.25, "4.2 s"),
        (45, "45 s"),
        (90, "1 min 30 s"),
        (600, "10 min"),
        (5520, "1 h 32 min"),
        (7200, "2 h"),
        (273600, "3 d 4 h"),
    ],
)
def test_times_are_told_as_people_say_them(seconds, text):
    assert quantities.time_text(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(0, "$0.00"), (0.0042, "$0.0042"), (0.26, "$0.26"), (12.4, "$12.40"), (1240, "$1,240")]
)
def test_dollars_are_told_as_people_say_them(usd, text):
    assert quantities.dollars_text(usd) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (45, "45 s"),
        (690, "11 min 30 s"),
        (3600, "1 h"),
        (3960.0000000000005, "1 h 6 min"),
        (36 * 3600, "1 d 12 h"),
        (90.5, "1 min 30.5 s"),
        (1e-4, "0.0001 s"),
    ],
)
def test_durations_that_were_asked_for_are_told_to_the_second(seconds, text):
    assert quantities.exact_time_text(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"), [(5, "$5.00"), (0.04, "$0.04"), (0.125, "$0.125"), (100.5, "$100.50"), (1234.567, "$1,234.567")]
)
def test_money_that_was_asked_for_is_told_to_its_last_digit(usd, text):
    assert quantities.exact_dollars_text(usd) == text
