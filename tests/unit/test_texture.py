"""Local binary patterns in a network: against patterns that are counted one by one, and what light does to them."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    global texture  # noqa: PLW0603
    pytest.importorskip("keras")
    from facesim.models import texture


def pictures(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, (2, side, side, 1), np.uint8)


def kind(bits: list[int]) -> int:
    """The place of a pattern among those with at most two changes around the circle; 58 for the others."""
    even = [code for code in range(256) if _changes([code >> place & 1 for place in range(8)]) <= 2]
    code = sum(bit << place for place, bit in enumerate(bits))
    return even.index(code) if code in even else 58


def _changes(bits: list[int]) -> int:
    return sum(one != other for one, other in zip(bits, [*bits[1:], bits[0]]))


def test_patterns_are_counted_in_each_part_of_the_image():
    image = pictures(32)[:1]
    around = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    expected = np.zeros((6, 6, 59))
    grey = image[0, ..., 0].astype(int)
    for y in range(30):  # within the border, that has no neighbours
        for x in range(30):
            bits = [int(grey[y + 1 + down, x + 1 + right] >= grey[y + 1, x + 1]) for down, right in around]
            expected[y // 5, x // 5, kind(bits)] += 1 / 25

    shares = np.asarray(texture.patterns(image)).reshape(len(texture.RADII), 6, 6, 59)

    np.testing.assert_allclose(shares[0] ** 2, expected, atol=1e-6)
    np.testing.assert_allclose((shares**2).sum(axis=-1), 1, atol=1e-5)


def test_light_changes_no_pattern():
    images = pictures(48)

    np.testing.assert_array_equal(texture.patterns(images), texture.patterns(2 * images + 10))
    assert np.abs(np.asarray(texture.patterns(images)) - texture.patterns(images[:, ::-1])).max() > 0.1
