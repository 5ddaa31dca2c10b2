"""Everything behind the car: sky, backdrop, barrier and track.

The background is a stack of soft bands (sky, backdrop, fence, barrier, verge, asphalt) on a grid turned by the camera's
roll; panning blurs it along the motion, so that it stays simple and the car stands out, as in a real panning shot. It
is computed for every other column only, which the blur then hides.

Pictures are [h, w, 3] to the reader and lie in memory plane by plane (see :func:`planar`): NumPy then runs along rows
instead of along three colours, which is what makes 300 pictures a second possible.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import uniform_filter1d

from ops.sources._racecar_model import Camera
from ops.sources._racecar_scene import Entry, Race, Shot

SKIES = {  # zenith and horizon, two variants between which a race mixes
    "sun": (((0.25, 0.48, 0.86), (0.70, 0.83, 0.96)), ((0.42, 0.62, 0.88), (0.86, 0.90, 0.94))),
    "overcast": (((0.62, 0.66, 0.71), (0.80, 0.82, 0.84)), ((0.74, 0.75, 0.77), (0.90, 0.90, 0.90))),
    "rain": (((0.36, 0.41, 0.47), (0.56, 0.60, 0.64)), ((0.48, 0.51, 0.55), (0.70, 0.72, 0.74))),
    "dusk": (((0.16, 0.17, 0.38), (0.96, 0.56, 0.30)), ((0.34, 0.24, 0.42), (0.92, 0.68, 0.50))),
}
BACKDROP_COLOURS = {
    "grandstand": (0.42, 0.41, 0.43),
    "trees": (0.16, 0.26, 0.13),
    "hills": (0.34, 0.42, 0.36),
    "paddock": (0.58, 0.57, 0.55),
}
SKYLINE_HEIGHT = {"grandstand": 0.26, "trees": 0.16, "hills": 0.10, "paddock": 0.13}


COLUMN_STEP = 2


def planar(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 picture [h, w, channels] whose channels lie in memory one after the other."""
    return np.empty((shape[2], shape[0], shape[1]), dtype=np.float32).transpose(1, 2, 0)


