"""What a verdict can and cannot see: the chance that a clean generator passes, the leak that could be missed, the
subjects that are missing.

A leak of f means: that share of the members outranks everybody else, and the rest is ranked by chance. It is the plant
of audit.md §3.3; a real leak of the same number of people ranks them lower and is harder to see, so the figures are the
best case of the attack and are printed as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ops.statistics.intervals import share_of_ratio, upper_bound
from ops.statistics.limits import critical_counts, passing_counts, stays_inside, top_size

MOST_TOP = 50_000  # largest top looked at when asking for more subjects (2.5 million subjects a side at 1 %)


@dataclass(frozen=True)
class Rule:
    """The verdict's numbers: limits at ``fpr``, the stricter cut-offs it scans, and how sure PASS and FAIL must be.

    ``fprs`` ascend and end with ``fpr``. ``fail_alpha`` is what remains for one tail of one attack after corrections.
    """

    fpr: float
    fprs: tuple[float, ...]
    max_ratio: float
    max_auc: float
    pass_confidence: float
    fail_alpha: float


def cutoffs(n: int, fprs: Sequence[float]) -> list[int]:
    """Distinct top sizes for n subjects a side, ascending."""
    return sorted({top_size(n, fpr) for fpr in fprs})


def pass_probability(n: int, rule: Rule, leaked: int = 0) -> float:
    """P(PASS) of one attack with n subjects a side, ``leaked`` of them above everybody else; 0 where none can pass."""
    sizes = cutoffs(n, rule.fprs)
    least, most = passing_counts(sizes[-1], rule.max_ratio, rule.pass_confidence)
    if most < least:
        return 0.0
    high = [count - 1 for count in critical_counts(sizes, rule.fail_alpha, rule.max_ratio)]
    low = [0] * len(sizes)
    low[-1], high[-1] = least, min(high[-1], most)
    share = (n - leaked) / (2.0 * n - leaked)
    return stays_inside(sizes, low, high, share, certain=leaked) * _auc_passes(n, rule, leaked / n)


def fail_probability(n: int, rule: Rule, leaked: int) -> float:
    """P(FAIL by the ratio at some cut-off) of one attack, ``leaked`` members above everybody else."""
    sizes = cutoffs(n, rule.fprs)
    high = [count - 1 for count in critical_counts(sizes, rule.fail_alpha, rule.max_ratio)]
    share = (n - leaked) / (2.0 * n - leaked)
    return 1.0 - stays_inside(sizes, [0] * len(sizes), high, share, certain=leaked)


def largest_missable_leak(n: int, rule: Rule, chance: float) -> float | None:
    """Largest share of the members whose leak would still PASS with probability ≥ ``chance``; None where PASS itself
    is less likely than that even without a leak."""
    if pass_probability(n, rule) < chance:
        return None
    return _last(n, lambda leaked: pass_probability(n, rule, leaked) >= chance) / n


def largest_unproven_leak(n: int, rule: Rule, chance: float) -> float:
    """Largest share of the members whose leak would fail to be proven (FAIL) with probability ≥ ``chance``; 1: any."""
    return _last(n, lambda leaked: 1.0 - fail_probability(n, rule, leaked) >= chance) / n


def subjects_needed(rule: Rule, probability: float, share: float = 0.5, auc: float = 0.5, least: int = 1) -> int | None:
    """Fewest subjects a side (≥ ``least``) with which the verdict would PASS, if what was seen keeps its size.

    Two conditions: a clean generator passes with ``probability``; and ``share`` of members among the top and ``auc``,
    seen again at that size, are bounded under their limits. None where what was seen is itself at or above a limit:
    no number of subjects helps then.
    """
    worst, strongest = max(share, 1.0 - share), max(auc, 1.0 - auc)
    if worst >= share_of_ratio(rule.max_ratio) or strongest >= rule.max_auc:
        return None
    k = np.unique(np.geomspace(1, MOST_TOP, 4000).astype(int))
    bounded = upper_bound(np.round(worst * k), k, rule.pass_confidence) < share_of_ratio(rule.max_ratio)
    n = np.ceil(k / (2.0 * rule.fpr)).astype(int)
    z = float(stats.norm.ppf(rule.pass_confidence))
    bounded &= strongest + z * np.sqrt((2 * n + 1) / 12.0) / n < rule.max_auc
    for size in n[bounded & (n >= least)]:
        if pass_probability(int(size), rule) >= probability:
            return int(size)
    return None


def _auc_passes(n: int, rule: Rule, leak: float) -> float:
    """P(the AUC's upper bound stays under its limit), normal, with the spread it has under no leak."""
    spread = float(np.sqrt((2 * n + 1) / 12.0) / n)
    reach = rule.max_auc - 0.5 - float(stats.norm.ppf(rule.pass_confidence)) * spread
    if reach <= 0.0:
        return 0.0
    return float(stats.norm.cdf((reach - leak / 2.0) / spread) - stats.norm.cdf((-reach - leak / 2.0) / spread))


def _last(n: int, holds: object) -> int:
    """Largest count in 0 … n for which ``holds`` (true, then false), by bisection; 0 where it never does."""
    assert callable(holds)
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
