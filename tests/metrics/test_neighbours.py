"""Precision, recall, density, coverage: against their definitions written out, and sets whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from ops.metrics import neighbours
from ops.metrics.neighbours import Support, support


def cloud(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def by_definition(real: np.ndarray, synthetic: np.ndarray, k: int) -> Support:
    """Full matrices and the formulas of Kynkäänniemi et al. 2019 and Naeem et al. 2020."""
    radii_real = np.sort(cdist(real, real), axis=1)[:, k]
    radii_synthetic = np.sort(cdist(synthetic, synthetic), axis=1)[:, k]
    apart = cdist(real, synthetic)
    inside = apart <= radii_real[:, None]
    return Support(
        precision=inside.any(axis=0).mean(),
        recall=(apart <= radii_synthetic[None, :]).any(axis=1).mean(),
        density=inside.sum() / (k * len(synthetic)),
        coverage=inside.any(axis=1).mean(),
    )


@pytest.mark.parametrize(("k", "shift"), [(1, 0.0), (3, 0.5), (5, 1.5)])
def test_blocks_give_what_the_full_matrices_give(k: int, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 17)
    real, synthetic = cloud(120, 5, 0), cloud(90, 5, 1, shift)
    found, expected = support(real, synthetic, k), by_definition(real, synthetic, k)
    assert tuple(found) == pytest.approx(tuple(expected), abs=1e-12)


def test_a_set_against_itself_is_fully_precise_and_covered() -> None:
    real = cloud(100, 4, 0)
    found = support(real, real, 5)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_a_far_set_covers_nothing() -> None:
    assert support(cloud(80, 4, 0), cloud(80, 4, 1, 100.0), 3) == Support(0.0, 0.0, 0.0, 0.0)


def test_collapse_to_one_real_image_is_precise_but_covers_little() -> None:
    real = cloud(100, 4, 0)
    found = support(real, np.repeat(real[:1], 50, axis=0), 5)
    assert found.precision == 1.0
    assert found.coverage < 0.2
    assert found.recall <= 0.01 + 1e-12


def test_precision_and_recall_are_not_swapped() -> None:
    """Synthetic images that fill one of two real clusters: all of them look real, half of the real ones are missed."""
    real = np.concatenate([cloud(60, 3, 0), cloud(60, 3, 1, 50.0)])
    found = support(real, cloud(60, 3, 2), 5)
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)


def test_exchanging_the_sets_exchanges_precision_and_recall() -> None:
    a, b = cloud(70, 3, 0), cloud(90, 3, 1, 0.7)
    there, back = support(a, b, 4), support(b, a, 4)
    assert (there.precision, there.recall) == (back.recall, back.precision)


def test_far_from_the_origin_near_points_keep_their_distances() -> None:
    real, synthetic = cloud(80, 4, 0), cloud(80, 4, 1)
    far = support(real + 1e5, synthetic + 1e5, 3)
    assert tuple(far) == pytest.approx(tuple(support(real, synthetic, 3)), abs=1e-12)


def test_nearest_finds_the_nearest_in_order() -> None:
    x, y = torch.from_numpy(cloud(20, 3, 0)), torch.from_numpy(cloud(40, 3, 1))
    distance, row = neighbours.nearest(x, y, 4)
    expected = np.sort(cdist(x, y), axis=1)[:, :4]
    np.testing.assert_allclose(distance, expected, atol=1e-9)
    np.testing.assert_array_equal(row, np.argsort(cdist(x, y), axis=1)[:, :4])


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 5 points"):
        support(cloud(5, 3, 0), cloud(50, 3, 1), 5)
