"""Families side by side: what the leaderboard says of each, as figures and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.pages import charts, costs, judged, words
from ops.pages.evidence import Attack, attacks, fpr_tag
from ops.pages.leakage import badge, rated
from ops.pages.looks import samples
from ops.pages.numbers import DASH, Interval, count, interval, number, shown
from ops.pages.usefulness import figure, measures

Figures = Mapping[str, Any]
COMPARED_FPRS = (0.05, 0.01, 0.001)  # rates shown side by side; every one stands in the reports
USE = ("accuracy_tstr", "accuracy_tstr_unfiltered", "accuracy_both", "accuracy_trtr")


@dataclass(frozen=True)
class Entry:
    """One family as its reports describe it."""

    name: str
    verdict: Figures
    utility: Figures
    real: Figures
    attacks: Sequence[Attack]
    samples: str

    def figures(self) -> dict[str, Any]:
        """Quality and leakage, flat, without costs; what was not measured is null."""
        flat: dict[str, Any] = {"verdict": self.verdict["verdict"], "because": self.verdict["because"]}
        for key in USE:
            flat |= spread(key, self.accuracy(key))
        flat |= {"gap_tstr": self.gap, "tstr_over_trtr": number(self.verdict, "tstr_over_trtr")}
        flat |= {key: self.utility[key] for stem, _, _ in words.FIDELITY for key in measures(self.utility, stem)}
        flat |= {"largest_missable_leak_fraction": number(self.verdict, "largest_missable_leak_fraction")}
        for attack in self.attacks:
            flat |= {f"{attack.threat}_{attack.name}_{key}": value for key, value in leakage(attack).items()}
        return flat

    def accuracy(self, key: str) -> Interval:
        return interval({**self.real, **self.utility}, key)

    @property
    def gap(self) -> float | None:
        """TRTR minus TSTR."""
        tstr, trtr = self.accuracy("accuracy_tstr").value, self.accuracy("accuracy_trtr").value
        return None if tstr is None or trtr is None else trtr - tstr


def spread(key: str, span: Interval) -> dict[str, float | None]:
    """A number and its interval as three keys."""
    return {key: span.value, f"{key}_low95": span.low, f"{key}_high95": span.high}


def leakage(attack: Attack) -> dict[str, Any]:
    """Every AUC, rate and count of one attack, with intervals and the judge's decision."""
    if attack.kind == "census":
        found = {key: value for key, value in attack.figures.items() if key.startswith("copies_")}
    elif not attack.ranked:
        found = {"auc": None}
    else:
        found = dict(spread("auc", interval(attack.figures, "auc")))
        for fpr, rate in attack.rates().items():
            found |= spread(f"tpr_at_fpr_{fpr_tag(fpr)}", rate)
    return found | {"decision": attack.decision}


def entry(name: str, folder: Path, verdict: Figures, utility: Figures, real: Figures) -> Entry:
    """Read one family's folder of reports. Raises UnderstudyError or FileNotFoundError for what is missing."""
    grid = samples(folder / "pictures")["uri"]
    return Entry(name, verdict, utility, real, attacks(folder / "attacks", verdict), grid)


# --- the page ------------------------------------------------------------------------------------------------------


def context(entries: Sequence[Entry], real: Figures, spent: Sequence[costs.Cost]) -> dict[str, Any]:
    """What the leaderboard's template shows."""
    groups = [("shared by all families", None), *((entry.name, entry.name) for entry in entries)]
    return {
        "line": f"{len(entries)} famil{'ies' if len(entries) != 1 else 'y'}",
        "families": [card(entry) for entry in entries],
        "utility": use(entries, real),
        "fidelity": fidelity(entries, real),
        "leakage": leaks(entries),
        "costs_groups": [
            {"name": title, "total": costs.total(costs.of(spent, key)), "rows": costs.rows(costs.of(spent, key))}
            for title, key in groups
            if costs.of(spent, key)
        ],
        "wording": "Each family's own page carries its evidence, its controls and what was not tested. This page is "
        "evidence, not proof, and no statement of differential privacy.",
    }


