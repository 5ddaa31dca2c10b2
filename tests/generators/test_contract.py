"""What every family promises; a new file in ops/generators/ is held to it without a new test.

Settings come from ``tiny.SETTINGS`` where a family has some there, else from the project's ``params.yaml`` (few steps).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ops import generation, generators
from ops.core import files
from ops.core.config import StrictModel, load_params
from ops.core.errors import CallError, UnderstudyError
from ops.core.imageset import ImageSet, write_imageset
from tests.generators import tiny

ROOT = Path(__file__).parents[2]
SHORT = {"steps": 4, "batch": 8, "compile": False, "checkpoint_every": 2, "collapse_samples": 32, "standing_batches": 1}


def settings_of(family: str) -> dict:
    if family in tiny.SETTINGS:
        return tiny.SETTINGS[family]
    block = load_params(ROOT / "params.yaml")[family]
    return {**block, **{key: value for key, value in SHORT.items() if key in block}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The roles train and reference, 8 px, two classes; half of reference is control."""
    folder = tmp_path_factory.mktemp("prepared")
    for number, role in enumerate(("train", "reference")):
        images_u8, labels = tiny.images(40, seed=number)
        names = [f"{role}-{row:03d}" for row in range(len(images_u8))]
        manifest = pd.DataFrame({"image_id": names, "label": np.array(tiny.CLASSES)[labels], "subject_id": names})
        half = np.where(np.arange(40) // 2 % 2 == 0, "control", "calibrate") if role == "reference" else ""
        write_imageset(folder / role, images_u8, manifest.assign(half=half))
    return folder


@pytest.fixture(scope="module", params=generators.names())
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family: str, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(family, prepared, tmp_path_factory.mktemp(family))


def fitted(family: str, prepared: Path, folder: Path, seed: int = 3) -> Path:
    out = folder / "model"
    train = prepared / "train"
    generation.train(
        family, train, settings_of(family), tiny.RUNTIME, seed, out=out, checkpoints=folder / "checkpoints"
    )
    return out


def drawn(
    family: str, model: Path, prepared: Path, out: Path, images: int = 10, shard: int = 4, seed: int = 5
) -> ImageSet:
    config = generation.Config(images=images, batch=4, shard_images=shard)
    generation.sample(
        family,
        model,
        prepared / "reference",
        settings_of(family),
        config,
        tiny.RUNTIME,
        seed,
        out,
        out.parent / "cache",
    )
    return ImageSet(out)


def bytes_of(folder: Path) -> dict[str, str]:
    return {path.name: files.sha256_file(path) for path in sorted(folder.iterdir())}


def test_a_family_has_settings_fit_and_draw(family: str) -> None:
    module = generators.load(family)
    assert issubclass(module.Config, StrictModel)
    assert callable(module.fit)
    assert callable(module.draw)


def test_an_unknown_family_is_refused_with_the_list_of_those_that_exist() -> None:
    with pytest.raises(CallError, match="copycat, dcgan, oracle, sngan"):
        generators.load("no_such_family")


def test_an_unknown_setting_is_refused_by_name(family: str, prepared: Path, tmp_path: Path) -> None:
    wrong = {**settings_of(family), "wings": 2}
    with pytest.raises(CallError, match=f"unknown key '{family}.wings'"):
        generation.train(family, prepared / "train", wrong, tiny.RUNTIME, 1, tmp_path / "out", tmp_path / "checkpoints")


def test_a_model_names_its_classes_and_has_a_digest(model: Path) -> None:
    assert files.read_json(model / "generator.json")["classes"] == tiny.CLASSES
    assert len(generators.model_digest(model)) == 64


def test_a_model_records_flat_finite_figures(model: Path) -> None:
    figures = files.read_json(model / "train.json")
    assert all(isinstance(value, float) and np.isfinite(value) for value in figures.values())
    assert figures["images_train"] == 40


def test_a_model_holds_no_pickle_no_discriminator_and_no_optimiser(model: Path) -> None:
    assert {path.suffix for path in model.iterdir()} <= {".safetensors", ".json", ".csv", ".png", ".npy", ".parquet"}
    for path in model.glob("*.safetensors"):
        header = path.read_bytes()[8:4096].lower()
        assert not any(word in header for word in (b"discriminator", b"exp_avg", b"optimis"))


def test_fitting_twice_gives_the_same_bytes(family: str, model: Path, prepared: Path, tmp_path: Path) -> None:
    assert bytes_of(fitted(family, prepared, tmp_path)) == bytes_of(model)


def test_a_draw_is_a_labelled_set_whose_images_have_a_seed(
    family: str, model: Path, prepared: Path, tmp_path: Path
) -> None:
    result = drawn(family, model, prepared, tmp_path / "out")
    manifest = result.manifest
    assert result.images.shape == (10, 8, 8, 3)
    assert result.images.dtype == np.uint8
    assert manifest["image_id"].is_unique
    assert manifest["seed"].is_unique
    assert manifest["image_id"].iloc[0] == f"{family}-000000"
    assert (manifest["subject_id"] == manifest["image_id"]).all()
    assert set(manifest["label"].value_counts()) == {5}
    assert set(manifest["model_sha256"]) == {generators.model_digest(model)}
    assert set(manifest["family"]) == {family}


def test_a_draw_does_not_depend_on_the_size_of_its_shards(
    family: str, model: Path, prepared: Path, tmp_path: Path
) -> None:
    whole = drawn(family, model, prepared, tmp_path / "whole", shard=10)
    parts = drawn(family, model, prepared, tmp_path / "parts", shard=3)
    np.testing.assert_array_equal(whole.images, parts.images)
    assert whole.manifest.equals(parts.manifest)


def test_another_seed_draws_other_images(family: str, model: Path, prepared: Path, tmp_path: Path) -> None:
    one = drawn(family, model, prepared, tmp_path / "one")
    other = drawn(family, model, prepared, tmp_path / "other", seed=6)
    assert not np.array_equal(one.images, other.images)


def test_drawing_from_a_folder_without_a_model_is_refused(family: str, prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UnderstudyError, match="run stage train"):
        drawn(family, tmp_path / "nothing", prepared, tmp_path / "out")
