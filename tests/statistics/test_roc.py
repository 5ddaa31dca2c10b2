"""AUC and TPR at a fixed FPR: closed forms, the reference library, coverage of their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from ops.statistics import roc
from ops.statistics.membership import by_subject

numbers = st.lists(st.integers(-5, 5), min_size=2, max_size=30).map(lambda values: np.array(values, float))


@given(numbers, numbers)
def test_auc_equals_sklearn_ties_included_and_turns_over_with_the_sides(a: np.ndarray, b: np.ndarray) -> None:
    truth = np.r_[np.ones(len(a)), np.zeros(len(b))]
    found = roc.auc(a, b)
    assert found.value == pytest.approx(roc_auc_score(truth, np.r_[a, b]))
    assert roc.auc(b, a).value == pytest.approx(1 - found.value)
    assert roc.auc(b, a).standard_error == pytest.approx(found.standard_error)


def test_delong_error_of_a_case_worked_by_hand() -> None:
    """Members 3, 1 against 2, 0: components ½ and 1 (variance ⅛) on either side; √(⅛/2 + ⅛/2)."""
    found = roc.auc(np.array([3.0, 1.0]), np.array([2.0, 0.0]))
    assert found == pytest.approx((0.75, np.sqrt(0.125)))


def test_complete_separation_never_claims_certainty() -> None:
    found = roc.auc(np.arange(100.0) + 500, np.arange(100.0))
    assert found.value == 1.0
    assert 0.003 < found.standard_error < 0.02


def test_auc_interval_covers_the_truth_as_promised_clusters_included() -> None:
    """2 000 audits of 150 people a side with 2 to 4 images each, a shift that makes the true AUC known."""
    random = np.random.default_rng(0)
    sizes = [random.integers(2, 5, 150) for _ in range(2)]
    names = [np.repeat(np.arange(150).astype(str), size) for size in sizes]
    covered, runs, shift = 0, 2000, 0.5
    draws = [random.normal(size=(runs, 150)) for _ in range(2)]
    noise = [random.normal(size=(runs, len(name))) for name in names]
    # a person's mean has variance 1 + E[1/size]; the sides are alike, so the AUC is that of the mixture
    spread = [1 + 1 / s for s in (2, 3, 4)]
    means = [
        [np.bincount(name.astype(int), weights=row) / size for row in n]
        for name, size, n in zip(names, sizes, noise, strict=True)
    ]
    truth = np.mean([stats.norm.cdf(shift / np.sqrt(1 + 1 / s + 1 + 1 / t)) for s in sizes[0] for t in sizes[1]])
    assert len(spread) == 3
    for run in range(runs):
        low, high = roc.auc(draws[0][run] + means[0][run] + shift, draws[1][run] + means[1][run]).interval(0.95)
        covered += low <= truth <= high
    assert 0.935 <= covered / runs <= 0.965


def test_tpr_interval_covers_the_truth_although_the_threshold_is_estimated() -> None:
    random = np.random.default_rng(1)
    runs, n, shift, fpr = 2000, 1000, 1.0, np.array([0.01, 0.1])
    truth = stats.norm.sf(stats.norm.isf(fpr) - shift)
    covered = np.zeros(2)
    for _ in range(runs):
        found = roc.tpr_at(random.normal(shift, size=n), random.normal(size=n), fpr, 0.95)
        covered += (found.low <= truth) & (truth <= found.high)
    assert (covered / runs >= 0.935).all()


def test_curve_rises_from_the_corner_to_one_inside_its_band() -> None:
    random = np.random.default_rng(2)
    found = roc.curve(random.normal(1, size=300), random.normal(size=300), 40, 0.95)
    assert found.tpr[-1] == found.fpr[-1] == 1.0
    assert (np.diff(found.tpr) >= 0).all()
    assert ((found.low <= found.tpr) & (found.tpr <= found.high)).all()


def test_tpr_takes_its_threshold_strictly_above_the_allowed_nonmembers() -> None:
    found = roc.tpr_at(
        np.array([10.0, 5.0, 4.0, 1.0]), np.array([9.0, 4.0, 3.0, 2.0]), np.array([0.0, 0.25, 1.0]), 0.95
    )
    assert found.tpr.tolist() == [0.25, 0.5, 1.0]


def test_average_precision_of_a_perfect_ranking_is_one() -> None:
    assert roc.average_precision(np.array([3.0, 2.0]), np.array([1.0, 0.0])) == 1.0


def test_one_subject_has_no_error() -> None:
    with pytest.raises(ValueError, match="two subjects"):
        roc.auc(np.ones(1), np.ones(5))


def test_a_subject_counts_once_by_its_largest_or_mean_score() -> None:
    scores, names = np.array([1.0, 5.0, 3.0]), np.array(["b", "a", "b"])
    assert by_subject(scores, names, "max")[1].tolist() == [5.0, 3.0]
    assert by_subject(scores, names, "mean")[1].tolist() == [5.0, 2.0]
