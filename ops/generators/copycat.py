"""A planted leak: a "generator" that hands out training images with a little noise on them. It must FAIL.

It stands for the worst that training can do, memorising, and shows that the attacks would have seen it. Not a family
for use: it keeps the training images in ``models/copycat/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from ops.core import files, seeds
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet, codes, write_imageset
from ops.core.progress import Reporter
from ops.core.runtime import Config as Runtime
from ops.generators._plan import SamplePlan

PLANTED = True  # noisy real images: never released, whatever the verdict


class Config(StrictModel):
    """The block ``copycat``."""

    noise_std: float = Field(..., ge=0, description="standard deviation of the noise, in grey levels (0 to 255)")


def fit(
    images_u8: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    config: Config,
    runtime: Runtime,
    seed: int,
    out: Path,
    checkpoints: Path,
    reporter: Reporter,
) -> dict[str, float]:
    """Keep the training images: uint8 [n, h, w, c] with labels int64 [n], as an image set in ``out``."""
    numbers = [f"{number:08d}" for number in range(len(images_u8))]
    names = np.array(classes, dtype=object)[labels]
    write_imageset(out, images_u8, pd.DataFrame({"image_id": numbers, "label": names, "subject_id": numbers}))
    files.write_json(out / "generator.json", {"classes": list(classes), "family": "copycat"})
    return {"images_kept": float(len(images_u8))}


def draw(
    model: Path,
    reads: Path,
    plan: SamplePlan,
    *,
    config: Config,
    runtime: Runtime,
    reporter: Reporter,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each row a training image of its label, chosen by the row's seed, plus Gaussian noise.

    Yields rows int64 [k] and images uint8 [k, h, w, c]. Raises UnderstudyError for a label without training images.
    """
    kept = ImageSet(model)
    labels = codes(kept.labels, plan.classes)
    of_class = [np.flatnonzero(labels == code) for code in range(len(plan.classes))]
    absent = [name for name, rows in zip(plan.classes, of_class, strict=True) if not len(rows)]
    if absent:
        raise UnderstudyError(
            explain(expected="kept images of every class", found=f"none of {absent}", todo="train again")
        )
    for start in range(0, len(plan.rows), plan.batch):
        rows = plan.rows[start : start + plan.batch]
        yield rows, np.stack([_copy(kept.images, of_class[plan.labels[row]], plan.seeds[row], config) for row in rows])


def _copy(images_u8: np.ndarray, choices: np.ndarray, seed: int, config: Config) -> np.ndarray:
    source = seeds.generator(int(seed), "copycat")
    image = images_u8[source.choice(choices)].astype(np.float64)
    noisy = image + config.noise_std * source.standard_normal(image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
