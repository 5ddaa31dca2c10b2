"""The stages ``train`` and ``sample``: whole or not at all, resumable by shard, every image from its own seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ops import generation, generators
from ops.core import files
from ops.core.errors import CallError, UnderstudyError
from ops.core.imageset import ImageSet, pixel_digests, write_imageset
from tests.generators import tiny

SETTINGS = tiny.SETTINGS["sngan"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the role ``train`` and a fitted ``model``."""
    folder = tmp_path_factory.mktemp("generation")
    images_u8, labels = tiny.images()
    names = [f"{row:03d}" for row in range(len(images_u8))]
    manifest = pd.DataFrame({"image_id": names, "label": np.array(tiny.CLASSES)[labels], "subject_id": names})
    write_imageset(folder / "train", images_u8, manifest)
    generation.train("sngan", folder / "train", SETTINGS, tiny.RUNTIME, 3, folder / "model", folder / "checkpoints")
    return folder


def drawn(place: Path, out: Path, listener: tiny.Listener | None = None, **changes: Any) -> dict[str, float]:
    config = generation.Config(**{"images": 24, "batch": 4, "shard_images": 8, **changes})
    return generation.sample(
        "sngan", place / "model", place / "train", SETTINGS, config, tiny.RUNTIME, 5, out, out.parent / "cache",
        listener or tiny.Listener(),
    )  # fmt: skip


def counted(monkeypatch: pytest.MonkeyPatch, fatal: int = 10_000) -> list[np.ndarray]:
    """Watch the family's draw: the rows of each call; the call with number ``fatal`` dies half way."""
    calls: list[np.ndarray] = []
    alive = generators.load("sngan").draw

    def watched(model: Path, reads: Path, plan: generators.SamplePlan, **rest: Any) -> Iterator[Any]:
        calls.append(plan.rows)
        for number, part in enumerate(alive(model, reads, plan, **rest)):
            if len(calls) > fatal and number == 1:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(generators.load("sngan"), "draw", watched)
    return calls


def test_a_killed_draw_goes_on_with_its_finished_shards(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(place, tmp_path / "whole" / "out")
    with monkeypatch.context() as patch:
        counted(patch, fatal=2)
        with pytest.raises(KeyboardInterrupt):
            drawn(place, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    calls = counted(monkeypatch)
    drawn(place, tmp_path / "out")
    assert [rows.tolist() for rows in calls] == [list(range(16, 24))]
    for path in (tmp_path / "whole/out").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


def test_shards_of_other_settings_or_damaged_ones_are_drawn_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        counted(patch, fatal=2)
        with pytest.raises(KeyboardInterrupt):
            drawn(place, tmp_path / "out")
    first = min((tmp_path / "cache").glob("*/shard-00000/images.npy"))
    damaged = bytearray(first.read_bytes())
    damaged[-1] ^= 1
    first.write_bytes(bytes(damaged))
    calls = counted(monkeypatch)
    drawn(place, tmp_path / "other", batch=3)
    assert len(calls) == 3
    calls.clear()
    drawn(place, tmp_path / "out")
    assert [rows[0] for rows in calls] == [0, 16]


def test_nothing_is_left_in_the_cache_once_the_set_is_published(place: Path, tmp_path: Path) -> None:
    drawn(place, tmp_path / "out")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_image_does_not_depend_on_how_many_are_drawn(place: Path, tmp_path: Path) -> None:
    """Same batch size, other companions and other places in the batch: the same bytes."""
    drawn(place, tmp_path / "many", images=24, shard_images=24)
    drawn(place, tmp_path / "few", images=7, shard_images=7)
    np.testing.assert_array_equal(ImageSet(tmp_path / "few").images, ImageSet(tmp_path / "many").images[:7])


def test_any_image_can_be_drawn_again_from_its_row_of_the_manifest(place: Path, tmp_path: Path) -> None:
    drawn(place, tmp_path / "out")
    manifest = ImageSet(tmp_path / "out").manifest
    row = manifest.iloc[13]
    module = generators.load("sngan")
    labels = np.array([tiny.CLASSES.index(row["label"])])
    plan = generators.SamplePlan(tiny.CLASSES, labels, np.array([row["seed"]]), 4, np.array([0]))
    config = module.Config.model_validate(SETTINGS)
    ((_, image_u8),) = module.draw(
        place / "model", place / "train", plan, config=config, runtime=tiny.RUNTIME, reporter=tiny.Listener()
    )
    assert pixel_digests(image_u8) == [row["sha256"]]


def test_the_figures_tell_what_was_drawn(place: Path, tmp_path: Path) -> None:
    listener = tiny.Listener()
    figures = drawn(place, tmp_path / "out", listener, images=25)
    assert figures == files.read_json(tmp_path / "out/sample.json")
    assert figures["images_drawn"] == figures["images_planned"] == 25
    assert (figures["images_per_class_min"], figures["images_per_class_max"]) == (12, 13)
    assert [done for _, done, _, _ in listener.told] == [8, 16, 24, 25]


def test_a_model_of_other_classes_is_refused(place: Path, tmp_path: Path) -> None:
    module = generators.load("sngan")
    plan = generators.SamplePlan(["bright", "grey"], np.array([0]), np.array([1]), 4, np.array([0]))
    config = module.Config.model_validate(SETTINGS)
    with pytest.raises(UnderstudyError, match="classes"):
        next(
            module.draw(
                place / "model", place / "train", plan, config=config, runtime=tiny.RUNTIME, reporter=tiny.Listener()
            )
        )


def test_a_failed_training_leaves_the_model_before_it_in_place(place: Path, tmp_path: Path) -> None:
    before = generators.model_digest(place / "model")
    hot = {**SETTINGS, "lr_generator": 1e30, "lr_discriminator": 1e30, "steps": 10}
    with pytest.raises(UnderstudyError, match="DIVERGED"):
        generation.train("sngan", place / "train", hot, tiny.RUNTIME, 3, place / "model", tmp_path / "checkpoints")
    assert generators.model_digest(place / "model") == before


def test_a_size_that_a_family_cannot_do_is_refused_with_the_sizes_it_can(place: Path, tmp_path: Path) -> None:
    images_u8, labels = tiny.images(size_px=28, channels=1)
    names = [f"{row:03d}" for row in range(len(images_u8))]
    manifest = pd.DataFrame({"image_id": names, "label": np.array(tiny.CLASSES)[labels], "subject_id": names})
    write_imageset(tmp_path / "train", images_u8, manifest)
    for family in ("sngan", "dcgan"):
        with pytest.raises(CallError, match=r"32, 48, 64, 128 px .* found 28×28×1"):
            generation.train(
                family, tmp_path / "train", tiny.SETTINGS[family], tiny.RUNTIME, 1, tmp_path / "out", tmp_path / "state"
            )


def test_the_digest_of_a_model_changes_with_its_weights_and_not_with_its_pictures(place: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(place / "model", copy)
    assert generators.model_digest(copy) == generators.model_digest(place / "model")
    (copy / "samples.png").write_bytes(b"another")
    assert generators.model_digest(copy) == generators.model_digest(place / "model")
    weights = bytearray((copy / "generator.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "generator.safetensors").write_bytes(bytes(weights))
    assert generators.model_digest(copy) != generators.model_digest(place / "model")
