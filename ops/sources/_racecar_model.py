"""The race car as geometry: a small stock car of flat patches in metres, and the camera that looks at it.

Car frame: x forward, y to the car's left, z up, origin on the ground under the middle of the car. A :class:`Patch` is a
polygon with a colour slot, a mask class and a place in the painting order; everything that does not depend on the pose
is compiled once a (side, number, livery pattern) and cached, so that a picture costs one matrix product and the fills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: Stations along the body from tail to nose: x, lower edge z, upper edge z, half width (metres).
STATIONS = np.array(
    [
        (-2.46, 0.36, 0.97, 0.84),
        (-2.20, 0.22, 1.05, 0.94),
        (-1.35, 0.19, 1.05, 1.00),
        (-0.20, 0.19, 1.00, 0.99),
        (0.95, 0.19, 0.97, 1.00),
        (1.75, 0.19, 0.87, 0.98),
        (2.22, 0.19, 0.75, 0.90),
        (2.48, 0.24, 0.57, 0.70),
    ]
)
WHEEL_X_M = (1.45, -1.42)
WHEEL_RADIUS_M = 0.40
#: A square frame is mostly air around a real car's 3.5 : 1; this one is built shorter and taller, wheels staying round.
STOUT = np.array([0.87, 1.0, 1.10])
LENGTH_M = 4.94 * 0.87
CENTRE_Z_M = 0.74
WHEEL_Z_M = WHEEL_RADIUS_M / 1.10  # before STOUT, so that the tyres stand on the ground
#: Greenhouse corners for y > 0: tail and nose end of the belt, then of the roof.
BELT = np.array([(-1.62, 0.88, 1.03), (1.02, 0.88, 0.96)])
ROOF = np.array([(-0.78, 0.60, 1.40), (0.18, 0.60, 1.38)])

Points = np.ndarray
Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Patch:
    """One polygon: `colour` a palette slot (or None), `mask` a class index (or None), `lit` takes light by its normal.

    `points_m` is float64 [n, 3]; `faces` culls the patch when its normal looks away from the camera.
    """

    points_m: Points
    colour: int | None = None
    mask: int | None = None
    lit: bool = False
    faces: tuple[float, float, float] | None = None


def side(x_m: np.ndarray, height: np.ndarray) -> Points:
    """A point of the left flank: `height` 0 is the sill, 1 the upper edge. Float64 [n, 3]."""
    low, high, wide = (np.interp(x_m, STATIONS[:, 0], STATIONS[:, k]) for k in (1, 2, 3))
    bulge = 1.0 - 0.07 * (2.0 * np.asarray(height) - 1.1) ** 2
    return np.stack([np.asarray(x_m, float), wide * bulge, low + height * (high - low)], axis=1)


def deck(x_m: np.ndarray, across: np.ndarray) -> Points:
    """A point of hood, cowl or boot lid: `across` -1 is the right edge, 1 the left edge. Float64 [n, 3]."""
    high, wide = (np.interp(x_m, STATIONS[:, 0], STATIONS[:, k]) for k in (2, 3))
    return np.stack([np.asarray(x_m, float), across * wide * 0.94, high + 0.03 * (1 - np.abs(across))], axis=1)


def glasshouse(along: np.ndarray, up: np.ndarray) -> Points:
    """A point of the cabin's left side: `along` 0 tail to 1 nose, `up` 0 belt to 1 roof. Float64 [n, 3]."""
    along, up = np.asarray(along, float)[:, None], np.asarray(up, float)[:, None]
    low = BELT[0] + along * (BELT[1] - BELT[0])
    high = ROOF[0] + along * (ROOF[1] - ROOF[0])
    return low + up * (high - low)


def roof(x_m: np.ndarray, across: np.ndarray) -> Points:
    """A point of the roof panel. Float64 [n, 3]."""
    high = np.interp(x_m, ROOF[:, 0], ROOF[:, 2])
    return np.stack([np.asarray(x_m, float), across * ROOF[0, 1], high], axis=1)


