"""Stage ``prepare``: four roles by subject, and no picture or person in two of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from ops.core import runtime
from ops.core.config import block, load_params
from ops.core.errors import CallError, UnderstudyError
from ops.core.files import sha256_file
from ops.core.imageset import ImageSet
from ops.core.paths import ROLES
from ops.ingestion import Config as IngestConfig
from ops.ingestion import ingest
from ops.metrics import copies
from ops.preparation import Config, across, half_of, prepare, role_of
from tests.sources.test_folder import Notes

BLOCK: dict[str, Any] = {
    "size_px": 32,
    "channels": 3,
    "centre_crop": False,
    "background_grey": 255,
    "split_key": "a secret of this test",
    "shares": {"train": 0.4, "audit": 0.3, "reference": 0.2, "test": 0.1},
    "reference_control_fraction": 0.5,
    "max_straddling_fraction": 0.2,
    "min_subjects": 500,
}
# The detector as the project ships it: what prepare removes is what the census will look for.
COPIES = block(load_params(Path(__file__).parents[1] / "params.yaml"), "copies", copies.Config)
RUNTIME = runtime.Config(device="cpu", threads=1, precision="fp32")


@pytest.fixture(autouse=True)
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.core.files.sync_file", lambda path: None)


def config(**changes: Any) -> Config:
    return block({"prepare": BLOCK | changes}, "prepare", Config)


def scene(seed: int) -> np.ndarray:
    """A picture unlike any other: smooth noise with contrast; uint8 [32, 32, 3]."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((32, 32, 3)), (1.5, 1.5, 0))
    return np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def ingested(base: Path, pictures: dict[str, np.ndarray], **source: Any) -> Path:
    for name, image in pictures.items():
        save(base / "set" / name, image)
    limits = IngestConfig(max_quarantined_fraction=0.0, max_file_bytes=10**6, max_pixels=10**6, min_side_px=8)
    settings = {"kind": "folder", "path": "set", "subjects": "folder", **source}
    ingest(settings, limits, base, base / "raw", base / "state")
    return base / "raw"


def people(count: int, each: int = 2) -> dict[str, np.ndarray]:
    return {
        f"{'cat' if p % 2 else 'dog'}/p{p:03d}/{k}.png": scene(1000 * p + k) for p in range(count) for k in range(each)
    }


def subject_in(role: str, number: int = 0) -> str:
    return [name for name in (f"p{k:03d}" for k in range(60)) if role_of(name, config()) == role][number]


def run(base: Path, raw: Path, notes: Notes | None = None, **changes: Any) -> dict[str, float]:
    return prepare(raw, config(**changes), COPIES, RUNTIME, base / "prepared", notes or Notes())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("prepared")
    run(base, ingested(base, people(60)))
    return base


def test_every_image_lands_in_one_role_and_no_subject_in_two(prepared: Path) -> None:
    sets = {role: ImageSet(prepared / "prepared" / role) for role in ROLES}
    assert sum(len(one) for one in sets.values()) == 120
    owners = pd.concat(one.manifest.assign(role=role) for role, one in sets.items())
    assert (owners.groupby("subject_id")["role"].nunique() == 1).all()
    assert (owners.groupby("sha256")["role"].nunique() == 1).all()
    assert owners["image_id"].is_unique
    for role, one in sets.items():
        assert one.images.shape[1:] == (32, 32, 3)
        assert {role_of(name, config()) for name in one.subjects} == {role}
        assert one.manifest["image_id"].is_monotonic_increasing


def test_pixels_belong_to_their_rows(prepared: Path) -> None:
    raw = pd.read_parquet(prepared / "raw/manifest.parquet").set_index("image_id")
    train = ImageSet(prepared / "prepared/train")
    for row, image_id in enumerate(train.manifest["image_id"]):
        original = np.asarray(Image.open(prepared / "set" / raw.loc[image_id, "name"]))
        assert np.array_equal(train.images[row], original)
        assert train.manifest["label"][row] == raw.loc[image_id, "label"]


def test_only_reference_has_halves_and_a_subject_is_in_one(prepared: Path) -> None:
    for role in ROLES:
        frame = ImageSet(prepared / "prepared" / role).manifest
        halves = set(frame["half"])
        assert halves == ({"calibrate", "control"} if role == "reference" else {""})
        assert (frame.groupby("subject_id")["half"].nunique() == 1).all()


