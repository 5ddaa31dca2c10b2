"""Small hand-written SVG: scales, axes and marks whose colours come from the page's style sheet.

Hand-written, because then a chart follows the reader's light or dark scheme, prints, weighs a few kilobytes and has the
same bytes on every machine. Every text and attribute passes through markupsafe: labels are other people's text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """One element; ``class_`` becomes ``class`` and ``stroke_width`` becomes ``stroke-width``. All is escaped."""
    pairs = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), short(value)) for key, value in attributes.items()
    )
    body = Markup("").join(escape(child) for child in children)
    return Markup("<{name}{pairs}>{body}</{name}>").format(name=Markup(name), pairs=pairs, body=body)


def short(value: object) -> object:
    """Coordinates to a tenth of a pixel, so that drawings have few bytes; all else as it is."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


@dataclass(frozen=True)
class Scale:
    """Maps numbers of ``low … high`` to pixels ``start … end``; logarithmic where asked. What is outside is clipped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        clipped = min(max(float(value), self.low), self.high)
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, clipped))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers inside the scale: decades where logarithmic, else steps of 1, 2 or 5."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        raw = (self.high - self.low) / max(about, 1)
        magnitude = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * magnitude for factor in (1.0, 2.0, 5.0, 10.0) if factor * magnitude >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Frame:
    """The drawing area of one chart: size in pixels of the viewBox, and its two scales."""

    width: int
    height: int
    x: Scale
    y: Scale

    def svg(self, title: str, *marks: object) -> Markup:
        """The finished drawing; ``title`` is what a screen reader says."""
        return tag(
            "svg", tag("title", title), *marks, viewBox=f"0 0 {self.width} {self.height}", role="img", class_="chart"
        )

    def path(self, xs: Iterable[float], ys: Iterable[float], class_: str) -> Markup:
        """A line through the points."""
        points = " ".join(f"{short(self.x(x))},{short(self.y(y))}" for x, y in zip(xs, ys, strict=True))
        return tag("polyline", points=points, class_=class_)

    def area(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], class_: str) -> Markup:
        """The region between two curves over the same x."""
        edge = [*zip(xs, highs, strict=True), *zip(reversed(xs), reversed(lows), strict=True)]
        points = " ".join(f"{short(self.x(x))},{short(self.y(y))}" for x, y in edge)
        return tag("polygon", points=points, class_=class_)

    def box(self, x0: float, x1: float, y0: float, y1: float, class_: str, **more: object) -> Markup:
        """A rectangle given in data units."""
        left, right = sorted((self.x(x0), self.x(x1)))
        top, bottom = sorted((self.y(y0), self.y(y1)))
        return tag("rect", x=left, y=top, width=right - left, height=bottom - top, class_=class_, **more)

    def segment(self, x0: float, y0: float, x1: float, y1: float, class_: str) -> Markup:
        """A straight line given in data units."""
        return tag("line", x1=self.x(x0), y1=self.y(y0), x2=self.x(x1), y2=self.y(y1), class_=class_)

    def bottom(self, name: str, ticks: Sequence[float], form: Callable[[float], str]) -> Markup:
        """The horizontal axis with grid lines, tick texts and its name."""
        base, top = self.y.start, self.y.end
        marks = [tag("line", x1=self.x(t), x2=self.x(t), y1=base, y2=top, class_="grid") for t in ticks]
        texts = [tag("text", form(t), x=self.x(t), y=base + 16, class_="tick mid") for t in ticks]
        axis = tag("line", x1=self.x.start, x2=self.x.end, y1=base, y2=base, class_="axis")
        label = tag("text", name, x=(self.x.start + self.x.end) / 2, y=base + 34, class_="name mid")
        return Markup("").join([*marks, *texts, axis, label])

    def left(self, name: str, ticks: Sequence[float], form: Callable[[float], str]) -> Markup:
        """The vertical axis with grid lines and tick texts; its name stands above it, level, so that it can be read."""
        left, right = self.x.start, self.x.end
        marks = [tag("line", x1=left, x2=right, y1=self.y(t), y2=self.y(t), class_="grid") for t in ticks]
        texts = [tag("text", form(t), x=left - 7, y=self.y(t) + 4, class_="tick end") for t in ticks]
        return Markup("").join([*marks, *texts, tag("text", name, x=2, y=13, class_="name")])
