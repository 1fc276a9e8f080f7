"""Statistics: golden values from textbooks and tables, and the limits of what seeds allow one to say."""

import pytest

from facesim.report.statistics import (
    Outcome,
    better_than_chance,
    holm,
    mean_interval,
    paired_difference,
    paired_differences,
    paired_ratio,
    paired_ratios,
    time_to_reach,
    wilson_interval,
)


def by_seed(*values):
    return dict(enumerate(values))


def test_the_interval_of_a_mean_is_students():
    # t(2, 0.975) = 4.3027; s = 1; n = 3
    estimate = mean_interval([9.0, 10.0, 11.0])

    assert estimate.mean == 10
    assert (estimate.high - estimate.low) / 2 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


def test_one_value_has_a_mean_and_no_interval():
    estimate = mean_interval([7.0])

    assert (estimate.mean, estimate.low, estimate.high, estimate.n) == (7.0, None, None, 1)


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_wilsons_interval_is_that_of_the_tables():
    # 81 of 263: Newcombe, Statistics in Medicine 17 (1998), table I
    low, high = wilson_interval(81 / 263, 263)

    assert (low, high) == (pytest.approx(0.2553, abs=5e-5), pytest.approx(0.3662, abs=5e-5))


def test_wilsons_interval_stays_within_0_and_1():
    assert wilson_interval(1.0, 80)[1] == pytest.approx(1)
    assert wilson_interval(0.0, 80)[0] == pytest.approx(0)


def test_fewer_than_three_paired_seeds_allow_no_statement():
    difference = paired_difference(by_seed(0.9, 0.91), by_seed(0.8, 0.815))

    assert difference.outcome is Outcome.TOO_FEW_SEEDS
    assert difference.low is None
    assert difference.p is None


def test_only_seeds_that_both_have_are_paired():
    difference = paired_difference({0: 0.9, 1: 0.91, 2: 0.92}, {1: 0.8, 2: 0.81, 3: 0.82})

    assert difference.outcome is Outcome.TOO_FEW_SEEDS
    assert difference.n == 2


def test_a_clear_difference_is_called_different():
    difference = paired_difference(by_seed(0.92, 0.91, 0.93, 0.92), by_seed(0.85, 0.845, 0.86, 0.84))

    assert difference.outcome is Outcome.DIFFERENT
    assert difference.mean == pytest.approx(-0.07125)
    assert difference.high < -0.01
    assert difference.p < 0.001


def test_the_p_value_agrees_with_the_interval():
    # Differences 0.01, 0.02, 0.03: t = 0.02 / (0.01 / sqrt(3)) = 3.4641, two-sided p with 2 degrees of freedom = 0.0742
    difference = paired_difference(by_seed(0.0, 0.0, 0.0), by_seed(0.01, 0.02, 0.03))

    assert difference.p == pytest.approx(0.0742, abs=1e-4)
    assert difference.low < 0 < difference.high


def test_noise_is_no_evidence_and_not_equivalence():
    difference = paired_difference(by_seed(0.9, 0.92, 0.91), by_seed(0.92, 0.9, 0.915))

    assert difference.outcome is Outcome.NO_EVIDENCE


def test_an_interval_within_the_margin_is_equivalence():
    difference = paired_difference(by_seed(0.9, 0.92, 0.91), by_seed(0.901, 0.919, 0.9105))

    assert difference.outcome is Outcome.EQUIVALENT


def test_a_difference_within_the_margin_is_called_negligible():
    difference = paired_difference(by_seed(0.9, 0.92, 0.91), by_seed(0.905, 0.9252, 0.9148))

    assert difference.outcome is Outcome.NEGLIGIBLE


def test_differences_without_spread_are_not_tested():
    difference = paired_difference(by_seed(0.9, 0.92, 0.91), by_seed(0.9125, 0.9325, 0.9225))

    assert difference.outcome is Outcome.NO_SPREAD
    assert difference.mean == pytest.approx(0.0125)
    assert difference.p is None


def test_several_comparisons_at_once_widen_the_interval():
    first, second = by_seed(0.9, 0.92, 0.91), by_seed(0.88, 0.895, 0.892)

    alone, jointly = paired_difference(first, second), paired_difference(first, second, comparisons=3)

    assert jointly.high - jointly.low > alone.high - alone.low
    assert jointly.p == pytest.approx(3 * alone.p)


def test_a_ratio_is_the_geometric_mean_over_seeds():
    ratio = paired_ratio(by_seed(10.0, 10.0), by_seed(20.0, 5.0))

    assert ratio.ratio == pytest.approx(1.0)
    assert ratio.undecided