@lru_cache(maxsize=4)
def grid(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres: x float32 [1, w], y float32 [h, 1]."""
    centres = np.arange(size_px, dtype=np.float32) + 0.5
    return centres[None, :], centres[:, None]


def lay(picture: np.ndarray, alpha: np.ndarray, colour: np.ndarray | tuple[float, float, float]) -> None:
    """Lay a colour over the picture, in place. `alpha` float32 [h, w] in 0..1."""
    picture += alpha[..., None] * (np.asarray(colour, dtype=np.float32) - picture)


def _rows(v: np.ndarray, low: float, high: float) -> slice:
    """The picture's rows that hold any of `low` <= v <= `high`, a pixel wider; v grows downwards in each column."""
    first = int(np.searchsorted(np.maximum(v[:, 0], v[:, -1]), low - 1))
    return slice(first, max(int(np.searchsorted(np.minimum(v[:, 0], v[:, -1]), high + 1)), first))


def _streaks(draw: np.random.Generator, size_px: int, along: float) -> np.ndarray:
    """Noise smeared along the motion, unit variance. Float32 [h, w / COLUMN_STEP]."""
    length = max(int(size_px * along), 2)
    rough = draw.standard_normal((size_px, -(-size_px // COLUMN_STEP)), dtype=np.float32)
    length = max(length // COLUMN_STEP, 2)
    return uniform_filter1d(rough, length, axis=1, mode="wrap") * np.float32(length**0.5)


def _waves(draw: np.random.Generator, u: np.ndarray, count: int, fastest: float) -> np.ndarray:
    """A random skyline: `count` sines of up to `fastest` periods a picture, in about -1..1. Same shape as `u`."""
    rates = draw.uniform(0.5, fastest, (count, 1, 1)).astype(np.float32) * np.float32(2 * np.pi)
    phases = draw.uniform(0, 2 * np.pi, (count, 1, 1)).astype(np.float32)
    weights = draw.dirichlet(np.ones(count)).astype(np.float32)
    return np.tensordot(weights, np.sin(u[None] * rates + phases), axes=1)


def background(
    draw: np.random.Generator, met: Entry, shot: Shot, camera: Camera, size_px: int, scale: int
) -> np.ndarray:
    """The scene without the car. Float32 [h, w, 3], 0..1 before tint and exposure."""
    x, y = grid(size_px)
    x = x[:, ::COLUMN_STEP] + np.float32(0.5 * (COLUMN_STEP - 1))
    dx, dy = x - camera.centre_px[0] / scale, y - camera.centre_px[1] / scale
    cosine, sine = np.float32(camera.turn[0, 0]), np.float32(camera.turn[1, 0])
    u = (dx * cosine + dy * sine) / size_px + np.float32(shot.scroll)
    v = dy * cosine - dx * sine
    rows = [camera.ground_row(depth) / scale for depth in (met.race.barrier_m[0], met.race.barrier_m[0] * 0.6)]
    top = camera.ground_row(met.race.barrier_m[0], met.race.barrier_m[1]) / scale
    horizon = camera.horizon_row() / scale
    picture = _sky(met.race, v, horizon, size_px)
    place = np.random.Generator(np.random.Philox(key=met.stretch))
    streaks = _streaks(draw, size_px, 0.25)
    far = picture[0, 0] * 0.5 + picture[-1, -1] * 0.5
    part = _rows(v, horizon - 1.5 * SKYLINE_HEIGHT[met.race.backdrop] * met.race.skyline * size_px, top)
    _backdrop(picture[part], place, met.race, u[part], v[part], horizon, size_px, streaks[part], far)
    part = _rows(v, top - 1.6 * max(rows[0] - top, 1.0), rows[0])
    _barrier(picture[part], place, met.race, u[part], v[part], top, rows[0])
    part = _rows(v, rows[0], float("inf"))
    _ground(picture[part], place, met.race, v[part], rows, size_px, streaks[part])
    scene = planar((size_px, size_px, 3))
    scene[...] = np.repeat(picture, COLUMN_STEP, axis=1)[:, :size_px]
    length = max(round(shot.pan_blur * size_px), COLUMN_STEP + 1)
    return uniform_filter1d(scene, length, axis=1, mode="nearest", output=scene)


def _sky(race: Race, v: np.ndarray, horizon: float, size_px: int) -> np.ndarray:
    (top0, low0), (top1, low1) = SKIES[race.weather]
    mix = np.float32(race.sky_mix)
    top = np.asarray(top0, np.float32) * (1 - mix) + np.asarray(top1, np.float32) * mix
    low = np.asarray(low0, np.float32) * (1 - mix) + np.asarray(low1, np.float32) * mix
    share = np.clip((horizon - v) / (0.45 * size_px), 0, 1)[..., None]
    picture = planar((*v.shape, 3))
    np.multiply(share, top - low, out=picture)
    picture += low
    return picture


def _backdrop(
    picture: np.ndarray, place: np.random.Generator, race: Race, u: np.ndarray, v: np.ndarray, horizon: float,
    size_px: int, streaks: np.ndarray, far: np.ndarray,
) -> None:  # fmt: skip
    """Grandstand with its rows and crowd, trees, hills or paddock roofs, with a skyline of their own."""
    kind = race.backdrop
    height = SKYLINE_HEIGHT[kind] * race.skyline * size_px
    wave = _waves(place, u, 3, {"trees": 6.0, "hills": 1.5}.get(kind, 1.2))
    if kind in ("grandstand", "paddock"):
        wave = np.round(wave * 1.5) / 1.5
    edge = horizon - height * (0.75 + 0.40 * wave)
    alpha = np.clip(v - edge + 0.5, 0, 1)
    depth = np.clip((v - edge) / max(height, 1.0), 0, 1)
    strength = {"grandstand": 0.055, "trees": 0.035, "hills": 0.015, "paddock": 0.02}[kind]
    tone = 1.08 - 0.30 * depth + strength * 2.0 * streaks
    if kind == "grandstand":
        tone = tone + 0.09 * np.sin(depth * np.float32(2 * np.pi * 4))
    colour = np.asarray(BACKDROP_COLOURS[kind], np.float32) * place.uniform(0.8, 1.2, 3).astype(np.float32)
    haze = np.float32(0.35 if kind == "hills" else 0.12)
    lay(picture, alpha, (colour * (1 - haze) + far * haze) * tone[..., None])


def _barrier(
    picture: np.ndarray, place: np.random.Generator, race: Race, u: np.ndarray, v: np.ndarray, top: float, base: float
) -> None:
    """Wall with painted panels and a rail along its edge; above it the posts of the catch fence."""
    panels = np.asarray(race.walls, np.float32)[place.integers(0, len(race.walls), 12)]
    index = np.floor(u * np.float32(place.uniform(1.5, 4.0))).astype(np.int64) % len(panels)
    tall = max(base - top, 1.0)
    wall = np.clip(v - top + 0.5, 0, 1) * np.clip(base - v + 0.5, 0, 1)
    tone = 1.0 - 0.25 * np.clip((v - top) / tall, 0, 1)
    fence = np.clip(v - top + 1.6 * tall + 0.5, 0, 1) * np.clip(top - v + 0.5, 0, 1)
    posts = (np.sin(u * np.float32(2 * np.pi * place.uniform(3, 6))) > 0.9).astype(np.float32)
    lay(picture, fence * (0.12 + 0.35 * posts), (0.42, 0.43, 0.45))
    lay(picture, wall, panels[index] * tone[..., None])
    rail = np.clip(1.0 - np.abs(v - top) / max(0.12 * tall, 0.6), 0, 1)
    lay(picture, rail * 0.7, panels[0] * 0.5 + 0.3)


def _ground(
    picture: np.ndarray, place: np.random.Generator, race: Race, v: np.ndarray, rows: list[float], size_px: int,
    streaks: np.ndarray,
) -> None:  # fmt: skip
    """Verge, white line and asphalt, darker where rubber lies, lighter towards the horizon."""
    base, line = rows
    verge = np.clip(v - base + 0.5, 0, 1)
    lay(picture, verge, np.asarray(race.verge, np.float32) * (1 + 0.05 * streaks)[..., None])
    near = np.clip((v - line) / (0.6 * size_px), 0, 1)
    wet = 0.72 if race.weather == "rain" else 1.0
    tone = race.asphalt * wet * (1.18 - 0.30 * near) + 0.012 * streaks
    for _ in range(3):
        row = line + place.uniform(0.05, 0.75) * size_px
        width = place.uniform(0.02, 0.07) * size_px
        tone = tone - place.uniform(0.02, 0.07) * np.exp(-(((v - row) / width) ** 2))
    asphalt = tone[..., None] * np.asarray((1.0, 1.0, 1.03), np.float32)
    lay(picture, np.clip(v - line + 0.5, 0, 1), asphalt)
    paint = np.clip(1.0 - np.abs(v - line - 0.02 * size_px) / max(0.014 * size_px, 0.7), 0, 1)
    lay(picture, paint * place.uniform(0.4, 0.9), (0.86, 0.86, 0.84))
