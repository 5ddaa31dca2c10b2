"""Filling the car: albedo, mask, light and cast shadow on supersampled canvases, reduced to the picture's size.

Colour and light are painted apart (the light canvas holds 128 for "as lit as white paper in the open") and multiplied
after the reduction: stripes and numbers then follow the body's shading without being cut along its bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ops.sources._racecar_livery import SLOTS, car
from ops.sources._racecar_model import STOUT, Camera, Patch, normal

NEUTRAL_LIGHT = 128.0


@dataclass(frozen=True)
class Light:
    """Where light comes from: a unit vector to the sun in the camera's frame (right, up, towards the camera)."""

    sun: tuple[float, float, float]
    direct: float
    ambient: float
    shadow: float  # darkness of the cast shadow, 0..1
    softness: float  # blur of the cast shadow, share of the picture's side


@dataclass(frozen=True)
class Layers:
    """One painted car, all [h, w(, 3)] at the picture's size."""

    colour: np.ndarray  # float32 [h, w, 3], 0..1, premultiplied by cover; plane by plane in memory
    cover: np.ndarray  # float32 [h, w], 0..1
    light: np.ndarray  # float32 [h, w], 1 = neutral
    shadow: np.ndarray  # float32 [h, w], 0..1
    mask: np.ndarray  # uint8 [h, w], class indices


@dataclass(frozen=True)
class Compiled:
    """A car's patches as flat arrays: one matrix product projects them all."""

    patches: tuple[Patch, ...]
    points_m: np.ndarray  # float64 [n, 3]
    starts: tuple[int, ...]
    lit: tuple[int, ...]  # patches that take light
    lit_normals: np.ndarray  # float64 [lit, 3]
    culled: tuple[int, ...]  # patches with a facing
    cull_normals: np.ndarray  # float64 [culled, 3]
    cull_centres_m: np.ndarray  # float64 [culled, 3]


@lru_cache(maxsize=64)
def compiled(number: str, livery: str, left: bool) -> Compiled:
    """The flat arrays of one car. Cached."""
    patches = car(number, livery, left)
    starts = np.concatenate([[0], np.cumsum([len(patch.points_m) for patch in patches])])
    lit = tuple(k for k, patch in enumerate(patches) if patch.lit)
    culled = tuple(k for k, patch in enumerate(patches) if patch.faces is not None)
    return Compiled(
        patches,
        np.concatenate([patch.points_m for patch in patches]),
        tuple(starts.tolist()),
        lit,
        np.array([normal(patches[k].points_m) for k in lit]),
        culled,
        np.array([patches[k].faces for k in culled], dtype=float),
        np.array([patches[k].points_m.mean(axis=0) for k in culled]),
    )


def paint(
    number: str, livery: str, left: bool, camera: Camera, light: Light, colours: np.ndarray, size_px: int, scale: int
) -> Layers:
    """Paint one car. `colours` float32 [SLOTS, 3] in 0..1; `camera` projects to a canvas of `size_px * scale`."""
    assert colours.shape == (SLOTS, 3), colours.shape
    side_px = size_px * scale
    flat = compiled(number, livery, left)
    albedo = Image.new("RGB", (side_px, side_px))
    mask = Image.new("L", (side_px, side_px))
    shade = Image.new("L", (side_px, side_px), int(NEUTRAL_LIGHT))
    _fill(flat, camera, light, colours, ImageDraw.Draw(albedo), ImageDraw.Draw(mask), ImageDraw.Draw(shade))
    classes = np.asarray(mask)
    cover = Image.fromarray((classes > 0).view(np.uint8) * np.uint8(255)).reduce(scale)
    middle = scale // 2
    return Layers(
        (np.asarray(albedo.reduce(scale)).transpose(2, 0, 1) * np.float32(1 / 255)).transpose(1, 2, 0),
        np.asarray(cover, dtype=np.float32) / 255,
        np.asarray(shade.reduce(scale), dtype=np.float32) / NEUTRAL_LIGHT,
        cast_shadow(camera, light, size_px, scale),
        classes[middle::scale, middle::scale].copy(),
    )


