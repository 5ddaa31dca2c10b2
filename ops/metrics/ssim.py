"""SSIM of every image against every image of a pool, equal to scikit-image, without ever holding the table of scores.

The judge is ``skimage.metrics.structural_similarity`` with ``data_range=255, channel_axis=-1`` and either its default
window (uniform 7×7, sample covariance) or ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False`` (Wang,
Bovik, Sheikh and Simoncelli 2004): :func:`exact` calls it, and the fast functions agree with it within 1e-5 on every
pair, flat and bright images included (arithmetic: :mod:`ops.metrics.ssim_kernel`). Two computations of one number can
still fall on two sides of a threshold, so whoever compares a score with one sends what lies within :data:`MARGIN` of it
back to the judge: :func:`settle_near`.

Scores are reduced while they are made (mean, maximum, argmax, list of pairs above a threshold); memory is that of one
slab of the pool. Values do not depend on where tiles begin: tiles have one fixed shape, the last is padded.

Two doors are kept narrow for faster forms of the same numbers (``performance.md`` §2.4–2.5):

* :func:`pool_means` is all that a filter asks when it wants a mean. SSIM is a positive-definite kernel of low numerical
  rank, so the mean over a pool is one inner product with the pool's mean feature, at a cost that does not depend on the
  pool's size; that form may replace its body.
* :func:`pairs_above` is all that a search asks when it wants copies. An upper bound by inner products of such features
  can discard pairs before they are scored; it would go where slabs are swept (:func:`_sweep`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import structural_similarity

from ops.core.progress import Reporter, SilentReporter
from ops.metrics import ssim_native
from ops.metrics.ssim_engine import Engine, engine
from ops.metrics.ssim_kernel import WIN_SIZE_PX, Terms, Window, broadcast, facing, score_tile, terms

__all__ = [
    "MARGIN",
    "PoolScores",
    "Window",
    "exact",
    "pair_scores",
    "pairs_above",
    "pool_means",
    "pool_scores",
    "settle_near",
]

MARGIN = 2e-5  # twice the promised agreement with the judge
CPU = torch.device("cpu")
SILENT = SilentReporter()
PAIR_VALUES = 2**17  # pixels × pairs scored at once by pair_scores on a CPU: the buffers stay in cache


@dataclass(frozen=True)
class PoolScores:
    """Scores of n images against a pool. mean: float64 [n]; maximum: float32 [n]; argmax: int64 [n], the lowest index
    among equals."""

    mean: np.ndarray
    maximum: np.ndarray
    argmax: np.ndarray


def _check(x_u8: np.ndarray, y_u8: np.ndarray, window: Window) -> None:
    for images in (x_u8, y_u8):
        assert images.dtype == np.uint8, images.dtype
        assert images.ndim == 4, images.shape
    assert x_u8.shape[1:] == y_u8.shape[1:], f"images of one shape, not {x_u8.shape[1:]} and {y_u8.shape[1:]}"
    assert min(x_u8.shape[1:3]) >= WIN_SIZE_PX[window], (
        f"{window} window needs {WIN_SIZE_PX[window]} px, not {x_u8.shape}"
    )


def exact(x_u8: np.ndarray, y_u8: np.ndarray, window: Window = "uniform") -> float:
    """SSIM of one pair by scikit-image in float64, the judge: uint8 [h, w, c] twice → a number in [−1, 1]."""
    assert x_u8.dtype == np.uint8, x_u8.dtype
    assert y_u8.dtype == np.uint8, y_u8.dtype
    if window == "gaussian":
        form = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    else:
        form = {"win_size": WIN_SIZE_PX[window]}
    return float(structural_similarity(x_u8, y_u8, data_range=255, channel_axis=-1, **form))


def _padded(images_u8: np.ndarray, size: int, device: torch.device) -> torch.Tensor:
    """The images, the last repeated until there are ``size``: every tile has one shape, so one compilation serves."""
    rows = np.minimum(np.arange(size), len(images_u8) - 1)
    return torch.from_numpy(np.ascontiguousarray(images_u8[rows])).to(device)


def _pool_tiles(pool_u8: np.ndarray, run: Engine) -> list[Terms]:
    starts = range(0, len(pool_u8), run.lanes)
    return [terms(_padded(pool_u8[start : start + run.lanes], run.lanes, run.device), run.window) for start in starts]


def _sweep(
    images_u8: np.ndarray, pool_u8: np.ndarray, run: Engine, what: str, reporter: Reporter
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first row, first column, scores float32 [rows, columns]) over all pairs, slab of the pool by slab.

    Terms of a pool image are computed once; those of an image once a slab (about a thousand pool images).
    """
    done, total = 0, len(images_u8) * len(pool_u8)
    for column in range(0, len(pool_u8), run.slab):
        slab = pool_u8[column : column + run.slab]
        tiles = _pool_tiles(slab, run)
        for row, scores in _blocks(images_u8, tiles, run):
            yield row, column, scores[:, : len(slab)]
            done += len(scores) * len(slab)
            reporter.progress(what, done, total)


def _blocks(images_u8: np.ndarray, tiles: Sequence[Terms], run: Engine) -> Iterator[tuple[int, torch.Tensor]]:
    """(first row, scores of that block of images against all tiles), in order; side by side where the engine can."""

    def block(row: int) -> torch.Tensor:
        images = images_u8[row : row + run.rows]
        x = broadcast(_padded(images, run.rows, run.device), run.window)
        return torch.cat([run.score(x, tile) for tile in tiles], dim=1)[: len(images)]

    starts = range(0, len(images_u8), run.rows)
    if run.threads == 1:
        yield from ((row, block(row)) for row in starts)
        return
    with ThreadPoolExecutor(run.threads) as workers:
        for first in range(0, len(starts), 4 * run.threads):  # a few at a time: the table is never held whole
            group = starts[first : first + 4 * run.threads]
            yield from zip(group, workers.map(block, group), strict=True)


