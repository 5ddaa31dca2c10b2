"""Which pairs can be copies at all: an inner product per pair, by matrix product over blocks.

In a window p of a reduced grey image, let φ_p(x) be its 49 deviations from their mean and the constant √(24·C2), scaled
to length 1. Then ⟨φ_p(x), φ_p(y)⟩ = (cov + C2/2) / √((vx + C2/2)(vy + C2/2)), which by the inequality of arithmetic and
geometric means is at least SSIM's contrast-structure term wherever that is positive. Its mean over windows is
therefore a ceiling of SSIM that no shift of brightness moves and no gain moves much. Projected to a few directions
(those of most energy in a sample), with what is left of each vector's length as one more coordinate, it stays one:
⟨u, v⟩ ≤ ⟨Pu, Pv⟩ + √(1−|Pu|²)·√(1−|Pv|²) (Cauchy–Schwarz). Windows are taken at a stride and channels are averaged, so
``slack`` is left below the threshold; recall against brute force is measured in the tests (1.0 on MNIST).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ops.metrics.ssim_kernel import AREA, C2

WINDOW_PX, STRIDE_PX = 7, 3
SAMPLE = 1024  # images from which the directions are found
BLOCK = {"cpu": (512, 2048)}  # rows and columns of a block of inner products: 4 MiB stay in the cache (5 x faster)
BLOCK_ELSEWHERE = (2048, 8192)  # 64 MiB keep a GPU busy
CHUNK = 512


def reduced(images_u8: Tensor, side_px: int) -> Tensor:
    """Grey images no larger than ``side_px``: uint8 [n, h, w, c] → float32 [n, h', w']."""
    grey = images_u8.float().mean(-1)
    height, width = grey.shape[1:]
    scale = min(1.0, side_px / max(height, width))
    if scale == 1.0:
        return grey
    size = (max(round(height * scale), WINDOW_PX), max(round(width * scale), WINDOW_PX))
    return functional.interpolate(grey[:, None], size, mode="bilinear", antialias=True)[:, 0]


def window_features(grey: Tensor) -> Tensor:
    """φ of all windows of each image, of length 1 together: float32 [n, h, w] → float32 [n, windows × 50]."""
    windows = grey.unfold(1, WINDOW_PX, STRIDE_PX).unfold(2, WINDOW_PX, STRIDE_PX).flatten(3)
    centred = windows - windows.mean(-1, keepdim=True)
    constant = (AREA - 1) / 2 * C2
    phi = torch.cat([centred, torch.full_like(centred[..., :1], constant**0.5)], -1)
    phi = phi * (centred.square().sum(-1, keepdim=True) + constant).mul(phi.shape[1] * phi.shape[2]).rsqrt()
    return phi.flatten(1)


class Screen:
    """Embeds reduced grey images so that an inner product of two embeddings is a ceiling of their SSIM."""

    def __init__(self, sample: Tensor, rank: int) -> None:
        """Find the directions: eigenvectors of the sample's Gram matrix. Evenly spaced rows, so nothing is drawn.

        Args:
            sample: float32 [n, h, w], reduced grey images.
        """
        rows = np.unique(np.linspace(0, len(sample) - 1, min(SAMPLE, len(sample))).astype(np.int64))
        features = window_features(sample[torch.from_numpy(rows).to(sample.device)])
        energy, vectors = torch.linalg.eigh((features @ features.T).double())
        keep = torch.arange(len(energy) - 1, max(len(energy) - 1 - rank, -1), -1, device=sample.device)
        keep = keep[energy[keep] > 1e-6 * energy[-1]]
        self.directions = (features.T.double() @ vectors[:, keep] / energy[keep].sqrt()).float()

    def embed(self, grey: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """float32 [n, h, w] → float32 [n, rank + 1]; ``change`` is applied to each batch of images first."""
        parts = []
        for start in range(0, len(grey), CHUNK):
            batch = grey[start : start + CHUNK]
            projected = window_features(change(batch) if change else batch) @ self.directions
            rest = (1 - (projected * projected).sum(1, keepdim=True)).clamp_min(0).sqrt()
            parts.append(torch.cat([projected, rest], 1))
        return torch.cat(parts)


def reduce_all(images_u8: np.ndarray, side_px: int, device: torch.device) -> Tensor:
    """:func:`reduced` for a whole set, batch by batch: uint8 [n, h, w, c] → float32 [n, h', w']."""
    starts = range(0, len(images_u8), CHUNK)
    batches = (torch.from_numpy(np.ascontiguousarray(images_u8[start : start + CHUNK])) for start in starts)
    return torch.cat([reduced(batch.to(device), side_px) for batch in batches])


def _blocks(left: Tensor, right: Tensor, upper_only: bool = False) -> Iterator[tuple[int, int, Tensor]]:
    """(first row, first column, inner products) of every block, or of those that reach above the diagonal."""
    rows, columns = BLOCK.get(left.device.type, BLOCK_ELSEWHERE)
    for row in range(0, len(left), rows):
        block = left[row : row + rows]
        for column in range(row // columns * columns if upper_only else 0, len(right), columns):
            yield row, column, block @ right[column : column + columns].T


def candidates(left: Tensor, right: Tensor, least: float, upper_only: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs whose inner product is at least ``least``, a block at a time: (int64 [k], int64 [k]).

    With ``upper_only`` both sides are one set, and of each unordered pair only the one with left < right is given.
    """
    for row, column, ceiling in _blocks(left, right, upper_only):
        near = torch.nonzero(ceiling.amax(1) >= least)[:, 0]  # few rows: most of a block is never looked at again
        if len(near) == 0:
            continue
        among, across = torch.nonzero(ceiling[near] >= least, as_tuple=True)
        x, y = near[among].cpu().numpy() + row, across.cpu().numpy() + column
        keep = x < y if upper_only else np.ones(len(x), bool)
        yield x[keep], y[keep]


