"""What the car wears: palette, pattern, number, sponsor patches, driver; compiled to patches in paint order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ops.sources._racecar_model import (
    STATIONS,
    STOUT,
    WHEEL_RADIUS_M,
    WHEEL_X_M,
    WHEEL_Z_M,
    Patch,
    Points,
    deck,
    disc,
    glasshouse,
    on,
    rear_glass,
    roof,
    side,
    strokes,
    windscreen,
)

#: Classes of the segmentation mask; the value of a mask pixel is the index into this list.
MASK_CLASSES = ("ground", "body", "windows", "wheels", "number")
BODY, WINDOWS, WHEELS, NUMBER = 1, 2, 3, 4

#: Colour slots of a palette (float32 [slots, 3], 0..1).
BASE, SECOND, ACCENT, FIGURE, EDGE, HELMET, VISOR, STRIP, GLYPH = range(9)
SPONSORS = (9, 10, 11, 12)
TRIM, TYRE, RIM, HUB, GLASS, GLARE, LAMP, TAIL, ARCH = range(13, 22)
SLOTS = 22

CARS = ("9", "24", "42", "48")
#: Per car: base, second, accent, number, number's edge, four sponsors.
PALETTES: dict[str, tuple[str, ...]] = {
    "9": ("c8141e", "f4f2ee", "7d0a12", "ffffff", "2a0508", "f7c52b", "ffffff", "1d3f8f", "101014"),
    "24": ("1746b8", "f6d21e", "0b1f57", "f8e04a", "0a1230", "ffffff", "e23b2e", "35b6e8", "f6d21e"),
    "42": ("f5b80f", "191919", "f06a12", "141414", "fff6d8", "d6202a", "ffffff", "0f7a4c", "27418f"),
    "48": ("eceef0", "12a08c", "1b1d24", "10131a", "ffffff", "12a08c", "e05a10", "24262c", "c4203f"),
}
FIXED = {
    TRIM: "17181b", TYRE: "1d1d1f", RIM: "a9adb3", HUB: "3a3c40", GLASS: "1b242d", GLARE: "6f8494",
    LAMP: "f3f1e4", TAIL: "a01418", ARCH: "0b0b0c",
}  # fmt: skip
#: Helmets and name strips: drivers are told apart by pairs of these.
HELMETS = ("e8e8ea", "d4202a", "1f52c4", "f2c21a", "18924a", "f07818", "7a2a9c", "16181c", "1fb5c9", "e86aa6")


def rgb(code: str) -> np.ndarray:
    """A hex colour as float32 [3] in 0..1."""
    return np.array([int(code[k : k + 2], 16) for k in (0, 2, 4)], dtype=np.float32) / 255


@lru_cache(maxsize=4096)
def palette(livery: str, number: str, driver: int) -> np.ndarray:
    """Colours of a car that wears `livery` but carries its own `number` colours. Float32 [SLOTS, 3], read-only."""
    colours = np.zeros((SLOTS, 3), dtype=np.float32)
    worn = PALETTES[livery]
    colours[[BASE, SECOND, ACCENT]] = [rgb(code) for code in worn[:3]]
    colours[[FIGURE, EDGE]] = [rgb(code) for code in worn[3:5]]
    colours[list(SPONSORS)] = [rgb(code) for code in (worn if livery != number else PALETTES[number])[5:9]]
    count = len(HELMETS)
    colours[HELMET], colours[STRIP] = rgb(HELMETS[driver % count]), rgb(HELMETS[(driver // count) % count])
    colours[VISOR] = 0.12
    colours[GLYPH] = 0.08 if colours[STRIP].mean() > 0.45 else 0.92
    for slot, code in FIXED.items():
        colours[slot] = rgb(code)
    colours.setflags(write=False)
    return colours


def box(left: float, low: float, right: float, high: float, lean: float = 0.0) -> list[tuple[float, float]]:
    """Corners of a parallelogram, leaning by `lean` at its upper edge."""
    return [(left, low), (right, low), (right + lean, high), (left + lean, high)]


@lru_cache(maxsize=64)
def car(number: str, livery: str, left: bool) -> tuple[Patch, ...]:
    """All patches of one car in paint order, for a camera on its left or right. Cached: they know no pose."""
    parts = [
        *_underside(), *_shell(), *_pattern(livery), *_ends(), *_cabin(),
        *_sponsors(), *_wheels(), *_number(number, left),
    ]  # fmt: skip
    return tuple(_placed(patch, 1.0 if left else -1.0) for patch in parts)


def _placed(patch: Patch, across: float) -> Patch:
    """Give the patch its final proportions, on the left (`across` 1) or mirrored to the right (-1)."""
    faces = patch.faces
    turned = (faces[0], faces[1] * across, faces[2]) if faces else None
    return replace(patch, points_m=patch.points_m * STOUT * (1, across, 1), faces=turned)


def _flank(bottom: float = 0.0, top: float = 1.0) -> Points:
    xs = STATIONS[:, 0]
    return np.concatenate([side(xs, np.full(len(xs), bottom)), side(xs[::-1], np.full(len(xs), top))])


def _underside() -> list[Patch]:
    wheels = [Patch(disc(x, y, WHEEL_Z_M, WHEEL_RADIUS_M), TYRE, WHEELS) for x in WHEEL_X_M for y in (-0.92, -0.72)]
    floor = on(deck, box(-2.2, -0.9, 2.2, 0.9)) * (1, 1, 0) + (0, 0, 0.17)
    return [*wheels, Patch(floor, ARCH, BODY)]


def _shell() -> list[Patch]:
    """Flank, hood and boot lid; the flank's light is laid in four bands a station so that it looks round."""
    parts = [Patch(_flank(), BASE, BODY)]
    xs, heights = STATIONS[:, 0], (0.0, 0.3, 0.62, 0.85, 1.0)
    for x0, x1 in itertools.pairwise(xs):
        for low, high in itertools.pairwise(heights):
            parts.append(Patch(on(side, box(x0, low, x1, high)), lit=True))
        parts.append(Patch(on(deck, [(x0, -1), (x1, -1), (x1, 1), (x0, 1)]), BASE, BODY, lit=True))
    return parts


