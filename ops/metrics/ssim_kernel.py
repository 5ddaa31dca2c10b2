"""The arithmetic of SSIM for many pairs: per-image terms once, one product and one window sum a pair.

SSIM of Wang et al. 2004 for one window p, with means μ, variances v and C1 = (0.01·255)², C2 = (0.03·255)²::

    SSIM_p = (2 μx μy + C1) (2 cov_xy + C2) / ((μx² + μy² + C1) (vx + vy + C2))

Only cov_xy needs both images. **Uniform 7×7 window, sample covariance.** With window sums S and N = 49 values,
``48·cov = Sxy − Sx·Sy/49``. All pixels are integers, so every partial sum of x·y is an integer of at most
49·255² = 3 186 225 < 2²⁴ and float32 holds it *exactly*, whatever the order of additions. The subtraction, where
cancellation would ruin flat and bright areas, is kept exact too by writing ``Sx = 49·a + r`` with integer a and
|r| ≤ 24: ``Sxy − a·Sy`` is an integer below 2²⁴, and the rest ``(r/49)·Sy`` is small. Float32 loses nothing but the
last rounding (measured against scikit-image in float64: 5e-8). **Gaussian 11×11 window, σ 1.5, population covariance.**
The weights are no integers, so the filter and the subtraction are done in float64.

Layout: ``[c, h, w, m]`` with m images innermost ("lanes"). The other image of each pair is a scalar broadcast over the
lanes, so no data is shuffled and each instruction works on whole vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Window = Literal["uniform", "gaussian"]

WIN_SIZE_PX = {"uniform": 7, "gaussian": 11}
DATA_RANGE = 255.0
C1 = (0.01 * DATA_RANGE) ** 2
C2 = (0.03 * DATA_RANGE) ** 2
SIGMA_PX = 1.5
AREA = 49
# Half of C1 and C2 in the units in which each window's terms are kept: sums of 49 pixels, and 48 covariances.
HALF_C1 = {"uniform": C1 * AREA**2 / 2, "gaussian": C1 / 2}
HALF_C2 = {"uniform": C2 * (AREA - 1) / 2, "gaussian": C2 / 2}


@dataclass(frozen=True)
class Terms:
    """What a pair needs of one of its images. p × q are the window positions; lanes are images.

    pixels: float32 [..., c, h, w, m], integers 0–255. level: window sums (uniform, float32, exact) or means (gaussian,
    float64) [..., c, p, q, m]. spread: float32 [..., c, p, q, m], variance plus half of C2, in units of HALF_C2.
    """

    pixels: Tensor
    level: Tensor
    spread: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.pixels, self.level, self.spread


def gaussian_taps() -> tuple[float, ...]:
    """The 11 taps of scipy's Gaussian (σ 1.5, truncated at 3.5 σ), normalised to 1."""
    raw = [math.exp(-0.5 * (offset / SIGMA_PX) ** 2) for offset in range(-5, 6)]
    return tuple(value / sum(raw) for value in raw)


TAPS = gaussian_taps()


def window_sum(values: Tensor, window: Window) -> Tensor:
    """Filter dimensions −3 and −2 ("valid"): [..., h, w, m] → [..., p, q, m]. Sums (uniform) or means (gaussian)."""
    for dim in (-2, -3):
        size = values.shape[dim] - WIN_SIZE_PX[window] + 1
        taps = [values.narrow(dim, start, size) for start in range(WIN_SIZE_PX[window])]
        if window == "uniform":
            values = taps[0] + taps[1] + taps[2] + taps[3] + taps[4] + taps[5] + taps[6]
        else:
            total = taps[5] * TAPS[5]
            for offset in range(5):  # symmetric taps first: both orders of a pair then round alike
                total = total + (taps[offset] + taps[10 - offset]) * TAPS[offset]
            values = total
    return values


def terms(images_u8: Tensor, window: Window) -> Terms:
    """Per-image terms with images as lanes: uint8 [n, h, w, c] → Terms of [c, ·, ·, n]."""
    lanes = images_u8.permute(3, 1, 2, 0).contiguous()  # or every later tensor inherits the strides
    if window == "uniform":
        whole = lanes.to(torch.int32)
        level = window_sum(whole, window)
        spread = AREA * window_sum(whole * whole, window) - level * level  # exact: at most 1.6e8 < 2³¹
        return Terms(whole.float(), level.float(), spread.double().div(AREA).add(HALF_C2[window]).float())
    exact = lanes.double()
    level = window_sum(exact, window)
    variance = (window_sum(exact * exact, window) - level * level).clamp_min(0)
    return Terms(exact.float(), level, (variance + HALF_C2[window]).float())


Facing = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def facing(x: Terms, window: Window) -> Facing:
    """What the other side of each pair needs, prepared once so that the kernel only loads it.

    (pixels, level, spread, whole, rest, energy), all of x's layout. whole and rest split the window sum, S = 49·whole +
    49·rest (uniform; unused copies of the level for gaussian); energy = level² + C1 in the units of HALF_C1, float32.
    """
    level = x.level.float()
    energy = level * level + 2 * HALF_C1[window]
    if window == "gaussian":
        return x.pixels, x.level, x.spread, x.level, x.level, energy
    whole = torch.floor(x.level * (1 / AREA) + 0.5)
    return x.pixels, x.level, x.spread, whole, (x.level - AREA * whole) * (1 / AREA), energy


