"""How sure is a share? Exact binomial bounds after Clopper and Pearson (1934).

They never cover less than they claim, whatever the true share, and therefore cover a little more (0.976 instead of 0.95
at n = 1000 and a share of 1 %): for a verdict that is the right side to err on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Two-sided interval, both ends in the quantity's own unit."""

    low: float
    high: float


def lower_bound(successes: ArrayLike, trials: ArrayLike, confidence: float) -> Floats:
    """One-sided lower bound of a share at ``confidence``: numbers or arrays of counts, broadcast → float64 in [0, 1].

    The share q at which ``successes`` or more would come up with probability 1 − confidence; 0 without a success.
    """
    x, n = _counts(successes, trials, confidence)
    bound = stats.beta.ppf(1.0 - confidence, np.maximum(x, 0.5), n - x + 1.0)
    return np.where(x > 0, bound, 0.0)


def upper_bound(successes: ArrayLike, trials: ArrayLike, confidence: float) -> Floats:
    """One-sided upper bound of a share at ``confidence``; 1 without a failure. Shapes as :func:`lower_bound`."""
    x, n = _counts(successes, trials, confidence)
    bound = stats.beta.ppf(confidence, x + 1.0, np.maximum(n - x, 0.5))
    return np.where(x < n, bound, 1.0)


def clopper_pearson(successes: int, trials: int, confidence: float) -> Interval:
    """Two-sided interval of a share: each side at (1 + confidence) / 2."""
    side = (1.0 + confidence) / 2.0
    return Interval(float(lower_bound(successes, trials, side)), float(upper_bound(successes, trials, side)))


def ratio(share: float) -> float | None:
    """The attacker's ratio TPR/FPR = p/(1 − p) from the share p of members among the top; None where it is infinite."""
    return share / (1.0 - share) if share < 1.0 else None


def share_of_ratio(max_ratio: float) -> float:
    """The share p of members among the top at which TPR/FPR equals ``max_ratio``: 3 → 0.75."""
    return max_ratio / (1.0 + max_ratio)


def _counts(successes: ArrayLike, trials: ArrayLike, confidence: float) -> tuple[Floats, Floats]:
    x, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}")
    if np.any(x < 0) or np.any(x > n) or np.any(n < 1):
        raise ValueError(f"need 0 ≤ successes ≤ trials and trials ≥ 1, found {x} of {n}")
    return x, n
