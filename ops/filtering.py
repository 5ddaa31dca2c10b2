"""Filter a synthetic set by its likeness to real images: too unlike, too like on average, or too close to one of them.

Two scores an image, both SSIM as scikit-image computes it (:mod:`ops.metrics.ssim`):

* ``ssim_mean``: mean to a random pool of real training images of its class (the white paper's score). Plain grey
  scores above every real airplane of CIFAR-10, so a high mean is no merit: what is kept lies in a *band*, between the
  quantiles that real images of the reference role's calibrating half reach against the very same pool.
* ``ssim_max``: maximum to *any* training image. It has an upper limit only: a quantile of what that half reaches, or
  its maximum where the half is small.

The reference half calibrates because neither training nor any attack has seen it; its ``control`` half is not touched,
so that a fresh source can still be told from a filtered one. The variant ``top_k`` is the white paper's literal ranking
by mean: it keeps blur, and is there to be measured. A filter is itself a way for a leak to enter or to hide, so the
attacks run on what it keeps, and the copy census on what it was given as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, model_validator

from ops.core import files, seeds
from ops.core import runtime as runtime_module
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet, write_imageset, write_parquet
from ops.core.progress import Reporter, SilentReporter
from ops.metrics import ssim
from ops.metrics.ssim import Window

SILENT = SilentReporter()
T = TypeVar("T")
EDGES = np.round(np.linspace(-0.2, 1.0, 61), 3)  # bins of width 0.02 for the reference half's scores
REASONS = ("kept", "below_band", "above_band", "too_close", "not_in_top_k")


class Config(StrictModel):
    """The block ``filter``."""

    variant: Literal["band", "top_k"] = Field(..., description="band: two-sided; top_k: the white paper's ranking")
    window: Window = Field(..., description="uniform: 7×7 px; gaussian: σ 1.5 px")
    compiled: bool = Field(
        ..., description="compile the SSIM kernel where a compiler is present (several times faster)"
    )
    pool_size: int = Field(..., ge=1, description="training images of a class that the mean is taken over")
    low_quantile: float = Field(..., ge=0, le=1, description="lower end of the band, quantile of the reference half")
    high_quantile: float = Field(..., ge=0, le=1, description="upper end of the band, quantile of the reference half")
    max_quantile: float = Field(..., ge=0, le=1, description="limit of the maximum, quantile of the reference half")
    min_calibration: int = Field(..., ge=1, description="calibrating images under which their maximum is the limit")
    min_kept: int = Field(..., ge=0, description="fewer kept images than this are noted as a result")
    top_k: int = Field(..., ge=1, description="images of a class that the variant top_k keeps")

    @model_validator(mode="after")
    def _ordered(self) -> Config:
        if self.low_quantile >= self.high_quantile:
            raise ValueError(f"low_quantile {self.low_quantile} must lie below high_quantile {self.high_quantile}")
        return self


@dataclass(frozen=True)
class Scores:
    """Both scores of n images: float64 [n] each."""

    mean: np.ndarray
    maximum: np.ndarray


@dataclass(frozen=True)
class Bounds:
    """low, high: the band of the mean by class; limit: the most that the maximum may be."""

    low: dict[str, float]
    high: dict[str, float]
    limit: float
    limit_is_maximum: bool


class Scorer:
    """Scores images against the training role: pools by class for the mean, everything for the maximum."""

    def __init__(self, train: ImageSet, config: Config, device: torch.device, seed: int, reporter: Reporter) -> None:
        self.train_u8, self.config, self.device, self.reporter = train.images, config, device, reporter
        self.pools = {name: self._pool(train.labels, name, seed) for name in train.classes}

    def _pool(self, labels: np.ndarray, name: str, seed: int) -> np.ndarray:
        """Rows of the class's random pool, sorted: int64 [≤ pool_size]."""
        rows = np.flatnonzero(labels == name)
        order = seeds.permutation(seed, len(rows), "filter pool", name)
        return np.sort(rows[order[: self.config.pool_size]])

    def _against(self, images_u8: np.ndarray, pool_u8: np.ndarray, door: Callable[..., T]) -> T:
        config = self.config
        return door(
            images_u8,
            pool_u8,
            window=config.window,
            compiled=config.compiled,
            device=self.device,
            reporter=self.reporter,
        )

    def scores(self, images_u8: np.ndarray, labels: np.ndarray) -> tuple[Scores, np.ndarray]:
        """(Scores of n images, the row of the training image that each is closest to: int64 [n])."""
        means = np.zeros(len(images_u8))
        for name in sorted(set(labels.tolist())):
            rows = np.flatnonzero(labels == name)
            means[rows] = self._against(images_u8[rows], self.train_u8[self.pools[name]], ssim.pool_means)
        closest = self._against(images_u8, self.train_u8, ssim.pool_scores)
        return Scores(means, closest.maximum.astype(np.float64)), closest.argmax

    def judge_mean(self, image_u8: np.ndarray, label: str) -> float:
        """The mean as scikit-image has it."""
        window = self.config.window
        return float(np.mean([ssim.exact(image_u8, self.train_u8[row], window) for row in self.pools[label]]))


