"""What happens: races, cars in races (the subjects) and single shots, each a pure function of the seed and its number.

A race fixes track, light, weather, camera side and wear; a subject adds its livery, driver and stretch of track; a shot
adds pose, blur and what stands in the way. Races and subjects are drawn independently of their numbers, so that no
subject can be told from another by its place in the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ops.core.seeds import generator
from ops.sources._racecar_livery import CARS
from ops.sources._racecar_paint import Light

Span = tuple[float, float]
WEATHERS = ("sun", "overcast", "rain", "dusk")
BACKDROPS = ("grandstand", "trees", "hills", "paddock")
OCCLUDERS = ("post", "smoke", "cone", "rival", "wall")
IMAGES_PER_SUBJECT = (2, 3, 4)


@dataclass(frozen=True)
class Preset:
    """How far pictures may differ. Angles in degrees, lengths as shares of the picture's side, levels of 255."""

    yaw_deg: Span  # of the subject: > 0 shows the nose
    yaw_jitter_deg: float
    elevation_deg: Span
    roll_deg: float
    fill: Span  # the car's share of the frame's width
    shift: float
    pan_blur: Span
    car_blur: Span
    occlusion: float  # probability
    noise_levels: Span  # sensor noise at middle grey
    weather: float  # strength of rain, haze and spray, 1 = as seen
    paint_jitter: float


