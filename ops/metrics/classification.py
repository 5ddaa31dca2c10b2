"""How good is a classifier, and how sure are we? Confusion counts and two kinds of interval.

Two things vary: the training (order, initial weights: answered by several seeds, interval over their accuracies) and
the test images (answered by an interval over *subjects*, because the images of one subject rise and fall together).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.stats


class Interval(NamedTuple):
    """An estimate with its lower and upper bound."""

    mean: float
    low: float
    high: float


def confusion(actual: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts: int64 [n] codes, twice → int64 [classes, classes]; row = actual class, column = predicted class."""
    assert actual.shape == predicted.shape, (actual.shape, predicted.shape)
    both = np.concatenate([actual, predicted])
    assert both.size == 0 or (both.min() >= 0 and both.max() < classes), (classes, np.unique(both))
    return np.bincount(actual * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def per_class_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Recall of each class, the diagonal over the row sums: float64 [k]; NaN marks a class without test images."""
    totals = matrix.sum(axis=1)
    shares = np.full(len(matrix), np.nan)
    np.divide(np.diagonal(matrix), totals, out=shares, where=totals > 0)
    return shares


def majority_accuracy(train_codes: np.ndarray, test_codes: np.ndarray, classes: int) -> float:
    """Accuracy of always answering the class that is most frequent in training (the lowest code among equals)."""
    return float((test_codes == np.bincount(train_codes, minlength=classes).argmax()).mean())


def seed_interval(values: np.ndarray, confidence: float, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Mean of one figure over random seeds with a Student t interval (n − 1 degrees of freedom), cut to ``bounds``.

    Args:
        values: float [n], one a seed, n ≥ 2.
        confidence: coverage of the two-sided interval, in (0, 1).
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over seeds needs 2 seeds or more, found {n}")
    mean = float(np.mean(values))
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1)) * float(np.std(values, ddof=1)) / n**0.5
    return Interval(mean, max(mean - half, bounds[0]), min(mean + half, bounds[1]))


def wilson_interval(share: float, n: float, confidence: float) -> Interval:
    """Score interval of a binomial share (Wilson 1927): honest near 0 and 1, where the normal interval is not.

    Args:
        share: observed share in [0, 1].
        n: (effective) number of independent trials, > 0.
    """
    z = float(scipy.stats.norm.ppf((1 + confidence) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return Interval(share, max(centre - half, 0.0), min(centre + half, 1.0))


def subject_interval(correct: np.ndarray, subjects: np.ndarray, confidence: float) -> Interval:
    """Accuracy with an interval over subjects: how far another draw of test subjects could move it.

    The variance of the ratio (right answers / images) is estimated over subjects (linearised ratio estimator, Cochran
    1977, section 11.8) and turned into an effective number of independent images for Wilson's interval. With one
    image a subject this is the plain Wilson interval.

    Args:
        correct: float [n] in [0, 1], one an image (the mean over seeds, or 0 and 1).
        subjects: str [n].
    """
    share = float(correct.mean())
    _, rows = np.unique(subjects, return_inverse=True)
    residuals = np.bincount(rows, weights=correct - share)
    count = len(residuals)
    if count < 2:
        raise ValueError(f"an interval over subjects needs 2 subjects or more, found {count}")
    variance = float(np.square(residuals).sum()) * count / (count - 1) / len(correct) ** 2
    # Where nothing varies between subjects each of them is still one trial, and no more than one.
    effective = share * (1 - share) / variance if variance > 1e-15 else float(count)
    return wilson_interval(share, min(effective, float(len(correct))), confidence)
