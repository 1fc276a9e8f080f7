"""What the first of several processes has comes to all of them, and is sent only where others have something else."""

from __future__ import annotations

import random

import pytest

from facesim.training.agreement import of_first
from facesim.training.ring import Ring
from tests.support.ring import around

LARGE = random.Random(0).randbytes(5_000_001)  # of several pieces, the last of an odd number


@pytest.mark.parametrize("first", [b"", b"\0", b"abc", LARGE], ids=["nothing", "zero", "odd", "large"])
@pytest.mark.parametrize("others", [b"", b"abcd", LARGE[::-1]], ids=["nothing", "little", "much"])
def test_all_have_what_the_first_has(first, others):
    held = [first, others, first]

    had = around(3, lambda rank, ring: of_first(held[rank], rank, 3, ring.sum))

    assert had == [first] * 3


def test_what_all_have_is_not_sent():
    def numbers_sent(rank: int, ring: Ring) -> int:
        sizes = []

        def counted(array):
            sizes.append(len(array))
            return ring.sum(array)

        assert of_first(LARGE, rank, 2, counted) == LARGE
        return sum(sizes)

    assert max(around(2, numbers_sent)) < 100