PRESETS = {
    "demo": Preset(
        yaw_deg=(4, 24), yaw_jitter_deg=4.0, elevation_deg=(6, 14), roll_deg=1.6, fill=(0.93, 1.04), shift=0.025,
        pan_blur=(0.05, 0.14), car_blur=(0.0, 0.02), occlusion=0.12, noise_levels=(2.5, 4.5), weather=0.7,
        paint_jitter=0.04,
    ),
    "hard": Preset(
        yaw_deg=(-40, 52), yaw_jitter_deg=8.0, elevation_deg=(3, 24), roll_deg=9.0, fill=(0.68, 1.12), shift=0.08,
        pan_blur=(0.02, 0.2), car_blur=(0.0, 0.05), occlusion=0.4, noise_levels=(2.5, 7.0), weather=1.2,
        paint_jitter=0.08,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Race:
    """What all cars of one race share. Colours are float tuples in 0..1."""

    name: str
    weather: str
    left: bool
    light: Light
    backdrop: str
    wear: float
    exposure: float
    warmth: float  # white balance, > 0 is warmer
    sky_mix: float
    asphalt: float
    verge: tuple[float, float, float]
    walls: tuple[tuple[float, float, float], ...]
    barrier_m: tuple[float, float]  # depth beyond the car, height
    skyline: float
    noise_levels: float
    drivers: tuple[int, ...]  # one a car


@dataclass(frozen=True)
class Entry:
    """One subject: one car in one race."""

    race: Race
    name: str
    number: str
    livery: str  # the car whose colours are worn; not `number` for a look-alike
    driver: int
    images: int
    yaw_deg: float
    stretch: int  # seed of the stretch of track behind the car
    paint: tuple[float, float, float]  # hue, saturation and value offsets


@dataclass(frozen=True)
class Shot:
    """One photograph of a subject."""

    yaw_deg: float
    elevation_deg: float
    roll_deg: float
    fill: float
    shift: tuple[float, float]
    pan_blur: float
    car_blur: float
    gain: float
    occluder: str | None
    occluder_at: float
    scroll: float


def _uniform(draw: np.random.Generator, span: Span) -> float:
    return float(draw.uniform(*span))


def _light(draw: np.random.Generator, weather: str) -> Light:
    low, high = {"sun": (35, 65), "overcast": (60, 85), "rain": (60, 85), "dusk": (14, 30)}[weather]
    height, around = np.radians(draw.uniform(low, high)), np.radians(draw.uniform(-75, 75))
    sun = (float(np.cos(height) * np.sin(around)), float(np.sin(height)), float(np.cos(height) * np.cos(around)))
    direct, ambient, shadow, soft = {
        "sun": (0.75, 0.62, 0.62, 0.008),
        "overcast": (0.22, 0.88, 0.38, 0.05),
        "rain": (0.14, 0.82, 0.34, 0.05),
        "dusk": (0.58, 0.58, 0.46, 0.02),
    }[weather]
    vary = float(draw.uniform(0.9, 1.1))
    return Light(sun, direct * vary, ambient / vary**0.5, shadow, soft)


@lru_cache(maxsize=256)
def race(seed: int, preset: str, drivers: int, index: int) -> Race:
    """Race number `index`. Cached, because its cars follow each other."""
    draw = generator(seed, "race", index)
    span = PRESETS[preset]
    weather = WEATHERS[int(draw.choice(4, p=(0.4, 0.25, 0.18, 0.17)))]
    verge = [(0.30, 0.42, 0.18), (0.45, 0.44, 0.24), (0.62, 0.54, 0.40), (0.44, 0.45, 0.46)][int(draw.integers(4))]
    walls = draw.uniform(0.12, 0.95, (6, 3)) * draw.uniform(0.5, 1.0, (6, 1))
    pale = draw.uniform(0.0, 0.8)
    walls = walls * (1 - pale) + pale * draw.uniform(0.55, 0.9)
    return Race(
        name=f"race-{index:04d}",
        weather=weather,
        left=bool(draw.integers(2)),
        light=_light(draw, weather),
        backdrop=BACKDROPS[int(draw.integers(4))],
        wear=float(draw.beta(1.5, 3.0)),
        exposure=_uniform(draw, (0.88, 1.12)),
        warmth=_uniform(draw, (-0.05, 0.05)),
        sky_mix=float(draw.random()),
        asphalt=_uniform(draw, (0.26, 0.46)),
        verge=(verge[0], verge[1], verge[2]),
        walls=tuple((float(r), float(g), float(b)) for r, g, b in walls),
        barrier_m=(_uniform(draw, (3.5, 11.0)), _uniform(draw, (0.7, 1.3))),
        skyline=_uniform(draw, (0.5, 1.5)),
        noise_levels=_uniform(draw, span.noise_levels),
        drivers=tuple(draw.choice(drivers, size=len(CARS), replace=False).tolist()),
    )


@lru_cache(maxsize=256)
def entry(seed: int, preset: str, drivers: int, lookalike_fraction: float, index: int) -> Entry:
    """Subject number `index`: each race has its four cars."""
    where, place = divmod(index, len(CARS))
    met, number = race(seed, preset, drivers, where), CARS[place]
    draw = generator(seed, "subject", index)
    others = [car for car in CARS if car != number]
    lookalike = bool(draw.random() < lookalike_fraction)
    other = others[int(draw.integers(len(others)))]
    span = PRESETS[preset]
    hue, saturation, value = draw.normal(0, span.paint_jitter, 3)
    return Entry(
        race=met,
        name=f"{met.name}-car-{number}",
        number=number,
        livery=other if lookalike else number,
        driver=met.drivers[place],
        images=IMAGES_PER_SUBJECT[int(draw.integers(len(IMAGES_PER_SUBJECT)))],
        yaw_deg=_uniform(draw, span.yaw_deg),
        stretch=int(draw.integers(2**62)),
        paint=(float(hue) * 0.25, float(saturation), float(value)),
    )


def shot(draw: np.random.Generator, preset: str, met: Entry) -> Shot:
    """One photograph of `met`; `draw` is its own generator."""
    span = PRESETS[preset]
    occluded = bool(draw.random() < span.occlusion)
    kind = OCCLUDERS[int(draw.integers(len(OCCLUDERS)))]
    return Shot(
        yaw_deg=met.yaw_deg + float(draw.normal(0, span.yaw_jitter_deg)),
        elevation_deg=_uniform(draw, span.elevation_deg),
        roll_deg=float(draw.uniform(-1, 1)) * span.roll_deg,
        fill=_uniform(draw, span.fill),
        shift=(float(draw.uniform(-1, 1)) * span.shift, 0.10 + float(draw.uniform(-1, 1)) * span.shift),
        pan_blur=_uniform(draw, span.pan_blur),
        car_blur=_uniform(draw, span.car_blur),
        gain=_uniform(draw, (0.93, 1.07)),
        occluder=kind if occluded else None,
        occluder_at=float(draw.random()),
        scroll=float(draw.random()),
    )
