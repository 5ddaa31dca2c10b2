"""One attack against the policy: its bounds, what is proven, what is bounded; and Holm over several attacks.

PASS asks that every upper bound is below its limit. FAIL asks that "within every limit" is rejected; the ways to exceed
a limit share the attack's error, and the attacks share it by Holm. Neither: UNDECIDED.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ops.core.errors import CallError, explain
from ops.statistics import limits
from ops.statistics.intervals import lower_bound, ratio, upper_bound
from ops.statistics.membership import tag
from ops.statistics.multiple import holm
from ops.statistics.roc import Auc

# How one attack's error is shared among the ways to exceed a limit. The top of the ranking is the primary question,
# named beforehand, and gets half; with it 20 people who outrank all others are proven at 99 % (0.75^20). Attraction and
# repulsion share nothing: when the truth is at one limit, the other is out of reach (0.25^20).
ERROR_SHARES = {"top": 0.5, "bottom": 0.2, "auc": 0.3}


class Policy(Protocol):
    """The limits and confidences that a decision needs; ``policy`` in params.yaml has them."""

    @property
    def fpr(self) -> float: ...

    @property
    def max_ratio(self) -> float: ...

    @property
    def max_auc(self) -> float: ...

    @property
    def confidence(self) -> float: ...

    @property
    def fail_confidence(self) -> float: ...


@dataclass(frozen=True)
class Attack:
    """One attack's stored figures, and what the policy makes of them."""

    name: str
    figures: Mapping[str, Any]
    decision: str = "UNDECIDED"
    because: str = ""
    bounds: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """membership or census."""
        return str(self.figures["kind"])

    @property
    def evaluated(self) -> bool:
        """A membership attack that had subjects on both sides and something released."""
        return self.kind == "membership" and bool(self.figures["evaluated"])


def decide(attacks: list[Attack], policy: Policy) -> list[Attack]:
    """Each attack with its bounds and its own decision; Holm over the membership attacks of all threats."""
    proofs = {a.name: over_limit_p(a.figures, policy) for a in attacks if a.evaluated}
    chance = holm({a.name: float(a.figures["p_permutation"]) for a in attacks if a.evaluated})
    corrected = holm(proofs)
    return [
        _decide_membership(a, proofs[a.name], corrected[a.name], chance[a.name], len(proofs), policy)
        if a.evaluated
        else _decide_other(a)
        for a in attacks
    ]


def _decide_other(attack: Attack) -> Attack:
    """A census, or an attack that could not be run."""
    if attack.kind == "membership":
        return Attack(attack.name, attack.figures, "UNDECIDED", str(attack.figures["why"]))
    drawn, released = (int(attack.figures[f"copies_{stage}_of_train"]) for stage in ("drawn", "released"))
    bounds = {"copies_drawn": drawn, "copies_released": released, "copies_limit": 0}
    if drawn or released:
        because = f"{drawn} drawn and {released} released images are copies of training images"
        return Attack(attack.name, attack.figures, "FAIL", because, bounds)
    return Attack(attack.name, attack.figures, "PASS", "", bounds)


def over_limit_p(figures: Mapping[str, Any], policy: Policy) -> float:
    """p-value of "within every limit": each way to exceed one has its share of the error (weighted Bonferroni)."""
    sizes, top, bottom = _counts(figures, policy)
    others = [k - x for x, k in zip(top, sizes, strict=True)]
    ways = {
        "top": min(limits.ratio_over_limit_p(counts, sizes, policy.max_ratio) for counts in (top, others)),
        "bottom": limits.ratio_over_limit_p(bottom, sizes, policy.max_ratio),
        "auc": limits.auc_over_limit_p(_area(figures), policy.max_auc),
    }
    return min(1.0, min(p / ERROR_SHARES[way] for way, p in ways.items()))


def _counts(figures: Mapping[str, Any], policy: Policy) -> tuple[list[int], list[int], list[int]]:
    """Distinct top sizes up to the policy's FPR, ascending, with members in the top and in the bottom of that size."""
    here = f"top_at_fpr_{tag(policy.fpr)}"
    if here not in figures:
        known = ", ".join(key for key in figures if key.startswith("top_at"))
        raise CallError(
            explain(expected=f"policy.fpr {policy.fpr} among audit.fprs", found=known, todo="add it to audit.fprs")
        )
    at = [key.removeprefix("top_") for key in figures if key.startswith("top_at") and figures[key] <= figures[here]]
    table = {
        int(figures[f"top_{a}"]): tuple(int(figures[f"members_in_{end}_{a}"]) for end in ("top", "bottom")) for a in at
    }
    sizes = sorted(table)
    return sizes, [table[k][0] for k in sizes], [table[k][1] for k in sizes]


def _area(figures: Mapping[str, Any]) -> Auc:
    return Auc(float(figures["auc"]), float(figures["auc_standard_error"]))


def _decide_membership(
    attack: Attack, proof: float, corrected: float, chance: float, tests: int, policy: Policy
) -> Attack:
    sizes, top, _ = _counts(attack.figures, policy)
    k, x = sizes[-1], top[-1]
    area, alpha = _area(attack.figures), 1.0 - policy.fail_confidence
    worst = max(x, k - x)
    upper_share, upper_auc = float(upper_bound(worst, k, policy.confidence)), limits.auc_upper(area, policy.confidence)
    least, most = limits.passing_counts(k, policy.max_ratio, policy.confidence)
    bounds: dict[str, Any] = {
        "top": k, "members_in_top": x, "ratio": ratio(x / k), "ratio_upper": ratio(upper_share),
        "ratio_lower": ratio(float(lower_bound(worst, k, policy.fail_confidence))), "ratio_limit": policy.max_ratio,
        "members_in_top_allowed_low": least if most >= least else None,
        "members_in_top_allowed_high": most if most >= least else None,
        "auc": area.value, "auc_upper": upper_auc, "auc_limit": policy.max_auc,
        "p_over_limit": proof, "p_over_limit_holm": corrected, "p_permutation": float(attack.figures["p_permutation"]),
        "p_permutation_holm": chance, "leak_significant": chance <= alpha, "attacks_corrected_for": tests,
    }  # fmt: skip
    if corrected <= alpha:
        because = f"above a limit (p = {corrected:.2g}: {x} members among the top {k}, AUC {area.value:.3f})"
        return Attack(attack.name, attack.figures, "FAIL", because, bounds)
    open_bounds = [] if least <= x <= most else [f"{x} members among the top {k}, {_allowed(least, most)}"]
    open_bounds += [] if upper_auc < policy.max_auc else [f"AUC could be {upper_auc:.3f}, limit {policy.max_auc:g}"]
    return Attack(attack.name, attack.figures, "UNDECIDED" if open_bounds else "PASS", ", ".join(open_bounds), bounds)


def _allowed(least: int, most: int) -> str:
    return f"{least} to {most} allowed" if most >= least else "too few to bound the ratio"