def card(entry: Entry) -> dict[str, Any]:
    """One family at a glance."""
    head = judged.head(entry.verdict, entry.attacks)
    tstr = entry.accuracy("accuracy_tstr")
    gap = DASH if entry.gap is None else f"gap to real {100 * entry.gap:.1f} points"
    use = judged.fact("trained on it", shown(tstr, 100, " %"), gap)
    leak = judged.facts(entry.verdict, entry.attacks)
    return {
        "name": entry.name,
        "state": head["state"],
        "why": head["why"],
        "samples": entry.samples,
        "facts": [use, *leak[:3]],
    }


def use(entries: Sequence[Entry], real: Figures) -> dict[str, Any]:
    """Accuracy on real images: chart and table."""
    trtr = interval(real, "accuracy_trtr")
    bars = [("real images", trtr, "real"), *((e.name, e.accuracy("accuracy_tstr"), "synthetic") for e in entries)]
    svg = charts.bars(bars, "Accuracy on real images by family", interval(real, "accuracy_chance").value)
    rows = [
        (
            e.name,
            rated(e.accuracy("accuracy_tstr"), 100, " %"),
            DASH if e.gap is None else f"{100 * e.gap:.1f}",
            rated(e.accuracy("accuracy_tstr_unfiltered"), 100, " %"),
            rated(e.accuracy("accuracy_both"), 100, " %"),
        )
        for e in entries
    ]
    rows.append(("real images", rated(trtr, 100, " %"), "0", DASH, DASH))
    return {
        "svg": svg,
        "rows": rows,
        "head": ["trained on", "accuracy", "gap, points", "before the filter", "real and synthetic"],
    }


def fidelity(entries: Sequence[Entry], real: Figures) -> dict[str, Any]:
    """A row a family and one for real against real; a column a measure that any of them has."""
    titles = {stem: title for stem, title, _ in words.FIDELITY}
    keys = [(stem, key) for stem in titles for key in measures(sorted({k for e in entries for k in e.utility}), stem)]
    head = ["family", *(f"{titles[stem]} {key[len(stem) :].replace('_', ' ').strip()}".strip() for stem, key in keys)]
    rows = [(e.name, *(figure(e.utility, key) for _, key in keys)) for e in entries]
    return {"head": head, "rows": [*rows, ("real against real", *(figure(real, key) for _, key in keys))]}


def leaks(entries: Sequence[Entry]) -> dict[str, Any]:
    """A row a family and attack: AUC, rates, copies, decision."""
    found = [(entry, attack) for entry in entries for attack in entry.attacks]
    measured = {fpr for _, attack in found if attack.ranked for fpr in attack.rates()}
    fprs = [fpr for fpr in COMPARED_FPRS if fpr in measured]
    found_at = (f"found at {100 * fpr:g} % false alarms" for fpr in fprs)
    head = ["family and attack", "decision", "copies", "AUC", *found_at]
    note = (
        "In brackets: 95 % intervals. Copies: of training images, before the filter and as released. "
        "Each family's own page holds every rate."
    )
    return {"head": head, "rows": [_leak_row(entry, attack, fprs) for entry, attack in found], "note": note}


def _leak_row(entry: Entry, attack: Attack, fprs: Sequence[float]) -> tuple[object, ...]:
    figures = attack.figures
    rates = attack.rates() if attack.ranked else {}
    copies = DASH
    if attack.kind == "census":
        copies = " / ".join(count(number(figures, f"copies_{key}_of_train")) for key in ("drawn", "released"))
    area = rated(interval(figures, "auc")) if attack.ranked else DASH
    found = [rated(rates.get(fpr, Interval()), 100, " %") for fpr in fprs]
    return (f"{entry.name}: {attack.title}", badge(attack.decision), copies, area, *found)