def test_a_clear_ratio_is_decided():
    ratio = paired_ratio(by_seed(10.0, 11.0, 12.0), by_seed(14.0, 15.5, 16.7))

    assert ratio.low > 1.3
    assert not ratio.undecided


def test_a_ratio_of_one_seed_has_no_interval_and_without_seeds_there_is_none():
    assert paired_ratio({0: 10.0}, {0: 15.0}).low is None
    assert paired_ratio({0: 10.0}, {1: 15.0}) is None


def test_a_target_is_reached_at_the_first_evaluation_that_is_as_good():
    assert time_to_reach([1.0, 2.0, 3.0, 4.0], [0.1, 0.5, 0.4, 0.6], 0.5) == 2.0


def test_a_target_that_is_never_reached_has_no_time():
    assert time_to_reach([1.0, 2.0], [0.1, 0.2], 0.5) is None


def test_holms_correction_is_that_of_the_textbook():
    # p 0.01, 0.04, 0.03, 0.005 of four: adjusted 0.03, 0.06, 0.06, 0.02
    corrected = holm([0.01, 0.04, 0.03, 0.005])

    assert [one.p for one in corrected] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [one.factor for one in corrected] == [3, 2, 2, 4]


def test_no_test_has_nothing_to_correct():
    assert holm([]) == []
    assert holm([0.2])[0] == (0.2, 1)


def test_of_several_comparisons_intervals_and_words_agree():
    reference = by_seed(0.90, 0.92, 0.91, 0.905)
    pairs = [
        (reference, by_seed(0.80, 0.822, 0.809, 0.804)),  # clearly lower
        (reference, by_seed(0.89, 0.906, 0.904, 0.899)),  # lower, by little
        (reference, by_seed(0.91, 0.91, 0.915, 0.90)),  # noise
    ]

    differences = paired_differences(pairs)

    assert [one.outcome for one in differences] == [Outcome.DIFFERENT, Outcome.DIFFERENT, Outcome.NO_EVIDENCE]
    for one in differences:
        assert (one.low <= 0 <= one.high) == (one.p >= 0.05)
    assert [one.confidence for one in differences] == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 2, 0.95])


def test_pairs_without_enough_seeds_do_not_count_as_tests():
    clear = (by_seed(0.92, 0.91, 0.93, 0.92), by_seed(0.85, 0.845, 0.86, 0.84))

    first, second = paired_differences([clear, (by_seed(0.9), by_seed(0.8))])

    assert first.p == paired_difference(*clear).p
    assert second.outcome is Outcome.TOO_FEW_SEEDS


def test_the_two_one_sided_tests_decide_on_equivalence():
    # Differences 0.1, 0.2, 0.3 points: t against 0.5 is (0.2 - 0.5) / (0.1 / sqrt(3)) = -5.196, p of 2 degrees 0.0176
    close = (by_seed(0.9, 0.9, 0.9), by_seed(0.901, 0.902, 0.903))

    difference = paired_difference(*close, margin=0.005)

    assert difference.p_equivalent == pytest.approx(0.0176, abs=1e-4)
    assert difference.margin == 0.005
    assert difference.outcome is Outcome.EQUIVALENT
    assert paired_difference(*close, margin=0.0025).outcome is Outcome.NO_EVIDENCE


def test_ratios_of_several_comparisons_are_corrected_and_those_that_cannot_be_are_none():
    clear = (by_seed(10.0, 11.0, 12.0), by_seed(14.0, 15.5, 16.7))

    first, none, undecided = paired_ratios([clear, ({}, {}), (by_seed(10.0, 10.0, 10.0), by_seed(20.0, 5.0, 11.0))])

    assert none is None
    assert first.p == pytest.approx(2 * paired_ratio(*clear).p)
    assert first.low > 1 and not first.undecided
    assert undecided.undecided and undecided.p > 0.05


def test_one_model_is_held_against_chance_by_its_right_answers():
    # 6 of 10 right where 1 in 5 is by chance: P(X >= 6) of Binomial(10, 0.2) = 0.00637
    assert better_than_chance([0.6], [0.2], [10]) == pytest.approx(0.00637, abs=1e-5)
    assert better_than_chance([0.2], [0.2], [10]) > 0.5
    assert better_than_chance([0.6], [0.2], [None]) is None


def test_several_models_are_held_against_chance_by_their_spread():
    # Differences 1, 2, 3: t = 3.4641, one-sided p with 2 degrees of freedom = 0.0371
    assert better_than_chance([0.21, 0.22, 0.23], [0.20] * 3, [10] * 3) == pytest.approx(0.0371, abs=1e-4)
    assert better_than_chance([0.125] * 3, [0.125] * 3, [8] * 3) > 0.5  # without spread as one model
