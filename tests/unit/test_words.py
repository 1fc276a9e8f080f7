"""Counts in sentences."""

from __future__ import annotations

import pytest

from facesim.util.words import count_text


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ["image"], "0 images"),
        (1, ["image"], "1 image"),
        (2000, ["paired seed"], "2,000 paired seeds"),
        (1, ["person"], "1 person"),
        (2, ["person"], "2 people"),
        (2, ["identity"], "2 identities"),
        (1, ["image is", "images are"], "1 image is"),
        (3, ["image is", "images are"], "3 images are"),
    ],
)
def test_what_is_counted_is_singular_after_one_alone(count, words, text):
    assert count_text(count, *words) == text
