"""Sums over processes, each played by a thread with real connections."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ml_dtypes import bfloat16

from facesim.training.ring import TOKEN_BYTES, Listener, Ring
from tests.support.ring import TOKEN, around


def values(rank: int, size: int) -> np.ndarray:
    return np.random.default_rng(rank).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("size", [1, 4, 1_000, 300_001])
def test_all_have_the_same_sum(count, size):
    sums = around(count, lambda rank, ring: ring.sum(values(rank, size)))

    np.testing.assert_allclose(sums[0], sum(values(rank, size) for rank in range(count)), rtol=1e-5, atol=1e-6)
    for other in sums[1:]:
        np.testing.assert_array_equal(other, sums[0])


@pytest.mark.parametrize("count", [2, 3])
def test_what_is_of_bfloat16_is_added_in_float32_and_rounded_as_it_is_sent(count):
    arrays = [values(rank, 300_001).astype(bfloat16) for rank in range(count)]
    exact = sum(array.astype(np.float32) for array in arrays)

    sums = around(count, lambda rank, ring: ring.sum(arrays[rank]))

    largest = sum(np.abs(array.astype(np.float32)) for array in arrays)  # of what is rounded, once at each station
    assert (np.abs(sums[0].astype(np.float32) - exact) <= (count - 1) * 2**-8 * largest).all()
    if count == 2:
        np.testing.assert_array_equal(sums[0], exact.astype(bfloat16))
    for other in sums[1:]:
        np.testing.assert_array_equal(other, sums[0])


def test_what_is_summed_is_left_as_it_was_and_each_place_has_its_own_sum():
    def work(rank: int, ring: Ring) -> tuple[np.ndarray, ...]:
        ones, tens = np.full(7, 1, np.float32), np.full(9, 10, np.float32)
        first, second = ring.sum(ones, place=0), ring.sum(tens, place=1)
        return ones, tens, first, second

    for ones, tens, first, second in around(3, work):
        assert set(ones) == {1}
        assert set(tens) == {10}
        assert set(first) == {3}
        assert set(second) == {30}


def test_a_process_that_is_gone_is_an_error_in_the_others():
    def work(rank: int, ring: Ring) -> str:
        if rank == 1:
            ring.close()
            return "gone"
        with pytest.raises(OSError):
            for _ in range(100):
                ring.sum(values(rank, 1_000_000))
        return "told"

    assert around(2, work) == ["told", "gone"]


def test_who_does_not_know_the_token_does_not_get_in():
    listeners = [Listener("127.0.0.1") for _ in range(2)]
    addresses = [("127.0.0.1", listener.port) for listener in listeners]
    with socket.create_connection(addresses[0]) as stranger, ThreadPoolExecutor(2) as processes:
        stranger.sendall(b"x" * TOKEN_BYTES)
        rings = processes.map(lambda rank: Ring(rank, addresses, listeners[rank], TOKEN), range(2))
        sums = processes.map(lambda ring: ring.sum(np.ones(3, np.float32)), list(rings))
        assert [list(one) for one in sums] == [[2, 2, 2], [2, 2, 2]]
        assert stranger.recv(1) == b""


def test_who_says_nothing_holds_nobody_up():
    listeners = [Listener("127.0.0.1") for _ in range(2)]
    addresses = [("127.0.0.1", listener.port) for listener in listeners]
    with socket.create_connection(addresses[0]), ThreadPoolExecutor(2) as processes:
        rings = list(processes.map(lambda rank: Ring(rank, addresses, listeners[rank], TOKEN, wait_s=1.0), range(2)))
        sums = processes.map(lambda ring: ring.sum(np.ones(3, np.float32)), rings)
        assert [list(one) for one in sums] == [[2, 2, 2], [2, 2, 2]]
