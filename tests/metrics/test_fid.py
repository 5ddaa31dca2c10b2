"""FID: identity, symmetry, closed forms, monotonicity, and scipy's square root as the reference."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from ops.metrics import fid


def cloud(n: int, d: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / d**0.5 * scale + shift


def by_matrix_root(a: np.ndarray, b: np.ndarray) -> float:
    """The usual code: scipy's square root of the product of the covariances."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(cov_a @ cov_b))
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root))


def test_a_set_has_no_distance_to_itself() -> None:
    a = cloud(300, 16)
    assert fid.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_the_distance_is_the_same_both_ways() -> None:
    a, b = cloud(300, 16), cloud(200, 16, seed=1, scale=2)
    assert fid.frechet_distance(a, b) == pytest.approx(fid.frechet_distance(b, a), rel=1e-12)


def test_a_shift_costs_its_squared_length() -> None:
    a = cloud(300, 16)
    assert fid.frechet_distance(a, a + 0.5) == pytest.approx(16 * 0.25, rel=1e-9)


def test_scaled_axes_have_the_closed_form() -> None:
    mean, spread_a, spread_b = np.zeros(3), np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.0])
    found = fid.frechet_from_moments(mean, np.diag(spread_a), mean, np.diag(spread_b))
    assert found == pytest.approx(np.square(np.sqrt(spread_a) - np.sqrt(spread_b)).sum(), rel=1e-12)


@pytest.mark.parametrize("d", [2, 16, 64])
def test_it_equals_the_matrix_square_root(d: int) -> None:
    a, b = cloud(400, d), cloud(300, d, seed=1, scale=1.3, shift=0.2)
    assert fid.frechet_distance(a, b) == pytest.approx(by_matrix_root(a, b), rel=1e-6)


def test_fewer_images_than_dimensions_need_no_jitter() -> None:
    """Exact against eigenvalues of the product, which are the squares of the singular values that are summed."""
    a, b = cloud(12, 40), cloud(300, 40, seed=1)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    lower = np.linalg.cholesky(cov_b)
    root = np.sqrt(np.clip(np.linalg.eigvalsh(lower.T @ cov_a @ lower), 0, None)).sum()
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert fid.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert fid.gaussian(a).rank_deficient
    assert not fid.gaussian(b).rank_deficient


def test_features_that_never_vary_are_no_error() -> None:
    a = np.concatenate([cloud(100, 4), np.zeros((100, 3))], axis=1)
    assert fid.frechet_distance(a, a + 1.0) == pytest.approx(7.0, rel=1e-9)


def test_more_noise_is_further_away() -> None:
    a, rng = cloud(500, 8), np.random.default_rng(3)
    noise = rng.normal(size=a.shape)
    distances = [fid.frechet_distance(a, a + level * noise) for level in (0.1, 0.3, 1.0, 3.0)]
    assert distances == sorted(distances)
    assert distances[0] < distances[-1]


def test_a_generator_that_swaps_classes_is_seen_within_classes_only() -> None:
    a, b = cloud(200, 4), cloud(200, 4, seed=1, shift=3.0)
    both, labels = np.concatenate([a, b]), np.repeat(["a", "b"], 200)
    swapped = fid.intra_class(both, labels[::-1], both, labels)
    assert fid.frechet_distance(both, both) == pytest.approx(0, abs=1e-8)
    assert min(swapped.values()) > 10
    assert max(fid.intra_class(both, labels, both, labels).values()) == pytest.approx(0, abs=1e-8)


def test_a_class_with_one_image_has_no_distance_rather_than_a_wrong_one() -> None:
    a, labels = cloud(20, 4), np.array(["a"] * 19 + ["b"])
    assert set(fid.intra_class(a, labels, a, labels)) == {"a"}


def test_what_is_no_covariance_is_refused() -> None:
    with pytest.raises(ValueError, match="negative eigenvalue"):
        fid.covariance_factor(np.diag([1.0, -0.5]))
    with pytest.raises(ValueError, match="2 feature vectors"):
        fid.gaussian(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="not finite"):
        fid.gaussian(np.full((4, 3), np.nan))
