"""Where variables lie, and what that asks of each server."""

from __future__ import annotations

import json

import pytest

from facesim.forecast.placement import Variable, balanced, round_robin, total


def floats(count: int, trainable: bool = True) -> Variable:
    return Variable((count,), 4 * count, 4 * count, trainable)


def test_round_robin_deals_variables_out_in_turn_after_the_global_step():
    first, second = round_robin([floats(10), floats(1, trainable=False), floats(20)], 2)

    assert first == (0, 2, 0, 8 + 4, 0)  # the step, and the statistics: pushed only
    assert second == (2, 2, 120, 120, 0)


def test_facesims_own_placement_splits_large_variables_so_that_all_serve_alike():
    loads = balanced([Variable((4608, 1024), 4 * 4608 * 1024, 4 * 4608 * 1024), floats(29)], 3)

    assert [load.pull_bytes for load in loads] == pytest.approx([4 * 4608 * 1024 / 3] * 3, rel=1e-3)
    assert total(loads).pull_messages == 4


def test_small_variables_of_a_server_share_a_message_for_each_precision_and_each_way():
    kernels = [Variable((1000,), 4000, 2000) for _ in range(3)]  # sent, and their gradients, in half
    others = [floats(100), floats(100), floats(100, trainable=False), floats(10**6)]

    (together,) = balanced([*kernels, *others], 1)
    (apart,) = balanced([*kernels, *others], 1, packs=False)

    assert together[:2] == (3, 3)  # two precisions, and the large one
    assert apart[:2] == (6, 7)  # the statistic is pushed only
    assert together[2:] == apart[2:] == (6000 + 4 * (200 + 10**6), 6000 + 4 * (300 + 10**6), 0)


def test_one_server_holds_everything_whole():
    (load,) = balanced([floats(10**6), floats(3)], 1)

    assert load == (2, 2, 4 * (10**6 + 3), 4 * (10**6 + 3), 0)


def test_what_is_sent_rounded_counts_as_what_is_sent():
    loads = balanced([Variable((1000, 1000), 4 * 10**6, 2 * 10**6)], 2)

    assert total(loads).pull_bytes == pytest.approx(2 * 10**6)


def test_gradients_may_be_wider_than_what_is_pulled():
    load = total(balanced([Variable((1000, 1000), 4 * 10**6, 2 * 10**6, pushed_bytes=4 * 10**6)], 3))

    assert (load.pull_bytes, load.push_bytes) == pytest.approx((2 * 10**6, 4 * 10**6))


def test_factors_are_pushed_in_place_of_their_product_where_that_is_less_work_for_the_server():
    held = Variable((4608, 1024), 4 * 4608 * 1024, 4 * 4608 * 1024, factor_rows=32)

    (whole,) = balanced([held], 1)
    halves = balanced([held], 2)
    (rounded,) = balanced([held._replace(sent_bytes=2 * 4608 * 1024)], 1)
    (of_many,) = balanced([held._replace(factor_rows=512)], 1)

    assert whole == (1, 2, 4 * 4608 * 1024, 4 * 32 * (4608 + 1024), 2 * 32 * 4608 * 1024)
    assert halves == ((1, 2, 2 * 4608 * 1024, 4 * 32 * (2304 + 1024), 32 * 4608 * 1024),) * 2
    assert rounded.push_bytes == whole.push_bytes / 2
    assert of_many == (1, 1, 4 * 4608 * 1024, 4 * 4608 * 1024, 0)  # fewer bytes than that, and too much to multiply


def test_an_even_number_of_variables_for_each_layer_puts_all_kernels_on_one_server(truth):
    listed = json.loads((truth / "cmdare_variables.json").read_text())["models"]["ShakeShake-big"]

    loads = round_robin([floats(count, bool(trained)) for count, trained in listed], 2)

    assert sorted(load.pull_bytes / 1e6 for load in loads) == pytest.approx([0.09, 104.7], rel=0.05)
