"""The part of a page about privacy: ROC, bounds against limits, tables of attacks, controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ops.pages import charts, words
from ops.pages.charts import COLOURS, Bullet
from ops.pages.evidence import VOID, Attack, fpr_tag
from ops.pages.numbers import DASH, Interval, between, chance, count, interval, plain, shown, upper
from ops.pages.words import CONTROLS, DECISIONS, THREATS

Figures = Mapping[str, Any]
Rows = list[tuple[object, ...]]
STRONGEST_RATIO = 10.0  # right end of the ratio chart; a bound beyond it runs off the edge and is in the table


def section(attacks: Sequence[Attack], verdict: Figures) -> dict[str, Any]:
    """Everything of "What an attacker could learn"."""
    ranked = [attack for attack in attacks if attack.ranked]
    drawn = [attack for attack in ranked if attack.curve is not None]
    curves = [attack.curve for attack in drawn if attack.curve is not None]
    floor = min((float(curve.fpr.min()) for curve in curves), default=1e-3)
    return {
        "sentence": sentence(attacks, verdict),
        "roc": charts.roc(curves, floor) if curves else None,
        "key": [
            (f"background:var(--c{i % COLOURS});height:3px;margin-bottom:3px", a.title) for i, a in enumerate(drawn)
        ],
        "bounds": bounds(ranked, verdict),
        "tables": [table for table in tables(attacks, verdict) if table["rows"]],
    }


def sentence(attacks: Sequence[Attack], verdict: Figures) -> str:
    """Who attacked, with what, on how many."""
    who = "; and ".join(THREATS.get(threat, threat) for threat in dict.fromkeys(attack.threat for attack in attacks))
    return (
        f"The attacker is {who}. The test gives them real images of "
        f"{count(verdict['n_subjects_per_side'])} members and as many non-members, and asks which is which."
    )


# --- bounds against limits -----------------------------------------------------------------------------------------


def bounds(ranked: Sequence[Attack], verdict: Figures) -> list[dict[str, Any]]:
    """Two charts: the ratio among the most suspicious, and the AUC, each up to its upper bound, against the limit."""
    if not ranked:
        return []
    sure = f"{100 * verdict['pass_confidence']:.4g} %"
    how = f"Dot: measured. Bar: up to the upper bound at {sure}. Dashed: the limit. Both directions count."
    ratio_name = f"members per non-member among the most suspicious {100 * verdict['fpr']:g} %"
    ratios = [Bullet(a.title, _ratio(a), a.bound_number("ratio_limit"), state(a, "ratio")) for a in ranked]
    areas = [Bullet(a.title, _area(a), a.bound_number("auc_limit"), state(a, "auc")) for a in ranked]
    top = max(4.0, min(STRONGEST_RATIO, max(_edge(b) for b in ratios) * 1.05))
    widest = max(0.6, max(_edge(b) for b in areas) + 0.01)
    return [
        {
            "name": "Ratio among the most suspicious",
            "caption": how,
            "svg": charts.bullets(ratios, 1, top, 1, ratio_name),
        },
        {
            "name": "Ranking as a whole (AUC)",
            "caption": "0.5 is guessing, 1 is certainty.",
            "svg": charts.bullets(areas, 0.5, min(widest, 1.0), 0.5, "area under the curve, either direction"),
        },
    ]


def _edge(bullet: Bullet) -> float:
    return max(v for v in (bullet.interval.value, bullet.interval.high, bullet.limit, 0.0) if v is not None)


def _ratio(attack: Attack) -> Interval:
    """max(R, 1/R) up to its bound; a ratio without a number is infinite (only members in the top)."""
    top, members = attack.bound_number("top") or 0.0, attack.bound_number("members_in_top") or 0.0
    worst = max(members, top - members)
    value = worst / (top - worst) if top > worst else STRONGEST_RATIO
    bound = attack.bound_number("ratio_upper")
    return Interval(value, value, STRONGEST_RATIO if bound is None else bound)


def _area(attack: Attack) -> Interval:
    area = attack.bound_number("auc")
    value = None if area is None else max(area, 1.0 - area)
    return Interval(value, value, attack.bound_number("auc_upper"))


def state(attack: Attack, name: str) -> str:
    """Style of one bar: below its limit, above it (the measured value is), astride, or none where nothing counts."""
    if attack.decision == VOID:
        return "none"
    bound, limit = attack.bound_number(f"{name}_upper"), attack.bound_number(f"{name}_limit")
    measured = (_ratio if name == "ratio" else _area)(attack).value
    if bound is not None and limit is not None and bound < limit:
        return "below"
    return "above" if limit is not None and measured is not None and measured > limit else "astride"


# --- tables --------------------------------------------------------------------------------------------------------


def tables(attacks: Sequence[Attack], verdict: Figures) -> list[dict[str, Any]]:
    """Rates, bounds, both ends of the ranking, and copies; a table without rows is left out by the caller."""
    ranked = [attack for attack in attacks if attack.ranked]
    at = f"{100 * verdict['fpr']:g} %"
    fprs = sorted({fpr for attack in ranked for fpr in attack.rates()}, reverse=True)
    return [
        {
            "title": "How many members each attack finds",
            "rows": [rate_row(a, fprs) for a in ranked],
            "head": [
                "attack",
                "AUC",
                *(f"found at {100 * fpr:g} % false alarms" for fpr in fprs),
                "p, all attacks counted",
            ],
            "note": words.RATES_NOTE,
        },
        {
            "title": "Bounds against the limits of the policy",
            "rows": [row for a in ranked for row in bound_rows(a)],
            "head": ["attack and figure", "measured", "upper bound", "limit", "decision"],
            "note": "",
        },
        {
            "title": f"Both ends of the ranking, {at} of each side",
            "rows": [tail_row(a, verdict) for a in ranked],
            "head": [
                "attack",
                "looked at",
                "members at the top",
                "members at the bottom",
                "expected",
                "allowed at the top",
            ],
            "note": words.ENDS_NOTE,
        },
        {
            "title": "Copies of real images",
            "rows": [row for a in attacks if a.kind == "census" for row in copy_rows(a)],
            "head": ["search and set", "of training images", "of audit images (control)", "limit", "decision"],
            "note": words.COPIES_NOTE,
        },
        {
            "title": "Attacks that could not be run",
            "head": ["attack", "why"],
            "note": "",
            "rows": [(a.title, a.figures["why"]) for a in attacks if a.kind == "membership" and not a.ranked],
        },
    ]


def rated(span: Interval, scale: float = 1.0, unit: str = "") -> str:
    """``0.512 (0.489 – 0.535)``, or a dash."""
    return DASH if span.value is None else f"{shown(span, scale, unit)} ({between(span, scale, unit)})"


def rate_row(attack: Attack, fprs: Sequence[float]) -> tuple[object, ...]:
    rates = attack.rates()
    found = [rated(rates.get(fpr, Interval()), 100, " %") for fpr in fprs]
    return (
        attack.title,
        rated(interval(attack.figures, "auc")),
        *found,
        chance(attack.bound_number("p_permutation_holm")),
    )


def bound_rows(attack: Attack) -> Rows:
    """The two bounded figures of one attack."""
    bound = attack.bound_number("ratio_upper")
    ratio = ("∞" if bound is None else upper(bound), plain(attack.bound_number("ratio_limit"), 2))
    measured = "∞" if attack.bound("ratio") is None else plain(_ratio(attack).value)
    area = (upper(attack.bound_number("auc_upper")), plain(attack.bound_number("auc_limit"), 2))
    return [
        (f"{attack.title}: ratio", measured, *ratio, badge(attack.decision)),
        (f"{attack.title}: AUC, either direction", plain(_area(attack).value), *area, badge(attack.decision)),
    ]


def badge(decision: str) -> Markup:
    """A decision in its colour."""
    return Markup('<span class="{}">{}</span>').format(DECISIONS.get(decision, "soft"), decision)


def tail_row(attack: Attack, verdict: Figures) -> tuple[object, ...]:
    at = f"at_fpr_{fpr_tag(float(verdict['fpr']))}"
    figures = attack.figures
    size = figures.get(f"top_{at}")
    low, high = (attack.bound(f"members_in_top_allowed_{end}") for end in ("low", "high"))
    allowed = "too few to say" if low is None else f"{low} – {high}"
    ends = (count(figures.get(f"members_in_{end}_{at}")) for end in ("top", "bottom"))
    return (attack.title, count(size), *ends, DASH if size is None else f"{size / 2:g}", allowed)


def copy_rows(attack: Attack) -> Rows:
    sets = (("drawn", "before the filter"), ("released", "as released"))
    limit = count(attack.bound_number("copies_limit"))
    return [
        (
            f"{attack.title}, {words}",
            *(count(attack.figures.get(f"copies_{key}_of_{role}")) for role in ("train", "audit")),
            limit,
            badge(attack.decision),
        )
        for key, words in sets
    ]


# --- controls ------------------------------------------------------------------------------------------------------


def control_rows(controls: Figures) -> Rows:
    """One row a control: what it is, what was expected, what was found, whether it behaved."""
    return [_control_row(name, controls) for name in str(controls["controls"]).split(",")]


def _control_row(name: str, controls: Figures) -> tuple[object, ...]:
    stem, _, attack = name.partition("_")
    story = CONTROLS.get(stem, stem.replace("_", " "))
    what = f"{story} ({attack.replace('_', ' ')})" if attack else story
    style, text = {True: ("yes", "as expected"), False: ("no", "not as expected"), None: ("maybe", "not run")}[
        controls[f"control_{name}_ok"]
    ]
    mark = Markup('<span class="{}">{}</span>').format(style, text)
    return (what, controls[f"control_{name}_expected"], controls[f"control_{name}_found"], mark)
