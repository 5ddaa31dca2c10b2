"""A small workspace as the stages leave it, for tests of pages: image sets, figures in the stages' formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ops import judgement
from ops.core import pictures
from ops.core.imageset import write_imageset, write_parquet
from ops.core.paths import Workspace
from ops.statistics import membership

CLASSES = ("car 9", "car 24", "car 42", "car 48")


def drawings(labels: np.ndarray, size_px: int, seed: int) -> np.ndarray:
    """A coloured blob a class on a sky: uint8 [n, size, size, 3]."""
    random = np.random.default_rng(seed)
    names = sorted(set(labels.tolist()))
    y, x = np.mgrid[0:size_px, 0:size_px] / size_px
    images = []
    for label in labels.tolist():
        hue = np.random.default_rng(names.index(label)).uniform(60, 230, 3)
        cx, cy = random.uniform(0.4, 0.6, 2)
        mask = np.exp(-(((x - cx) / 0.28) ** 4 + ((y - cy) / 0.16) ** 4))[..., None]
        sky = np.stack([120 + 60 * y, 150 + 40 * y, 190 - 60 * y], axis=-1)
        images.append(np.clip(sky * (1 - mask) + hue * mask + random.normal(0, 4, (size_px, size_px, 3)), 0, 255))
    return np.stack(images).astype(np.uint8)


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def build(root: Path, state: str = "PASS", family: str = "sngan", classes: Sequence[str] = CLASSES) -> Workspace:
    """Fill a workspace for one family with a verdict of the given state."""
    ws = Workspace(root)
    random = np.random.default_rng(7)
    _images(ws, family, classes, random)
    _utility(ws, family, classes)
    _attacks(ws, family, state, random)
    _controls(ws, state)
    _verdict(ws, family, state)
    return ws


def _images(ws: Workspace, family: str, classes: Sequence[str], random: np.random.Generator) -> None:
    n = 400
    labels = np.array(classes)[np.arange(n) % len(classes)]
    images = drawings(labels, 32, 5)
    scores = pd.DataFrame(
        {
            "image_id": [f"s{i:05d}" for i in range(n)],
            "label": labels,
            "ssim_mean": random.normal(0.21, 0.045, n),
            "ssim_max": random.beta(20, 22, n),
        }
    )
    low, high, limit = 0.13, 0.29, 0.62
    reasons = np.select(
        [scores.ssim_max > limit, scores.ssim_mean < low, scores.ssim_mean > high],
        ["too_close", "below_band", "above_band"],
        "kept",
    )
    scores = scores.assign(kept=reasons == "kept", reason=reasons)
    kept = np.flatnonzero(scores.kept)
    manifest = scores.loc[kept, ["image_id", "label", "ssim_mean", "ssim_max"]].assign(subject_id=scores.image_id[kept])
    folder = ws.filtered(family)
    write_imageset(folder, images[kept], manifest)
    write_parquet(scores, folder / "scores.parquet")
    _reference(folder, classes, random.normal(0.20, 0.035, 600), random.beta(18, 23, 600), (low, high, limit), scores)
    drawn = pictures.grid(images[:48], 12, gap_px=2, scale=2)
    ws.pictures(family).mkdir(parents=True, exist_ok=True)
    pictures.write_png(ws.pictures(family) / "samples.png", drawn)


def _reference(
    folder: Path,
    classes: Sequence[str],
    mean: np.ndarray,
    maximum: np.ndarray,
    edges: tuple[float, float, float],
    scores: pd.DataFrame,
) -> None:
    low, high, limit = edges
    bins = np.round(np.linspace(-0.2, 1.0, 61), 3)
    counts = {
        f"{name}_counts": np.histogram(v, bins)[0].tolist() for name, v in (("ssim_mean", mean), ("ssim_max", maximum))
    }
    write(folder / "reference_scores.json", {"edges": bins.tolist()} | counts)
    figures: dict[str, float] = {
        "images_scored": len(scores),
        "images_kept": int(scores.kept.sum()),
        "kept_fraction": float(scores.kept.mean()),
        "reference_images": len(mean),
        "ssim_max_limit": limit,
        "ssim_max_limit_is_reference_maximum": 1,
    }
    figures |= {
        f"rejected_{name}": int((scores.reason == name).sum()) for name in ("below_band", "above_band", "too_close")
    }
    for number, label in enumerate(classes):
        figures |= {f"band_low_{label}": low + 0.01 * number, f"band_high_{label}": high + 0.01 * number}
    write(folder / "filter.json", figures)


def _spread(name: str, value: float, half: float, percent: str = "95") -> dict[str, float]:
    return {name: value, f"{name}_low{percent}": value - half, f"{name}_high{percent}": value + half}


def _utility(ws: Workspace, family: str, classes: Sequence[str]) -> None:
    chance = {"accuracy_chance": 1 / len(classes), "accuracy_majority": 0.274}
    real = (
        _spread("accuracy_trtr", 0.931, 0.006)
        | chance
        | {"fid_train": 2.31, "kid_train": 0.0011, "kid_train_std": 0.0006}
    )
    real |= {
        "precision_k5": 0.91,
        "recall_k5": 0.902,
        "density_k5": 1.01,
        "coverage_k5": 0.953,
        "fid_train_matched": 2.9,
    }
    write(ws.real, real)
    utility = _spread("accuracy_tstr", 0.884, 0.011) | _spread("accuracy_tstr_unfiltered", 0.879, 0.014) | chance
    utility |= _spread("accuracy_both", 0.938, 0.005) | {
        "accuracy_trtr": 0.931,
        "fid_train": 18.42,
        "fid_train_unfiltered": 19.7,
        "kid_train_unfiltered": 0.0201,
        "kid_train_std_unfiltered": 0.0031,
    }
    utility |= {
        "kid_train": 0.0183,
        "kid_train_std": 0.0021,
        "precision_k5": 0.83,
        "recall_k5": 0.61,
        "density_k5": 0.94,
    }
    utility |= {
        "coverage_k5": 0.77,
        "fid_intra_mean": 24.3,
        "fid_intra_car 9": 22.0,
        "gap_tstr": 0.047,
        "fid_train_matched": 19.1,
    }
    write(ws.utility(family), utility)
    for name, wrong in (("trtr", 6), ("tstr", 13)):
        counts = np.full((len(classes), len(classes)), wrong) + np.eye(len(classes), dtype=int) * 180
        lines = [",".join(["actual", *map(_quoted, classes)])]
        lines += [
            ",".join([_quoted(label), *map(str, row)]) for label, row in zip(classes, counts.tolist(), strict=True)
        ]
        (ws.pictures(family) / f"confusion_{name}.csv").write_text("\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _attacks(ws: Workspace, family: str, state: str, random: np.random.Generator) -> None:
    """Evidence from planted scores, by the code that the attack stage itself uses."""
    n = 300 if state == "UNDECIDED" else 3000
    folder = ws.attacks(family) / "images"
    leak = 0.35 if state == "FAIL" else 0.0
    members, others = random.normal(leak, 1, n), random.normal(0, 1, n)
    evidence = membership.measure(
        members, others, fprs=(0.001, 0.01, 0.1), confidence=0.95, points=60, permutations=199, seed=1
    )
    write(folder / "nearest_neighbour.json", {"kind": "membership", "evaluated": True} | evidence.figures)
    pd.DataFrame(evidence.curve._asdict()).round(6).to_csv(folder / "nearest_neighbour_roc.csv", index=False)
    copies = {"drawn": 2, "released": 1} if state == "FAIL" else {"drawn": 0, "released": 0}
    found: dict[str, Any] = {f"copies_{key}_of_train": number for key, number in copies.items()} | {
        "copies_drawn_of_audit": 0
    }
    found |= {"copies_released_of_audit": 0, "ssim_best_copy_of_train": 0.97 if state == "FAIL" else None}
    write(folder / "copy_census.json", {"kind": "census"} | found)
    (folder / "copy_census_hits.csv").write_text("image_id,released,ssim,variant\n")
    sizes = {"n_member_subjects": n, "n_nonmember_subjects": n, "n_member_images": 3 * n, "n_nonmember_images": 3 * n}
    summary: dict[str, Any] = {
        "threat": "images",
        "family": family,
        "attacks": "copy_census,nearest_neighbour",
        "frozen_sha256": "0" * 64,
    }
    summary |= sizes | {
        "subjects_in_two_roles": 0,
        "images_in_two_roles": 0,
        "n_drawn_images": 400,
        "n_released_images": 340,
    }
    write(folder / "summary.json", summary)


def _controls(ws: Workspace, state: str) -> None:
    census = {"kind": "none", "ok": True, "expected": "no copy found", "found": "0 of 500 images"}
    ranked = {
        "kind": "null",
        "ok": True,
        "p": 0.62,
        "auc": 0.503,
        "expected": "not flagged",
        "found": "AUC 0.503, p = 0.62",
    }
    blind = {"p": 1e-4, "ok": False, "found": "AUC 0.571, p = 0.0001"} if state == "INVALID" else {}
    plant = {
        "kind": "plant",
        "ok": True,
        "p": 0.005,
        "auc": 0.94,
        "expected": "caught",
        "found": "AUC 0.940, p = 0.005",
    }
    found = {
        "blind": ranked | {"expected": "members not told from non-members"} | blind,
        "fresh_nearest_neighbour": ranked,
        "members_nearest_neighbour": ranked,
        "copier_nearest_neighbour": plant,
        "copier_copy_census": census
        | {"kind": "plant", "found": "500 of 500 images", "expected": "at least 99% found"},
        "fresh_copy_census": census,
        "audit_copy_census": census,
    }
    flat = {f"control_{name}_{key}": value for name, control in found.items() for key, value in control.items()}
    flat |= {"controls": ",".join(found), "frozen_sha256": "0" * 64, "attacks": "copy_census,nearest_neighbour"}
    write(ws.controls, flat)


def _verdict(ws: Workspace, family: str, state: str) -> None:
    policy = judgement.Config(
        attempts=1,
        fpr=0.01,
        max_ratio=3,
        max_auc=0.55,
        pass_confidence=0.95,
        fail_confidence=0.99,
        precondition_alpha=0.01,
        min_subjects=500,
        needed_probability=0.8,
        miss_probability=0.05,
        min_tstr_over_trtr=0.8,
    )
    verdict = judgement.judge(
        family, ws.attacks(family), ws.utility(family), ws.controls, policy, out=ws.verdict(family)
    )
    assert verdict["verdict"] == state, verdict["because"]


def spend(ws: Workspace, family: str) -> None:
    """Costs as the runner remembers them."""
    for stage, owner, seconds in (
        ("ingest", None, 31.2),
        ("prepare", None, 48.0),
        ("train", family, 214.7),
        ("sample", family, 9.31),
    ):
        name = stage if owner is None else f"{stage}@{owner}"
        write(ws.timing / f"{name}.json", {"stage": stage, "family": owner, "seconds": seconds, "peak_memory_mb": 900})
