"""The two planted families do what the controls need of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ops.core.errors import UnderstudyError
from ops.core.imageset import ImageSet, write_imageset
from ops.generators import SamplePlan, copycat, oracle
from tests.generators import tiny


def plan_of(n: int) -> SamplePlan:
    return SamplePlan(tiny.CLASSES, np.arange(n) % 2, np.arange(n) + 77, 4, np.arange(n))


def copies(folder: Path, noise_std: float, n: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images drawn by copycat, and the images and labels it was fitted to."""
    images_u8, labels = tiny.images(20)
    config = copycat.Config(noise_std=noise_std)
    copycat.fit(
        images_u8, labels, tiny.CLASSES, config=config, runtime=tiny.RUNTIME, seed=1, out=folder, checkpoints=folder,
        reporter=tiny.Listener(),
    )  # fmt: skip
    parts = list(
        copycat.draw(folder, folder, plan_of(n), config=config, runtime=tiny.RUNTIME, reporter=tiny.Listener())
    )
    return np.concatenate([part for _, part in parts]), images_u8, labels


def test_copycat_hands_out_training_images_of_the_label(tmp_path: Path) -> None:
    drawn, images_u8, labels = copies(tmp_path, 0.0)
    for row, image in enumerate(drawn):
        (source,) = np.flatnonzero((images_u8 == image).all(axis=(1, 2, 3)))
        assert labels[source] == row % 2


def test_copycats_noise_has_the_strength_of_its_settings(tmp_path: Path) -> None:
    drawn, images_u8, _ = copies(tmp_path, 3.0)
    differences = drawn[:, None].astype(float) - images_u8[None]
    nearest = np.abs(differences).mean(axis=(2, 3, 4)).argmin(axis=1)
    noise = differences[np.arange(len(drawn)), nearest]
    assert noise.std() == pytest.approx(3.0, rel=0.1)


def reference(folder: Path, halves: list[str]) -> ImageSet:
    images_u8, labels = tiny.images(len(halves))
    names = [f"{row:03d}" for row in range(len(halves))]
    manifest = pd.DataFrame({"image_id": names, "label": np.array(tiny.CLASSES)[labels], "subject_id": names})
    write_imageset(folder, images_u8, manifest.assign(half=halves))
    return ImageSet(folder)


def fresh(folder: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    parts = list(
        oracle.draw(folder, folder, plan_of(n), config=oracle.Config(), runtime=tiny.RUNTIME, reporter=tiny.Listener())
    )
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([images for _, images in parts])


def test_oracle_hands_out_each_control_image_once_and_no_other(tmp_path: Path) -> None:
    halves = ["control", "control", "calibrate", "calibrate"] * 5
    held = reference(tmp_path, halves)
    rows, images_u8 = fresh(tmp_path, 100)
    assert len(rows) == 10
    control = held.images[np.array(halves) == "control"]
    assert sorted(image.tobytes() for image in images_u8) == sorted(image.tobytes() for image in control)
    sources = [np.flatnonzero((held.images == image).all(axis=(1, 2, 3)))[0] for image in images_u8]
    assert held.labels[sources].tolist() == np.array(tiny.CLASSES)[rows % 2].tolist()


def test_oracle_draws_no_more_than_planned(tmp_path: Path) -> None:
    reference(tmp_path, ["control"] * 20)
    rows, _ = fresh(tmp_path, 6)
    assert rows.tolist() == list(range(6))


def test_oracle_refuses_a_set_without_a_control_half(tmp_path: Path) -> None:
    reference(tmp_path, [""] * 8)
    with pytest.raises(UnderstudyError, match="half 'control'"):
        fresh(tmp_path, 4)
