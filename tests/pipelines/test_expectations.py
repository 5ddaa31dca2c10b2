"""Great Expectations suites: they find planted faults, stop the stage, and tell nobody anything private."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ops.core.errors import CallError, UnderstudyError
from ops.core.files import write_json
from ops.core.imageset import ImageSet, pixel_digests, write_imageset, write_parquet
from ops.core.paths import ROLES, Workspace
from ops.core.protocols import Finding
from pipelines import expectations

CLASSES = ("canary-label-7f3a", "canary-label-91bc")
PARAMS: dict[str, Any] = {
    "expectations": {"min_class_share": 0.2, "min_pixel_std": 1.0, "max_blank_fraction": 0.02},
    "prepare": {"size_px": 8, "channels": 3},
}
PER_ROLE = 24


def draw(seed: int, n: int = PER_ROLE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def rows(prefix: str, images: np.ndarray) -> pd.DataFrame:
    n = len(images)
    return pd.DataFrame(
        {
            "image_id": [f"canary-id-{prefix}-{k}" for k in range(n)],
            "label": [CLASSES[k % 2] for k in range(n)],
            "subject_id": [f"canary-subject-{prefix}-{k}" for k in range(n)],
            "sha256": pixel_digests(images),
        }
    )


def write_role(ws: Workspace, role: str, change: Callable[[np.ndarray, pd.DataFrame], None] | None = None) -> None:
    images = draw(ROLES.index(role))
    half = ["calibrate" if k % 2 else "control" for k in range(PER_ROLE)] if role == "reference" else ""
    manifest = rows(role, images).assign(half=half)
    if change:
        change(images, manifest)
    write_imageset(ws.role(role), images, manifest)


def write_synthetic(ws: Workspace, change: Callable[[np.ndarray, pd.DataFrame], None] | None = None) -> None:
    images = draw(10)
    manifest = rows("drawn", images).assign(family="sngan", seed=np.arange(PER_ROLE), model_sha256="ab" * 32)
    manifest["subject_id"] = manifest["image_id"]
    if change:
        change(images, manifest)
    write_imageset(ws.synthetic("sngan"), images, manifest)


def write_filtered(ws: Workspace, kept: slice, ssim_max: float = 0.5, limit: float = 0.8) -> None:
    drawn = ImageSet(ws.synthetic("sngan"))
    folder, table = ws.filtered("sngan"), drawn.manifest
    write_imageset(folder, drawn.images[kept], table.iloc[kept].assign(ssim_mean=0.2, ssim_max=ssim_max))
    keep = np.zeros(len(table), bool)
    keep[kept] = True
    scores = table[["image_id", "label"]].assign(
        ssim_mean=0.2, ssim_max=ssim_max, kept=keep, reason=np.where(keep, "", "high")
    )
    write_parquet(scores, folder / "scores.parquet")
    write_json(folder / "filter.json", {"ssim_max_limit": limit})


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    for role in ROLES:
        write_role(workspace, role)
    return workspace


def failed(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings if not finding.passed}


def prepared(ws: Workspace) -> list[Finding]:
    return expectations.check("prepare", ws, None, PARAMS)


def test_a_sound_set_meets_every_expectation_of_every_suite(ws: Workspace) -> None:
    write_synthetic(ws)
    write_filtered(ws, slice(0, 20))
    for stage, family in (("prepare", None), ("sample", "sngan"), ("filter", "sngan")):
        findings = expectations.check(stage, ws, family, PARAMS)
        assert len(findings) >= 10
        assert failed(findings) == set()
        expectations.enforce(findings)


def blank_three(images: np.ndarray, manifest: pd.DataFrame) -> None:
    images[:3] = 128
    manifest["sha256"] = pixel_digests(images)


def repeat_an_id(images: np.ndarray, manifest: pd.DataFrame) -> None:
    manifest.loc[1, "image_id"] = str(manifest["image_id"].iloc[0])


def lose_a_subject(images: np.ndarray, manifest: pd.DataFrame) -> None:
    manifest.loc[2, "subject_id"] = None


def shorten_a_hash(images: np.ndarray, manifest: pd.DataFrame) -> None:
    manifest.loc[3, "sha256"] = "abc"


def change_a_pixel(images: np.ndarray, manifest: pd.DataFrame) -> None:
    images[4, 0, 0, 0] ^= 1


def invent_a_label(images: np.ndarray, manifest: pd.DataFrame) -> None:
    manifest.loc[5, "label"] = "canary-label-unknown"


def starve_a_class(images: np.ndarray, manifest: pd.DataFrame) -> None:
    manifest["label"] = [CLASSES[0] if row >= 2 else label for row, label in enumerate(manifest["label"])]


def mix_up_halves(images: np.ndarray, manifest: pd.DataFrame) -> None:
    manifest.loc[0, "half"] = "calibrate"


PLANTED = [
    (blank_three, {"not_blank"}, 3),
    (repeat_an_id, {"unique_ids"}, 2),
    (lose_a_subject, {"rows_complete"}, 1),
    (shorten_a_hash, {"hash_form", "hash_matches"}, 1),
    (change_a_pixel, {"hash_matches"}, 1),
    (invent_a_label, {"label_known"}, 1),
    (starve_a_class, {"class_balance"}, 1),
    (mix_up_halves, {"half_named"}, 1),
]


@pytest.mark.parametrize(("change", "names", "count"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_in_train_is_found_counted_and_stops_the_stage(
    ws: Workspace, change: Callable[[np.ndarray, pd.DataFrame], None], names: set[str], count: int
) -> None:
    write_role(ws, "train", change)
    findings = prepared(ws)
    broken = {finding.name: finding for finding in findings if not finding.passed}
    assert names <= set(broken)
    assert all(broken[name].failing_rows == count for name in names)
    assert "train:" in broken[min(names)].found
    with pytest.raises(UnderstudyError, match=min(names)):
        expectations.enforce(findings)


def test_a_subject_and_an_image_in_two_roles_are_found_even_under_other_ids(ws: Workspace) -> None:
    def borrow(images: np.ndarray, manifest: pd.DataFrame) -> None:
        images[0] = draw(ROLES.index("train"))[5]
        manifest["sha256"] = pixel_digests(images)
        manifest.loc[7, "subject_id"] = "canary-subject-train-3"

    write_role(ws, "audit", borrow)
    findings = {finding.name: finding for finding in prepared(ws)}
    assert failed(list(findings.values())) == {"unique_hashes", "hash_in_one_role", "subject_in_one_role"}
    assert findings["hash_in_one_role"].failing_rows == 2
    assert "train:3, audit:7" in findings["subject_in_one_role"].found


def test_a_thin_class_in_the_audit_role_warns_and_does_not_stop(ws: Workspace) -> None:
    write_role(ws, "audit", starve_a_class)
    findings = prepared(ws)
    assert failed(findings) == {"class_balance_audit_reference"}
    expectations.enforce(findings)


def test_few_blank_images_are_tolerated_and_a_flat_colour_counts_as_blank(ws: Workspace) -> None:
    def redden(images: np.ndarray, manifest: pd.DataFrame) -> None:
        images[0] = (255, 0, 0)
        manifest["sha256"] = pixel_digests(images)

    write_role(ws, "train", redden)
    assert failed(prepared(ws)) == set()
    strict = PARAMS | {"expectations": PARAMS["expectations"] | {"max_blank_fraction": 0.0}}
    assert failed(expectations.check("prepare", ws, None, strict)) == {"not_blank"}


def test_images_of_another_size_are_refused(ws: Workspace) -> None:
    findings = expectations.check("prepare", ws, None, PARAMS | {"prepare": {"size_px": 16, "channels": 1}})
    assert failed(findings) == {"height", "width", "channels"}


def test_a_synthetic_set_without_provenance_is_refused(ws: Workspace) -> None:
    def forget(images: np.ndarray, manifest: pd.DataFrame) -> None:
        manifest["seed"] = manifest["seed"].astype("Int64")
        manifest.loc[0, "seed"] = pd.NA
        manifest.loc[1, "family"] = "dcgan"
        manifest.loc[2, "model_sha256"] = None
        manifest.loc[3, "subject_id"] = "canary-subject-train-3"

    write_synthetic(ws, forget)
    findings = expectations.check("sample", ws, "sngan", PARAMS)
    assert failed(findings) == {"provenance", "family_named", "model_hash_form", "own_subject"}


def test_the_filter_cannot_keep_an_image_above_its_limit_or_one_that_was_never_drawn(ws: Workspace) -> None:
    write_synthetic(ws)
    write_filtered(ws, slice(0, 12), ssim_max=0.81, limit=0.8)
    assert failed(expectations.check("filter", ws, "sngan", PARAMS)) == {"ssim_max_below_limit"}
    write_filtered(ws, slice(0, 12))
    write_synthetic(ws, change_a_pixel_and_its_hash)
    assert failed(expectations.check("filter", ws, "sngan", PARAMS)) == {"drawn"}


def change_a_pixel_and_its_hash(images: np.ndarray, manifest: pd.DataFrame) -> None:
    images[4, 0, 0, 0] ^= 1
    manifest["sha256"] = pixel_digests(images)


def test_a_filter_that_kept_nothing_is_a_result_and_not_a_fault(ws: Workspace) -> None:
    write_synthetic(ws)
    write_filtered(ws, slice(0, 0))
    assert failed(expectations.check("filter", ws, "sngan", PARAMS)) == set()


def test_data_docs_are_rendered_and_hold_no_private_value_nor_its_hash(ws: Workspace) -> None:
    def everything(images: np.ndarray, manifest: pd.DataFrame) -> None:
        for fault in (repeat_an_id, lose_a_subject, change_a_pixel, shorten_a_hash, invent_a_label, mix_up_halves):
            fault(images, manifest)

    write_role(ws, "train", everything)
    assert len(failed(prepared(ws))) >= 6
    folder = expectations.docs_folder("prepare", ws, None)
    assert (folder / "index.html").is_file()
    text = "\n".join(
        path.read_text(errors="replace") for path in folder.rglob("*") if path.suffix in {".html", ".json"}
    )
    assert "unique" in text
    hashes = [digest for role in ROLES for digest in ImageSet(ws.role(role)).manifest["sha256"]]
    fingerprints = [
        hashlib.md5(pd.util.hash_pandas_object(ImageSet(ws.role(role)).manifest).to_numpy().tobytes()) for role in ROLES
    ]
    private = ["canary", *hashes, *(item.hexdigest() for item in fingerprints)]
    assert [value for value in private if value in text] == []


def test_data_docs_of_the_same_set_differ_in_their_fingerprint_so_it_is_no_oracle(ws: Workspace) -> None:
    texts = []
    for _ in range(2):
        prepared(ws)
        (page,) = expectations.docs_folder("prepare", ws, None).glob("validations/**/*.html")
        texts.append(page.read_text())
    prints = [text.split("pandas_data_fingerprint", 1)[1].split("</tr>")[0] for text in texts]
    assert prints[0] != prints[1]


def test_findings_tell_rows_and_never_values(ws: Workspace) -> None:
    write_role(ws, "train", repeat_an_id)
    assert "canary" not in "".join(finding.found + finding.expected for finding in prepared(ws))


def write_raw(ws: Workspace, manifest: pd.DataFrame, quarantined: list[str]) -> None:
    ws.raw.mkdir(parents=True)
    write_parquet(manifest, ws.raw / "manifest.parquet")
    quarantine = pd.DataFrame({"name": quarantined, "reason": "truncated", "detail": "canary-detail"}, dtype=str)
    write_parquet(quarantine, ws.raw / "quarantine.parquet")
    counts = {"found": len(manifest) + len(quarantined), "kept": len(manifest), "quarantined": len(quarantined)}
    write_json(ws.raw / "ingest.json", counts)


def test_a_raw_manifest_is_judged_without_its_pictures(ws: Workspace) -> None:
    manifest = rows("raw", draw(3)).assign(name=[f"canary-name-{k}" for k in range(PER_ROLE)], width=500, height=375)
    write_raw(ws, manifest, ["canary-name-broken"])
    assert failed(expectations.check("ingest", ws, None, PARAMS)) == set()


def test_a_raw_file_that_is_kept_and_quarantined_or_has_no_size_is_refused(ws: Workspace) -> None:
    manifest = rows("raw", draw(3)).assign(name=[f"canary-name-{k}" for k in range(PER_ROLE)], width=500, height=375)
    manifest.loc[0, "height"] = 0
    write_raw(ws, manifest, ["canary-name-7"])
    findings = expectations.check("ingest", ws, None, PARAMS)
    assert failed(findings) == {"has_size", "not_quarantined"}
    with pytest.raises(
        UnderstudyError, match=r"not_quarantined: expected no file .* found otherwise in 1 of 24 rows \(row:7\)"
    ):
        expectations.enforce(findings)


def test_a_stage_without_a_suite_has_no_findings_and_costs_no_import(ws: Workspace) -> None:
    assert expectations.suites("train") == []
    assert expectations.check("train", ws, "sngan", {}) == []
    assert expectations.suites("prepare") == ["prepared"]


def test_a_missing_setting_is_named(ws: Workspace) -> None:
    broken = PARAMS | {"expectations": {"min_class_share": 0.2, "min_pixel_std": 1.0}}
    with pytest.raises(CallError, match=r"expectations\.max_blank_fraction"):
        expectations.check("prepare", ws, None, broken)
