"""The embedded default source: photographs of race cars, drawn by our own code so that anyone may use them.

Four classes (cars 9, 24, 42 and 48). A subject is one car in one race: the race fixes track, light, weather, camera
side and wear; pose, blur and what stands in the way vary over its two to four photographs. A small share of subjects
wears a near look-alike of another car's livery, to which the white paper lays its 42-to-9 confusion. Every number comes
from :mod:`ops.core.seeds` by (seed, subject, image): any image can be drawn alone, in any order, with the same bytes.
"""

from __future__ import annotations

import colorsys
import hashlib
import io
import multiprocessing
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
from PIL import Image
from pydantic import Field

from ops.core.config import StrictModel
from ops.core.errors import CallError, explain
from ops.core.progress import Reporter, SilentReporter
from ops.core.seeds import generator
from ops.sources import _racecar_scene as scenes
from ops.sources._item import Item, Refusal
from ops.sources._racecar_livery import ACCENT, BASE, CARS, MASK_CLASSES, SECOND, palette
from ops.sources._racecar_model import aim
from ops.sources._racecar_paint import paint
from ops.sources._racecar_photo import compose
from ops.sources._racecar_track import background

LABELS = tuple(f"car-{number}" for number in CARS)
#: How far a look-alike's paint is off the livery that it resembles: hue (turns), saturation, value.
LOOKALIKE_SHIFT = (0.012, -0.06, -0.04)

__all__ = ["LABELS", "MASK_CLASSES", "Config", "attributes", "draw", "entry", "fingerprint", "items"]


class Config(StrictModel):
    """What to draw."""

    kind: Literal["racecars"]
    preset: Literal["demo", "hard"] = Field(
        ..., description="demo: mild pose, clear liveries; hard: strong pose, weather"
    )
    subjects: int = Field(..., gt=0, description="cars in races, four a race; 2 to 4 images each, 3 on average")
    size_px: int = Field(..., ge=32, le=128, description="side of the square images, pixels")
    seed: int = Field(..., ge=0, description="every number of the set derives from it")
    lookalike_fraction: float = Field(
        ..., ge=0, le=1, description="share of subjects in a look-alike of another livery"
    )
    drivers: int = Field(..., ge=len(CARS), le=1000, description="drivers who share the seats at random")
    supersample: int = Field(..., ge=1, le=8, description="canvas pixels a side of an image pixel (anti-aliasing)")


def entry(config: Config, subject_index: int) -> scenes.Entry:
    """What is fixed for one subject. Raises CallError for an index outside 0 .. subjects - 1."""
    if not 0 <= subject_index < config.subjects:
        todo = "ask for a subject that the settings hold"
        raise CallError(explain(expected=f"a subject below {config.subjects}", found=str(subject_index), todo=todo))
    return scenes.entry(config.seed, config.preset, config.drivers, config.lookalike_fraction, subject_index)


def attributes(met: scenes.Entry) -> dict[str, str]:
    """The subject's attributes; `livery` is the car whose colours it wears (not its label for a look-alike)."""
    return {
        "weather": met.race.weather,
        "camera": "left" if met.race.left else "right",
        "race": met.race.name,
        "driver": f"driver-{met.driver:03d}",
        "livery": f"car-{met.livery}",
    }


def draw(config: Config, subject_index: int, image_index: int) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """Draw one photograph: image uint8 [h, w, 3], mask uint8 [h, w] (indices of MASK_CLASSES), attributes.

    Raises CallError for a subject or an image that the settings do not hold.
    """
    met = entry(config, subject_index)
    if not 0 <= image_index < met.images:
        found, todo = f"image {image_index}", "ask for an image that the subject has"
        raise CallError(explain(expected=f"an image of {met.name} below {met.images}", found=found, todo=todo))
    dice = generator(config.seed, "shot", subject_index, image_index)
    shot = scenes.shot(dice, config.preset, met)
    size, scale = config.size_px, config.supersample
    camera = aim(met.race.left, shot.yaw_deg, shot.elevation_deg, shot.roll_deg, shot.fill, shot.shift, size * scale)
    colours = _painted(met)
    layers = paint(met.number, met.livery, met.race.left, camera, met.race.light, colours, size, scale)
    scene = background(dice, met, shot, camera, size, scale)
    strength = scenes.PRESETS[config.preset].weather
    image_u8, mask_u8 = compose(dice, scene, layers, met, shot, camera, scale, strength)
    return image_u8, mask_u8, attributes(met)


def _painted(met: scenes.Entry) -> np.ndarray:
    """The palette as this car was painted for this race: small offsets, larger ones for a look-alike, wear fades it."""
    colours = palette(met.livery, met.number, met.driver).copy()
    lookalike = met.livery != met.number
    shifts = [offset + (extra if lookalike else 0.0) for offset, extra in zip(met.paint, LOOKALIKE_SHIFT, strict=True)]
    for slot in (BASE, SECOND, ACCENT):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, colours[slot]))
        saturation = min(max(saturation * (1 + shifts[1]) * (1 - 0.18 * met.race.wear), 0.0), 1.0)
        value = min(max(value * (1 + shifts[2]), 0.0), 1.0)
        colours[slot] = colorsys.hsv_to_rgb((hue + shifts[0]) % 1.0, saturation, value)
    return colours


CHUNK = 64  # subjects drawn at a time by one process
PARALLEL_FROM = 512  # subjects from which starting processes pays


def items(config: Config, base: Path, reporter: Reporter = SilentReporter()) -> Iterator[Item | Refusal]:  # noqa: B008
    """All images, subject by subject, as PNG bytes with PNG masks. `base` is not read: nothing lies on disk.

    Large sets are drawn on all cores; the order and the bytes do not depend on how many there are.
    """
    chunks = [range(start, min(start + CHUNK, config.subjects)) for start in range(0, config.subjects, CHUNK)]
    workers = os.cpu_count() or 1
    if config.subjects < PARALLEL_FROM or workers == 1:
        drawn: Iterable[list[Item]] = map(partial(_chunk, config), chunks)
        yield from _counted(drawn, config.subjects, reporter)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from _counted(pool.map(partial(_chunk, config), chunks), config.subjects, reporter)


def _counted(chunks: Iterable[list[Item]], subjects: int, reporter: Reporter) -> Iterator[Item]:
    for number, chunk in enumerate(chunks, start=1):
        yield from chunk
        reporter.progress("draw subjects", min(number * CHUNK, subjects), subjects)


def _chunk(config: Config, subjects: range) -> list[Item]:
    """Everything of some subjects; a function of its arguments alone, so that any process may draw it."""
    found = []
    for index in subjects:
        met = entry(config, index)
        for image_index in range(met.images):
            image_u8, mask_u8, facts = draw(config, index, image_index)
            name = f"{met.race.name}/car-{met.number}/{image_index}.png"
            found.append(Item(name, f"car-{met.number}", met.name, facts, _png(image_u8), _png(mask_u8)))
    return found


def _png(pixels: np.ndarray) -> bytes:
    """PNG bytes by run lengths alone: sensor noise holds no longer repeats, and this takes two thirds of the time."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def fingerprint(config: Config, base: Path) -> str:
    """Digest of the settings, of the drawing code and of the libraries that make the pixels."""
    digest = hashlib.sha256(f"{config.digest()} {np.__version__} {PIL.__version__}".encode())
    here = Path(__file__)
    for code in [here, *sorted(here.parent.glob("_racecar_*.py"))]:
        digest.update(code.read_bytes())
    return digest.hexdigest()