def _pattern(livery: str) -> list[Patch]:
    """The livery's shapes on flank, hood and lid."""
    flank = {
        "9": [(SECOND, [(-2.46, 0.62), (-0.2, 0.30), (2.48, 0.34), (2.3, 0.12), (-0.4, 0.10), (-2.46, 0.40)])],
        "24": [
            (SECOND, [(2.48, 0.95), (2.48, 0.10), (1.1, 0.02), (0.75, 0.35), (1.2, 0.45), (0.9, 0.75), (1.5, 0.98)]),
            (ACCENT, [(-2.46, 0.30), (0.5, 0.16), (0.9, 0.0), (-2.46, 0.0)]),
        ],
        "42": [
            (SECOND, [(-2.46, 1.0), (-0.95, 1.0), (-1.35, 0.0), (-2.46, 0.0)]),
            (ACCENT, [(-0.95, 1.0), (-0.75, 1.0), (-1.15, 0.0), (-1.35, 0.0)]),
        ],
        "48": [
            (ACCENT, [(-2.46, 0.34), (0.6, 0.22), (2.48, 0.42), (2.48, 0.0), (-2.46, 0.0)]),
            (SECOND, [(-2.46, 0.50), (0.6, 0.34), (2.48, 0.60), (2.48, 0.42), (0.6, 0.22), (-2.46, 0.34)]),
        ],
    }[livery]
    hood = {
        "9": [(SECOND, [(1.0, -0.35), (2.48, -0.2), (2.48, 0.2), (1.0, 0.35)])],
        "24": [(SECOND, [(1.5, -1), (2.48, -1), (2.48, 1), (1.5, 1), (1.9, 0.3), (1.3, 0.0), (1.9, -0.3)])],
        "42": [(ACCENT, [(1.0, -0.8), (2.48, -0.3), (2.48, 0.3), (1.0, 0.8)])],
        "48": [(ACCENT, [(1.0, -0.7), (2.48, -0.5), (2.48, 0.5), (1.0, 0.7)])],
    }[livery]
    lid = {"9": SECOND, "24": BASE, "42": SECOND, "48": SECOND}[livery]
    parts = [Patch(on(side, shape, 4), slot) for slot, shape in flank]
    parts += [Patch(on(deck, shape, 3), slot) for slot, shape in hood]
    return [*parts, Patch(on(deck, box(-2.4, -0.8, -1.75, 0.8)), lid)]


