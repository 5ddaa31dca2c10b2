"""Attack results as files hold them, read into records. What the folder names is shown: no list here."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ops.core.errors import UnderstudyError, explain
from ops.core.files import read_json
from ops.pages.charts import Curve
from ops.pages.numbers import Interval, interval, number

Figures = Mapping[str, Any]
VOID = "void"


@dataclass(frozen=True)
class Attack:
    """One attack under one threat model: its flat figures, its part of the verdict, its ROC where it ranks records."""

    name: str
    threat: str
    figures: Figures
    verdict: Figures
    curve: Curve | None

    @property
    def title(self) -> str:
        """The attack's name as a reader says it."""
        return self.name.replace("_", " ")

    @property
    def kind(self) -> str:
        """``membership`` (ranks records) or ``census`` (counts copies)."""
        return str(self.figures["kind"])

    @property
    def ranked(self) -> bool:
        """Whether records could be ranked: a membership attack that had subjects and a release to work on."""
        return self.kind == "membership" and bool(self.figures["evaluated"])

    @property
    def decision(self) -> str:
        """The judge's decision on this attack; *void* where the whole audit is INVALID, for then it proves nothing."""
        return VOID if self.verdict["verdict"] == "INVALID" else str(self.bound("decision"))

    def bound(self, name: str) -> Any:
        """What the judge wrote about this attack, e.g. ``auc_upper``; None where it wrote nothing."""
        return self.verdict.get(f"{self.threat}_{self.name}_{name}")

    def bound_number(self, name: str) -> float | None:
        return number(self.verdict, f"{self.threat}_{self.name}_{name}")

    def rates(self) -> dict[float, Interval]:
        """True-positive rate at each false-positive rate that was asked for: ``fprs`` names them, 0.01 → ``1e2``."""
        rates = (float(text) for text in str(self.figures["fprs"]).split(","))
        return {fpr: interval(self.figures, f"tpr_at_fpr_{fpr_tag(fpr)}") for fpr in rates}


def fpr_tag(fpr: float) -> str:
    """A false-positive rate in a key's name: 0.01 → ``1e2``, 0.0025 → ``2p5e3``."""
    mantissa, exponent = f"{fpr:.6e}".split("e")
    return f"{float(mantissa):g}".replace(".", "p") + f"e{-int(exponent)}"


def summaries(folder: Path) -> dict[str, Figures]:
    """``summary.json`` of every threat model that was run. Raises UnderstudyError where there is none."""
    found = {path.parent.name: read_json(path) for path in sorted(folder.glob("*/summary.json"))}
    if not found:
        raise UnderstudyError(explain(expected=f"attack results in {folder}", found="none", todo="run 'attack-images'"))
    return found


def attacks(folder: Path, verdict: Figures) -> list[Attack]:
    """Every attack that the threat models' summaries name, in order. Raises FileNotFoundError for a missing one."""
    named = [(threat, name) for threat, s in summaries(folder).items() for name in str(s["attacks"]).split(",")]
    return [_attack(folder / threat / f"{name}.json", verdict) for threat, name in named]


def _attack(path: Path, verdict: Figures) -> Attack:
    table = path.with_name(f"{path.stem}_roc.csv")
    curve = read_curve(table, path.stem.replace("_", " ")) if table.is_file() else None
    return Attack(path.stem, path.parent.name, read_json(path), verdict, curve)


def read_curve(path: Path, name: str) -> Curve:
    """``fpr,tpr,low,high`` of one ROC, rows in the order of fpr. Raises UnderstudyError for other columns."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    if not rows or not {"fpr", "tpr"} <= set(rows[0]):
        found = ", ".join(rows[0]) if rows else "an empty table"
        raise UnderstudyError(
            explain(expected=f"columns fpr, tpr, low, high in {path.name}", found=found, todo="attack again")
        )
    columns = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
    return Curve(name, columns["fpr"], columns["tpr"], columns.get("low"), columns.get("high"))
