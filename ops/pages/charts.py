"""The drawings of a report, each a function of plain numbers: histogram with its band, intervals, ROC, bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ops.pages.numbers import Interval
from ops.pages.svg import Frame, Scale, tag

WIDTH_PX = 480
COLOURS = 6  # series colours of the style sheet: c0 … c5


@dataclass(frozen=True)
class Curve:
    """One ROC curve: rates in 0 … 1, float [n] each, with the pointwise interval of the true-positive rate."""

    name: str
    fpr: np.ndarray
    tpr: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True)
class Bullet:
    """One line of the bounds chart: a measured interval against the limit that it must stay below."""

    name: str
    interval: Interval
    limit: float | None
    state: str = "none"


def histogram(
    title: str,
    edges: np.ndarray,
    candidates: np.ndarray,
    reference: np.ndarray,
    kept: Sequence[tuple[float, float]],
    limits: Sequence[float],
    x_name: str,
) -> Markup:
    """Shares of synthetic candidates (bars) and of real reference images (line) in bins of SSIM.

    Args:
        edges: float [b + 1]; candidates, reference: shares of each bin, float [b], each summing to 1.
        kept: ranges that are kept, shaded on top of one another (one a class).
        limits: values drawn as a dashed line.
    """
    first, last = _filled(candidates + reference)
    edges, candidates, reference = edges[first : last + 2], candidates[first : last + 1], reference[first : last + 1]
    top = max(float(candidates.max()), float(reference.max()), 1e-6) * 1.12
    frame = Frame(WIDTH_PX, 250, Scale(edges[0], edges[-1], 46, WIDTH_PX - 10), Scale(0, top, 206, 26))
    faint = f"opacity:{max(1 / max(len(kept), 1), 0.15):.2f}"
    bands = [frame.box(low, high, 0, top, "band", style=faint) for low, high in kept]
    boxes = [frame.box(edges[i], edges[i + 1], 0, share, "bar") for i, share in enumerate(candidates) if share > 0]
    return frame.svg(
        title,
        *bands,
        frame.left("share of images", frame.y.ticks(4), percent),
        frame.bottom(x_name, frame.x.ticks(6), lambda t: f"{t:.3g}"),
        *boxes,
        frame.path(np.repeat(edges, 2)[1:-1], np.repeat(reference, 2), "line ref"),
        *(frame.segment(edge, 0, edge, top, "limit") for edge in limits),
    )


def _filled(values: np.ndarray) -> tuple[int, int]:
    """First and last bin that hold anything, with one empty bin of margin on either side."""
    rows = np.flatnonzero(values)
    first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, len(values) - 1)
    return max(first - 1, 0), min(last + 1, len(values) - 1)


def ranges(rows: Sequence[tuple[str, tuple[float, float], np.ndarray]], title: str, x_name: str) -> Markup:
    """One line a class: the band that is kept (box), and where 5 %, half and 95 % of its candidates lie (bar, dot)."""
    ends = np.array([value for _, band, found in rows for value in (*band, *found)])
    pad = max(float(np.ptp(ends)), 1e-3) * 0.05
    step, top, left = 30, 8, 120
    bottom = top + step * len(rows)
    x = Scale(float(ends.min()) - pad, float(ends.max()) + pad, left, WIDTH_PX - 12)
    frame = Frame(WIDTH_PX, bottom + 44, x, Scale(0, 1, bottom, top))
    marks = [frame.bottom(x_name, x.ticks(5), lambda t: f"{t:.3g}")]
    for number, (name, (low, high), found) in enumerate(rows):
        at = top + step * number + step / 2
        marks.append(tag("text", name if len(name) <= 16 else f"{name[:15]}…", x=left - 8, y=at + 4, class_="name end"))
        marks.append(tag("rect", x=x(low), y=at - 11, width=x(high) - x(low), height=22, class_="band"))
        if len(found):
            marks.append(
                tag("rect", x=x(found[0]), y=at - 3.0, width=x(found[2]) - x(found[0]), height=6, class_="bar")
            )
            marks.append(tag("circle", cx=x(found[1]), cy=at, r=4.5, class_="dot"))
    return frame.svg(title, *marks)


def roc(curves: Sequence[Curve], floor: float) -> Markup:
    """True-positive against false-positive rate on logarithmic axes, with bands, and the diagonal of pure guessing."""
    size = 400
    frame = Frame(
        WIDTH_PX, size, Scale(floor, 1, 52, WIDTH_PX - 12, log=True), Scale(floor, 1, size - 44, 26, log=True)
    )
    bands, lines = [], []
    for number, curve in enumerate(curves):
        colour = f"c{number % COLOURS}"
        if curve.low is not None and curve.high is not None:
            bands.append(frame.area(curve.fpr.tolist(), curve.low.tolist(), curve.high.tolist(), f"interval {colour}"))
        lines.append(frame.path(curve.fpr, curve.tpr, f"line {colour}"))
    return frame.svg(
        "Receiver operating characteristic of each attack on logarithmic axes",
        frame.left("members found (true-positive rate)", frame.y.ticks(), percent),
        frame.bottom("non-members wrongly accused (false-positive rate)", frame.x.ticks(), percent),
        *bands,
        frame.segment(floor, floor, 1, 1, "line chance"),
        *lines,
    )


def percent(share: float) -> str:
    """0.001 → ``0.1 %``."""
    return f"{100 * share:.3g} %"


def bullets(rows: Sequence[Bullet], low: float, high: float, neutral: float | None, name: str) -> Markup:
    """Each interval as a bar on one scale, its limit as a tick; ``state`` colours it: below, above, astride."""
    step, top = 38, 12
    bottom = top + step * len(rows)
    frame = Frame(WIDTH_PX, bottom + 44, Scale(low, high, 10, WIDTH_PX - 14), Scale(0, 1, bottom, top))
    marks: list[Markup] = [frame.bottom(name, frame.x.ticks(5), lambda t: f"{t:.3g}")]
    if neutral is not None:
        marks.append(frame.segment(neutral, 0, neutral, 1, "line chance"))
    for number, row in enumerate(rows):
        marks += _bullet(frame, row, top + step * number + 12)
    return frame.svg(name, *marks)


def _bullet(frame: Frame, row: Bullet, at: float) -> list[Markup]:
    marks = [tag("text", row.name, x=12, y=at, class_="name")]
    span, middle = row.interval, at + 13
    if span.low is not None and span.high is not None:
        left, right = frame.x(span.low), frame.x(span.high)
        box = tag(
            "rect", x=left, y=middle - 5, width=max(right - left, 1.0), height=10, rx=3, class_=f"span {row.state}"
        )
        marks.append(box)
    if span.value is not None:
        marks.append(tag("circle", cx=frame.x(span.value), cy=middle, r=3.5, class_="dot"))
    if row.limit is not None:
        at_limit = frame.x(row.limit)
        marks.append(tag("line", x1=at_limit, x2=at_limit, y1=middle - 9, y2=middle + 9, class_="limit"))
    return marks


def bars(rows: Sequence[tuple[str, Interval, str]], title: str, chance: float | None) -> Markup:
    """Horizontal bars from 0 to 1 with their intervals; each row is (name, interval, style class)."""
    step, top, left = 30, 8, 176
    bottom = top + step * len(rows)
    frame = Frame(WIDTH_PX, bottom + 26, Scale(0, 1, left, WIDTH_PX - 16), Scale(0, 1, bottom, top))
    marks: list[Markup] = [frame.bottom("", [0, 0.25, 0.5, 0.75, 1], lambda t: f"{100 * t:.0f} %")]
    for number, (name, span, class_) in enumerate(rows):
        marks += _bar(frame, name, span, class_, top + step * number, left)
    if chance is not None:
        marks.append(frame.segment(chance, 0, chance, 1, "line chance"))
    return frame.svg(title, *marks)


def _bar(frame: Frame, name: str, span: Interval, class_: str, at: float, left: float) -> list[Markup]:
    label = tag("text", name, x=left - 8, y=at + 19, class_="name end")
    if span.value is None:
        return [label, tag("text", "—", x=left + 6, y=at + 19, class_="tick")]
    marks = [label, tag("rect", x=left, y=at + 5, width=frame.x(span.value) - left, height=20, rx=2, class_=class_)]
    if span.low is not None and span.high is not None:
        low, high = frame.x(span.low), frame.x(span.high)
        marks.append(tag("line", x1=low, x2=high, y1=at + 15, y2=at + 15, class_="whisker"))
        marks += [tag("line", x1=x, x2=x, y1=at + 10, y2=at + 20, class_="whisker") for x in (low, high)]
    return marks