def test_same_input_same_bytes_whatever_the_threads(prepared: Path, tmp_path: Path) -> None:
    threads = RUNTIME.model_copy(update={"threads": 3})
    prepare(prepared / "raw", config(), COPIES, threads, tmp_path / "prepared", Notes())
    for path in sorted((prepared / "prepared").rglob("*.*")):
        assert sha256_file(path) == sha256_file(tmp_path / "prepared" / path.relative_to(prepared / "prepared")), path


def test_roles_are_shares_of_a_keyed_hash_and_nobody_moves() -> None:
    names = [f"person {k}" for k in range(20_000)]
    roles = np.array([role_of(name, config()) for name in names])
    for role, share in BLOCK["shares"].items():
        assert abs((roles == role).mean() - share) < 0.012  # 3.5 standard errors at most
    other = np.array([role_of(name, config(split_key="another secret")) for name in names])
    assert abs((roles == other).mean() - 0.3) < 0.02  # Σ share²: independent of the first key
    control = np.array([half_of(name, config()) == "control" for name in names])
    assert abs(control[roles == "reference"].mean() - 0.5) < 0.03
    assert abs(control[roles == "train"].mean() - 0.5) < 0.03


def twin_of(image: np.ndarray, kind: str) -> np.ndarray:
    noisy = np.clip(image.astype(int) + np.random.default_rng(0).integers(-3, 4, image.shape), 0, 255).astype(np.uint8)
    return {"plain": noisy, "mirrored": np.ascontiguousarray(noisy[:, ::-1])}[kind]


@pytest.mark.parametrize("kind", ["plain", "mirrored"])
def test_a_near_duplicate_across_roles_goes_from_both_and_one_inside_a_role_stays(tmp_path: Path, kind: str) -> None:
    pictures = people(60)
    member, outsider = subject_in("train"), subject_in("audit")
    friend = subject_in("train", 1)
    where = {name.split("/")[1]: name.rsplit("/", 1)[0] for name in pictures}
    pictures[f"{where[outsider]}/twin.png"] = twin_of(pictures[f"{where[member]}/0.png"], kind)
    pictures[f"{where[friend]}/twin.png"] = twin_of(pictures[f"{where[friend]}/0.png"], kind)
    notes = Notes()
    raw = ingested(tmp_path, pictures)
    figures = run(tmp_path, raw, notes)
    names = pd.read_parquet(raw / "manifest.parquet").set_index("image_id")["name"]
    kept = {names[i] for role in ROLES for i in ImageSet(tmp_path / "prepared" / role).manifest["image_id"]}
    assert set(pictures) - kept == {f"{where[outsider]}/twin.png", f"{where[member]}/0.png"}
    assert (figures["train_removed_near_duplicates"], figures["audit_removed_near_duplicates"]) == (1, 1)
    assert figures["pairs_inside_roles"] == 1
    gone = pd.read_parquet(tmp_path / "prepared/train/removed.parquet")
    assert list(gone.columns) == ["image_id", "reason", "partner_role", "ssim"]
    assert gone["partner_role"].tolist() == ["audit"]
    assert gone["ssim"][0] >= 0.95
    assert any("train and audit 2" in text for text in notes.said)
    told = json.loads((tmp_path / "prepared/train/summary.json").read_text())
    assert told["removed_near_duplicates"] == 1


def test_all_copies_on_both_sides_go_although_the_detector_names_one_pair() -> None:
    # x0 = x1 (train), y0 = y1 (audit) and z, alone; the detector reports stars of equal images and one pair between.
    roles = np.array(["train", "train", "audit", "audit", "test"])
    pairs = copies.Pairs(
        np.array([0, 0, 2]),
        np.array([1, 2, 3]),
        np.array([1.0, 0.97, 1.0], np.float32),
        ["identical", "plain", "identical"],
    )
    gone = across(np.array(list("abcde")), roles, np.array([0, 0, 1, 1, 2]), pairs)
    assert gone["image_id"].tolist() == ["a", "b", "c", "d"]
    assert gone["partner_role"].tolist() == ["audit", "audit", "train", "train"]
    assert np.allclose(gone["ssim"], 0.97)


def test_too_many_straddling_images_stop_with_the_figure(tmp_path: Path) -> None:
    pictures = people(30)
    where = {name.split("/")[1]: name.rsplit("/", 1)[0] for name in pictures}
    image = pictures[f"{where[subject_in('train')]}/0.png"]
    pictures[f"{where[subject_in('audit')]}/twin.png"] = twin_of(image, "plain")
    raw = ingested(tmp_path, pictures)
    with pytest.raises(UnderstudyError, match=r"3\.3% of 61 \(train and audit 2\)"):
        run(tmp_path, raw, max_straddling_fraction=0.03)
    assert not (tmp_path / "prepared").exists()


