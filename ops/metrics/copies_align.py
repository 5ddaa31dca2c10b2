"""Undo what was done to a copy before two images are compared: mirror, brightness and contrast, crop."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]

IN_CACHE = 256  # images worked on at once: their buffers stay in the cache, which is several times faster
# Steps of a search, of the side (0.6, 0.3 and 0.2 px at 32 px), and how far below the score that is needed a pair may
# lie to be searched at that step: measured, this loses none of 1 800 planted crops.
SEARCH = ((0.02, 1.0), (0.01, 0.15), (0.005, 0.05))


def mirror(images_u8: Tensor) -> Tensor:
    """Left and right swapped: [n, h, w] or [n, h, w, c]."""
    return images_u8.flip(2)


def boxes(fractions: list[float]) -> list[tuple[float, float, float]]:
    """(fraction cut off, top, left), of the side: the centre and the four corners for each fraction."""
    places = [(0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)]
    return [(fraction, fraction * y, fraction * x) for fraction in fractions for y, x in places]


def crop(planes: Tensor, cut: Tensor) -> Tensor:
    """Cut a box out of each image and resize it to the full frame (bilinear).

    Args:
        planes: float32 [n, c, h, w].
        cut: float32 [n, 3]: fraction of each side cut off, top and left edge of the box, all as parts of the side.

    Returns:
        float32 [n, c, h, w].
    """
    size = 1 - cut[:, 0]
    zero = torch.zeros_like(size)
    shift_x, shift_y = 2 * cut[:, 2] + size - 1, 2 * cut[:, 1] + size - 1
    theta = torch.stack([torch.stack([size, zero, shift_x], 1), torch.stack([zero, size, shift_y], 1)], 1)
    grid = functional.affine_grid(theta, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)


def crop_arrays(images_u8: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """:func:`crop` for arrays: uint8 [n, h, w, c], float [n, 3] → uint8 [n, h, w, c]."""
    cropped = np.empty_like(images_u8)
    for part in _parts(len(images_u8)):
        planes = torch.from_numpy(np.ascontiguousarray(images_u8[part])).permute(0, 3, 1, 2).float()
        values = crop(planes, torch.from_numpy(cut[part].astype(np.float32))).round_().clamp_(0, 255)
        cropped[part] = values.to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return cropped


def level(x_u8: np.ndarray, y_u8: np.ndarray, max_shift: float, max_gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Bring both images of each pair to the middle of their brightness and contrast: uint8 [n, h, w, c] twice.

    Symmetric in its arguments. ``max_shift`` (levels) and ``max_gain`` bound the difference that is taken away.
    """
    moved = np.empty_like(x_u8), np.empty_like(y_u8)
    for part in _parts(len(x_u8)):
        sides = [torch.from_numpy(np.ascontiguousarray(side[part])).flatten(1).double() for side in (x_u8, y_u8)]
        (x_variance, x_mean), (y_variance, y_mean) = (torch.var_mean(side, 1, correction=0) for side in sides)
        shift = (y_mean - x_mean).clamp(-max_shift, max_shift) / 2
        contrast = (y_variance.clamp_min(1e-12).log() - x_variance.clamp_min(1e-12).log()) / 2
        gain = (contrast.clamp(-math.log(max_gain), math.log(max_gain)) / 2).exp()
        for target, side, move in zip(moved, sides, ((x_mean, shift, gain), (y_mean, -shift, 1 / gain)), strict=True):
            target[part] = _move(side, *move).numpy().reshape(target[part].shape)
    return moved


def _parts(n: int) -> list[slice]:
    return [slice(start, start + IN_CACHE) for start in range(0, n, IN_CACHE)]


def _move(values: Tensor, mean: Tensor, shift: Tensor, gain: Tensor) -> Tensor:
    """Stretch each row about its mean and shift it: float64 [n, v] (overwritten) → uint8 [n, v]."""
    mean, shift, gain = mean[:, None], shift[:, None], gain[:, None]
    return values.sub_(mean).mul_(gain).add_(mean + shift).round_().clamp_(0, 255).to(torch.uint8)


def best_box(
    whole_u8: np.ndarray, part_u8: np.ndarray, places: list[tuple[float, float, float]], score: Score
) -> np.ndarray:
    """For each pair the one of a few boxes whose crop of ``whole`` is most like ``part``: float64 [n, 3]."""
    cuts = [np.tile(place, (len(whole_u8), 1)) for place in places]
    scores = np.stack([score(crop_arrays(whole_u8, cut), part_u8) for cut in cuts])
    return np.array(places)[scores.argmax(0)]


def best_crop(
    whole_u8: np.ndarray, part_u8: np.ndarray, cut: np.ndarray, score: Score, max_cut: float, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Search the box of ``whole`` that is most like ``part``: moves one number at a time, in ever smaller steps.

    Args:
        whole_u8, part_u8: uint8 [n, h, w, c]. cut: float [n, 3], where to begin. max_cut: largest fraction cut off.
        least: a score below is of no use; what is far from it after a round of steps is searched no further.

    Returns:
        (score float32 [n], cut float [n, 3]).
    """
    cut = cut.astype(np.float64).copy()
    best = score(crop_arrays(whole_u8, cut), part_u8)
    for step, hope in SEARCH:
        going = np.flatnonzero(best >= least - hope)
        if len(going):
            best[going], cut[going] = _climb(
                whole_u8[going], part_u8[going], best[going], cut[going], score, step, max_cut
            )
    return best, cut


def _climb(
    whole_u8: np.ndarray, part_u8: np.ndarray, best: np.ndarray, cut: np.ndarray, score: Score, step: float, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """One step to each side for each of the box's three numbers, kept where it raises the score."""
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)):
        trial = cut.copy()
        trial[:, axis] += sign * step
        if axis == 0:  # grow or shrink about the centre
            trial[:, 1:] += sign * step / 2
        trial[:, 0] = np.clip(trial[:, 0], 0, most)
        trial[:, 1:] = np.clip(trial[:, 1:], 0, trial[:, :1])
        value = score(crop_arrays(whole_u8, trial), part_u8)
        better = value > best
        best, cut = np.where(better, value, best), np.where(better[:, None], trial, cut)
    return best, cut
