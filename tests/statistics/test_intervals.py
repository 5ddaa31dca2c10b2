"""Exact bounds of shares, against scipy, closed forms and their promised coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ops.statistics.intervals import clopper_pearson, lower_bound, ratio, share_of_ratio, upper_bound


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.6, 0.999))
def test_clopper_pearson_equals_scipys_exact_interval(counts: tuple[int, int], confidence: float) -> None:
    x, n = counts
    ours, theirs = clopper_pearson(x, n, confidence), stats.binomtest(x, n).proportion_ci(confidence, method="exact")
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_bounds_without_a_success_and_without_a_failure_have_their_closed_form() -> None:
    assert upper_bound(0, 299, 0.95) == pytest.approx(1 - 0.05 ** (1 / 299))
    assert lower_bound(299, 299, 0.95) == pytest.approx(0.05 ** (1 / 299))
    assert lower_bound(0, 10, 0.99) == 0.0
    assert upper_bound(10, 10, 0.99) == 1.0


def test_a_bound_is_where_the_binomial_test_turns() -> None:
    bound = float(lower_bound(38, 60, 0.99))
    assert stats.binomtest(38, 60, bound, alternative="greater").pvalue == pytest.approx(0.01)


def test_bounds_never_cover_less_than_promised() -> None:
    n = 60
    for share in (0.02, 0.5, 0.75, 0.97):
        chance = stats.binom.pmf(np.arange(n + 1), n, share)
        bounds = upper_bound(np.arange(n + 1), n, 0.95)
        assert chance[bounds >= share].sum() >= 0.95


def test_a_share_of_three_quarters_is_a_ratio_of_three_and_all_is_infinite() -> None:
    assert ratio(0.75) == pytest.approx(3.0)
    assert share_of_ratio(3.0) == 0.75
    assert ratio(1.0) is None


@pytest.mark.parametrize(("x", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_impossible_counts_are_refused(x: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"need|confidence"):
        lower_bound(x, n, confidence)