def windscreen(across: np.ndarray, up: np.ndarray) -> Points:
    """A point of the front glass. Float64 [n, 3]."""
    return _pane(BELT[1], ROOF[1], across, up)


def rear_glass(across: np.ndarray, up: np.ndarray) -> Points:
    """A point of the rear glass. Float64 [n, 3]."""
    return _pane(BELT[0], ROOF[0], across, up)


def _pane(low: np.ndarray, high: np.ndarray, across: np.ndarray, up: np.ndarray) -> Points:
    edge = low + np.asarray(up, float)[:, None] * (high - low)
    edge[:, 1] *= across
    return edge


def on(surface: Surface, corners: Sequence[tuple[float, float]], steps: int = 1) -> Points:
    """A polygon in a surface's own coordinates as points in space; edges are split so that they follow its curve."""
    ends = np.asarray(corners, float)
    if steps > 1:
        shares = np.arange(steps)[None, :, None] / steps
        ends = (ends[:, None] + shares * (np.roll(ends, -1, axis=0) - ends)[:, None]).reshape(-1, 2)
    return surface(ends[:, 0], ends[:, 1])


def disc(x_m: float, y_m: float, z_m: float, radius_m: float, corners: int = 16, start: float = 0.0) -> Points:
    """A disc in the plane y = const that is round once STOUT was applied. Float64 [corners, 3]."""
    angle = start + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ring = np.stack([radius_m * np.cos(angle), np.zeros(corners), radius_m * np.sin(angle)], axis=1) / STOUT
    return ring + np.array([x_m, y_m, z_m])


def normal(points_m: Points) -> np.ndarray:
    """Unit normal of a polygon by Newell's sum, pointing away from the car's core. Float64 [3]."""
    following = np.roll(points_m, -1, axis=0)
    out = np.cross(points_m, following).sum(axis=0)
    out /= max(float(np.linalg.norm(out)), 1e-12)
    centre = points_m.mean(axis=0) - (0.0, 0.0, CENTRE_Z_M)
    return out if out @ centre >= 0 else -out


# --- digits: polylines in a unit box (x to the right, y up), widened to one polygon a stroke ------------------------


def _arc(
    cx: float, cy: float, rx: float, ry: float, start_deg: float, stop_deg: float, steps: int
) -> list[list[float]]:
    angles = np.radians(np.linspace(start_deg, stop_deg, steps + 1))
    return [[cx + rx * float(np.cos(a)), cy + ry * float(np.sin(a))] for a in angles]


#: Strokes of each digit. No stroke crosses itself, because polygons are filled by the even-odd rule.
DIGITS: dict[str, list[list[list[float]]]] = {
    "2": [[*_arc(0.5, 0.70, 0.38, 0.28, 165, -25, 7), [0.12, 0.02], [0.92, 0.02]]],
    "4": [[[0.70, 0.0], [0.70, 1.0], [0.06, 0.30]], [[0.06, 0.30], [0.98, 0.30]]],
    "8": [_arc(0.5, 0.75, 0.30, 0.23, -90, 270, 10), _arc(0.5, 0.26, 0.38, 0.26, 90, 450, 10)],
    "9": [_arc(0.5, 0.68, 0.36, 0.30, 0, 360, 10), [[0.86, 0.66], [0.83, 0.42], [0.66, 0.12], [0.34, 0.0]]],
}


def strokes(number: str, weight: float, solid: bool = False) -> list[np.ndarray]:
    """The number's strokes as polygons, float64 [n, 2], in units of a digit's height, centred at 0.

    `solid` fills the eyes of 8 and 9, as the plate behind a number does.
    """
    pitch, width = 0.86, 0.62
    polygons = []
    for place, digit in enumerate(number):
        offset = (place - (len(number) - 1) / 2) * pitch
        for line in DIGITS[digit]:
            polygons.append(_widen((np.asarray(line) - 0.5) * (width, 1.0) + (offset, 0.0), weight / 2, solid))
    return polygons


