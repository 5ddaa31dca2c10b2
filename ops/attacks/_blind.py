"""The blind classifier: can members be told from non-members without looking at any release?

If it can, the two roles differ by themselves (another camera, another year, another mix of classes), and an attack that
"finds members" may only have found that difference: published attacks on eight benchmarks were beaten by classifiers
that never saw the model. It then proves nothing, whichever way it ends: the audit is INVALID.

Each subject is described by the mean over its images of the feature net's embedding, a small copy of the picture, its
brightness, contrast and sharpness, its classes and its number of images, plus random rectified projections of these
(Rahimi and Recht 2008) so that differences in spread are seen as well as shifts. A ridge regression is cross-validated
over subjects. Its predictions are linear in the labels, so the whole cross-validation is repeated under permuted labels
by one product of matrices, and the p-value is exact, refitting included.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ops.attacks._view import Records
from ops.attacks.nearest_neighbour import pixel_vectors
from ops.core import seeds


class Blind(NamedTuple):
    """Cross-validated AUC of the blind classifier (0.5: it knows nothing) and its one-sided permutation p-value."""

    auc: float
    p: float


def describe_subjects(
    records: Records, classes: list[str], image_px: int, use_features: bool
) -> tuple[np.ndarray, np.ndarray]:
    """One row a subject: names, str [s] sorted, and float64 [s, d]."""
    columns = [pixel_vectors(records.images_u8, image_px), _statistics(records.images_u8)]
    columns += [(records.labels[:, None] == np.array(classes)[None, :]).astype(np.float32)]
    if use_features:
        columns += [records.features]
    names, codes, counts = np.unique(records.subjects, return_inverse=True, return_counts=True)
    table = pd.DataFrame(np.concatenate(columns, axis=1).astype(np.float64)).groupby(codes).mean().to_numpy()
    return names, np.column_stack([table, counts])


def _statistics(images_u8: np.ndarray) -> np.ndarray:
    """Per image and channel: mean, standard deviation, mean step to the right and downwards. float32 [n, 4c]."""
    parts = []
    for start in range(0, len(images_u8), 2048):
        block = images_u8[start : start + 2048].astype(np.float32)
        steps = [np.abs(np.diff(block, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
        parts.append(np.concatenate([block.mean(axis=(1, 2)), block.std(axis=(1, 2)), *steps], axis=1))
    return np.concatenate(parts)


def blind_test(
    members: np.ndarray,
    nonmembers: np.ndarray,
    *,
    folds: int,
    permutations: int,
    ridge: float,
    projections: int,
    seed: int,
) -> Blind:
    """Tell members' descriptions from non-members': float64 [n, d], [m, d] → :class:`Blind`.

    ``ridge`` is the penalty in units of one subject (features have unit variance), ``projections`` the number of random
    rectified ones added.
    """
    x = _expanded(np.concatenate([members, nonmembers]), projections, seed)
    truth = np.r_[np.ones(len(members)), -np.ones(len(nonmembers))]
    draws = seeds.generator(seed, "blind permutations")
    labels = np.column_stack([truth, draws.permuted(np.tile(truth, (permutations, 1)), axis=1).T]).astype(np.float32)
    fold = seeds.permutation(seed, len(x), "blind folds") % folds
    areas = _areas(_predictions(x, labels, fold, ridge), labels > 0)
    return Blind(float(areas[0]), float((areas >= areas[0] - 1e-12).sum() / (1 + permutations)))


def _expanded(described: np.ndarray, projections: int, seed: int) -> np.ndarray:
    """Standardised columns, random rectified projections of them (standardised too) and a constant: float32 [s, e]."""
    linear = _standardised(described)
    weights = seeds.generator(seed, "blind projections").standard_normal((linear.shape[1], projections))
    rectified = _standardised(np.maximum(linear @ weights / np.sqrt(linear.shape[1]), 0.0))
    return np.concatenate([linear, rectified, np.ones((len(linear), 1))], axis=1).astype(np.float32)


def _standardised(columns: np.ndarray) -> np.ndarray:
    spread = columns.std(axis=0)
    varies = spread > 1e-9
    return (columns[:, varies] - columns[:, varies].mean(axis=0)) / spread[varies]


def _predictions(x: np.ndarray, labels: np.ndarray, fold: np.ndarray, ridge: float) -> np.ndarray:
    """Out-of-fold ridge predictions of every column of labels: [s, e], ±1 [s, b], folds [s] → float32 [s, b]."""
    out = np.empty_like(labels)
    for part in range(int(fold.max()) + 1):
        held, kept = fold == part, fold != part
        gram = x[kept].T.astype(np.float64) @ x[kept] + ridge * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, (x[kept].T @ labels[kept]).astype(np.float64))
        out[held] = x[held] @ weights.astype(np.float32)
    return out


def _areas(predictions: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    """AUC of every column: float [s, b], bool [s, b] → float64 [b]."""
    n = int(is_member[:, 0].sum())
    m = len(is_member) - n
    return np.array(
        [
            (stats.rankdata(column)[member].sum() - n * (n + 1) / 2.0) / (n * m)
            for column, member in zip(predictions.T, is_member.T, strict=True)
        ]
    )
