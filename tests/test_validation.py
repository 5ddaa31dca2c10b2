"""Stages baseline and validate on small image sets: every promised file and key, and the cases that are results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ops import validation
from ops.classifiers import features, training
from ops.core import runtime as machine
from ops.core.errors import UnderstudyError
from ops.core.imageset import write_imageset

RUNTIME = machine.Config(device="cpu", threads=1, precision="fp32")
NET: dict[str, Any] = {
    "net": "small_cnn", "width": 2, "steps": 25, "batch": 32, "learning_rate": 0.02, "weight_decay": 0.01,
    "warmup": 0.2, "label_smoothing": 0.0, "shift_px": 0, "flip": False, "holdout": 0.1, "evaluations": 1,
}  # fmt: skip
CLASSIFIER = training.Config(**NET)
FEATURES = features.Config(**NET, space="reference", inception_weights=None)
CONFIG = validation.Config(
    seeds=2, confidence=0.95, min_images=20, max_images=100, neighbours_k=3, kid_subsets=3, kid_subset_size=30,
    samples_per_class=4, picture_max_bytes=60_000,
)  # fmt: skip
CLASSES = ["=cmd", "blue", "red"]


def images(n: int, seed: int, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.array(classes)[np.arange(n) % len(classes)]
    pixels = rng.integers(0, 140, (n, 16, 16, 3))
    for code, name in enumerate(CLASSES):
        pixels[labels == name, :, :, code] += 90
    return pixels.astype(np.uint8), labels


def put(folder: Path, prefix: str, n: int, seed: int, classes: list[str] = CLASSES, **columns: Any) -> Path:
    pixels, labels = images(n, seed, classes)
    names = [f"{prefix}{number}" for number in range(n)]
    write_imageset(folder, pixels, pd.DataFrame({"image_id": names, "label": labels, "subject_id": names, **columns}))
    return folder


def keep(folder: Path, source: Path, rows: np.ndarray) -> Path:
    """The filtered set: these rows of the synthetic one."""
    manifest = pd.read_parquet(source / "manifest.parquet").iloc[rows]
    write_imageset(folder, np.load(source / "images-00000.npy")[rows], manifest)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("validation")
    put(root / "train", "t", 120, 0)
    put(root / "test", "e", 60, 1)
    put(root / "reference", "r", 90, 2, half=["calibrate", "control"] * 45)
    put(root / "synthetic", "s", 90, 3)
    keep(root / "filtered", root / "synthetic", np.arange(10, 90))
    baseline(root)
    return root


def baseline(root: Path, out: Path | None = None) -> dict[str, Any]:
    out = out or root
    return validation.baseline(
        root / "train", root / "reference", root / "test", CONFIG, CLASSIFIER, FEATURES, RUNTIME, 5,
        out_features=out / "features", out_real=out / "real.json",
    )  # fmt: skip


def validate(root: Path, out: Path, filtered: Path | None = None) -> dict[str, Any]:
    return validation.validate(
        "sngan", root / "synthetic", filtered or root / "filtered", root / "train", root / "reference", root / "test",
        root / "features", root / "real.json", CONFIG, CLASSIFIER, RUNTIME, 5,
        out_utility=out / "utility.json", out_pictures=out / "pictures",
    )  # fmt: skip


def test_utility_and_fidelity_carry_their_protocol(work: Path, tmp_path: Path) -> None:
    figures = validate(work, tmp_path)
    assert json.loads((tmp_path / "utility.json").read_text()) == figures
    for arm in ("tstr", "tstr_unfiltered", "both", "both_unfiltered"):
        low, mean, high = (figures[f"accuracy_{arm}{end}"] for end in ("_low95", "", "_high95"))
        assert 0 <= low <= mean <= high <= 1
        assert figures[f"{arm}_over_trtr"] == pytest.approx(mean / figures["accuracy_trtr"])
    assert figures["accuracy_tstr"] > 0.8 > figures["accuracy_chance"]
    names = ("fid_train", "fid_train_matched", "fid_test", "kid_train", "kid_train_std", "precision_k3", "recall_k3")
    for name in (*names, "density_k3", "coverage_k3", "fid_intra_mean", "fid_intra_red", "label_consistency"):
        assert np.isfinite(figures[name])
        assert np.isfinite(figures[f"{name}_unfiltered"])
    per_class = [figures[f"accuracy_tstr_class_{name}"] for name in CLASSES]
    assert np.mean(per_class) == pytest.approx(figures["accuracy_tstr"])  # the test images are balanced


def test_baseline_repeats_itself_to_the_byte_and_keeps_control_out(work: Path, tmp_path: Path) -> None:
    figures = baseline(work, tmp_path)
    for path in sorted(path for path in (work / "features").iterdir()):
        assert (tmp_path / "features" / path.name).read_bytes() == path.read_bytes(), path.name
    assert figures["accuracy_chance"] == pytest.approx(1 / 3)
    assert figures["accuracy_trtr"] > 0.8


def test_the_control_half_cannot_change_the_feature_net(work: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "w"
    for role in ("train", "test"):
        (shifted / role).parent.mkdir(exist_ok=True)
        (shifted / role).symlink_to(work / role)
    frame, pixels = (
        pd.read_parquet(work / "reference/manifest.parquet"),
        np.load(work / "reference/images-00000.npy").copy(),
    )
    pixels[frame["half"] == "control"] = 0
    write_imageset(shifted / "reference", pixels, frame.drop(columns="sha256"))
    baseline(shifted)
    weights = [(root / "features/weights.safetensors").read_bytes() for root in (work, shifted)]
    assert weights[0] == weights[1]


def test_pictures_and_tables_are_written_small_and_safe(work: Path, tmp_path: Path) -> None:
    validate(work, tmp_path)
    folder = tmp_path / "pictures"
    for name in ("samples", "unfiltered", "confusion_tstr", "confusion_tstr_unfiltered", "confusion_trtr"):
        path = folder / f"{name}.png"
        assert path.stat().st_size < CONFIG.picture_max_bytes
        assert Image.open(path).info == {}  # pixels and nothing else
    table = pd.read_csv(folder / "confusion_tstr.csv", index_col=0)
    assert table.to_numpy().sum() == CONFIG.seeds * 60
    assert table.index[0] == "'=cmd"  # no spreadsheet runs a label
    pairs = pd.read_csv(folder / "predictions_tstr.csv")
    assert list(pairs.columns) == ["actual", "predicted", "count"]
    assert pairs["count"].sum() == table.to_numpy().sum()
    assert pd.read_csv(folder / "per_class.csv")["images_filtered"].sum() == 80


@pytest.mark.parametrize("kept", [0, 1, 10])
def test_too_few_survivors_are_a_result_not_an_error(work: Path, tmp_path: Path, kept: int) -> None:
    few = keep(tmp_path / "few", work / "synthetic", np.arange(kept))
    figures = validate(work, tmp_path, few)
    assert "accuracy_tstr" not in figures
    assert "fewer than 20" in figures["accuracy_tstr_reason"]
    assert "tstr_over_trtr" not in figures
    assert figures["accuracy_tstr_unfiltered"] > 0.8
    assert ("fid_train" in figures) == (kept >= 2)
    assert (tmp_path / "pictures/samples.png").is_file()


def test_a_class_that_the_filter_emptied_scores_nothing_and_is_counted(work: Path, tmp_path: Path) -> None:
    manifest = pd.read_parquet(work / "synthetic/manifest.parquet")
    part = keep(tmp_path / "part", work / "synthetic", np.flatnonzero(manifest["label"] != "red"))
    figures = validate(work, tmp_path, part)
    assert figures["classes_missing_filtered"] == 1
    assert figures["accuracy_tstr_class_red"] < 0.1
    assert "fid_intra_red" not in figures


def test_one_class_has_fidelity_but_no_accuracy(tmp_path: Path) -> None:
    for number, role in enumerate(("train", "test", "reference", "synthetic")):
        put(tmp_path / role, role, 40, number, ["red"], half=["calibrate", "control"] * 20)
    keep(tmp_path / "filtered", tmp_path / "synthetic", np.arange(30))
    real = baseline(tmp_path)
    figures = validate(tmp_path, tmp_path / "out")
    assert "one class" in real["accuracy_trtr_reason"]
    assert "one class" in figures["accuracy_tstr_reason"]
    assert np.isfinite(figures["kid_train"])


def test_features_of_other_images_and_foreign_survivors_are_refused(work: Path, tmp_path: Path) -> None:
    strange = put(tmp_path / "strange", "x", 30, 9)
    with pytest.raises(UnderstudyError, match="30 that are not in"):
        validate(work, tmp_path, strange)
    swapped = tmp_path / "w"
    swapped.mkdir()
    for name in ("synthetic", "filtered", "reference", "test", "features", "real.json"):
        (swapped / name).symlink_to(work / name)
    put(swapped / "train", "t", 120, 77)
    with pytest.raises(UnderstudyError, match="features of other images"):
        validate(swapped, tmp_path)
    assert not (tmp_path / "utility.json").exists()
