"""Could chance have ranked the members so high? Exact tests on ranks, with subjects as units.

If the release knows nothing of who was a member, then members and non-members (assigned by a keyed hash of the subject)
are exchangeable, and every assignment of the labels to the ranked subjects is equally likely. A single cut-off has a
closed form (hypergeometric). Several cut-offs, both ends of the ranking and the AUC together are calibrated by drawing
labels: the smallest of their p-values is compared with the smallest under permuted labels (Westfall and Young's min-p).

A threshold taken from the non-members themselves is not used: at a nominal 1 % it falsely flags 6 to 7 % for every n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Side = Literal["greater", "less", "two-sided"]
CELLS = 2**22  # labels drawn at a time; a matter of memory only, because draws are taken in one stream


class RankTest(NamedTuple):
    """Outcome of the calibrated test. ``component`` names what was most extreme, e.g. ``top 60`` or ``auc``."""

    p: float
    component: str
    p_uncorrected: float


def ranked_members(members: np.ndarray, nonmembers: np.ndarray, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Rank all subjects, most suspicious first: float [n], [m] → bool [n + m], True where a member stands.

    Ties fall by lot (``rng``), so that a constant score carries no information. Raises ValueError for a score that is
    not a number.
    """
    scores = np.concatenate([members, nonmembers])
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    order = np.lexsort((rng.random(len(scores)), -scores))
    return order < len(members)


def counts_at(ranked: np.ndarray, cutoffs: Sequence[int]) -> NDArray[np.int64]:
    """Members among the top k of each row's ranking: bool [..., N] → int64 [..., len(cutoffs)]; 1 ≤ k ≤ N."""
    top = np.cumsum(ranked[..., : max(cutoffs)], axis=-1, dtype=np.int64)
    return top[..., np.asarray(cutoffs) - 1]


def hypergeometric_p(x: int, k: int, members: int, total: int, side: Side = "two-sided", mid: bool = False) -> float:
    """Exact p-value of x members among the top k, when ``members`` of ``total`` subjects are members.

    ``mid`` counts the observed value half (mid-p): uniform on average under the null, for checks of uniformity only.
    """
    law = stats.hypergeom(total, members, k)
    half = 0.5 * float(law.pmf(x)) if mid else 0.0
    greater, less = float(law.sf(x - 1)) - half, float(law.cdf(x)) - half
    if side == "greater":
        return greater
    return less if side == "less" else min(1.0, 2.0 * min(greater, less))


def rank_test(ranked: np.ndarray, cutoffs: Sequence[int], permutations: int, rng: np.random.Generator) -> RankTest:
    """Two-sided test over all ``cutoffs`` at both ends of the ranking and over the AUC, calibrated together.

    Args:
        ranked: bool [N], most suspicious first, True where a member stands.
        cutoffs: sizes k of the top and of the bottom that are looked at.
        permutations: labels drawn; the p-value is (1 + hits) / (1 + permutations), never nought.
    """
    tables = [_table(k, int(ranked.sum()), len(ranked)) for k in cutoffs]
    observed = _components(ranked[None, :], cutoffs, tables)[0]
    rows = max(1, CELLS // len(ranked))
    hits = 0
    for start in range(0, permutations, rows):
        drawn = np.tile(ranked, (min(rows, permutations - start), 1))
        smallest = _components(rng.permuted(drawn, axis=1), cutoffs, tables).min(axis=1)
        hits += int((smallest <= observed.min() * (1 + 1e-9)).sum())
    names = [f"{end} {k}" for end in ("top", "bottom") for k in cutoffs] + ["auc"]
    return RankTest((1 + hits) / (1 + permutations), names[int(observed.argmin())], float(observed.min()))


def _table(k: int, members: int, total: int) -> np.ndarray:
    """Two-sided hypergeometric p-value for every count 0 … k."""
    law, x = stats.hypergeom(total, members, k), np.arange(k + 1)
    return np.minimum(1.0, 2.0 * np.minimum(law.sf(x - 1), law.cdf(x)))


def _components(ranked: np.ndarray, cutoffs: Sequence[int], tables: Sequence[np.ndarray]) -> np.ndarray:
    """p-value of each component alone: bool [B, N] → float64 [B, 2·len(cutoffs) + 1]."""
    ends = (counts_at(ranked, cutoffs), counts_at(ranked[:, ::-1], cutoffs))
    parts = [table[counts[:, i]] for counts in ends for i, table in enumerate(tables)]
    return np.stack([*parts, 2.0 * stats.norm.sf(np.abs(_rank_sum_z(ranked)))], axis=1)


def _rank_sum_z(ranked: np.ndarray) -> np.ndarray:
    """Standardised rank sum of the members (Wilcoxon; the AUC in other units): bool [B, N] → float64 [B]."""
    total = ranked.shape[1]
    members = int(ranked[0].sum())
    ranks = np.arange(total, 0, -1, dtype=np.float64)
    variance = members * (total - members) * (total + 1) / 12.0
    return (ranked @ ranks - members * (total + 1) / 2.0) / np.sqrt(variance)