def batched(pairs: Iterator[tuple[np.ndarray, np.ndarray]], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same pairs in the same order, ``size`` at a time; the last batch holds what is left."""
    held = np.zeros((2, 0), np.int64)
    for pair in pairs:
        held = np.concatenate([held, np.stack(pair)], 1)
        while held.shape[1] >= size:
            yield held[0, :size], held[1, :size]
            held = held[:, size:]
    if held.shape[1]:
        yield held[0], held[1]


def best_partners(
    views: Sequence[Tensor], right: Tensor, least: float, count: int, own: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs whose ceiling reaches ``least`` in any of several views of the left images; of a row the ``count`` highest.

    Args:
        views: v embeddings of the same n left images, float32 [n, r] each.
        own: where both sides are one set, the row of ``right`` that the first left image is; no image is then its own
            partner.

    Returns:
        (left row, right row, view of the highest ceiling): int64 [k] each, by row.
    """
    best = torch.full((len(views[0]), count), -1.0, device=right.device)
    partner = torch.zeros((len(views[0]), count), dtype=torch.int64, device=right.device)
    rows, columns = BLOCK.get(right.device.type, BLOCK_ELSEWHERE)
    for row in range(0, len(best), rows):
        for column in range(0, len(right), columns):
            ceiling = _highest([view[row : row + rows] for view in views], right[column : column + columns])
            if own is not None:
                _hide_self(ceiling, row + own, column)
            bound = best[row : row + rows].amin(1).clamp_min(least)
            near = torch.nonzero(ceiling.amax(1) >= bound)[:, 0]
            if len(near):
                _enter(best, partner, near + row, ceiling[near], column)
    kept, place = torch.nonzero(best >= least, as_tuple=True)
    chosen = partner[kept, place]
    each = torch.stack([(view[kept] * right[chosen]).sum(1) for view in views])
    return kept, chosen, each.argmax(0)


def _highest(lefts: Sequence[Tensor], right: Tensor) -> Tensor:
    """The largest inner product over views: [n, r] each, [m, r] → [n, m]."""
    highest = lefts[0] @ right.T
    for left in lefts[1:]:
        torch.maximum(highest, left @ right.T, out=highest)
    return highest


def _enter(best: Tensor, partner: Tensor, rows: Tensor, ceiling: Tensor, column: int) -> None:
    """Enter the highest of a block, whose columns begin at ``column``, into the lists of these rows."""
    count = best.shape[1]
    top, index = ceiling.topk(min(count, ceiling.shape[1]))
    values = torch.cat([best[rows], top], 1).topk(count)
    best[rows] = values.values
    partner[rows] = torch.cat([partner[rows], index + column], 1).gather(1, values.indices)


def _hide_self(ceiling: Tensor, row: int, column: int) -> None:
    """Rule out the pairs of an image with itself in a block that starts at (row, column)."""
    first = max(row, column)
    last = min(row + ceiling.shape[0], column + ceiling.shape[1])
    if first < last:
        same = torch.arange(first, last, device=ceiling.device)
        ceiling[same - row, same - column] = -1.0
