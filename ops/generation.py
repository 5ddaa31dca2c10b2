"""The stages ``train`` and ``sample``: fit a family to the train role, draw a labelled set from it.

Neither knows any family: both ask the registry and hand on the family's block of settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from ops import generators
from ops.adversarial_ranks import rank
from ops.core import files, seeds
from ops.core import runtime as machine
from ops.core.config import StrictModel, block
from ops.core.errors import UnderstudyError, explain
from ops.core.imageset import ImageSet, codes, pixel_digests, write_parquet
from ops.core.progress import Reporter, SilentReporter

SILENT = SilentReporter()


class Config(StrictModel):
    """The block ``sample``."""

    images: int = Field(..., ge=1, description="images to draw, spread evenly over the classes")
    batch: int = Field(..., ge=1, description="images a forward pass; part of the result's identity")
    shard_images: int = Field(..., ge=1, description="images a shard: what a killed draw does not lose")


def train(
    family: str,
    prepared: Path,
    settings: Mapping[str, Any],
    runtime: machine.Config,
    seed: int,
    out: Path,
    checkpoints: Path,
    reporter: Reporter = SILENT,
) -> dict[str, float]:
    """Fit ``family`` to the image set ``prepared`` (the train role) and write ``models/F/`` to ``out``.

    Returns the flat figures that ``train.json`` holds. Under torchrun every rank calls this and the first one writes.
    Raises CallError for an unknown family or wrong settings, UnderstudyError for an empty set or a diverged training.
    """
    module = generators.load(family)
    config = block({family: settings}, family, module.Config)
    real = ImageSet(prepared)
    if not len(real):
        raise UnderstudyError(explain(expected=f"images in {prepared}", found="none", todo="run stage prepare"))
    machine.settle(runtime)
    labels = codes(real.labels, real.classes)
    purpose = seeds.derive(seed, "train", family)
    with _published(out) as folder:
        figures = module.fit(
            real.images, labels, real.classes, config=config, runtime=runtime, seed=purpose,
            out=folder, checkpoints=checkpoints / family, reporter=reporter,
        )  # fmt: skip
        figures = {**figures, "classes": float(len(real.classes)), "images_train": float(len(real))}
        files.write_json(folder / "train.json", figures)
    return figures


@contextlib.contextmanager
def _published(out: Path) -> Iterator[Path]:
    """The folder to fill: atomic for the first rank, thrown away for the others."""
    if rank() == 0:
        with files.atomic_folder(out) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


@dataclass(frozen=True)
class _Draw:
    """One draw: what the shards need to know."""

    module: ModuleType
    config: StrictModel
    runtime: machine.Config
    model: Path
    reads: Path
    plan: generators.SamplePlan
    cache: Path
    reporter: Reporter

    def shard(self, rows: np.ndarray, number: int) -> Path:
        """Folder of a finished shard, drawn now unless a whole one lies in the cache."""
        folder = self.cache / f"shard-{number:05d}"
        if _whole(folder):
            return folder
        parts = list(
            self.module.draw(
                self.model,
                self.reads,
                self.plan.only(rows),
                config=self.config,
                runtime=self.runtime,
                reporter=self.reporter,
            )
        )
        drawn = np.concatenate([part for part, _ in parts]) if parts else np.zeros(0, np.int64)
        order = np.argsort(drawn)
        with files.atomic_folder(folder) as partial:
            if parts:
                np.save(partial / "images.npy", np.concatenate([images for _, images in parts])[order])
            np.save(partial / "rows.npy", drawn[order])
            files.write_json(
                partial / "sums.json", {path.name: files.sha256_file(path) for path in partial.glob("*.npy")}
            )
        return folder


def _whole(folder: Path) -> bool:
    """Whether the shard lies there with the bytes that were written."""
    try:
        sums = files.read_json(folder / "sums.json")
        return bool(sums) and all(files.sha256_file(folder / name) == digest for name, digest in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def sample(
    family: str,
    model: Path,
    reads: Path,
    settings: Mapping[str, Any],
    config: Config,
    runtime: machine.Config,
    seed: int,
    out: Path,
    cache: Path,
    reporter: Reporter = SILENT,
) -> dict[str, float]:
    """Draw ``config.images`` labelled images from ``model`` and write them as an image set to ``out``.

    Image i has label i mod classes and its own seed; it depends on (weights, label, seed) and the batch size alone.
    Finished shards wait in ``cache`` for a killed draw to go on; they are used only with the same model, settings and
    machine settings, and dropped once the set is published. Returns the figures of ``sample.json``.
    """
    module = generators.load(family)
    machine.settle(runtime)
    model_sha256 = generators.model_digest(model)
    plan = _plan(files.read_json(model / "generator.json")["classes"], config, seed, family)
    identity = [model_sha256, config.digest(), dict(settings), runtime.digest(), seed, _manifest_digest(reads)]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    family_config = block({family: settings}, family, module.Config)
    draw = _Draw(module, family_config, runtime, model, reads, plan, cache / f"{family}-{key}", reporter)
    shards = []
    for number, start in enumerate(range(0, config.images, config.shard_images)):
        rows = np.arange(start, min(start + config.shard_images, config.images))
        shards.append(draw.shard(rows, number))
        reporter.progress(f"sample {family}", int(rows[-1]) + 1, config.images)
    with files.atomic_folder(out) as folder:
        figures = _assemble(shards, plan, family, model_sha256, folder)
    files.remove(draw.cache)
    return figures


def _plan(classes: list[str], config: Config, seed: int, family: str) -> generators.SamplePlan:
    labels = np.arange(config.images, dtype=np.int64) % len(classes)
    purpose = seeds.derive(seed, "sample", family)
    image_seeds = [seeds.derive(purpose, "image", index) for index in range(config.images)]
    rows = np.arange(config.images)
    return generators.SamplePlan(classes, labels, np.array(image_seeds, dtype=np.int64), config.batch, rows)


def _manifest_digest(reads: Path) -> str:
    """What identifies the data a family reads while drawing: the digest of its manifest, where there is one."""
    manifest = reads / "manifest.parquet"
    return files.sha256_file(manifest) if manifest.is_file() else ""


def _assemble(
    shards: list[Path], plan: generators.SamplePlan, family: str, model_sha256: str, folder: Path
) -> dict[str, float]:
    """Turn finished shards into an image set, one at a time: memory holds a shard, never the set."""
    frames: list[pd.DataFrame] = []
    for shard in shards:
        rows = np.load(shard / "rows.npy")
        if not len(rows):
            continue
        shutil.copyfile(shard / "images.npy", folder / f"images-{len(frames):05d}.npy")
        names = [f"{family}-{row:06d}" for row in rows]
        columns = {
            "image_id": names,
            "label": np.array(plan.classes, dtype=object)[plan.labels[rows]],
            "subject_id": names,
            "sha256": pixel_digests(np.load(shard / "images.npy", mmap_mode="r")),
            "family": family,
            "seed": plan.seeds[rows],
            "model_sha256": model_sha256,
        }
        frames.append(pd.DataFrame(columns))
    if not frames:
        raise UnderstudyError(explain(expected=f"images drawn by {family}", found="none", todo="see what it reads"))
    manifest = pd.concat(frames, ignore_index=True)
    write_parquet(manifest, folder / "manifest.parquet")
    counts = manifest["label"].value_counts().reindex(list(plan.classes), fill_value=0)
    figures = {
        "images_drawn": float(len(manifest)),
        "images_planned": float(len(plan.labels)),
        "images_per_class_min": float(counts.min()),
        "images_per_class_max": float(counts.max()),
        "exact_duplicates": float(manifest["sha256"].duplicated().sum()),
        "classes": float(len(plan.classes)),
    }
    files.write_json(folder / "sample.json", figures)
    return figures