def _set(path: Path, role: str, classes: list[str] | None = None) -> ImageSet:
    images = ImageSet(path)
    if len(images) == 0:
        raise UnderstudyError(
            explain(expected=f"images in the {role} set", found=f"none in {path}", todo="run its stage")
        )
    unknown = sorted(set(images.classes) - set(classes)) if classes is not None else []
    if unknown:
        found = f"{', '.join(unknown)} as well"
        raise UnderstudyError(
            explain(expected=f"classes of train in the {role} set", found=found, todo="sample it again")
        )
    return images


def _calibrating(reference: ImageSet, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the calibrating half. Raises UnderstudyError naming a class without any."""
    manifest = reference.manifest
    if "half" not in manifest:
        todo = "run prepare again"
        raise UnderstudyError(explain(expected="a column 'half' in the reference role", found="none", todo=todo))
    rows = np.flatnonzero(manifest["half"].to_numpy(dtype=str) == "calibrate")
    labels = reference.labels[rows]
    absent = [name for name in classes if name not in set(labels.tolist())]
    if absent:
        expected = "calibrating reference images of every synthetic class"
        todo = "give the reference role a larger share (prepare.shares) or drop the class"
        raise UnderstudyError(explain(expected=expected, found=f"none of {', '.join(absent)}", todo=todo))
    return reference.images[rows], labels


def bounds(scores: Scores, labels: np.ndarray, config: Config) -> Bounds:
    """The band and the limit that the calibrating half sets. Quantiles interpolate linearly, the maximum does not."""
    low, high = {}, {}
    for name in sorted(set(labels.tolist())):
        of_class = scores.mean[labels == name]
        low[name], high[name] = (float(np.quantile(of_class, q)) for q in (config.low_quantile, config.high_quantile))
    few = len(labels) < config.min_calibration
    limit = scores.maximum.max() if few else np.quantile(scores.maximum, config.max_quantile)
    return Bounds(low, high, float(limit), few)


def settle(
    scores: Scores, closest: np.ndarray, images_u8: np.ndarray, labels: np.ndarray, limits: Bounds, scorer: Scorer
) -> tuple[Scores, int]:
    """Let scikit-image decide what lies too near a threshold. Returns the scores and how many were decided so."""
    edges = np.array([[limits.low[name], limits.high[name]] for name in labels.tolist()]).reshape(-1, 2)
    known: dict[tuple[bytes, str], float] = {}

    def mean(row: int) -> float:
        key = (images_u8[row].tobytes(), str(labels[row]))
        if key not in known:  # a collapsed generator draws one image many times
            known[key] = scorer.judge_mean(images_u8[row], key[1])
        return known[key]

    def maximum(row: int) -> float:
        return ssim.exact(images_u8[row], scorer.train_u8[closest[row]], scorer.config.window)

    means, settled_means = ssim.settle_near(scores.mean, edges, mean)
    maxima, settled_maxima = ssim.settle_near(scores.maximum, [limits.limit], maximum)
    return Scores(means, maxima), settled_means + settled_maxima


def decide(scores: Scores, labels: np.ndarray, limits: Bounds, config: Config) -> np.ndarray:
    """Why each image is kept or not: str [n], one of REASONS. Too close comes first, whatever the variant."""
    reasons = np.full(len(labels), "kept", dtype=object)
    if config.variant == "top_k":
        for name in sorted(set(labels.tolist())):
            rows = np.flatnonzero((labels == name) & (scores.maximum <= limits.limit))
            reasons[rows[np.argsort(-scores.mean[rows], kind="stable")[config.top_k :]]] = "not_in_top_k"
    else:
        reasons[scores.mean < np.array([limits.low[name] for name in labels.tolist()])] = "below_band"
        reasons[scores.mean > np.array([limits.high[name] for name in labels.tolist()])] = "above_band"
    reasons[scores.maximum > limits.limit] = "too_close"
    return reasons.astype(str)


def figures(
    reasons: np.ndarray, labels: np.ndarray, scores: Scores, limits: Bounds, calibrating: int
) -> dict[str, float]:
    """Flat metrics of one filtering."""
    kept = reasons == "kept"
    values: dict[str, float] = {
        "images_scored": len(reasons),
        "images_kept": int(kept.sum()),
        "kept_fraction": float(kept.mean()),
        "reference_images": calibrating,
        "ssim_max_limit": limits.limit,
        "ssim_max_limit_is_reference_maximum": int(limits.limit_is_maximum),
        "ssim_mean_median": float(np.median(scores.mean)),
        "ssim_max_median": float(np.median(scores.maximum)),
        "ssim_max_largest": float(scores.maximum.max()),
    }
    values |= {f"rejected_{reason}": int((reasons == reason).sum()) for reason in REASONS[1:]}
    for name in sorted(limits.low):
        values[f"band_low_{name}"], values[f"band_high_{name}"] = limits.low[name], limits.high[name]
        values[f"images_kept_{name}"] = int(kept[labels == name].sum())
    return values


def _counts(scores: Scores) -> dict[str, list]:
    """The reference half's scores as counts in fixed bins: edges and counts, nothing of any one record."""
    tables = {"edges": EDGES.tolist()}
    for name, values in (("ssim_mean", scores.mean), ("ssim_max", scores.maximum)):
        tables[f"{name}_counts"] = np.histogram(np.clip(values, EDGES[0], EDGES[-1]), EDGES)[0].tolist()
    return tables


def _write(
    out: Path, drawn: ImageSet, scores: Scores, reasons: np.ndarray, metrics: dict[str, float], reference: Scores
) -> None:
    kept = reasons == "kept"
    scored = drawn.manifest.assign(ssim_mean=scores.mean, ssim_max=scores.maximum)
    table = scored[["image_id", "label", "ssim_mean", "ssim_max"]].assign(kept=kept, reason=reasons)
    masks = drawn.masks[kept] if drawn.masks is not None else None
    with files.atomic_folder(out) as folder:
        write_imageset(folder, drawn.images[kept], scored[kept], masks)
        write_parquet(table, folder / "scores.parquet")
        files.write_json(folder / "filter.json", metrics)
        files.write_json(folder / "reference_scores.json", _counts(reference))


def filter_set(
    synthetic: Path,
    train: Path,
    reference: Path,
    config: Config,
    runtime: runtime_module.Config,
    seed: int,
    out: Path,
    reporter: Reporter = SILENT,
) -> dict[str, float]:
    """Score a synthetic set, keep what real images vouch for, and write it to ``out``.

    Args:
        synthetic, train, reference: image sets of one shape; ``reference`` with the column ``half``.
        seed: draws the pools of training images.

    Writes an image set of the kept rows (with ``ssim_mean`` and ``ssim_max``), ``scores.parquet`` (every row, with
    ``kept`` and ``reason``), ``filter.json`` (what is returned) and ``reference_scores.json`` (bins and counts).

    Raises:
        UnderstudyError: a synthetic class without training or calibrating reference images, or an empty set.
    """
    device = runtime_module.settle(runtime)
    train_set = _set(train, "train")
    drawn = _set(synthetic, "synthetic", train_set.classes)
    real_u8, real_labels = _calibrating(_set(reference, "reference"), drawn.classes)
    wanted = np.isin(real_labels, train_set.classes)
    real_u8, real_labels = real_u8[wanted], real_labels[wanted]
    scorer = Scorer(train_set, config, device, seed, reporter)
    real, _ = scorer.scores(real_u8, real_labels)
    limits = bounds(real, real_labels, config)
    scores, closest = scorer.scores(drawn.images, drawn.labels)
    scores, settled = settle(scores, closest, drawn.images, drawn.labels, limits, scorer)
    reasons = decide(scores, drawn.labels, limits, config)
    metrics = figures(reasons, drawn.labels, scores, limits, len(real_labels))
    metrics |= {"settled_by_scikit_image": settled, "enough_kept": int(metrics["images_kept"] >= config.min_kept)}
    _write(out, drawn, scores, reasons, metrics, real)
    _tell(metrics, config, reporter)
    return metrics


def _tell(metrics: dict[str, float], config: Config, reporter: Reporter) -> None:
    if metrics["ssim_max_limit_is_reference_maximum"]:
        few, wanted = metrics["reference_images"], config.min_calibration
        reporter.note(f"{few} calibrating images, fewer than {wanted}: their largest ssim_max is the limit")
    if not metrics["enough_kept"]:
        reporter.note(f"the filter kept {metrics['images_kept']} images, fewer than filter.min_kept {config.min_kept}")
