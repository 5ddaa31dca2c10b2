"""From one score a record to what a judge needs: subjects as units, sides of equal size, sufficient statistics.

Several images of one person are not independent evidence: judged image by image, a clean generator is flagged 7.3 % of
the time at a nominal 1 % (five images a person). So a subject's score is the largest over its images (an attacker shows
all the photographs he has and one leaked is enough) or their mean, and everything after counts subjects.

What is stored depends on no confidence level: counts at every cut-off, the AUC with its error, permutation p-values.
The judge turns them into bounds, and may do so again under another policy without the private data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from ops.core import seeds
from ops.statistics import permutation, roc
from ops.statistics.intervals import clopper_pearson, ratio
from ops.statistics.limits import top_size

Reduction = Literal["max", "mean"]


class Evidence(NamedTuple):
    """Figures of one attack (flat, JSON-ready) and its thinned ROC."""

    figures: dict[str, Any]
    curve: roc.Curve


def tag(fpr: float) -> str:
    """An FPR in a key's name, whole digits and a negative power of ten: 0.01 → ``1e2``, 0.0025 → ``25e4``."""
    text = f"{fpr:.10f}".rstrip("0").partition(".")[2]
    return f"{int(text)}e{len(text)}"


def percent(confidence: float) -> str:
    """A confidence in a key's name: 0.95 → ``95``, 0.995 → ``995``."""
    return f"{100 * confidence:.6g}".replace(".", "")


def by_subject(scores: np.ndarray, subjects: np.ndarray, reduction: Reduction) -> tuple[np.ndarray, np.ndarray]:
    """One score a subject: float [n], str [n] → names, str [s] sorted, and float64 [s]."""
    grouped = pd.Series(np.asarray(scores, np.float64)).groupby(np.asarray(subjects))
    reduced = grouped.max() if reduction == "max" else grouped.mean()
    return reduced.index.to_numpy(dtype=str), reduced.to_numpy()


def equal_sides(members: np.ndarray, nonmembers: np.ndarray, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Distinct subjects of either side, the larger side cut to the smaller's size by a keyed hash of the subject:
    nobody chooses who stays, and a new subject displaces one at most. str [n], str [m] → two sorted str [min]."""
    sides = [np.unique(members), np.unique(nonmembers)]
    size = min(map(len, sides))
    return (_lowest(sides[0], size, key), _lowest(sides[1], size, key))


def _lowest(subjects: np.ndarray, size: int, key: str) -> np.ndarray:
    if len(subjects) == size:
        return subjects
    drawn = np.array([seeds.keyed_fraction(key, name) for name in subjects.tolist()])
    return np.sort(subjects[np.argsort(drawn, kind="stable")[:size]])


def measure(
    members: np.ndarray, nonmembers: np.ndarray, *, fprs: Sequence[float], confidence: float, points: int,
    permutations: int, seed: int,
) -> Evidence:  # fmt: skip
    """All figures of one attack from scores of n members and n non-members (subjects): float [n] each, n ≥ 2."""
    assert len(members) == len(nonmembers), "the sides are cut to equal size beforehand"
    n = len(members)
    ranked = permutation.ranked_members(members, nonmembers, seeds.generator(seed, "ties"))
    sizes = sorted({top_size(n, fpr) for fpr in fprs})
    test = permutation.rank_test(ranked, sizes, permutations, seeds.generator(seed, "labels"))
    area, c = roc.auc(members, nonmembers), percent(confidence)
    figures: dict[str, Any] = {
        "n_subjects_per_side": n, "fprs": ",".join(f"{fpr:g}" for fpr in fprs),
        "auc": area.value, "auc_standard_error": area.standard_error,
        f"auc_low{c}": area.interval(confidence).low, f"auc_high{c}": area.interval(confidence).high,
        "average_precision": roc.average_precision(members, nonmembers), "interval_confidence": confidence,
        "p_permutation": test.p, "most_extreme": test.component, "permutations": permutations,
    }  # fmt: skip
    for fpr in fprs:
        figures |= _at(fpr, ranked, members, nonmembers, confidence)
    return Evidence(figures, roc.curve(members, nonmembers, points, confidence))


def _at(
    fpr: float, ranked: np.ndarray, members: np.ndarray, nonmembers: np.ndarray, confidence: float
) -> dict[str, Any]:
    """Counts, ratio and TPR at one FPR. ``ratio_…`` is None where every one of the top k is a member (infinite)."""
    k = top_size(len(members), fpr)
    top, bottom = (int(permutation.counts_at(end, [k])[0]) for end in (ranked, ranked[::-1]))
    share = clopper_pearson(top, k, confidence)
    found = roc.tpr_at(members, nonmembers, np.array([fpr]), confidence)
    at, c = f"at_fpr_{tag(fpr)}", percent(confidence)
    return {
        f"top_{at}": k, f"members_in_top_{at}": top, f"members_in_bottom_{at}": bottom,
        f"ratio_{at}": ratio(top / k), f"ratio_{at}_low{c}": ratio(share.low), f"ratio_{at}_high{c}": ratio(share.high),
        f"p_hypergeometric_{at}": permutation.hypergeometric_p(top, k, len(members), len(ranked)),
        f"tpr_{at}": float(found.tpr[0]),
        f"tpr_{at}_low{c}": float(found.low[0]), f"tpr_{at}_high{c}": float(found.high[0]),
    }  # fmt: skip
