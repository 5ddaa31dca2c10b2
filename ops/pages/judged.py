"""The head of a page: the verdict in words, the figures that carry it, and what was not tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops.core.errors import UnderstudyError, explain
from ops.pages import words
from ops.pages.evidence import Attack
from ops.pages.numbers import DASH, count, number, percent, plain, upper

Figures = Mapping[str, Any]


def head(verdict: Figures, attacks: Sequence[Attack]) -> dict[str, str]:
    """State, why, what it means for a release, what would help. Raises UnderstudyError for a state without words."""
    state = str(verdict["verdict"])
    if state not in words.MEANING:
        known = ", ".join(words.MEANING)
        raise UnderstudyError(
            explain(expected=f"a verdict among {known}", found=repr(state), todo="run stage 'judge' again")
        )
    return {
        "state": state,
        "why": readable(str(verdict["because"]), attacks),
        "meaning": words.MEANING[state],
        "next": _next(state, verdict),
    }


def readable(text: str, attacks: Sequence[Attack]) -> str:
    """The judge's text with each attack's file name as words: ``images_copy_census`` → *copy census*."""
    for attack in attacks:
        text = text.replace(f"{attack.threat}_{attack.name}", attack.title).replace(attack.name, attack.title)
    return text[:1].upper() + text[1:]


def _next(state: str, verdict: Figures) -> str:
    if state != "UNDECIDED":
        return ""
    more = number(verdict, "more_subjects_needed")
    if more is None:
        return "no number of further subjects is known to settle it; a generator that leaks less would."
    return f"about {count(more)} more subjects in each of the roles train and audit."


def facts(verdict: Figures, attacks: Sequence[Attack]) -> list[dict[str, str]]:
    """The four or five figures under the verdict, each with what it stands beside."""
    found = [*_copies(attacks), *_bounds(attacks), _missable(verdict), _use(verdict)]
    subjects = number(verdict, "n_subjects_per_side")
    attempts = count(number(verdict, "attempts"))
    return [
        *found,
        fact("evidence", count(subjects), f"subjects on each side; attempt number {attempts} on this audit role"),
    ]


def fact(name: str, value: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def _copies(attacks: Sequence[Attack]) -> list[dict[str, str]]:
    census = [attack for attack in attacks if attack.kind == "census"]
    if not census:
        return []
    copies = {
        key: max(int(attack.figures[f"copies_{key}_of_train"]) for attack in census) for key in ("drawn", "released")
    }
    note = f"before the filter; {count(copies['released'])} among the images as released; none is allowed"
    return [fact("copies of training images", count(copies["drawn"]), note)]


def _bounds(attacks: Sequence[Attack]) -> list[dict[str, str]]:
    """The attack with the highest upper bound of the AUC."""
    ranked = [attack for attack in attacks if attack.ranked]
    if not ranked:
        return []
    worst = max(ranked, key=lambda attack: attack.bound_number("auc_upper") or 0.0)
    bound, limit = upper(worst.bound_number("auc_upper")), plain(worst.bound_number("auc_limit"), 2)
    return [
        fact(
            "members told from others",
            f"≤ {bound}",
            f"upper bound of the AUC; 0.5 is guessing, the limit is {limit}",
        )
    ]


def _missable(verdict: Figures) -> dict[str, str]:
    name, share = "largest leak that could be missed", number(verdict, "largest_missable_leak_fraction")
    if share is None:
        return fact(name, DASH, "not known")
    proven = verdict.get("largest_missable_leak_basis") != "pass"
    basis = "of the subjects could leak and not be proven" if proven else "of the subjects could leak behind a PASS"
    return fact(name, percent(share), basis)


def _use(verdict: Figures) -> dict[str, str]:
    share, least = number(verdict, "tstr_over_trtr"), number(verdict, "min_tstr_over_trtr")
    asked = "" if least is None else f"; a release asks for {100 * least:.3g} %"
    if share is None:
        return fact("usefulness", "—", f"not measured{asked}")
    return fact("usefulness", f"{100 * share:.0f} %", f"of the accuracy that real images give{asked}")


def pictures(attacks: Sequence[Attack]) -> str:
    """What kind of pictures the page holds: a generator that copies makes the page as private as what it copies."""
    found = [number(attack.figures, f"copies_{key}_of_train") for attack in attacks for key in ("drawn", "released")]
    return words.COPIES_SHOWN if any(found) else words.SYNTHETIC_ONLY


def untested(verdict: Figures, summaries: Mapping[str, Figures]) -> list[str]:
    """What this page is silent about, most important first."""
    lines = [text for threat, text in words.UNTESTED_THREATS.items() if threat not in summaries]
    share = number(verdict, "largest_missable_leak_fraction")
    if share is not None:
        sides = count(number(verdict, "n_subjects_per_side"))
        few = f"Leaks that touch fewer than {percent(share)} of the subjects" if share < 1 else "Leaks of any size"
        lines.append(
            f"{few}: with {sides} subjects a side they cannot be told from chance. The search for copies has no such "
            "limit, but it sees near-copies only."
        )
    if verdict.get("controls_not_run"):
        lines.append(f"Controls that had too little data to run: {str(verdict['controls_not_run']).replace('_', ' ')}.")
    lines += words.ALWAYS_UNTESTED
    alone = [s for s in summaries.values() if s["n_member_images"] == s["n_member_subjects"]]
    return [*lines, words.NO_SUBJECTS] if alone else lines
