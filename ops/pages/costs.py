"""What each stage cost, from ``state/timing``: shown on pages, tracked by nobody, and absent where nothing ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.core.files import read_json
from ops.pages.numbers import duration


@dataclass(frozen=True)
class Cost:
    """The last run of one stage: seconds of work, peak memory in MiB where recorded; ``family`` None where shared."""

    stage: str
    family: str | None
    seconds: float
    memory_mb: float | None


def costs(timing: Path) -> list[Cost]:
    """One record a file of the folder, by name; empty where there is no such folder."""
    if not timing.is_dir():
        return []
    records = [read_json(path) for path in sorted(timing.glob("*.json"))]
    return [Cost(r["stage"], r["family"], float(r["seconds"]), r.get("peak_memory_mb")) for r in records]


def of(found: Sequence[Cost], family: str | None) -> list[Cost]:
    """The costs of one family, or of the stages that all families share (None)."""
    return [cost for cost in found if cost.family == family]


def total(found: Sequence[Cost]) -> str:
    """Their time together."""
    return duration(sum(cost.seconds for cost in found))


def rows(found: Sequence[Cost]) -> list[dict[str, Any]]:
    """One line a stage, longest first: name, text, and the width of its bar in percent of the longest."""
    longest = max((cost.seconds for cost in found), default=0.0) or 1.0
    ordered = sorted(found, key=lambda cost: (-cost.seconds, cost.stage))
    return [
        {"name": cost.stage, "text": duration(cost.seconds), "width": f"{100 * cost.seconds / longest:.1f}"}
        for cost in ordered
    ]


def sentence(own: Sequence[Cost], shared: Sequence[Cost]) -> str:
    """Time of this family's stages, and of the stages that all families share."""
    text = f"This family's stages took {total(own)} on the machine that ran them last"
    return f"{text}; the stages that all families share took {total(shared)}." if shared else f"{text}."
