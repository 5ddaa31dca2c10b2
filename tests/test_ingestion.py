"""Stage ``ingest``: nothing is lost in silence, the same set gives the same bytes, and little is done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ops.core.errors import CallError, UnderstudyError
from ops.core.files import sha256_file
from ops.ingestion import Config, ingest
from tests.sources.test_archive import pack
from tests.sources.test_folder import Notes, encoded, picture, plant

CONFIG = Config(max_quarantined_fraction=0.5, max_file_bytes=100_000, max_pixels=1_000_000, min_side_px=8)


@pytest.fixture(autouse=True)
def without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is tested with ops.core.files; 256 syncs a run would only make these tests wait for the disk."""
    monkeypatch.setattr("ops.core.files.sync_file", lambda path: None)


def run(base: Path, config: Config = CONFIG, notes: Notes | None = None, **source: Any) -> dict[str, float]:
    settings = {"kind": "folder", "path": "set", **source}
    return ingest(settings, config, base, base / "data/raw", base / "state/ingest", notes or Notes())


def bytes_of(base: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted((base / "data/raw").iterdir())}


def quarantine(base: Path) -> dict[str, str]:
    frame = pd.read_parquet(base / "data/raw/quarantine.parquet")
    return dict(zip(frame["name"], frame["reason"], strict=True))


def small_set(base: Path, images: int = 12) -> Path:
    plant(base / "set", *[f"{'cat' if k % 2 else 'dog'}/{k:03d}.png" for k in range(images)])
    return base / "set"


def test_shards_hold_the_original_bytes_sorted_by_their_hash(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    figures = run(tmp_path)
    shards = sorted((tmp_path / "data/raw").glob("shard-*.parquet"))
    assert [path.name for path in shards] == [f"shard-{k:02x}.parquet" for k in range(256)]
    frame = pd.concat([pd.read_parquet(path).assign(prefix=path.stem[-2:]) for path in shards], ignore_index=True)
    assert (frame["sha256"].str[:2] == frame["prefix"]).all()
    assert (frame["image_id"] == frame["sha256"].str[:16]).all()
    for row in frame.itertuples():
        assert row.data == (root / str(row.name)).read_bytes()
        assert row.label == str(row.name).split("/")[0]
        assert (row.width, row.height, row.subject_id) == (24, 24, row.image_id)
    manifest = pd.read_parquet(tmp_path / "data/raw/manifest.parquet")
    assert manifest["image_id"].is_monotonic_increasing
    pd.testing.assert_frame_equal(manifest, frame[list(manifest.columns)], check_dtype=False)
    assert json.loads((tmp_path / "data/raw/ingest.json").read_text()) == figures


def test_found_is_kept_plus_quarantined_and_every_reason_is_told(tmp_path: Path) -> None:
    root = small_set(tmp_path, 20)
    good = encoded(picture(99, 60, 60))
    for name, data in {
        "cat/empty.png": b"",
        "cat/text.png": b"not an image",
        "cat/cut.png": good[: len(good) // 2],
        "cat/large.png": good + b"\x00" * 100_000,
        "cat/tiny.png": encoded(picture(1, 4, 4)),
        "cat/twin.png": (root / "cat/001.png").read_bytes(),
        "dog/claimed.png": (root / "cat/003.png").read_bytes(),
    }.items():
        (root / name).write_bytes(data)
    (root / "cat/link.png").symlink_to(root / "cat/001.png")
    figures = run(tmp_path)
    assert quarantine(tmp_path) == {
        "cat/empty.png": "empty",
        "cat/text.png": "wrong_type",
        "cat/cut.png": "truncated",
        "cat/large.png": "too_large",
        "cat/tiny.png": "too_small",
        "cat/twin.png": "duplicate",
        "cat/003.png": "conflicting_label",
        "dog/claimed.png": "conflicting_label",
        "cat/link.png": "symlink",
    }
    assert (figures["found"], figures["kept"], figures["quarantined"]) == (28, 19, 9)
    again = run(tmp_path)
    assert again == figures


def test_equal_bytes_under_two_people_are_both_refused(tmp_path: Path) -> None:
    plant(tmp_path / "set", "s1/1.png", "s1/2.png", "s2/1.png")
    (tmp_path / "set/s2/2.png").write_bytes((tmp_path / "set/s1/2.png").read_bytes())
    run(tmp_path, subjects="folder")
    assert quarantine(tmp_path) == {"s1/2.png": "conflicting_subject", "s2/2.png": "conflicting_subject"}


def test_too_much_in_quarantine_stops_with_the_reasons_and_writes_nothing(tmp_path: Path) -> None:
    root = small_set(tmp_path, 4)
    for k in range(3):
        (root / f"cat/bad{k}.png").write_bytes(b"")
    strict = CONFIG.model_copy(update={"max_quarantined_fraction": 0.4})
    with pytest.raises(UnderstudyError, match=r"42\.9% of 7 \(empty 3\)"):
        run(tmp_path, strict)
    assert not (tmp_path / "data/raw").exists()
    assert not (tmp_path / "state/ingest/.spool").exists()


def test_files_of_the_operating_system_are_told_but_do_not_stop(tmp_path: Path) -> None:
    root = small_set(tmp_path, 4)
    for k in range(9):
        (root / f"cat/._{k}.png").write_bytes(b"resource fork")
    figures = run(tmp_path, CONFIG.model_copy(update={"max_quarantined_fraction": 0.0}))
    assert (figures["kept"], figures["quarantined_system_file"], figures["found"]) == (4, 9, 13)


def test_the_same_set_gives_the_same_bytes_from_folder_and_archive_cold_and_warm(tmp_path: Path) -> None:
    root = small_set(tmp_path / "a", 10)
    run(tmp_path / "a")
    first = bytes_of(tmp_path / "a")
    run(tmp_path / "a")
    assert bytes_of(tmp_path / "a") == first
    (tmp_path / "b").mkdir()
    pack(root, tmp_path / "b/set.tar.gz")
    run(tmp_path / "b", kind="archive", path="set.tar.gz")
    assert bytes_of(tmp_path / "b") == first


def test_one_new_image_rewrites_one_shard_and_reads_no_other_shard_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = small_set(tmp_path, 30)
    run(tmp_path)
    before = bytes_of(tmp_path)
    (root / "cat/new.png").write_bytes(encoded(picture(1234)))
    read: list[str] = []

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return path.read_bytes()

    monkeypatch.setattr("ops.sources.folder.read_regular", counted)
    notes = Notes()
    run(tmp_path, notes=notes)
    changed = {name for name, digest in bytes_of(tmp_path).items() if before[name] != digest}
    assert len({name for name in changed if name.startswith("shard-")}) == 1
    touched = [name for name in changed if name.startswith("shard-")]
    neighbours = len(pd.read_parquet(tmp_path / "data/raw" / touched[0]))
    assert "new.png" in read
    assert len(read) <= neighbours  # the new file, and its neighbours in the one shard that is written anew
    assert changed >= {"manifest.parquet", "ingest.json"}
    assert any("1 of 256 shards" in text for text in notes.said)


def test_a_removed_and_a_changed_image_are_noticed(tmp_path: Path) -> None:
    root = small_set(tmp_path, 8)
    run(tmp_path)
    (root / "cat/001.png").unlink()
    (root / "cat/003.png").write_bytes(encoded(picture(77)))
    run(tmp_path)
    warm = bytes_of(tmp_path)
    for path in (tmp_path / "state/ingest").rglob("*"):
        if path.is_file():
            path.unlink()
    run(tmp_path)
    assert bytes_of(tmp_path) == warm
    assert len(pd.read_parquet(tmp_path / "data/raw/manifest.parquet")) == 7


@pytest.mark.parametrize("victim", ["files.parquet", "verdicts.parquet", "edition.txt", "shards"])
def test_a_damaged_cache_costs_time_and_nothing_else(tmp_path: Path, victim: str) -> None:
    small_set(tmp_path, 6)
    run(tmp_path)
    whole = bytes_of(tmp_path)
    place = tmp_path / "state/ingest" / victim
    for path in place.iterdir() if place.is_dir() else [place]:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :])
    run(tmp_path)
    assert bytes_of(tmp_path) == whole


