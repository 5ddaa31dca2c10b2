"""Tests against a limit: the boundary walk is exact, the pass counts are those of the reference table."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ops.statistics import limits
from ops.statistics.intervals import lower_bound
from ops.statistics.roc import Auc


def test_pass_counts_of_the_reference_table() -> None:
    assert limits.passing_counts(60, 3, 0.95) == (22, 38)
    assert limits.top_size(3000, 0.01) == 60
    assert limits.passing_counts(10, 3, 0.95) == (1, 0)  # too few to pass at both tails


def test_the_walk_equals_counting_every_sequence() -> None:
    cutoffs, low, high, share = [2, 4, 7], [0, 1, 2], [2, 3, 5], 0.6
    total = 0.0
    for walk in product([0, 1], repeat=7):
        counts = np.cumsum(walk)[np.array(cutoffs) - 1]
        if all(a <= x <= b for a, x, b in zip(low, counts, high, strict=True)):
            total += share ** sum(walk) * (1 - share) ** (7 - sum(walk))
    assert limits.stays_inside(cutoffs, low, high, share) == pytest.approx(total)


def test_the_walk_with_certain_members_first() -> None:
    assert limits.stays_inside([3, 5], [3, 0], [3, 4], 0.5, certain=3) == pytest.approx(0.75)
    assert limits.stays_inside([3, 5], [0, 0], [2, 5], 0.5, certain=3) == 0.0


@given(st.integers(1, 120).flatmap(lambda k: st.tuples(st.integers(0, k), st.just(k))))
def test_at_one_cut_off_the_p_value_and_the_lower_bound_agree(counts: tuple[int, int]) -> None:
    x, k = counts
    p = limits.ratio_over_limit_p([x], [k], 3.0)
    assert p == pytest.approx(float(stats.binom.sf(x - 1, k, 0.75)), abs=1e-9)
    assert (p < 0.01) == bool(lower_bound(x, k, 0.99) > 0.75)


def test_scanning_more_cut_offs_is_paid_for_and_no_more_than_bonferroni() -> None:
    alone = limits.ratio_over_limit_p([20], [20], 3.0)
    scanned = limits.ratio_over_limit_p([4, 10, 20, 30], [4, 10, 20, 40], 3.0)
    assert alone < scanned <= 4 * alone


def test_at_the_limit_itself_the_scan_fails_at_most_one_in_a_hundred() -> None:
    """2 000 generators exactly at ratio 3, and the critical counts agree with the p-value."""
    random, cutoffs = np.random.default_rng(0), [6, 15, 30, 60]
    critical = limits.critical_counts(cutoffs, 0.01, 3.0)
    counts = np.cumsum(random.random((2000, 60)) < 0.75, axis=1)[:, np.array(cutoffs) - 1]
    assert (counts >= critical).any(axis=1).mean() <= 0.017
    for row in counts[:200]:
        assert (limits.ratio_over_limit_p(row.tolist(), cutoffs, 3.0) <= 0.01) == bool((row >= critical).any())


def test_auc_limit_is_two_sided_and_grows_with_the_area() -> None:
    p = [limits.auc_over_limit_p(Auc(area, 0.01), 0.55) for area in (0.5, 0.56, 0.6, 0.9)]
    assert p == sorted(p, reverse=True)
    assert limits.auc_over_limit_p(Auc(0.1, 0.01), 0.55) == pytest.approx(p[-1])
    assert limits.auc_upper(Auc(0.5, 0.01), 0.95) == pytest.approx(0.51645, abs=1e-5)
    assert limits.auc_upper(Auc(0.45, 0.01), 0.95) == limits.auc_upper(Auc(0.55, 0.01), 0.95)
