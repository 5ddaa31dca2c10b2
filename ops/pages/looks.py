"""The parts of a page that show the images: the sample grid, kept images with their score, SSIM distributions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ops.core.imageset import ImageSet
from ops.pages.numbers import count
from ops.pages.render import image_uri, picture_uri

Figures = Mapping[str, Any]
EXAMPLE_CLASSES = 8
EXAMPLES_PER_CLASS = 6


def samples(pictures: Path) -> dict[str, str]:
    """The grid that ``validate`` drew, as a data URI. Raises FileNotFoundError where it is missing."""
    return {"uri": picture_uri(pictures / "samples.png"), "caption": "Drawn at random, a row a class."}


def examples(filtered: ImageSet) -> list[dict[str, Any]]:
    """For each of the first classes a few kept images from the lowest to the highest mean SSIM, with that score."""
    labels = filtered.labels
    shown = filtered.classes[:EXAMPLE_CLASSES]
    return [{"label": label, "images": _strip(filtered, np.flatnonzero(labels == label))} for label in shown]


def _strip(filtered: ImageSet, rows: np.ndarray) -> list[dict[str, str]]:
    scores = filtered.manifest["ssim_mean"].to_numpy(dtype=np.float64)
    ranked = rows[np.argsort(scores[rows], kind="stable")]
    chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, EXAMPLES_PER_CLASS).round().astype(int))]
    return [
        {"uri": image_uri(np.asarray(filtered.images[row])), "score": f"{scores[row]:.3f}"} for row in chosen.tolist()
    ]


def set_line(filtered: ImageSet) -> str:
    """``1 200 images · 4 classes · 32 × 32 pixels``."""
    if len(filtered) == 0:
        return "no image was kept"
    height, width = filtered.images.shape[1:3]
    classes = len(filtered.classes)
    return f"{count(len(filtered))} images · {classes} class{'es' if classes != 1 else ''} · {width} × {height} pixels"


def more(filtered: ImageSet) -> str:
    """A note where there are more classes than are shown."""
    left = len(filtered.classes) - EXAMPLE_CLASSES
    return f" {left} further classes are not shown." if left > 0 else ""
