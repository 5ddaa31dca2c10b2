"""Numbers as a reader should see them: no finer than their interval, and a dash where nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DASH = "—"


@dataclass(frozen=True)
class Interval:
    """A measured number with its interval; ``None`` means not measured."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def bounded(self) -> bool:
        return self.low is not None and self.high is not None

    @property
    def decimals(self) -> int:
        """Decimals that the interval can bear: two significant digits of its half-width, at most 4; 3 without one."""
        if self.low is None or self.high is None or self.high <= self.low:
            return 3
        return min(max(1 - math.floor(math.log10((self.high - self.low) / 2)), 0), 4)


def number(figures: Mapping[str, Any], name: str) -> float | None:
    """The figure ``name`` as a float, or None where it is absent or null. Raises TypeError for text."""
    value = figures.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        raise TypeError(f"'{name}' should be a number, found {value!r}")
    return float(value)


def interval(figures: Mapping[str, Any], name: str) -> Interval:
    """The figure ``name`` with its ends where they exist: ``name_low``, ``name_high``, or ``name_low95`` and so on."""

    def edge(side: str) -> float | None:
        stem = f"{name}_{side}"
        keys = sorted(key for key in figures if key == stem or (key.startswith(stem) and key[len(stem) :].isdigit()))
        return number(figures, keys[0]) if keys else None

    return Interval(number(figures, name), edge("low"), edge("high"))


def shown(span: Interval, scale: float = 1.0, unit: str = "") -> str:
    """The value, rounded to what its interval bears: ``0.512``; a dash where it was not measured."""
    if span.value is None:
        return DASH
    decimals = max(span.decimals - round(math.log10(scale)), 0)
    return f"{span.value * scale:.{decimals}f}{unit}"


def between(span: Interval, scale: float = 1.0, unit: str = "") -> str:
    """The interval rounded outwards, so that it never looks tighter than it is: ``0.489 – 0.536``."""
    if span.low is None or span.high is None:
        return DASH
    decimals = max(span.decimals - round(math.log10(scale)), 0)
    step = 10.0**decimals
    low = math.floor(span.low * scale * step + 1e-9) / step
    high = math.ceil(span.high * scale * step - 1e-9) / step
    return f"{low:.{decimals}f} – {high:.{decimals}f}{unit}"


def plain(value: float | None, digits: int = 3, unit: str = "") -> str:
    """A number without an interval, to ``digits`` significant digits; a dash where it was not measured."""
    if value is None:
        return DASH
    decimals = min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 6) if value else 0
    return f"{value:.{decimals}f}{unit}"


def percent(share: float | None, digits: int = 2) -> str:
    """A share in percent to ``digits`` significant digits: ``0.87 %``, ``100 %``; a dash where it was not measured."""
    return DASH if share is None else f"{plain(100 * share, digits)} %"


def upper(value: float | None) -> str:
    """An upper bound rounded up to three decimals, so that it never looks tighter than it is."""
    return DASH if value is None else f"{math.ceil(value * 1000 - 1e-9) / 1000:.3f}"


def count(value: float | None) -> str:
    """A whole number with thin thousands: ``12 345``; a dash where it was not measured."""
    return DASH if value is None else f"{round(value):,}".replace(",", "\u202f")


def chance(p: float | None) -> str:
    """A p-value to two significant digits, never as nought."""
    return DASH if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def duration(seconds: float) -> str:
    """``0.4 s``, ``48 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