def pool_scores(
    images_u8: np.ndarray,
    pool_u8: np.ndarray,
    *,
    window: Window = "uniform",
    compiled: bool = False,
    device: torch.device = CPU,
    reporter: Reporter = SILENT,
) -> PoolScores:
    """Mean, maximum and argmax of the SSIM of each image to a pool.

    Args:
        images_u8: uint8 [n, h, w, c], c 1 or 3, sides of at least 7 px (uniform) or 11 px (gaussian).
        pool_u8: uint8 [m, h, w, c], m ≥ 1.
        compiled: use torch.compile (1–10 s once a shape; where there is no compiler it says so and runs eagerly).
    """
    _check(images_u8, pool_u8, window)
    assert len(pool_u8) > 0, "a pool of at least one image"
    run = engine(images_u8.shape[1:], window, compiled, device, reporter)
    total = np.zeros(len(images_u8))
    maximum = np.full(len(images_u8), -np.inf, np.float32)
    argmax = np.zeros(len(images_u8), np.int64)
    for row, column, scores in _sweep(images_u8, pool_u8, run, "ssim pairs", reporter):
        rows = slice(row, row + len(scores))
        table = scores.cpu().numpy()
        total[rows] += table.sum(1, dtype=np.float64)
        best = table.argmax(1)
        value = table[np.arange(len(table)), best]
        better = value > maximum[rows]
        maximum[rows] = np.where(better, value, maximum[rows])
        argmax[rows] = np.where(better, column + best, argmax[rows])
    return PoolScores(total / len(pool_u8), maximum, argmax)


def pool_means(
    images_u8: np.ndarray,
    pool_u8: np.ndarray,
    *,
    window: Window = "uniform",
    compiled: bool = False,
    device: torch.device = CPU,
    reporter: Reporter = SILENT,
) -> np.ndarray:
    """Mean SSIM of each image to a pool: float64 [n]. See :func:`pool_scores` for the arguments.

    The place for the form whose cost does not depend on the pool (see the head of this module).
    """
    return pool_scores(images_u8, pool_u8, window=window, compiled=compiled, device=device, reporter=reporter).mean


def pairs_above(
    images_u8: np.ndarray,
    pool_u8: np.ndarray,
    threshold: float,
    *,
    window: Window = "uniform",
    compiled: bool = False,
    device: torch.device = CPU,
    reporter: Reporter = SILENT,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs with SSIM ≥ threshold: (left int64 [k], right int64 [k], ssim float32 [k]), by left, then right.

    The threshold is met within 1e-5; who needs the last digit lowers it by :data:`MARGIN` and settles by :func:`exact`.
    """
    _check(images_u8, pool_u8, window)
    run = engine(images_u8.shape[1:], window, compiled, device, reporter)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for row, column, scores in _sweep(images_u8, pool_u8, run, "ssim pairs", reporter):
        table = scores.cpu().numpy()
        left, right = np.nonzero(table >= threshold)
        found.append((left + row, right + column, table[left, right]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    left, right, ssim = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((right, left))
    return left[order], right[order], ssim[order]


def pair_scores(
    x_u8: np.ndarray, y_u8: np.ndarray, *, window: Window = "uniform", device: torch.device = CPU
) -> np.ndarray:
    """SSIM of aligned lists of pairs: uint8 [n, h, w, c] twice → float32 [n].

    Our own C++ for the uniform window on a CPU with a compiler; elsewhere lane by lane, in tiles of fixed shape.
    """
    _check(x_u8, y_u8, window)
    assert len(x_u8) == len(y_u8), (len(x_u8), len(y_u8))
    if window == "uniform" and device.type == "cpu" and ssim_native.available():
        return ssim_native.score_pairs(x_u8, y_u8)
    values = int(np.prod(x_u8.shape[1:]))
    lanes = max((PAIR_VALUES if device.type == "cpu" else 2**25) // values // 16, 1) * 16
    scores = np.zeros(len(x_u8), np.float32)
    with torch.inference_mode():
        for start in range(0, len(x_u8), lanes):
            part = slice(start, start + lanes)
            x, y = (terms(_padded(side[part], lanes, device), window) for side in (x_u8, y_u8))
            tile = score_tile(facing(x, window), *y.tensors(), window=window)
            scores[part] = tile.cpu().numpy()[: len(x_u8[part])]
    return scores


def settle_near(
    scores: np.ndarray, thresholds: Sequence[float] | np.ndarray, judge: Callable[[int], float]
) -> tuple[np.ndarray, int]:
    """Replace each score within :data:`MARGIN` of a threshold by the judge's.

    Args:
        scores: float [n].
        thresholds: one list for all rows [t], or float [n, t] with the thresholds of each row.
        judge: row → its score in float64 (:func:`exact`, or a mean of it).

    Returns:
        (scores as float64 [n], how many were replaced).
    """
    settled = np.asarray(scores, np.float64).copy()
    limits = np.broadcast_to(np.asarray(thresholds, np.float64), (len(settled), np.shape(thresholds)[-1]))
    near = np.flatnonzero((np.abs(settled[:, None] - limits) <= MARGIN).any(1))
    for row in near.tolist():
        settled[row] = judge(row)
    return settled, len(near)
