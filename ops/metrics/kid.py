"""Kernel distance between two clouds of features (KID): a two-sample statistic without bias from the sample size.

The squared maximum mean discrepancy with the kernel k(x, y) = (x·y / d + 1)³ (Bińkowski et al. 2018, section 3):

    MMD²ᵤ = Σ_{i≠j} k(xᵢ, xⱼ) / m(m−1) + Σ_{i≠j} k(yᵢ, yⱼ) / m(m−1) − 2 Σ_{i,j} k(xᵢ, yⱼ) / m²

Its expectation is 0 for equal distributions at every m, so it may be slightly negative. Reported is the mean over
random subsets of one size, and their standard deviation, which describes one subset and is no error bar of the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ops.core import seeds


class KernelDistance(NamedTuple):
    """Mean and standard deviation over subsets, and the size of each subset (the same on both sides)."""

    mean: float
    std: float
    subset_size: int


def polynomial_kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(x·y / d + 1)³: float64 [n, d], [m, d] → [n, m]."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def mmd2_unbiased(x: torch.Tensor, y: torch.Tensor) -> float:
    """The unbiased estimate of MMD² for n and m vectors (n, m ≥ 2): float64 [n, d], [m, d]."""
    n, m = len(x), len(y)
    k_xx, k_yy, k_xy = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    within_x = (k_xx.sum() - k_xx.diagonal().sum()) / (n * (n - 1))
    within_y = (k_yy.sum() - k_yy.diagonal().sum()) / (m * (m - 1))
    return float(within_x + within_y - 2 * k_xy.mean())


def kernel_distance(
    features_a: np.ndarray, features_b: np.ndarray, *, subsets: int, subset_size: int, seed: int
) -> KernelDistance:
    """KID of two clouds of features: float [n, d] and [m, d], n and m ≥ 2.

    Args:
        subsets: how many random subsets are drawn from each cloud, without replacement within one.
        subset_size: vectors in a subset; smaller clouds lower it for both sides.
        seed: the draw derives from it.
    """
    size = min(subset_size, len(features_a), len(features_b))
    if size < 2:
        raise ValueError(f"a kernel distance needs 2 feature vectors or more on each side, found {size}")
    if not (np.isfinite(features_a).all() and np.isfinite(features_b).all()):
        raise ValueError("features hold a value that is not finite")
    a = torch.from_numpy(np.ascontiguousarray(features_a, dtype=np.float64))
    b = torch.from_numpy(np.ascontiguousarray(features_b, dtype=np.float64))
    values = []
    for number in range(subsets):
        rng = seeds.generator(seed, "kid", number)
        rows_a = torch.from_numpy(rng.permutation(len(a))[:size])
        rows_b = torch.from_numpy(rng.permutation(len(b))[:size])
        values.append(mmd2_unbiased(a[rows_a], b[rows_b]))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), size)