def test_a_test_folder_becomes_role_test_with_all_images_of_its_people(tmp_path: Path) -> None:
    pictures = {f"train/{name}": image for name, image in people(40, each=1).items()}
    pictures |= {f"test/{'cat' if p % 2 else 'dog'}/p{p:03d}/t.png": scene(90_000 + p) for p in range(36, 46)}
    run(tmp_path, ingested(tmp_path, pictures, test_folder="test"))
    test = ImageSet(tmp_path / "prepared/test")
    assert set(test.subjects) == {f"p{p:03d}" for p in range(36, 46)}
    assert len(test) == 14
    assert sorted(test.manifest["split"]) == [""] * 4 + ["test"] * 10
    assert "split" in ImageSet(tmp_path / "prepared/audit").manifest


def test_a_class_absent_from_test_is_an_error_that_names_it(tmp_path: Path) -> None:
    pictures = people(40, each=1) | {f"owl/{subject_in('train')}/0.png": scene(5)}
    with pytest.raises(UnderstudyError, match="owl"):
        run(tmp_path, ingested(tmp_path, pictures))


def test_a_thin_role_is_a_warning(tmp_path: Path) -> None:
    notes = Notes()
    raw = ingested(tmp_path, people(40, each=1))
    run(tmp_path, raw, notes)
    assert any("role audit" in text and "UNDECIDED" in text for text in notes.said)
    notes.said.clear()
    run(tmp_path, raw, notes, min_subjects=1)
    assert not notes.said


def test_masks_attributes_and_grey_travel_along(tmp_path: Path) -> None:
    rows = ["file,label,subject,mask,half,weather"]
    for p in range(40):
        save(tmp_path / f"set/{p}.png", scene(p))
        mask = np.zeros((32, 32), np.uint8)
        mask[: p % 30 + 1] = 5
        save(tmp_path / f"set/m{p}.png", mask)
        rows.append(f"{p}.png,cat,s{p},m{p}.png,left,{'rain' if p % 2 else 'sun'}")
    (tmp_path / "set/labels.csv").write_text("\n".join(rows))
    raw = ingested(tmp_path, {}, table="labels.csv", subjects="table")
    run(tmp_path, raw, channels=1, size_px=16)
    names = pd.read_parquet(raw / "manifest.parquet").set_index("image_id")["name"]
    train = ImageSet(tmp_path / "prepared/train")
    assert train.images.shape[1:] == (16, 16, 1)
    assert train.masks is not None
    for mask, image_id, weather in zip(train.masks, train.manifest["image_id"], train.manifest["weather"], strict=True):
        p = int(Path(names[image_id]).stem)
        assert weather == ("rain" if p % 2 else "sun")
        assert abs(int((mask[:, 0] == 5).sum()) - (p % 30 + 1) / 2) <= 1
        assert set(np.unique(mask)) <= {0, 5}
    assert set(train.manifest["attribute_half"]) == {
        "left"
    }  # a source's column of that name does not become the role's
    assert set(train.manifest["half"]) == {""}


def test_originals_of_any_shape_become_the_square_of_the_settings(tmp_path: Path) -> None:
    pictures = people(40, each=1)
    wide = {name: np.asarray(Image.fromarray(image).resize((150, 60))) for name, image in pictures.items()}
    raw = ingested(tmp_path, wide)
    run(tmp_path, raw, centre_crop=True, size_px=24)
    train = ImageSet(tmp_path / "prepared/train")
    names = pd.read_parquet(raw / "manifest.parquet").set_index("image_id")["name"]
    assert train.images.shape[1:] == (24, 24, 3)
    middle = Image.fromarray(wide[names[train.manifest["image_id"][0]]]).crop((45, 0, 105, 60))
    expected = np.asarray(middle.resize((24, 24), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(train.images[0] - expected).max() <= 8


def test_wrong_shares_and_missing_keys_are_named() -> None:
    with pytest.raises(CallError, match=r"add up to 0\.9"):
        config(shares={"train": 0.3, "audit": 0.3, "reference": 0.2, "test": 0.1})
    without = {key: value for key, value in BLOCK.items() if key != "split_key"}
    with pytest.raises(CallError, match=r"prepare\.split_key"):
        block({"prepare": without}, "prepare", Config)