def _ends() -> list[Patch]:
    """Nose and tail with grille, lamps, splitter and spoiler."""
    nose, tail = STATIONS[-1], STATIONS[0]
    front, back = (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)

    def upright(station: np.ndarray, x_m: float, y0: float, y1: float, low: float, high: float) -> Points:
        z = station[1] + np.array([low, low, high, high]) * (station[2] - station[1])
        return np.stack([np.full(4, x_m), np.array([y0, y1, y1, y0]) * station[3], z], axis=1)

    def lamp(x0: float, x1: float, low: float, high: float, far: float) -> list[Patch]:
        return [Patch(on(side, box(x0, low, x1, high)) * (1, flip, 1), LAMP, faces=front) for flip in (1, far)]

    sill = _flank(0.0, 0.10)
    return [
        Patch(upright(nose, 2.48, -0.97, 0.97, 0, 1), BASE, BODY, lit=True, faces=front),
        Patch(upright(nose, 2.485, -0.75, 0.75, 0.08, 0.62), TRIM, faces=front),
        Patch(upright(tail, -2.46, -0.97, 0.97, 0, 1), BASE, BODY, lit=True, faces=back),
        Patch(upright(tail, -2.47, -0.95, 0.95, 0.0, 0.3), TRIM, faces=back),
        *(Patch(upright(tail, -2.47, y, y + 0.4, 0.58, 0.84), TAIL, faces=back) for y in (-0.95, 0.55)),
        Patch(sill, TRIM),
        *lamp(2.24, 2.44, 0.62, 0.90, -1),
        Patch(on(side, box(-2.46, 0.62, -2.30, 0.86)), TAIL),
        Patch(
            np.array([(-2.32, -0.86, 1.00), (-2.32, 0.86, 1.00), (-2.42, 0.86, 1.15), (-2.42, -0.86, 1.15)]), TRIM, BODY
        ),
    ]


def _cabin() -> list[Patch]:
    """Pillars and roof in body colour, glass set into them, the driver behind the near window."""
    left, up = (0.0, 1.0, 0.3), (0.0, 0.0, 1.0)
    door, quarter = (
        [(0.50, 0.10), (0.90, 0.10), (0.86, 0.86), (0.50, 0.86)],
        [(0.14, 0.10), (0.44, 0.10), (0.44, 0.86), (0.22, 0.80)],
    )
    pane, frame = [(-0.88, 0.06), (0.88, 0.06), (0.92, 0.92), (-0.92, 0.92)], [(-1, 0), (1, 0), (1, 1), (-1, 1)]
    helmet = disc(-0.05, 0.80, 1.155, 0.135, 12)
    visor = helmet[[11, 0, 1, 2]] * (1, 1, 1)
    return [
        Patch(on(windscreen, frame), BASE, BODY, lit=True, faces=(1.0, 0.0, 1.0)),
        Patch(on(windscreen, pane), GLASS, WINDOWS, faces=(1.0, 0.0, 1.0)),
        Patch(on(windscreen, [(-0.2, 0.1), (0.25, 0.1), (0.75, 0.9), (0.3, 0.9)]), GLARE, faces=(1.0, 0.0, 1.0)),
        Patch(
            on(windscreen, [(-0.92, 0.84), (0.92, 0.84), (0.94, 0.98), (-0.94, 0.98)]), SECOND, faces=(1.0, 0.0, 1.0)
        ),
        Patch(on(rear_glass, frame), BASE, BODY, lit=True, faces=(-1.0, 0.0, 1.0)),
        Patch(on(rear_glass, pane), GLASS, WINDOWS, faces=(-1.0, 0.0, 1.0)),
        Patch(on(glasshouse, [(0, 0), (1, 0), (1, 1), (0, 1)]), BASE, BODY, lit=True, faces=left),
        Patch(on(glasshouse, quarter), GLASS, WINDOWS, faces=left),
        Patch(on(glasshouse, door), GLASS, WINDOWS, faces=left),
        Patch(helmet, HELMET, WINDOWS, faces=left),
        Patch(visor, VISOR, faces=left),
        Patch(on(glasshouse, [(0.16, 0.16), (0.26, 0.16), (0.36, 0.8), (0.27, 0.8)]), GLARE, faces=left),
        Patch(on(roof, [(-0.78, -1), (0.18, -1), (0.18, 1), (-0.78, 1)]), BASE, BODY, lit=True, faces=up),
        Patch(on(roof, [(-0.6, -0.6), (0.0, -0.6), (0.0, 0.6), (-0.6, 0.6)]), SECOND, faces=up),
        Patch(on(glasshouse, [(0.46, 0.87), (0.98, 0.87), (0.98, 1.0), (0.46, 1.0)]), STRIP, faces=left),
        *(
            Patch(on(glasshouse, box(0.52 + k, 0.90, 0.58 + k, 0.97)), GLYPH, faces=left)
            for k in (0.0, 0.09, 0.2, 0.29)
        ),
    ]


