"""The attacker's trade: how many members found at how many false accusations, with intervals. Units are subjects.

- AUC with DeLong's variance (DeLong, DeLong and Clarke-Pearson 1988): no resampling, no normality of scores assumed.
- TPR at a fixed FPR. The threshold is itself estimated from the non-members, so the interval adds both doubts: limits
  for the threshold from order statistics, limits for the share above it after Clopper and Pearson, half of the error
  each (Bonferroni). It covers at least what it claims, and more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.metrics import average_precision_score

from ops.statistics.intervals import Interval, lower_bound, upper_bound


class Auc(NamedTuple):
    """Area under the ROC curve in [0, 1] (0.5: chance) and its standard error."""

    value: float
    standard_error: float

    def interval(self, confidence: float) -> Interval:
        """Two-sided normal interval, cut to [0, 1]."""
        half = float(stats.norm.ppf((1.0 + confidence) / 2.0)) * self.standard_error
        return Interval(max(0.0, self.value - half), min(1.0, self.value + half))


class Curve(NamedTuple):
    """TPR and its interval on a grid of FPR: float64 [points] each."""

    fpr: np.ndarray
    tpr: np.ndarray
    low: np.ndarray
    high: np.ndarray


def auc(members: np.ndarray, nonmembers: np.ndarray) -> Auc:
    """P(member's score > non-member's) + ½ P(equal), with DeLong's standard error: float [n], [m], n and m ≥ 2.

    Where the sides separate entirely DeLong's variance is nought; the largest variance possible at the nearest AUC
    that n could tell from it, A(1 − A)/n at A = 1 − 1/2n, takes its place: certainty is never claimed.
    """
    n, m = len(members), len(nonmembers)
    if min(n, m) < 2:
        raise ValueError(f"an AUC with an error needs two subjects on each side, found {n} and {m}")
    pooled = stats.rankdata(np.concatenate([members, nonmembers]))
    above = (pooled[:n] - stats.rankdata(members)) / m  # per member: share of non-members below it
    below = 1.0 - (pooled[n:] - stats.rankdata(nonmembers)) / n  # per non-member: share of members above it
    variance = float(above.var(ddof=1) / n + below.var(ddof=1) / m)
    least = 1.0 / (2.0 * min(n, m))
    floor = least * (1.0 - least) / min(n, m) if variance == 0.0 else 0.0
    return Auc(float(above.mean()), float(np.sqrt(variance + floor)))


def average_precision(members: np.ndarray, nonmembers: np.ndarray) -> float:
    """Mean precision over the recalls of members; the share of members is chance."""
    truth = np.r_[np.ones(len(members)), np.zeros(len(nonmembers))]
    return float(average_precision_score(truth, np.concatenate([members, nonmembers])))


def tpr_at(members: np.ndarray, nonmembers: np.ndarray, fpr: np.ndarray, confidence: float) -> Curve:
    """TPR at each FPR: scores float [n], [m] and FPR [points] in [0, 1] → :class:`Curve`.

    The threshold at FPR f is the (⌊f·m⌋ + 1)-th highest non-member; members strictly above it are found.
    """
    n, m = len(members), len(nonmembers)
    highest = np.r_[np.inf, np.sort(nonmembers)[::-1], -np.inf]  # highest[j]: j-th highest, ends open
    ordered = np.sort(members)
    error = 1.0 - confidence

    def found(position: np.ndarray) -> np.ndarray:
        return n - np.searchsorted(ordered, highest[position], side="right")

    at = np.where(fpr >= 1.0, m + 1, np.floor(fpr * m + 1e-9).astype(int) + 1)
    strict = stats.binom.ppf(error / 4.0, m, fpr).astype(int)  # fewer non-members lie above the true threshold
    loose = np.minimum(stats.binom.ppf(1.0 - error / 4.0, m, fpr).astype(int) + 1, m + 1)
    side = 1.0 - error / 4.0
    low, high = lower_bound(found(strict), n, side), upper_bound(found(np.where(fpr >= 1, m + 1, loose)), n, side)
    return Curve(fpr, np.where(at > m, n, found(at)) / n, low, high)


def curve(members: np.ndarray, nonmembers: np.ndarray, points: int, confidence: float) -> Curve:
    """The ROC on a grid, even in log10 FPR from 1/m (0.1 % at most) to 1: a thinned curve, no per-record score."""
    lowest = min(1e-3, 1.0 / max(len(nonmembers), 2))
    return tpr_at(members, nonmembers, np.geomspace(lowest, 1.0, points), confidence)
