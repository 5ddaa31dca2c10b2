"""Is the leak proven to be above a limit? Tests whose null is the limit itself, not "no leak".

Take the pooled top k = 2·FPR·n of n members and n non-members; X of them are members. A share p = X/k of members there
is an attacker's ratio TPR/FPR = p/(1 − p) at that FPR, so "ratio at most 3" is "p at most 0.75", and a binomial test
against 0.75 is the same as asking whether Clopper–Pearson's lower bound lies above it. A leak that touches few people
shows at stricter cut-offs only, so all are looked at, and the largest is calibrated exactly: under the least
favourable null the ranks are independent draws with p = 0.75, and nested counts are a walk whose chance to cross a
boundary follows by convolution. No random numbers, so the judge needs no seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

from ops.statistics.intervals import share_of_ratio, upper_bound
from ops.statistics.roc import Auc


def top_size(n: int, fpr: float) -> int:
    """Size of the pooled top for n subjects a side: ⌊2·fpr·n⌋, one at least (n = 3000, 1 % → 60)."""
    return max(1, int(np.floor(2.0 * fpr * n + 1e-9)))


def stays_inside(
    cutoffs: Sequence[int], low: Sequence[int], high: Sequence[int], share: float, certain: int = 0
) -> float:
    """P(low_i ≤ X_i ≤ high_i for every i), X_i members among the first cutoffs_i ranks.

    The first ``certain`` ranks are members; each later one is a member with probability ``share``, independently.
    ``cutoffs`` ascend.
    """
    law = np.ones(1)  # law[x]: probability of x members so far, still inside
    seen = 0
    for k, least, most in zip(cutoffs, low, high, strict=True):
        sure = max(0, min(certain, k) - seen)
        draws = k - seen - sure
        law = np.r_[np.zeros(sure), np.convolve(law, _chances(draws, share))]
        x = np.arange(len(law))
        law = np.where((x >= least) & (x <= most), law, 0.0)
        seen = k
    return float(law.sum())


@lru_cache(maxsize=4096)
def _chances(draws: int, share: float) -> np.ndarray:
    """P(x successes) for x = 0 … draws."""
    return stats.binom.pmf(np.arange(draws + 1), draws, share)


@lru_cache(maxsize=4096)
def _tails(draws: int, share: float) -> np.ndarray:
    """P(x successes or more) for x = 0 … draws."""
    return stats.binom.sf(np.arange(-1, draws), draws, share)


def ratio_over_limit_p(counts: Sequence[int], cutoffs: Sequence[int], max_ratio: float) -> float:
    """p-value of "the ratio is at most ``max_ratio`` at every cut-off", by the smallest p-value, calibrated."""
    share = share_of_ratio(max_ratio)
    smallest = min(float(_tails(k, share)[x]) for x, k in zip(counts, cutoffs, strict=True))
    return min(1.0, crossing(cutoffs, smallest, share))


def crossing(cutoffs: Sequence[int], level: float, share: float) -> float:
    """P(some cut-off's own p-value ≤ level) when every rank is a member with probability ``share``."""
    most = [boundary - 1 for boundary in boundaries(cutoffs, level, share)]
    return 1.0 - stays_inside(cutoffs, [0] * len(most), most, share)


def boundaries(cutoffs: Sequence[int], level: float, share: float) -> list[int]:
    """Per cut-off k, the smallest count whose binomial p-value is ≤ level; k + 1 where none is."""
    return [int((_tails(k, share) > level * (1 + 1e-9)).sum()) for k in cutoffs]


def critical_counts(cutoffs: Sequence[int], alpha: float, max_ratio: float) -> list[int]:
    """Counts from which :func:`ratio_over_limit_p` is ≤ alpha, one a cut-off (k + 1: never)."""
    return list(_critical_counts(tuple(cutoffs), alpha, max_ratio))


@lru_cache(maxsize=4096)
def _critical_counts(cutoffs: tuple[int, ...], alpha: float, max_ratio: float) -> tuple[int, ...]:
    share = share_of_ratio(max_ratio)
    tails = np.unique(np.concatenate([_tails(k, share)[1:] for k in cutoffs]))
    levels = tails[tails <= alpha]
    low, high = 0, len(levels)
    while low < high:  # crossing() grows with the level: bisect for the last one allowed
        middle = (low + high) // 2
        low, high = (middle + 1, high) if crossing(cutoffs, float(levels[middle]), share) <= alpha else (low, middle)
    return tuple(boundaries(cutoffs, float(levels[low - 1]) if low else 0.0, share))


def auc_over_limit_p(area: Auc, max_auc: float) -> float:
    """p-value of "max(A, 1 − A) is at most ``max_auc``", normal with DeLong's standard error. One tail: an area at one
    limit is far from the other."""
    strongest = max(area.value, 1.0 - area.value)
    return float(stats.norm.sf((strongest - max_auc) / area.standard_error))


def passing_counts(k: int, max_ratio: float, confidence: float) -> tuple[int, int]:
    """Least and most members among the top k for which both tails' upper bound is below the limit; (1, 0) if none.

    k = 60, ratio 3, 95 % → (22, 38).
    """
    bounds = upper_bound(np.arange(k + 1), k, confidence)
    most = int((bounds < share_of_ratio(max_ratio)).sum()) - 1
    return (k - most, most) if 2 * most >= k else (1, 0)


def auc_upper(area: Auc, confidence: float) -> float:
    """Upper bound of the two-sided AUC, max(A, 1 − A), one-sided at ``confidence``."""
    return min(1.0, max(area.value, 1.0 - area.value) + float(stats.norm.ppf(confidence)) * area.standard_error)
