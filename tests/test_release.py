"""The gate and the bundle: nothing leaves unearned, nothing private is inside, nothing can be changed unseen."""

from __future__ import annotations

import io
import json
import shutil
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ops import release
from ops.bundles import seal, shards
from ops.core import files
from ops.core.errors import CallError, UnderstudyError
from ops.core.imageset import ImageSet, write_imageset, write_parquet

CONFIG = release.Config(kind="images", shard_images=10, version="1.0.0")
PRIVATE = "subject-Jane-Doe-17"
ABOUT = {"created": "2026-01-02T03:04:05Z", "code": "c0de", "run": "r17"}
VERDICT: dict[str, Any] = {
    "verdict": "PASS", "because": "No copy was found.", "wording": "Evidence, not proof.", "tstr_over_trtr": 0.95,
    "release_utility_ok": True, "min_tstr_over_trtr": 0.8, "n_subjects_per_side": 3000,
}  # fmt: skip
UTILITY = {"accuracy_tstr": 0.9, "kid_train": 0.002, "fid_train": 0.2, "precision_k5": 0.9}


def workspace(root: Path, images: int = 24, channels: int = 3, **verdict: object) -> Path:
    """The files that stage ``release`` reads, with things in them that must not leave."""
    pixels = np.random.default_rng(3).integers(0, 256, (images, 16, 16, channels)).astype(np.uint8)
    table = pd.DataFrame({
        "image_id": [f"sngan-{row:06d}" for row in range(images)], "label": ["<b>cat</b>", "dog"] * (images // 2),
        "subject_id": PRIVATE, "seed": np.arange(images) + 987_654_321, "model_sha256": "feed" * 16,
        "ssim_mean": 0.123456789, "ssim_max": 0.987654321,
    })  # fmt: skip
    write_imageset(root / "filtered", pixels, table)
    write_parquet(table[["image_id", "ssim_max"]], root / "filtered/scores.parquet")
    (root / "report.html").write_text("<!doctype html><title>page</title>")
    files.write_json(root / "verdict.json", {**VERDICT, **verdict})
    files.write_json(root / "utility.json", UTILITY)
    return root


def run(root: Path, config: release.Config = CONFIG) -> dict[str, Any]:
    return release.release(
        "sngan", root / "filtered", root / "verdict.json", root / "utility.json", root / "report.html", config,
        secret="the key of the roles", keys=root / "keys", about=ABOUT, out=root / "release",
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspace(tmp_path_factory.mktemp("made"))
    assert run(root)["granted"]
    return root


def key(root: Path) -> Any:
    return seal.public_key(root / "keys/release.pub.pem")


@pytest.mark.parametrize(
    ("verdict", "config", "word"),
    [
        ({"verdict": "FAIL"}, CONFIG, "FAIL"),
        ({"verdict": "UNDECIDED"}, CONFIG, "UNDECIDED"),
        ({"verdict": "INVALID"}, CONFIG, "INVALID"),
        ({"release_utility_ok": False}, CONFIG, "80%"),
        ({}, CONFIG.model_copy(update={"kind": "generator"}), "generator"),
    ],
)
def test_what_was_not_earned_is_not_released_and_the_reason_is_given(
    tmp_path: Path, verdict: dict[str, Any], config: release.Config, word: str
) -> None:
    decision = run(workspace(tmp_path, **verdict), config)
    assert not decision["granted"]
    assert word in decision["because"]
    assert files.read_json(tmp_path / "release/decision.json") == decision
    assert not (tmp_path / "release/bundle").exists()


def test_a_planted_family_is_never_released_even_with_a_pass(tmp_path: Path) -> None:
    from ops import generators

    assert {name for name in generators.names() if getattr(generators.load(name), "PLANTED", False)} == {
        "copycat",
        "oracle",
    }
    assert "real images" in "".join(release.refusals(VERDICT, 24, CONFIG, planted=True))
    assert not release.refusals(VERDICT, 24, CONFIG, planted=False)


def test_an_empty_set_is_not_released(tmp_path: Path) -> None:
    decision = run(workspace(tmp_path, images=0))
    assert not decision["granted"]
    assert "no image" in decision["because"]


def test_a_refusal_takes_an_earlier_bundle_away(tmp_path: Path) -> None:
    run(workspace(tmp_path))
    assert (tmp_path / "release/bundle").is_dir()
    files.write_json(tmp_path / "verdict.json", {**VERDICT, "verdict": "FAIL"})
    run(tmp_path)
    assert not (tmp_path / "release/bundle").exists()


def test_a_granted_bundle_holds_the_pixels_and_verifies(made: Path) -> None:
    checked = seal.check(made / "release/bundle", key(made))
    assert checked.problems == []
    assert checked.predicate["decision"]["granted"] is True
    kept = ImageSet(made / "filtered")
    for row, (name, label, data) in enumerate(shards.rows(made / "release/bundle")):
        assert (name, label) == (kept.manifest["image_id"][row], kept.labels[row])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), kept.images[row])


def test_grey_images_keep_their_pixels(tmp_path: Path) -> None:
    run(workspace(tmp_path, channels=1))
    _, _, data = next(shards.rows(tmp_path / "release/bundle"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), ImageSet(tmp_path / "filtered").images[0, ..., 0])


