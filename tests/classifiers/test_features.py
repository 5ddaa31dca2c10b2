"""The feature net: works without labels, survives its folder, asks for Inception's weights instead of fetching them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ops.classifiers import features
from ops.core import runtime as machine
from ops.core.errors import CallError, UnderstudyError
from ops.metrics.fid import frechet_distance

RUNTIME = machine.Config(device="cpu", threads=1, precision="fp32")
CONFIG = features.Config(
    space="reference", inception_weights=None, net="small_cnn", width=4, steps=60, batch=32, learning_rate=0.01,
    weight_decay=0.01, warmup=0.2, label_smoothing=0.0, shift_px=0, flip=False, holdout=0.1, evaluations=1,
)  # fmt: skip


def scenes(n: int, seed: int = 0, width_px: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Bright ground below; class 1 has a red cast."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    images = rng.integers(0, 60, (n, 16, width_px, 3))
    images[:, 10:] += 120
    images[labels == 1, :, :, 0] += 60
    return images.astype(np.uint8), labels


def test_it_reads_labels_and_sees_blur() -> None:
    images, labels = scenes(150)
    net = features.fit(images, labels, ["a", "b"], CONFIG, RUNTIME, seed=0)
    fresh, truth = scenes(100, seed=1)
    cloud = features.embed(net, fresh, RUNTIME, batch=32)
    assert cloud.dtype == np.float32
    assert cloud.shape == (100, 32)
    found = features.read_labels(net, cloud)
    assert found is not None
    assert (found == truth).mean() > 0.9
    other, _ = scenes(100, seed=2)
    blurred = np.broadcast_to(other.mean(axis=(1, 2), keepdims=True).astype(np.uint8), other.shape).copy()
    real = frechet_distance(features.embed(net, other, RUNTIME), cloud)
    assert frechet_distance(features.embed(net, blurred, RUNTIME), cloud) > 3 * real


@pytest.mark.parametrize("width_px", [16, 24])
def test_one_class_is_enough_to_learn_features(width_px: int) -> None:
    """Without labels the turns (mirrorings, where pictures are not square) are the task; features still differ."""
    images, _ = scenes(60, width_px=width_px)
    net = features.fit(images, np.zeros(60, np.int64), ["all"], CONFIG, RUNTIME, seed=0)
    upright, upside_down = features.embed(net, images, RUNTIME), features.embed(net, images[:, ::-1], RUNTIME)
    assert frechet_distance(upright, upside_down) > 10 * frechet_distance(upright[::2], upright[1::2])


def test_turns_of_a_picture_carry_joint_codes() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    turned, codes = features.turn(image, np.array([2]))
    assert codes.tolist() == [8, 9, 10, 11]
    np.testing.assert_array_equal(turned[2, 0, 0], image[0, 1, 1])
    assert len({picture.tobytes() for picture in turned}) == 4


def test_it_is_the_same_net_after_its_folder(tmp_path: Path) -> None:
    images, labels = scenes(40)
    net = features.fit(images, labels, ["a", "b"], CONFIG.model_copy(update={"steps": 5}), RUNTIME, seed=0)
    features.save(net, tmp_path / "features")
    again = features.load(tmp_path / "features")
    assert again.classes == ["a", "b"]
    np.testing.assert_array_equal(features.embed(again, images, RUNTIME), features.embed(net, images, RUNTIME))


def test_a_folder_without_a_net_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnderstudyError, match="run the stage baseline"):
        features.load(tmp_path)
    images, labels = scenes(40)
    net = features.fit(images, labels, ["a", "b"], CONFIG.model_copy(update={"steps": 2}), RUNTIME, seed=0)
    features.save(net, tmp_path)
    whole = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnderstudyError, match="weights that fit"):
        features.load(tmp_path)


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    net = nn.Linear(2, 3)
    features.read_weights(net, tmp_path / "w.safetensors")
    assert torch.equal(net.weight, torch.zeros(3, 2))
    with pytest.raises(UnderstudyError, match="weights that fit"):
        features.read_weights(nn.Linear(2, 4), tmp_path / "w.safetensors")


def test_inception_without_its_weights_says_what_to_do(tmp_path: Path) -> None:
    images, labels = scenes(4)
    for weights, found in ((None, "null"), (str(tmp_path / "absent.safetensors"), "no file")):
        config = CONFIG.model_copy(update={"space": "inception", "inception_weights": weights})
        with pytest.raises(CallError, match=f"{found}.*convert the weights"):
            features.fit(images, labels, ["a", "b"], config, RUNTIME, seed=0)
    (tmp_path / "old.pth").write_bytes(b"pickle")
    with pytest.raises(CallError, match="can run code"):
        features._inception(str(tmp_path / "old.pth"))
    save_file({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "few.safetensors")
    with pytest.raises(CallError, match="tensors missing"):
        features._inception(str(tmp_path / "few.safetensors"))


def test_images_with_other_channels_are_refused() -> None:
    images, labels = scenes(40)
    net = features.fit(images, labels, ["a", "b"], CONFIG.model_copy(update={"steps": 2}), RUNTIME, seed=0)
    with pytest.raises(UnderstudyError, match="3 channels"):
        features.embed(net, images[..., :1], RUNTIME)