def test_new_labels_for_known_files_reach_the_output(tmp_path: Path) -> None:
    small_set(tmp_path, 6)
    run(tmp_path)
    run(tmp_path, labels="none", constant_label="animal")
    frame = pd.concat(pd.read_parquet(path) for path in (tmp_path / "data/raw").glob("shard-*.parquet"))
    assert set(frame["label"]) == {"animal"}


def test_a_set_larger_than_the_spool_in_memory_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_set(tmp_path / "a", 9)
    small_set(tmp_path / "b", 9)
    run(tmp_path / "a")
    monkeypatch.setattr("ops.sources._store.SPOOL_BYTES", 3000)
    run(tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_masks_are_kept_and_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    plant(tmp_path / "set", "photos/1.png", "photos/2.png", "masks/1.png")
    (tmp_path / "set/masks/1.png").write_bytes(encoded(np.full((24, 24), 3, np.uint8)))
    (tmp_path / "set/masks/2.png").write_bytes(encoded(np.full((20, 24), 3, np.uint8)))
    figures = run(tmp_path, mask_folder="masks")
    assert figures["images_with_mask"] == 1
    assert quarantine(tmp_path) == {"photos/2.png": "mask_size"}
    held = [pq.read_table(path)["mask"].to_pylist() for path in (tmp_path / "data/raw").glob("shard-*.parquet")]
    assert sum(mask is not None for masks in held for mask in masks) == 1


def test_a_wrong_source_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="folder"):
        run(tmp_path, kind="dropbox")
    with pytest.raises(CallError, match=r"source\.paht"):
        run(tmp_path, paht="x")
    with pytest.raises(CallError, match=r"source\.kind"):
        ingest({}, CONFIG, tmp_path, tmp_path / "out", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    with pytest.raises(UnderstudyError, match="empty source"):
        run(tmp_path)
