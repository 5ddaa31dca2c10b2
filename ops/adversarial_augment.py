"""DiffAugment (Zhao et al. 2020): differentiable augmentation of what the discriminator sees, real and fake alike.

It helps where there are few images: the discriminator cannot learn them by heart, and the generator learns no
augmented pictures because the gradient passes through. Every draw comes from the generator of random numbers that is
handed in, so a resumed run sees the same augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Augmentation = Literal["colour", "translation", "cutout"]
MAX_SHIFT = 1 / 8  # share of the side, as the authors set it
CUTOUT = 1 / 2  # share of the side


def augment(images: Tensor, kinds: Sequence[Augmentation], noise: torch.Generator) -> Tensor:
    """Augment float [n, c, h, w] in [−1, 1], each image by a draw of its own; shape and device stay."""
    for kind in kinds:
        images = _KINDS[kind](images, noise)
    return images


def _uniform(images: Tensor, noise: torch.Generator) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device, generator=noise)


def _whole(images: Tensor, low: int, high: int, noise: torch.Generator) -> Tensor:
    return torch.randint(low, high, (len(images), 1), device=images.device, generator=noise)


def _colour(images: Tensor, noise: torch.Generator) -> Tensor:
    """Brightness ± 0.5, saturation 0–2, contrast 0.5–1.5."""
    images = images + (_uniform(images, noise) - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (_uniform(images, noise) * 2)
    centre = images.mean(dim=(1, 2, 3), keepdim=True)
    return centre + (images - centre) * (_uniform(images, noise) + 0.5)


def _translation(images: Tensor, noise: torch.Generator) -> Tensor:
    """Shift by up to an eighth of the side; what moves in is zero."""
    height, width = images.shape[-2:]
    reach_y, reach_x = max(int(height * MAX_SHIFT + 0.5), 1), max(int(width * MAX_SHIFT + 0.5), 1)
    rows = _whole(images, 0, 2 * reach_y + 1, noise) + torch.arange(height, device=images.device)
    columns = _whole(images, 0, 2 * reach_x + 1, noise) + torch.arange(width, device=images.device)
    padded = F.pad(images, (reach_x, reach_x, reach_y, reach_y)).permute(0, 2, 3, 1)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cutout(images: Tensor, noise: torch.Generator) -> Tensor:
    """Blank a square of half the side whose centre lies anywhere in the image."""
    height, width = images.shape[-2:]
    middle_y, middle_x = _whole(images, 0, height, noise), _whole(images, 0, width, noise)
    half_y, half_x = height * CUTOUT / 2, width * CUTOUT / 2
    hit_y = (torch.arange(height, device=images.device) - middle_y).abs() < half_y
    hit_x = (torch.arange(width, device=images.device) - middle_x).abs() < half_x
    return images * ~(hit_y[:, None, :, None] & hit_x[:, None, None, :])


_KINDS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "colour": _colour,
    "translation": _translation,
    "cutout": _cutout,
}