def chunks(png: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append(png[at + 4 : at + 8])
        at += 12 + length
    return found


def test_a_png_holds_its_pixels_and_the_mark_that_it_is_synthetic_and_nothing_else(made: Path) -> None:
    for _, _, data in shards.rows(made / "release/bundle"):
        assert set(chunks(data)) == {b"IHDR", b"iTXt", b"IDAT", b"IEND"}
        assert b"trainedAlgorithmicMedia" in data


def test_nothing_of_the_private_manifest_is_in_the_bundle(made: Path) -> None:
    frame = pd.read_parquet(made / "release/bundle/data")
    assert list(frame.columns) == ["image", "label", "image_id"]
    secrets = [PRIVATE, "987654321", "feedfeed", "0.123456789", "0.987654321", "the key of the roles", str(made)]
    digest = pd.read_parquet(made / "filtered/manifest.parquet")["sha256"][0]
    for path in (made / "release/bundle").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [word for word in (*secrets, digest) if word.encode() in data], path


def test_a_label_cannot_write_into_the_cards(made: Path) -> None:
    for name in ("README.md", "datasheet.md"):
        assert "<b>cat" not in (made / "release/bundle" / name).read_text()


def test_the_digest_of_the_origin_needs_the_key_of_the_workspace(made: Path) -> None:
    one, other = (release.source_digest(made / "filtered", secret) for secret in ("a", "b"))
    assert one != other
    assert one == release.source_digest(made / "filtered", "a")


def test_the_payload_has_the_same_bytes_each_time(made: Path, tmp_path: Path) -> None:
    again = workspace(tmp_path)
    shutil.copytree(made / "keys", again / "keys")
    run(again)
    first, second = (seal.digests(root / "release/bundle") for root in (made, again))
    assert first == second


def test_the_signing_key_is_its_owners_alone_and_made_once(made: Path) -> None:
    secret = made / "keys/release.pem"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    before = secret.read_bytes()
    assert seal.signer(made / "keys").public_key == key(made)
    assert secret.read_bytes() == before


def test_another_key_does_not_verify(made: Path, tmp_path: Path) -> None:
    seal.signer(tmp_path)
    assert any("no valid signature" in p for p in seal.check(made / "release/bundle", key_of(tmp_path)).problems)


def key_of(home: Path) -> Any:
    return seal.public_key(home / "release.pub.pem")


def test_what_is_no_public_key_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hello")
    for path in (tmp_path / "key", tmp_path / "missing"):
        with pytest.raises(CallError, match="public key"):
            seal.public_key(path)


def test_of_three_hundred_tamperings_none_is_accepted(made: Path, tmp_path: Path) -> None:
    """One byte of any file, at random; a file added, removed, renamed, swapped, linked; the manifest made anew."""
    random = np.random.default_rng(11)
    bundle, public = made / "release/bundle", key(made)
    names = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    copy = tmp_path / "copy"
    accepted = tried = 0

    def attempt() -> None:
        nonlocal accepted, tried
        tried += 1
        accepted += not seal.check(copy, public).problems

    for number in range(len(names) * 25):
        name = names[number % len(names)]
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle, copy)
        data = bytearray((copy / name).read_bytes())
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        (copy / name).write_bytes(bytes(data))
        attempt()
    changes = [lambda c, n: (c / n).unlink(), lambda c, n: (c / n).rename(c / "other.md")]
    changes += [lambda c, n: (c / n).write_bytes((c / n).read_bytes() + b"\n")]
    changes += [lambda c, n: ((c / n).rename(c / "aside"), (c / n).symlink_to(bundle / n), (c / "aside").unlink())]
    for change in changes:
        for name in names:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(bundle, copy)
            change(copy, name)
            attempt()
    for extra in ("extra.txt", "data/extra.parquet", "data/train-00099-of-00100.parquet", "model.pkl", ".hidden"):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle, copy)
        (copy / extra).write_bytes(b"PAR1")
        attempt()
    assert tried >= 300
    assert accepted == 0


def test_a_statement_signed_for_one_bundle_does_not_cover_another(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made / "release/bundle", copy)
    (copy / "README.md").write_text("All is well.")
    lines = [f"{d}  {name}\n" for name, d in seal.digests(copy, (seal.MANIFEST, seal.ATTESTATION)).items()]
    (copy / seal.MANIFEST).write_text("".join(lines))
    problems = seal.check(copy, key(made)).problems
    assert "README.md was changed" in problems
    assert "MANIFEST.sha256 was changed" in problems


def test_a_stranger_in_the_folder_stops_the_sealing(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made / "release/bundle", copy)
    (copy / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(UnderstudyError, match=r"weights\.safetensors"):
        seal.close(copy, {}, seal.signer(made / "keys"))


def test_sha256sum_can_read_the_manifest(made: Path) -> None:
    bundle = made / "release/bundle"
    for line in (bundle / seal.MANIFEST).read_text().splitlines():
        digest, name = line.split("  ")
        assert files.sha256_file(bundle / name) == digest


def test_unpacking_makes_a_folder_a_class_and_no_path_from_a_label(made: Path, tmp_path: Path) -> None:
    assert shards.unpack(made / "release/bundle", tmp_path / "out") == 24
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_b_cat__b_", "dog"]
    with pytest.raises(UnderstudyError, match="not empty"):
        shards.unpack(made / "release/bundle", tmp_path / "out")


def test_hugging_face_and_mlcroissant_open_the_bundle(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    mlcroissant = pytest.importorskip("mlcroissant")
    bundle = made / "release/bundle"
    found = datasets.load_dataset("parquet", data_files=str(bundle / "data/*.parquet"), cache_dir=str(tmp_path))
    assert found["train"].num_rows == 24
    assert found["train"][0]["image"].size == (16, 16)
    described = mlcroissant.Dataset(str(bundle / "croissant.json"))
    assert not described.metadata.ctx.issues.errors
    rows = list(described.records("images"))
    assert len(rows) == 24
    assert rows[0]["images/image"].size == (16, 16)
    assert json.loads((bundle / "croissant.json").read_text())["conformsTo"].endswith("/1.1")
