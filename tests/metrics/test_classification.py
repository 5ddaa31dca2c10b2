"""Confusion, accuracy and intervals: small tables whose answer one can work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from ops.metrics import classification as c


def test_rows_are_actual_and_columns_predicted() -> None:
    matrix = c.confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 1, 0], [1, 0, 0]])


def test_it_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(0)
    actual, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    np.testing.assert_array_equal(c.confusion(actual, predicted, 5), confusion_matrix(actual, predicted))


def test_a_class_without_test_images_has_no_accuracy() -> None:
    shares = c.per_class_accuracy(np.array([[3, 1], [0, 0]]))
    assert shares[0] == 0.75
    assert np.isnan(shares[1])


def test_majority_is_learned_from_training_and_scored_on_test() -> None:
    assert c.majority_accuracy(np.array([1, 1, 0]), np.array([0, 0, 0, 1]), 2) == 0.25


def test_the_seed_interval_is_students() -> None:
    """Three values 0.8, 0.9, 1.0: mean 0.9, s = 0.1, t(0.975, 2) = 4.3027, so half the width is 0.2484."""
    found = c.seed_interval(np.array([0.8, 0.9, 1.0]), 0.95)
    assert found.mean == pytest.approx(0.9)
    assert found.low == pytest.approx(0.9 - 0.24841, abs=1e-4)
    assert found.high == 1.0  # no accuracy above one
    with pytest.raises(ValueError, match="2 seeds"):
        c.seed_interval(np.array([0.8]), 0.95)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (20, 20)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    reference = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    found = c.wilson_interval(hits / n, n, 0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_images_of_one_subject_widen_the_interval() -> None:
    correct = np.repeat([1.0, 0.0, 1.0, 1.0], 25)
    alone = c.subject_interval(correct, np.arange(100).astype(str), 0.95)
    grouped = c.subject_interval(correct, np.repeat(list("abcd"), 25), 0.95)
    assert grouped.mean == alone.mean == 0.75
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_perfect_score_is_no_better_known_than_its_subjects_are_many() -> None:
    few = c.subject_interval(np.ones(100), np.repeat(list("abcd"), 25), 0.95)
    assert (few.low, few.high) == pytest.approx(c.wilson_interval(1.0, 4, 0.95)[1:])
