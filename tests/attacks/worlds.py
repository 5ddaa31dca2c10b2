"""Small worlds with a known answer: a 32-dimensional mixture of Gaussians, and people photographed a few times each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ops.attacks._view import Records, View
from ops.core import runtime
from ops.core.files import atomic_folder
from ops.core.imageset import pixel_digests, write_imageset
from ops.metrics import copies

RUNTIME = runtime.Config(device="cpu", threads=1, precision="fp32")
NEAREST: dict[str, Any] = {
    "spaces": ["pixels"], "pixels_px": 16, "calibrate": True, "combine": "max", "block_rows": 1024,
}  # fmt: skip
CENSUS: dict[str, Any] = {"listed_hits": 100}
SETTINGS: dict[str, Any] = {
    "ssim_min": 0.95, "mirrored": True, "crop_fractions": [], "crop_max": 0.1, "crop_screen_min": 0.6,
    "crop_partners": 16,
    "crop_align_min": 0.6, "max_shift": 40.0, "max_gain": 1.5, "level_min": 0.9, "screen_slack": 0.02,
    "screen_rank": 64, "screen_px": 16, "flat_levels": 2.0,
}  # fmt: skip
COPIES = copies.Config.model_validate(SETTINGS)


def records(images_u8: np.ndarray, subjects: np.ndarray, prefix: str) -> Records:
    n = len(images_u8)
    ids = np.array([f"{prefix}{i}" for i in range(n)], dtype=str)
    labels = np.full(n, "a")
    return Records(
        images_u8, ids, np.asarray(subjects, dtype=str), labels, np.array(pixel_digests(images_u8), dtype=str)
    )


class Mixture:
    """Points of ten Gaussians in 32 dimensions, as images of one pixel and 32 channels."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.centres = self.random.normal(0, 1.0, (10, 32))

    def draw(self, n: int) -> np.ndarray:
        """Float [n, 32]."""
        return self.centres[self.random.integers(10, size=n)] + self.random.normal(size=(n, 32))

    def view(self, members: np.ndarray, nonmembers: np.ndarray, released: np.ndarray) -> View:
        def points(values: np.ndarray, prefix: str) -> Records:
            images = np.clip(np.rint(values * 20 + 127.5), 0, 255).astype(np.uint8)[:, None, None, :]
            return records(images, np.array([f"{prefix}{i}" for i in range(len(values))]), prefix)

        release = points(released, "r")
        sides = points(members, "m"), points(nonmembers, "n"), points(self.draw(1000), "p")
        return View(*sides, release, release, COPIES, RUNTIME, torch.device("cpu"), seed=0)


def people(n: int, images: int, seed: int, size_px: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random pictures: ``images`` of each of ``n`` people, who differ strongly; uint8 [n·images, …, 3], str."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(20, 235, (n, 3, 4, 4)).repeat(images, axis=0))
    coarse += torch.from_numpy(random.normal(0, 25, tuple(coarse.shape)))
    fine = torch.nn.functional.interpolate(coarse, size=(size_px, size_px), mode="bicubic")
    noisy = fine.permute(0, 2, 3, 1).numpy() + random.normal(0, 6, (n * images, size_px, size_px, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), np.repeat([f"{seed}-{i}" for i in range(n)], images)


def write_role(folder: Path, images_u8: np.ndarray, subjects: np.ndarray, half: np.ndarray | str = "") -> Path:
    """An image set on disk, as ``prepare`` leaves a role."""
    ids = [f"{folder.name}-{i}" for i in range(len(images_u8))]
    labels = np.where(np.arange(len(ids)) % 2 == 0, "a", "b")
    manifest = pd.DataFrame({"image_id": ids, "label": labels, "subject_id": subjects, "half": half})
    with atomic_folder(folder) as partial:
        write_imageset(partial, images_u8, manifest)
    return folder
