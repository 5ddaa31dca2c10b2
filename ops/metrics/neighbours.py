"""Precision, recall, density, coverage: does an image look real, and is every kind of real one drawn?

Each set's support is estimated by balls around its points that reach to their k-th nearest neighbour in the same set.

- precision: share of synthetic points inside some real ball (Kynkäänniemi et al. 2019); recall: the same with the roles
  exchanged, so it needs synthetic balls and one far outlier can inflate it.
- density: how many real balls hold a synthetic point, divided by k (Naeem et al. 2020, equation 4); may exceed 1.
- coverage: share of real balls that hold at least one synthetic point (equation 6); it forgives outliers on both sides.

No n × m matrix is ever held: distances come in blocks, each reduced at once to counts, so memory is O(n + m). Computed
in float64 after centring, since |x|² + |y|² − 2 x·y cancels for near points. Balls are closed: a point on the rim is
in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

BLOCK_ROWS = 1024  # of distances held at a time; a matter of memory, not of the result


class Support(NamedTuple):
    """All four figures: precision, recall and coverage in [0, 1], density ≥ 0."""

    precision: float
    recall: float
    density: float
    coverage: float


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks of squared Euclidean distances: float64 [n, d], [m, d] → (first row, [≤ BLOCK_ROWS, m])."""
    norms_y = y.square().sum(dim=1)
    for start in range(0, len(x), BLOCK_ROWS):
        rows = x[start : start + BLOCK_ROWS]
        block = torch.addmm(norms_y.expand(len(rows), -1), rows, y.T, alpha=-2.0)
        yield start, block.add_(rows.square().sum(dim=1, keepdim=True)).clamp_(min=0.0)


def squared_radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Squared distance of each point to its k-th nearest other point: float64 [n, d] → [n]; needs n > k ≥ 1."""
    radii = torch.empty(len(x), dtype=x.dtype, device=x.device)
    for start, block in squared_distances(x, x):
        rows = torch.arange(len(block), device=x.device)
        block[rows, rows + start] = torch.inf  # a point is not its own neighbour, whatever round-off says
        radii[start : start + len(block)] = block.kthvalue(k, dim=1).values
    return radii


def nearest(x: torch.Tensor, y: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact k nearest points of y for each of x: distances [n, k] ascending and rows of y, int64 [n, k]."""
    found = [block.topk(k, dim=1, largest=False) for _, block in squared_distances(x, y)]
    return torch.cat([top.values for top in found]).sqrt(), torch.cat([top.indices for top in found])


def support(real: np.ndarray, synthetic: np.ndarray, k: int, device: torch.device | None = None) -> Support:
    """Precision, recall, density and coverage of ``synthetic`` against ``real``: float [n, d], [m, d], n and m > k.

    Raises ValueError where either side has k points or fewer: its balls would be undefined.
    """
    if min(len(real), len(synthetic)) <= k:
        found = f"{len(real)} real and {len(synthetic)} synthetic"
        raise ValueError(f"neighbours at k = {k} need more than {k} points on each side, found {found}")
    if not (np.isfinite(real).all() and np.isfinite(synthetic).all()):
        raise ValueError("features hold a value that is not finite")
    centre = real.mean(axis=0, dtype=np.float64)
    x = torch.from_numpy(real.astype(np.float64) - centre).to(device or "cpu")
    y = torch.from_numpy(synthetic.astype(np.float64) - centre).to(device or "cpu")
    radii_x, radii_y = squared_radii(x, k), squared_radii(y, k)
    real_balls_around = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    covered, recalled = 0, 0
    for start, block in squared_distances(x, y):
        inside = block <= radii_x[start : start + len(block), None]
        real_balls_around += inside.sum(dim=0)
        covered += int(inside.any(dim=1).sum())
        recalled += int((block <= radii_y[None, :]).any(dim=1).sum())
    return Support(
        precision=float((real_balls_around > 0).double().mean()),
        recall=recalled / len(x),
        density=float(real_balls_around.double().mean()) / k,
        coverage=covered / len(x),
    )
