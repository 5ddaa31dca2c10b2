"""Everything between the car and the sensor: dirt, wet asphalt, motion blur, what stands in the way, rain, noise."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from ops.sources._racecar_model import Camera
from ops.sources._racecar_paint import Layers
from ops.sources._racecar_scene import Entry, Race, Shot
from ops.sources._racecar_track import grid, lay, planar

#: Light of the open scene on white paper, as red, green, blue.
TINTS = {
    "sun": (1.06, 1.02, 0.95),
    "overcast": (0.97, 0.99, 1.02),
    "rain": (0.80, 0.84, 0.88),
    "dusk": (0.97, 0.86, 0.80),
}


def compose(
    draw: np.random.Generator,
    scene: np.ndarray,
    layers: Layers,
    met: Entry,
    shot: Shot,
    camera: Camera,
    scale: int,
    weather: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Set the car into the scene and photograph it: image uint8 [h, w, 3] and mask uint8 [h, w]."""
    size_px = scene.shape[0]
    picture = scene * (1.0 - layers.shadow[..., None] * np.float32(0.9))
    seen = np.flatnonzero(layers.cover.any(axis=1))
    rows = slice(int(seen[0]), int(seen[-1]) + 1)
    body = _body(layers, met, rows)
    if met.race.weather == "rain":
        stands = (camera.centre_px[1] + camera.ground_row(0.0)) / scale
        _reflect(picture, body, rows, stands, 0.34 * min(weather, 1.0))
    body = _smear(body, shot.car_blur * size_px)
    picture[rows] = picture[rows] * (1.0 - body[..., 3:]) + body[..., :3]
    mask = layers.mask
    if shot.occluder is not None:
        alpha, tone = _occluder(shot, met.race, size_px)
        lay(picture, alpha, tone)
        mask = np.where(alpha > 0.5, 0, mask).astype(np.uint8)
    if met.race.weather == "rain":
        _rain(picture, draw, size_px, weather)
    return _develop(draw, picture, met.race, shot), mask


def _body(layers: Layers, met: Entry, rows: slice) -> np.ndarray:
    """The car's light over its paint, with dirt where the race wore it, on the rows that hold it.

    Float32 [rows, w, 4]: premultiplied colour and cover.
    """
    light, cover = layers.light[rows, :, None], layers.cover[rows, :, None]
    size_px = cover.shape[1]
    place = np.random.Generator(np.random.Philox(key=met.stretch ^ 1))
    spots = place.standard_normal((7, 7), dtype=np.float32)
    index = (np.arange(size_px) * 7) // size_px
    low = np.clip((grid(size_px)[1][rows] / size_px - 0.45) / 0.35, 0, 1)
    spotted = np.float32(0.16) + np.float32(0.10) * spots[index[rows]][:, index] + np.float32(0.30) * low
    dirt = np.clip(np.float32(met.race.wear) * spotted, 0, 0.6)[..., None]
    paint = layers.colour[rows] * (1 - dirt) + (dirt * cover) * np.asarray((0.36, 0.32, 0.27), np.float32)
    glint = np.maximum(light - np.float32(1.2), 0) * np.float32(0.7) * cover
    return np.concatenate([paint * np.minimum(light, np.float32(1.25)) + glint, cover], axis=2)


def _reflect(picture: np.ndarray, body: np.ndarray, rows: slice, stands: float, strength: float) -> None:
    """Mirror the car in the wet asphalt below the row on which it `stands`, in place."""
    size_px = picture.shape[0]
    first = round(stands)
    count = min(size_px - first, first - rows.start, rows.stop - rows.start)
    if count <= 0:
        return
    source = first - 1 - np.arange(count) - rows.start
    image = body[np.minimum(source, len(body) - 1)]
    fade = (strength * np.linspace(1, 0.3, count, dtype=np.float32))[:, None, None]
    target = picture[first : first + count]
    target += fade * (image[..., :3] - image[..., 3:] * target)


def _smear(layers: np.ndarray, length_px: float) -> np.ndarray:
    """Motion blur along the picture's rows over `length_px` pixels, fractions included. Same shape."""
    reach = length_px / 2
    if reach < 0.05:
        return layers
    whole = int(np.ceil(reach - 0.5)) if reach > 0.5 else 1
    offsets = range(-whole, whole + 1)
    weights = [max(min(k + 0.5, reach) - max(k - 0.5, -reach), 0.0) + 1e-6 for k in offsets]
    total, width = sum(weights), layers.shape[1]
    padded = planar((layers.shape[0], width + 2 * whole, layers.shape[2]))
    padded[:, :whole], padded[:, whole + width :], padded[:, whole : whole + width] = 0, 0, layers
    out = np.zeros_like(layers)
    for k, weight in zip(offsets, weights, strict=True):
        out += np.float32(weight / total) * padded[:, whole + k : whole + k + width]
    return out