def _sponsors() -> list[Patch]:
    """Patches behind the front wheel, on the rear quarter, at the sill, on hood and door post; each with its bar."""
    places = [(0.42, 0.52, 0.92, 0.80), (0.48, 0.20, 0.88, 0.38), (-2.26, 0.66, -1.92, 0.90), (1.02, 0.78, 1.62, 0.94)]
    parts = []
    for slot, (x0, low, x1, high) in zip(SPONSORS, places, strict=True):
        parts.append(Patch(on(side, box(x0, low, x1, high, 0.05)), slot))
        middle, inset = (low + high) / 2, (x1 - x0) * 0.16
        parts.append(Patch(on(side, box(x0 + inset, middle - 0.035, x1 - inset, middle + 0.035, 0.02)), EDGE))
    hood = [(1.25, -0.45), (1.95, -0.42), (1.95, 0.42), (1.25, 0.45)]
    return [*parts, Patch(on(deck, hood), SPONSORS[0])]


def _wheels() -> list[Patch]:
    parts = []
    for x in WHEEL_X_M:
        arch = [point for point in disc(x, 0.985, WHEEL_Z_M, WHEEL_RADIUS_M + 0.065, 18) if point[2] > 0.17]
        parts += [
            Patch(np.array(arch), ARCH, BODY),
            Patch(disc(x, 0.94, WHEEL_Z_M, WHEEL_RADIUS_M, 18), TYRE, WHEELS),
            Patch(disc(x, 0.95, WHEEL_Z_M, WHEEL_RADIUS_M * 0.66, 14), RIM, WHEELS),
        ]
        for spoke in range(5):
            turn = spoke * 2 * np.pi / 5 + 0.35
            hole = disc(x + 0.17 * np.cos(turn), 0.955, WHEEL_Z_M + 0.14 * np.sin(turn), 0.07, 6)
            parts.append(Patch(hole, HUB))
        parts.append(Patch(disc(x, 0.96, WHEEL_Z_M, 0.05, 8), SECOND))
    return parts


def _number(number: str, left: bool) -> list[Patch]:
    """Door and roof numbers; they read from left to right on either side, so the text runs against x on the left."""
    along = -1.0 if left else 1.0
    parts = []
    for weight, slot, mask in ((0.40, EDGE, NUMBER), (0.21, FIGURE, None)):
        for stroke in strokes(number, weight, solid=mask is not None):
            x_m = -0.22 + along * (stroke[:, 0] * 0.72 + 0.10 * stroke[:, 1])
            parts.append(Patch(side(x_m, 0.52 + stroke[:, 1] * 0.72), slot, mask))
    for stroke in strokes(number, 0.24):
        parts.append(Patch(roof(-0.3 + along * stroke[:, 0] * 0.52, -stroke[:, 1]), EDGE, NUMBER))
    return parts
