"""Settings and images small enough to train on in a blink, shared by the tests of the families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ops.core import runtime, seeds
from ops.core.progress import SilentReporter

RUNTIME = runtime.Config(device="cpu", threads=1, precision="fp32")
CLASSES = ["bright", "dark"]
ADVERSARIAL: dict[str, Any] = {
    "steps": 6,
    "batch": 8,
    "latent": 8,
    "accumulate": 1,
    "n_dis": 1,
    "lr_generator": 5e-4,
    "lr_discriminator": 5e-4,
    "beta1": 0.0,
    "beta2": 0.9,
    "decay_from": 0.5,
    "ema": 0.9,
    "standing_batches": 2,
    "dequantize": True,
    "diffaugment": [],
    "compile": False,
    "log_every": 2,
    "grid_every": 4,
    "grid_columns": 3,
    "checkpoint_every": 1,
    "keep_checkpoints": 2,
    "collapse_samples": 32,
    "duplicate_ratio": 0.25,
    "max_duplicate_rate": 0.2,
    "min_coverage": 0.05,
    "pinned_ticks": 20,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "dcgan": {**ADVERSARIAL, "width": 4, "slope_generator": 0.0, "slope_discriminator": 0.1, "init_std": 0.02},
    "sngan": {**ADVERSARIAL, "architecture": "pyramid", "width": 4},
    "copycat": {"noise_std": 2.0},
    "oracle": {},
}


def images(n: int = 40, size_px: int = 8, channels: int = 3, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Bright and dark textured squares in turn: uint8 [n, size, size, c], labels int64 [n]."""
    source = seeds.generator(seed, "tiny images")
    labels = np.arange(n, dtype=np.int64) % len(CLASSES)
    levels = np.where(labels == 0, 190, 60)[:, None, None, None] + source.normal(0, 20, (n, size_px, size_px, channels))
    return np.clip(levels, 0, 255).astype(np.uint8), labels


class Listener(SilentReporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int, dict[str, float]]] = []
        self.figures: list[tuple[int, dict[str, float]]] = []
        self.images: list[tuple[str, int, np.ndarray]] = []
        self.notes: list[str] = []

    def progress(self, what: str, done: int, total: int, **values: float) -> None:
        self.told.append((what, done, total, values))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.figures.append((step, dict(values)))

    def image(self, name: str, image_u8: np.ndarray, step: int) -> None:
        self.images.append((name, step, image_u8))

    def note(self, text: str) -> None:
        self.notes.append(text)
