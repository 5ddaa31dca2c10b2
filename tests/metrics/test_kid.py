"""KID: against its definition and torchmetrics, without bias under equal distributions, monotone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ops.metrics import kid


def cloud(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def test_it_is_the_definition_written_out() -> None:
    x, y = cloud(7, 3, 0), cloud(7, 3, 1, 0.5)
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3  # noqa: E731
    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 42
    across = sum(k(x[i], y[j]) for i, j in pairs) / 49
    assert kid.mmd2_unbiased(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(within - 2 * across, rel=1e-10)


def test_it_agrees_with_torchmetrics() -> None:
    peer = pytest.importorskip("torchmetrics.image.kid")
    x, y = torch.from_numpy(cloud(60, 8, 0)), torch.from_numpy(cloud(60, 8, 1, 0.3))
    assert kid.mmd2_unbiased(x, y) == pytest.approx(float(peer.poly_mmd(x, y)), rel=1e-6)


def test_equal_distributions_have_no_distance_on_average_at_any_size() -> None:
    values = [
        kid.mmd2_unbiased(torch.from_numpy(cloud(20, 4, 2 * i)), torch.from_numpy(cloud(20, 4, 2 * i + 1)))
        for i in range(300)
    ]
    error = np.std(values) / 300**0.5
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0  # an estimate cut at zero would be biased


def test_a_larger_shift_is_further_away_and_both_ways_alike() -> None:
    settings: dict[str, int] = {"subsets": 10, "subset_size": 100, "seed": 1}
    a = cloud(200, 6, 0)
    found = [kid.kernel_distance(a, cloud(200, 6, 1, shift), **settings).mean for shift in (0.0, 0.3, 1.0)]
    assert found == sorted(found)
    x, y = torch.from_numpy(a), torch.from_numpy(cloud(150, 6, 2, 0.5))
    assert kid.mmd2_unbiased(x, y) == pytest.approx(kid.mmd2_unbiased(y, x), rel=1e-12)


def test_a_small_side_lowers_the_subset_of_both() -> None:
    found = kid.kernel_distance(cloud(30, 4, 0), cloud(500, 4, 1), subsets=3, subset_size=100, seed=0)
    assert found.subset_size == 30
    with pytest.raises(ValueError, match="2 feature vectors"):
        kid.kernel_distance(cloud(1, 4, 0), cloud(5, 4, 1), subsets=3, subset_size=100, seed=0)


def test_the_same_seed_gives_the_same_figure() -> None:
    a, b = cloud(90, 4, 0), cloud(90, 4, 1)
    one, two, other = (kid.kernel_distance(a, b, subsets=4, subset_size=40, seed=seed) for seed in (5, 5, 6))
    assert one == two != other
