"""How close is a set of images to the real ones? Every distance in feature space, from features computed once.

The real figures in ``reports/real.json`` carry the same names: there, real test images stand in the place of synthetic
ones, so each figure has beside it what real images themselves reach.

Protocol. Reference points are the training images (``…_train``) or the test images (``…_test``). FID depends on the
number of images, and so do the four neighbour figures: ``fid_train_matched`` and ``precision_k5`` … ``coverage_k5``
therefore use as many synthetic images as the test role has, and compare with the real figures; ``fid_train`` uses all.
KID has no such bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ops.core import seeds
from ops.metrics.fid import frechet_distance, intra_class
from ops.metrics.kid import kernel_distance
from ops.metrics.neighbours import support


@dataclass(frozen=True)
class Cloud:
    """Features of one set: float32 [n, d], and the label of each: str [n]."""

    features: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def some(self, count: int, seed: int) -> Cloud:
        """A random ``count`` of them (all where there are fewer), in their order."""
        rows = np.sort(seeds.permutation(seed, len(self), "matched")[:count])
        return Cloud(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class Protocol:
    """What a figure depends on besides the images.

    Attributes:
        k: neighbours that set the radius of a ball (precision, recall, density, coverage).
        kid_subsets, kid_subset_size: random subsets of KID.
        matched: how many images enter the figures that depend on their number.
        device: where distances between all pairs are computed (float64).
    """

    k: int
    kid_subsets: int
    kid_subset_size: int
    matched: int
    device: torch.device


def distances(cloud: Cloud, real: Cloud, name: str, protocol: Protocol, seed: int) -> dict[str, float]:
    """FID and KID against one role: ``fid_<name>``, ``kid_<name>``, ``kid_<name>_std``; needs 2 images each side."""
    subsets, size = protocol.kid_subsets, protocol.kid_subset_size
    kid = kernel_distance(cloud.features, real.features, subsets=subsets, subset_size=size, seed=seed)
    fid = frechet_distance(cloud.features, real.features)
    return {f"fid_{name}": fid, f"kid_{name}": kid.mean, f"kid_{name}_std": kid.std}


def neighbours(cloud: Cloud, real: Cloud, protocol: Protocol, seed: int) -> dict[str, float]:
    """``precision_k``, ``recall_k``, ``density_k``, ``coverage_k`` at matched numbers; needs > k each side."""
    found = support(real.features, cloud.some(protocol.matched, seed).features, protocol.k, protocol.device)
    return {f"{figure}_k{protocol.k}": value for figure, value in found._asdict().items()}


def per_class(cloud: Cloud, real: Cloud) -> dict[str, float]:
    """``fid_intra_<class>`` and their ``fid_intra_mean`` (over the classes that both sides have)."""
    found = intra_class(cloud.features, cloud.labels, real.features, real.labels)
    figures = {f"fid_intra_{name}": value for name, value in found.items()}
    return {**figures, "fid_intra_mean": float(np.mean(list(found.values())))} if found else {}


def against_train(cloud: Cloud, train: Cloud, protocol: Protocol, seed: int) -> dict[str, float]:
    """Every figure against the training images; those that so few images cannot bear are left out."""
    if len(cloud) < 2:
        return {}
    figures = distances(cloud, train, "train", protocol, seed)
    figures["fid_train_matched"] = frechet_distance(cloud.some(protocol.matched, seed).features, train.features)
    if min(len(cloud), len(train)) > protocol.k:
        figures |= neighbours(cloud, train, protocol, seed)
    return figures | per_class(cloud, train)
