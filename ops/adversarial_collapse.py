"""Has the generator collapsed? Figures that show it, from samples and from the discriminator's record.

Distances are Euclidean on images reduced to 16 px or less by area: enough to see repeated pictures and missing ones.
They warn about training; fidelity is measured by the stage ``validate`` in feature space.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE_PX = 16
NEIGHBOURS = 5  # k of coverage (Naeem et al. 2020)
ACCURACY_COLUMN = 3  # of a curve's row: step, loss_d, loss_g, accuracy_d
PINNED_HIGH, PINNED_LOW = 0.99, 0.55  # references/audit.md §1.2


def figures(
    samples_u8: np.ndarray, sample_codes: np.ndarray, real_u8: np.ndarray, real_codes: np.ndarray, ratio: float
) -> dict[str, float]:
    """Collapse figures of labelled samples uint8 [n, h, w, c] against real images of the same labels.

    Returns, over the classes that have at least ``NEIGHBOURS + 2`` images on both sides (none: no figures):

    - ``duplicate_rate``: share of samples with another sample of the class closer than ``ratio`` × the median distance
      between nearest real images of the class;
    - ``support_birthday``: s² where s is the number of samples seen when the first such pair appeared (Arora and Zhang
      2018), left out where there was none;
    - ``coverage_mean``, ``coverage_min_class``: share of real images whose ball to the 5th real neighbour holds a
      sample of the class (Naeem et al. 2020, eq. 6), mean and worst class;
    - ``label_agreement_min_class``: share of samples whose nearest real image has the sample's label, worst class
      (a conditional generator that draws one class for all labels scores 0 for the others).
    """
    fakes, reals = _reduced(samples_u8), _reduced(real_u8)
    fake_codes, codes = torch.from_numpy(sample_codes), torch.from_numpy(real_codes)
    duplicates, coverages = [], []
    for code in torch.unique(codes).tolist():
        own_fakes, own_reals = fakes[fake_codes == code], reals[codes == code]
        if min(len(own_fakes), len(own_reals)) < NEIGHBOURS + 2:
            continue
        limit = ratio * float(_apart(own_reals).min(dim=1).values.median())
        duplicates.append(_apart(own_fakes) <= limit)
        coverages.append(_coverage(own_fakes, own_reals))
    if not duplicates:
        return {}
    agreement = codes[_distances(fakes, reals).argmin(dim=1)] == fake_codes
    by_class = [float(agreement[fake_codes == code].double().mean()) for code in torch.unique(fake_codes).tolist()]
    repeated = torch.cat([pairs.any(dim=1) for pairs in duplicates])
    return {
        "duplicate_rate": float(repeated.double().mean()),
        "coverage_mean": float(np.mean(coverages)),
        "coverage_min_class": min(coverages),
        "label_agreement_min_class": min(by_class),
        **_support(duplicates),
    }


def _reduced(images_u8: np.ndarray) -> Tensor:
    images = torch.from_numpy(np.array(images_u8)).permute(0, 3, 1, 2).double()
    side_px = min(SIDE_PX, *images.shape[-2:])
    return F.adaptive_avg_pool2d(images, side_px).flatten(1)


def _distances(left: Tensor, right: Tensor) -> Tensor:
    """Euclidean distances float64 [n, m]; float64 so that the product form keeps small ones."""
    squares = left.square().sum(1)[:, None] + right.square().sum(1)[None] - 2 * left @ right.T
    return squares.clamp_(min=0).sqrt_()


def _apart(images: Tensor) -> Tensor:
    """Distances within a set, an image's distance to itself set to infinity."""
    return _distances(images, images).fill_diagonal_(torch.inf)


def _coverage(fakes: Tensor, reals: Tensor) -> float:
    radius = _apart(reals).kthvalue(NEIGHBOURS, dim=1).values
    return float((_distances(reals, fakes).min(dim=1).values <= radius).double().mean())


def _support(duplicates: list[Tensor]) -> dict[str, float]:
    """Birthday estimate summed over classes, where every class showed a repetition."""
    total = 0.0
    for pairs in duplicates:
        later = torch.tril(pairs).any(dim=1).nonzero()
        if not len(later):
            return {}
        total += float(later[0]) ** 2 + 2 * float(later[0]) + 1
    return {"support_birthday": total}


def pinned_ticks(curve: np.ndarray) -> int:
    """Longest run of ticks with the discriminator's accuracy pinned (≥ 0.99 or ≤ 0.55): curve float64 [k, 4]."""
    longest = run = 0
    for accuracy in curve[:, ACCURACY_COLUMN]:
        run = run + 1 if accuracy >= PINNED_HIGH or accuracy <= PINNED_LOW else 0
        longest = max(longest, run)
    return longest