def _fill(
    flat: Compiled,
    camera: Camera,
    light: Light,
    colours: np.ndarray,
    albedo: ImageDraw.ImageDraw,
    mask: ImageDraw.ImageDraw,
    shade: ImageDraw.ImageDraw,
) -> None:
    """Paint every patch that faces the camera, in order."""
    screen = camera.project(flat.points_m).ravel().tolist()
    inks = [tuple(ink) for ink in (colours * 255 + 0.5).astype(np.uint8).tolist()]
    away = ((camera.position_m() - flat.cull_centres_m) * flat.cull_normals).sum(axis=1) <= 0
    hidden = {k for k, turned in zip(flat.culled, away.tolist(), strict=True) if turned}
    levels = dict(zip(flat.lit, _levels(flat.lit_normals, camera, light), strict=True))
    for k, patch in enumerate(flat.patches):
        if k in hidden:
            continue
        points = screen[2 * flat.starts[k] : 2 * flat.starts[k + 1]]
        if patch.colour is not None:
            albedo.polygon(points, fill=inks[patch.colour])
        if patch.mask is not None:
            mask.polygon(points, fill=patch.mask)
        if k in levels:
            shade.polygon(points, fill=levels[k])


def _levels(normals: np.ndarray, camera: Camera, light: Light) -> list[int]:
    """Light on each facet as a grey level: Lambert's cosine, sky from above, a glint where it mirrors the sun."""
    right, up, depth = camera.axes
    sun = light.sun[0] * right + light.sun[1] * up - light.sun[2] * depth
    cosine = np.maximum(normals @ sun, 0.0)
    half = sun - depth
    glint = np.maximum(normals @ (half / np.linalg.norm(half)), 0.0) ** 24
    sky = 0.5 + 0.5 * normals[:, 2]
    total = light.ambient * (0.55 + 0.55 * sky) + light.direct * (cosine + 0.45 * glint)
    level: list[int] = np.clip(total * NEUTRAL_LIGHT, 20, 255).astype(int).tolist()
    return level


@lru_cache(maxsize=1)
def _silhouette() -> np.ndarray:
    """Shells whose shadows together are the car's: near wall, roof line to roof line, far wall. Float64 [3, 14, 3]."""
    xs = np.array([-2.4, -1.6, -0.6, 0.4, 1.2, 2.1, 2.45])
    heights = np.array([0.9, 1.05, 1.35, 1.3, 0.95, 0.7, 0.4])
    width = np.array([0.85, 0.95, 0.7, 0.7, 0.98, 0.9, 0.7])
    near = np.stack([xs, width, heights], axis=1)
    low = np.stack([xs, np.full(7, 0.95), np.zeros(7)], axis=1)
    far, far_low = near * (1, -1, 1), low * (1, -1, 1)
    walls = [(near, low), (near, far), (far, far_low)]
    return np.array([np.concatenate([first, second[::-1]]) for first, second in walls]) * STOUT


def cast_shadow(camera: Camera, light: Light, size_px: int, scale: int) -> np.ndarray:
    """Darkness of the ground: the sun's shadow and the contact shadow under the car. Float32 [h, w], 0..1."""
    right, up, depth = camera.axes
    sun = light.sun[0] * right + light.sun[1] * up - light.sun[2] * depth
    points = _silhouette().reshape(-1, 3).copy()
    points[:, :2] -= points[:, 2:] * sun[:2] / max(float(sun[2]), 0.35)
    points[:, 2] = 0.0
    contact = np.array([(-2.35, -0.95, 0.0), (2.3, -0.95, 0.0), (2.3, 1.0, 0.0), (-2.35, 1.0, 0.0)]) * STOUT
    screen = camera.project(np.concatenate([points, contact])) / scale
    canvas = Image.new("L", (size_px, size_px))
    draw = ImageDraw.Draw(canvas)
    for shell in screen[:-4].reshape(3, -1):
        draw.polygon(shell.tolist(), fill=int(255 * light.shadow))
    draw.polygon(screen[-4:].ravel().tolist(), fill=int(255 * max(light.shadow, 0.72)))
    soft = canvas.filter(ImageFilter.BoxBlur(max(size_px * light.softness, 0.7)))
    return np.asarray(soft, dtype=np.float32) / 255
