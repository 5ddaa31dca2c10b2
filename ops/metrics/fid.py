"""Fréchet distance between two clouds of features (FID): how far apart are two Gaussians with their moments?

    d² = |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½                          (Heusel et al. 2017, equation 6)

The last trace is usually taken from a matrix square root. It does not need one: with any factors Σᵢ = Lᵢ Lᵢᵀ the
eigenvalues of Σ₁ Σ₂ are the squared singular values of L₁ᵀ L₂, so the trace is their plain sum, the nuclear norm of
L₁ᵀ L₂. Cholesky gives L for a covariance of full rank; with fewer images than dimensions the centred features
themselves are a factor, so that no jitter is ever added to make a singular matrix look regular.

The distance is biased upwards by small samples (Bińkowski et al. 2018, appendix D): two figures compare only at equal
numbers of images. With fewer images than dimensions it is exact for the sample and says little of the population;
:attr:`Gaussian.rank_deficient` tells, and callers report the numbers of images beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of a cloud of features.

    Attributes:
        mean: float64 [d].
        factor: float64 [d, r] with covariance = factor @ factor.T; r is d, or n where n < d.
        images: how many feature vectors it was estimated from.
    """

    mean: np.ndarray
    factor: np.ndarray
    images: int

    @property
    def rank_deficient(self) -> bool:
        """Whether the sample spans fewer dimensions than the features have (n − 1 < d)."""
        return self.images - 1 < len(self.mean)

    @property
    def trace(self) -> float:
        """Trace of the covariance: the squared Frobenius norm of its factor."""
        return float(np.square(self.factor).sum())


def gaussian(features: np.ndarray) -> Gaussian:
    """Fit a Gaussian: float [n, d], n ≥ 2. The covariance divides by n − 1, as ``numpy.cov`` and usual FID code do."""
    assert features.ndim == 2, features.shape
    if len(features) < 2:
        raise ValueError(f"a covariance needs 2 feature vectors or more, found {len(features)}")
    if not np.isfinite(features).all():
        raise ValueError("features hold a value that is not finite")
    n, d = features.shape
    values = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float64))
    mean = values.mean(dim=0)
    centred = (values - mean) / (n - 1) ** 0.5
    if n <= d:
        return Gaussian(mean.numpy(), centred.T.contiguous().numpy(), n)
    return Gaussian(mean.numpy(), covariance_factor((centred.T @ centred).numpy()), n)


def covariance_factor(covariance: np.ndarray) -> np.ndarray:
    """L with L Lᵀ = covariance: float64 [d, d] → [d, d].

    Cholesky where the matrix is positive definite, else eigenvectors scaled by the roots of the eigenvalues. Raises
    ValueError for a matrix with an eigenvalue below round-off (it is no covariance).
    """
    matrix = torch.from_numpy(np.ascontiguousarray(covariance, dtype=np.float64))
    matrix = (matrix + matrix.T) / 2
    lower, fault = torch.linalg.cholesky_ex(matrix)
    if int(fault) == 0:
        return lower.numpy()
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    round_off = float(eigenvalues.abs().max()) * len(matrix) * np.finfo(np.float64).eps
    if float(eigenvalues.min()) < -10 * round_off:
        raise ValueError(f"a covariance has no negative eigenvalue, found {float(eigenvalues.min()):.3g}")
    return (vectors * eigenvalues.clamp(min=0).sqrt()).numpy()


def trace_root(factor_a: np.ndarray, factor_b: np.ndarray) -> float:
    """tr (Σₐ Σ_b)^½ from factors [d, r] and [d, s]: the sum of the singular values of factor_aᵀ factor_b."""
    product = torch.from_numpy(factor_a).T @ torch.from_numpy(factor_b)
    return float(torch.linalg.svdvals(product).sum())


def between(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance of two Gaussians: ≥ 0, 0 only where they are equal, in squared units of the features."""
    shift = float(np.square(a.mean - b.mean).sum())
    scale = a.trace + b.trace
    distance = shift + scale - 2 * trace_root(a.factor, b.factor)
    # Equal clouds cancel to ± round-off of the traces; anything more negative would be a fault and must show.
    return 0.0 if -1e-9 * scale < distance < 0 else distance


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """FID of two clouds of features: float [n, d] and [m, d]. Symmetric."""
    return between(gaussian(features_a), gaussian(features_b))


def frechet_from_moments(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """FID of two Gaussians given as moments: means [d], covariances [d, d]; sample sizes unknown."""
    a = Gaussian(np.asarray(mean_a, np.float64), covariance_factor(covariance_a), len(mean_a) + 1)
    b = Gaussian(np.asarray(mean_b, np.float64), covariance_factor(covariance_b), len(mean_b) + 1)
    return between(a, b)


def intra_class(
    features: np.ndarray, labels: np.ndarray, real_features: np.ndarray, real_labels: np.ndarray
) -> dict[str, float]:
    """FID of each class against the same class of the real set (Miyato and Koyama 2018): label → distance.

    Unlike the overall FID it sees a conditional generator that draws one class under every label. Classes with fewer
    than two images on either side are left out.
    """
    distances = {}
    for name in sorted(set(real_labels.tolist())):
        ours, theirs = features[labels == name], real_features[real_labels == name]
        if min(len(ours), len(theirs)) >= 2:
            distances[name] = frechet_distance(ours, theirs)
    return distances