def _occluder(shot: Shot, race: Race, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """What stands between car and camera: alpha float32 [h, w] and its colour, float32 [h, w, 3] or [3]."""
    x, y = grid(size_px)
    x, y, at, edge = x / size_px, y / size_px, shot.occluder_at, np.float32(size_px)
    paint = np.asarray(race.walls[0], np.float32)
    if shot.occluder == "post":
        blur = np.float32(size_px * 0.35)
        return np.clip((0.025 - np.abs(x - at)) * blur + 0.5, 0, 0.9) * np.ones_like(y), np.full(3, 0.31, np.float32)
    if shot.occluder == "smoke":
        cloud = ((x - at) / 0.20) ** 2 + ((y - 0.84) / 0.12) ** 2
        return 0.85 * np.exp(-cloud), np.full(3, 0.80, np.float32)
    if shot.occluder == "cone":
        width = 0.012 + 0.05 * np.clip((y - 0.76) / 0.20, 0, 1)
        shape = np.clip((width - np.abs(x - at)) * edge + 0.5, 0, 1) * np.clip((0.97 - y) * edge, 0, 1) * (y > 0.76)
        band = np.where(np.abs(y - 0.86) < 0.025, 1.0, 0.0)[..., None]
        side_light = (1.1 - 3.0 * np.abs(x - at + 0.02))[..., None]
        return shape, side_light * (band * np.float32(0.9) + (1 - band) * np.asarray((0.93, 0.36, 0.08), np.float32))
    if shot.occluder == "rival":
        return _rival(x if at < 0.5 else 1 - x, y, 0.10 + 0.16 * at, edge, paint)
    tone = 1.1 - 1.5 * np.clip(y - 0.90, 0, 0.1)[..., None]
    return np.clip((y - 0.90 - 0.03 * at) * edge + 0.5, 0, 1) * np.ones_like(x), (0.35 + 0.4 * paint) * tone


def _rival(
    along: np.ndarray, y: np.ndarray, reach: float, edge: np.float32, paint: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The end of a nearer car at the picture's border: fender, tyre below, light from above."""
    top = 0.80 + 0.10 * (along / reach) ** 3
    fender = np.clip((y - top) * edge * 0.6 + 0.5, 0, 1) * np.clip((reach - along) * edge * 0.4 + 0.5, 0, 1)
    tyre = np.clip(1.2 - ((along - 0.45 * reach) ** 2 + (y - 0.99) ** 2) / 0.0045, 0, 1)[..., None]
    tone = np.clip(1.25 - 3.0 * (y - top), 0.35, 1.3)[..., None]
    return fender, (1 - tyre) * paint * tone + tyre * np.float32(0.10)


def _rain(picture: np.ndarray, draw: np.random.Generator, size_px: int, weather: float) -> None:
    """Falling rain, spray behind the wheels and the veil in between, in place."""
    x, y = grid(size_px)
    drops = (draw.random((size_px, size_px), dtype=np.float32) > 0.985).astype(np.float32)
    falling = uniform_filter1d(drops, max(size_px // 9, 3), axis=0, mode="wrap") * np.float32(max(size_px // 9, 3))
    spray = np.exp(-(((y / size_px - 0.86) / 0.10) ** 2)) * (0.6 + 0.4 * np.sin(x / size_px * 9 + 6 * draw.random()))
    lay(picture, np.clip(0.10 * weather * falling, 0, 0.5), (0.82, 0.84, 0.87))
    lay(picture, (0.22 * weather * spray).astype(np.float32), (0.70, 0.72, 0.75))
    lay(picture, np.full((size_px, size_px), 0.08 * weather, np.float32), (0.66, 0.69, 0.72))


def _develop(draw: np.random.Generator, picture: np.ndarray, race: Race, shot: Shot) -> np.ndarray:
    """Light's colour, exposure, vignette, a soft shoulder, sensor noise (shot and read). Uint8 [h, w, 3]."""
    size_px = picture.shape[0]
    x, y = grid(size_px)
    gain = np.asarray(TINTS[race.weather], np.float32) * (1 + race.warmth * np.asarray((1, 0, -1), np.float32))
    away = ((x / size_px - 0.5) ** 2 + (y / size_px - 0.5) ** 2) * np.float32(0.35)
    exposed = picture * (1 - away)[..., None]
    exposed *= gain * np.float32(race.exposure * shot.gain)
    over = np.maximum(exposed, np.float32(0.75)) - np.float32(0.75)
    exposed -= over * (np.float32(0.3) + np.float32(0.4) * over)
    np.clip(exposed, 0, 1, out=exposed)
    grain = draw.standard_normal((3, size_px, size_px), dtype=np.float32)
    grain += np.float32(0.25) * grain.sum(axis=0)  # partly grey, as after a camera's colour filter
    grain *= np.float32(0.82 * race.noise_levels) * np.sqrt(np.float32(0.35) + np.float32(1.3) * exposed).transpose(
        2, 0, 1
    )
    exposed *= 255
    exposed += grain.transpose(1, 2, 0) + np.float32(0.5)
    return np.ascontiguousarray(np.clip(exposed, 0, 255, out=exposed).astype(np.uint8))
