"""What the SSIM filter did, drawn: distributions of candidates and of fresh real images, with the kept band."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ops.core.errors import UnderstudyError, explain
from ops.core.files import read_json
from ops.pages import charts
from ops.pages.numbers import count, plain

Figures = Mapping[str, Any]
CLASSES_DRAWN = 12  # one line a class while they still fit a chart
LOW, HIGH = "band_low_", "band_high_"
REASONS = {
    "below_band": "less like the real ones than the band",
    "above_band": "more like all of them than the band",
    "too_close": "too close to one training image",
    "not_in_top_k": "not among the highest ranked",
}


def section(folder: Path) -> dict[str, Any]:
    """Charts and their one-line summary from ``data/filtered/F``. Raises UnderstudyError where a file is missing."""
    metrics, reference = (_read(folder / name) for name in ("filter.json", "reference_scores.json"))
    scores = pq.read_table(folder / "scores.parquet").to_pandas()
    bands = {key[len(LOW) :]: (metrics[key], metrics[HIGH + key[len(LOW) :]]) for key in metrics if key.startswith(LOW)}
    return {"charts": _charts(scores, metrics, reference, bands), "line": sentence(metrics)}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UnderstudyError(
            explain(expected=f"{path.name} in {path.parent}", found="no such file", todo="run stage 'filter'")
        )
    return dict(read_json(path))


def _charts(
    scores: pd.DataFrame, metrics: Figures, reference: Figures, bands: Mapping[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    limit = float(metrics["ssim_max_limit"])
    edges = np.array(reference["edges"], dtype=np.float64)
    ranked = bool(metrics.get("rejected_not_in_top_k"))
    kept = [] if ranked else list(bands.values())
    drawn = [
        (
            "Likeness to the class (mean SSIM)",
            "ssim_mean",
            kept,
            [],
            "mean SSIM to training images of the class",
            "Shaded: what is kept, class upon class." if kept else "This variant ranks by the score and keeps no band.",
        ),
        (
            "Likeness to the closest training image (maximum SSIM)",
            "ssim_max",
            [(float(edges[0]), limit)],
            [limit],
            "highest SSIM to any training image",
            f"Nothing above {limit:.3f} is kept.{_where(metrics)}",
        ),
    ]
    charted = [
        {
            "name": name,
            "caption": text,
            "svg": charts.histogram(
                name, edges, shares(scores[key], edges), _normed(reference[f"{key}_counts"]), areas, lines, x
            ),
        }
        for name, key, areas, lines, x, text in drawn
    ]
    return [*charted, *_by_class(scores, bands)] if 1 < len(bands) <= CLASSES_DRAWN and not ranked else charted


def _by_class(scores: pd.DataFrame, bands: Mapping[str, tuple[float, float]]) -> list[dict[str, Any]]:
    name, x = "The band of each class", "mean SSIM to training images of the class"
    found = {label: part.to_numpy() for label, part in scores.groupby("label")["ssim_mean"]}
    empty = np.zeros(0)
    rows = [(label, band, _quantiles(found.get(label, empty))) for label, band in sorted(bands.items())]
    caption = "Shaded: what is kept. Bar and dot: where 90 % and the middle one of the candidates lie."
    return [{"name": name, "svg": charts.ranges(rows, name, x), "caption": caption}]


def _quantiles(values: np.ndarray) -> np.ndarray:
    return np.quantile(values, [0.05, 0.5, 0.95]) if len(values) else values


def _where(metrics: Figures) -> str:
    if not metrics["ssim_max_limit_is_reference_maximum"]:
        return ""
    few = count(metrics["reference_images"])
    return f" With {few} calibrating images there are too few for a quantile: their maximum is the limit."


def shares(values: pd.Series, edges: np.ndarray) -> np.ndarray:
    """Share of the values in each bin of ``edges`` (float [b + 1], outliers in the end bins): float64 [b]."""
    return _normed(np.histogram(np.clip(values.to_numpy(), edges[0], edges[-1]), bins=edges)[0])


def _normed(counts: Any) -> np.ndarray:
    numbers = np.asarray(counts, dtype=np.float64)
    return numbers / max(numbers.sum(), 1.0)


def sentence(metrics: Figures) -> str:
    """How many candidates were kept, and why the others were not."""
    total, kept = int(metrics["images_scored"]), int(metrics["images_kept"])
    share = plain(100 * metrics["kept_fraction"], 3, " %")
    reasons = [(words, int(metrics.get(f"rejected_{key}", 0))) for key, words in REASONS.items()]
    dropped = "; ".join(f"{count(number)} {words}" for words, number in reasons if number)
    return f"{count(kept)} of {count(total)} candidates were kept ({share}). Dropped: {dropped or 'none'}."
