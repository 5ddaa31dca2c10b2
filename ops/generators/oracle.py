"""A planted innocent: a "generator" that hands out fresh real images nobody trained on. It must PASS.

It draws the ``control`` half of the reference role, each image once, and shows that the attacks do not cry wolf. Those
images are private too: not a family for use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ops.core import files, seeds
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet
from ops.core.progress import Reporter
from ops.core.runtime import Config as Runtime
from ops.generators._plan import SamplePlan

HALF = "control"
PLANTED = True  # these are real images: never released, whatever the verdict
SAMPLE_READS = "data/prepared/reference"  # what `draw` reads besides the model; without it, the model again


class Config(StrictModel):
    """The block ``oracle``: it has no settings."""


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
    """Write a description and nothing of the training images."""
    files.write_json(out / "generator.json", {"classes": list(classes), "family": "oracle", "half": HALF})
    return {"images_kept": 0.0}


def draw(
    model: Path,
    reads: Path,
    plan: SamplePlan,
    *,
    config: Config,
    runtime: Runtime,
    reporter: Reporter,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The control half of the image set ``reads``, each image at most once; rows beyond it are left out.

    Yields rows int64 [k] and images uint8 [k, h, w, c]. Raises UnderstudyError where the set names no halves.
    """
    reference = ImageSet(reads)
    source = _assign(reference, plan)
    rows = plan.rows[source[plan.rows] >= 0]
    for start in range(0, len(rows), plan.batch):
        part = rows[start : start + plan.batch]
        yield part, np.stack([reference.images[source[row]] for row in part])


def _assign(reference: ImageSet, plan: SamplePlan) -> np.ndarray:
    """The reference image of every planned row, −1 where there is none left: int64 [N]."""
    halves = reference.manifest.get("half")
    if halves is None or not (halves == HALF).any():
        raise UnderstudyError(
            explain(expected=f"images of half '{HALF}' in {reference.folder}", found="none", todo="run stage prepare")
        )
    source = np.full(len(plan.labels), -1, np.int64)
    control = (halves == HALF).to_numpy()
    for code, name in enumerate(plan.classes):
        rows = np.flatnonzero(plan.labels == code)
        images = np.flatnonzero(control & (reference.labels == name))
        if len(rows):
            images = images[seeds.permutation(int(plan.seeds[rows[0]]), len(images), "oracle")]
        count = min(len(rows), len(images))
        source[rows[:count]] = images[:count]
    return source