def _widen(points: np.ndarray, half: float, solid: bool) -> np.ndarray:
    """A polyline as the outline of a stroke with mitred joints; a closed one becomes a ring, or a disc if `solid`."""
    along = np.diff(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    closed = bool(np.allclose(points[0], points[-1]))
    before = np.vstack([along[-1:] if closed else along[:1], along])
    after = np.vstack([along, along[:1] if closed else along[-1:]])
    mitre = before + after
    mitre /= np.maximum((mitre**2).sum(axis=1, keepdims=True) / 2, 0.5)
    across = np.stack([mitre[:, 1], -mitre[:, 0]], axis=1) * half
    ends = points.copy()
    if not closed:
        ends[0] -= along[0] * half * 0.9
        ends[-1] += along[-1] * half * 0.9
    outer, inner = ends + across, ends - across  # loops run anticlockwise: their right side is outside
    return outer if closed and solid else np.concatenate([outer, inner[::-1]])


# --- camera ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Camera:
    """A camera aimed at the car's middle; screen points are in pixels of the canvas, y down."""

    axes: np.ndarray  # rows: right, up, depth; float64 [3, 3], in the car's frame
    distance_m: float
    focal_px: float
    centre_px: tuple[float, float]
    turn: np.ndarray  # float64 [2, 2], the camera's roll
    elevation_rad: float

    def position_m(self) -> np.ndarray:
        """Where the camera stands. Float64 [3]."""
        return -self.axes[2] * self.distance_m + (0.0, 0.0, CENTRE_Z_M)

    def project(self, points_m: Points) -> np.ndarray:
        """Screen points, float64 [n, 2]."""
        seen = (points_m - (0.0, 0.0, CENTRE_Z_M)) @ self.axes.T
        scale = self.focal_px / (self.distance_m + seen[:, 2:])
        flat = np.concatenate([seen[:, :1], -seen[:, 1:2]], axis=1) * scale
        return flat @ self.turn.T + self.centre_px

    def ground_row(self, depth_m: float, height_m: float = 0.0) -> float:
        """Pixels below the centre (before roll) of a point `depth_m` beyond the car and `height_m` above the ground."""
        rise, run = height_m - CENTRE_Z_M, depth_m
        up = rise * np.cos(self.elevation_rad) + run * np.sin(self.elevation_rad)
        away = run * np.cos(self.elevation_rad) - rise * np.sin(self.elevation_rad) + self.distance_m
        return float(-up * self.focal_px / away)

    def horizon_row(self) -> float:
        """Pixels below the centre (before roll) of the horizon; negative is above."""
        return float(-np.tan(self.elevation_rad) * self.focal_px)


def aim(
    left: bool,
    yaw_deg: float,
    elevation_deg: float,
    roll_deg: float,
    fill: float,
    shift: tuple[float, float],
    size: int,
) -> Camera:
    """A camera on the car's left or right; `yaw_deg` > 0 sees the nose, `fill` is the car's share of the frame's width.

    `shift` moves the car in the frame (fractions of its side); `size` is the canvas side in pixels.
    """
    azimuth = np.pi - np.radians(yaw_deg) if left else np.radians(yaw_deg)
    up_rad = float(np.radians(elevation_deg))
    right = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    level = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    sky = np.array([0.0, 0.0, 1.0])
    axes = np.stack(
        [right, np.cos(up_rad) * sky + np.sin(up_rad) * level, np.cos(up_rad) * level - np.sin(up_rad) * sky]
    )
    distance_m = 11.0
    wide_m = LENGTH_M * abs(np.cos(np.radians(yaw_deg))) + 1.6 * abs(np.sin(np.radians(yaw_deg)))
    focal_px = fill * size * (distance_m - 0.8) / wide_m
    roll = np.radians(roll_deg)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    centre = (size * (0.5 + shift[0]), size * (0.5 + shift[1]))
    return Camera(axes, distance_m, focal_px, centre, turn, up_rad)
