"""The parts of a page about use: accuracy on real images, confusion, distances in feature space."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ops.pages import charts
from ops.pages.numbers import DASH, Interval, between, interval, plain, shown
from ops.pages.words import FIDELITY

Figures = Mapping[str, Any]
BEFORE = "_unfiltered"
ASIDE = re.compile(rf"_(low|high)\d*$|_std$|_reason$|_std_|{BEFORE}$")

TRAININGS = (
    ("real images", "accuracy_trtr", "real"),
    ("synthetic, as released", "accuracy_tstr", "synthetic"),
    ("synthetic, before the filter", "accuracy_tstr_unfiltered", "synthetic"),
    ("real and synthetic", "accuracy_both", "mixed"),
    ("always the largest class", "accuracy_majority", "faint"),
    ("guessing", "accuracy_chance", "faint"),
)

CONFUSIONS = (
    ("trtr", "Trained on real images", "--real"),
    ("tstr", "Trained on synthetic images, as released", "--synthetic"),
)


def accuracies(utility: Figures, real: Figures) -> list[tuple[str, Interval, str]]:
    """(name, interval, style) of every training whose accuracy was measured, on the same real test images."""
    both = {**real, **utility}
    return [(name, interval(both, key), style) for name, key, style in TRAININGS]


def section(utility: Figures, real: Figures, pictures: Path) -> dict[str, Any]:
    """Everything of "How useful they are"."""
    rows = accuracies(utility, real)
    chance = interval({**real, **utility}, "accuracy_chance").value
    return {
        "sentence": sentence(utility, real),
        "svg": charts.bars(rows, "Accuracy by what the classifier was trained on", chance),
        "rows": [(name, shown(span, 100, " %"), between(span, 100, " %")) for name, span, _ in rows],
        "matrices": matrices(pictures),
    }


def sentence(utility: Figures, real: Figures) -> str:
    """The one sentence about usefulness."""
    tstr, trtr = interval(utility, "accuracy_tstr"), interval({**real, **utility}, "accuracy_trtr")
    if tstr.value is None:
        return "No classifier could be trained on the synthetic images, so nothing can be said of their use."
    text = f"A classifier that saw only synthetic images recognises {shown(tstr, 100, ' %')} of real ones"
    if trtr.value is None:
        return text + "."
    gap = 100 * (trtr.value - tstr.value)
    side = f"{gap:.1f} points below" if gap >= 0 else f"{-gap:.1f} points above"
    return (
        f"{text}; trained on real images it recognises {shown(trtr, 100, ' %')}. The stand-in is {side} the original."
    )


def ratio(utility: Figures, real: Figures) -> float | None:
    """TSTR over TRTR, the figure that a release is asked for, or None where either is missing."""
    tstr, trtr = interval(utility, "accuracy_tstr").value, interval({**real, **utility}, "accuracy_trtr").value
    return None if tstr is None or not trtr else tstr / trtr


def fidelity(utility: Figures, real: Figures) -> list[tuple[str, str, str, str, str]]:
    """One row a measure: name with its protocol, as released, before the filter, real against real, how to read it."""
    rows = []
    for stem, title, reading in FIDELITY:
        for key in measures([*utility, *real], stem):
            protocol = key[len(stem) :].replace("_", " ").strip()
            found = (figure(utility, key), figure(utility, f"{key}{BEFORE}"), figure(real, key))
            rows.append((f"{title} ({protocol})" if protocol else title, *found, reading))
    return rows


def measures(keys: Iterable[str], stem: str) -> list[str]:
    """The keys of one measure whatever protocol they name (``fid_train``, ``precision_k5``), one a measure.

    Left out: ends and spreads of intervals, the figure before the filter, and single classes of an intra-class mean.
    """
    named = {key for key in keys if key == stem or key.startswith(f"{stem}_")}
    classes = {key for key in named if key.startswith(f"{stem}_intra_") and not key.startswith(f"{stem}_intra_mean")}
    return sorted(key for key in named - classes if not ASIDE.search(key))


def figure(figures: Figures, key: str) -> str:
    """The value with its interval in brackets, or with its spread, where there is one; a dash where not measured."""
    before = BEFORE if key.endswith(BEFORE) else ""
    span, spread = interval(figures, key), interval(figures, f"{key.removesuffix(BEFORE)}_std{before}").value
    if span.value is None:
        return DASH
    if spread:
        around = Interval(span.value, span.value - spread, span.value + spread)
        return f"{shown(around)} ± {shown(Interval(spread, around.low, around.high))}"
    return f"{shown(span)} ({between(span)})" if span.bounded else plain(span.value)


def matrices(pictures: Path) -> list[dict[str, Any]]:
    """The confusion tables of the pictures folder: trained on real beside trained on synthetic, where they exist."""
    paths = ((pictures / f"confusion_{name}.csv", title, tone) for name, title, tone in CONFUSIONS)
    return [matrix(path, title, tone) for path, title, tone in paths if path.is_file()]


def matrix(path: Path, title: str, tone: str) -> dict[str, Any]:
    """One confusion table: a header of predicted classes, then a row an actual class (name, counts)."""
    with path.open(newline="", encoding="utf-8") as handle:
        head, *body = list(csv.reader(handle))
    rows = [{"name": name, "cells": cells([float(value) for value in counts])} for name, *counts in body]
    return {"title": title, "classes": head[1:], "tone": tone, "rows": rows}


def cells(counts: list[float]) -> list[dict[str, Any]]:
    """Shares of one row in percent, with how strongly to tint each cell."""
    total = sum(counts)
    shares = [value / total if total else 0.0 for value in counts]
    return [{"text": f"{100 * s:.0f}", "share": f"{s:.3f}", "dark": s > 0.55} for s in shares]