def broadcast(images_u8: Tensor, window: Window) -> Facing:
    """Images that meet whole tiles: uint8 [k, h, w, c] → Facing of [k, c, ·, ·, 1]."""
    parts = facing(terms(images_u8, window), window)
    return tuple(tensor.movedim(-1, 0)[..., None].contiguous() for tensor in parts)  # type: ignore[return-value]


def covariance(x: Facing, y: Terms, window: Window) -> Tensor:
    """float32 [..., c, p, q, m]: 48·cov (uniform, one rounding) or cov (gaussian)."""
    pixels, level, _, whole, rest, _ = x
    if window == "uniform":
        return (window_sum(pixels * y.pixels, window) - whole * y.level) - rest * y.level
    return (window_sum((pixels * y.pixels).double(), window) - level * y.level).float()


def score_tile(x: Facing, pixels: Tensor, level: Tensor, spread: Tensor, window: Window) -> Tensor:
    """Mean SSIM of each pair: x of [k, c, ·, ·, 1] against Terms of [c, ·, ·, m] → float32 [k, m].

    Also pairs aligned lane by lane: both [c, ·, ·, m] → [m]. This is what gets compiled: tensors in, one graph.
    """
    structure = covariance(x, Terms(pixels, level, spread), window) + HALF_C2[window]
    x_mean, y_mean = x[1].float(), level.float()
    luminance = x_mean * y_mean + HALF_C1[window]
    ratio = (luminance * structure) / ((x[5] + y_mean * y_mean) * (x[2] + spread))
    windows = ratio.shape[-4] * ratio.shape[-3] * ratio.shape[-2]
    return (ratio.sum(-2).double().sum((-2, -3)) * (4 / windows)).float()  # a long sum in float32 would drift


class EagerTile:
    """The same score for one image against lanes, written in place: one pass of memory a step, in buffers that stay
    in cache. Uniform window on CPU only; elsewhere :func:`score_tile` serves."""

    def __init__(self, channels: int, height: int, width: int, lanes: int) -> None:
        rows, columns = height - 6, width - 6
        shapes = {
            "product": (height, width), "v2": (height - 1, width), "v4": (height - 3, width), "v7": (rows, width),
            "h2": (rows, width - 1), "h4": (rows, width - 3), "sum": (rows, columns), "top": (rows, columns),
        }  # fmt: skip
        self.buffers = {name: torch.empty(channels, *shape, lanes) for name, shape in shapes.items()}
        self.windows = rows * columns

    def _box(self) -> Tensor:
        """7×7 sums by doubling: 1+1, 2+2, 4+2+1; exact, since all values are integers below 2²⁴."""
        b = self.buffers
        for source, two, four, seven, dim in (("product", "v2", "v4", "v7", 1), ("v7", "h2", "h4", "sum", 2)):
            size = b[source].shape[dim]
            torch.add(b[source].narrow(dim, 0, size - 1), b[source].narrow(dim, 1, size - 1), out=b[two])
            torch.add(b[two].narrow(dim, 0, size - 3), b[two].narrow(dim, 2, size - 3), out=b[four])
            torch.add(b[four].narrow(dim, 0, size - 6), b[two].narrow(dim, 4, size - 6), out=b[seven])
            b[seven].add_(b[source].narrow(dim, 6, size - 6))
        return b["sum"]

    def score(self, x: Facing, y: Terms, y_energy: Tensor) -> Tensor:
        """Sum of the ratio over windows and channels: x [c, ·, ·, 1], y [c, ·, ·, m] → float64 [m]."""
        b, (pixels, level, spread, whole, rest, energy) = self.buffers, x
        torch.mul(pixels, y.pixels, out=b["product"])
        ratio = self._box()
        ratio.addcmul_(whole, y.level, value=-1).addcmul_(rest, y.level, value=-1).add_(HALF_C2["uniform"])
        ratio.mul_(torch.mul(level, y.level, out=b["top"]).add_(HALF_C1["uniform"]))
        ratio.div_(torch.add(energy, y_energy, out=b["top"]))
        ratio.div_(torch.add(spread, y.spread, out=b["top"]))
        return ratio.sum(1).double().sum((0, 1))


def eager_rows(x: Facing, y: Terms, tile: EagerTile) -> Tensor:
    """:func:`score_tile` for the uniform window by :class:`EagerTile`: x [k, c, ·, ·, 1], y [c, ·, ·, m] → [k, m].

    Works through as many channels at a time as ``tile`` has.
    """
    channels, step = y.pixels.shape[0], tile.buffers["sum"].shape[0]
    scores = torch.zeros(x[0].shape[0], y.pixels.shape[-1], dtype=torch.float64)
    for first in range(0, channels, step):
        part = slice(first, first + step)
        side = Terms(*(tensor[part] for tensor in y.tensors()))
        y_energy = side.level * side.level
        for row, one in enumerate(zip(*(tensor[:, part].unbind() for tensor in x), strict=True)):
            scores[row] += tile.score(one, side, y_energy)
    return (scores * (4 / (channels * tile.windows))).float()
