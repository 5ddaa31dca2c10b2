"""DCGAN: one model a class, each blind to the others' images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ops.generators import dcgan
from tests.generators import tiny

CONFIG = dcgan.Config.model_validate(tiny.SETTINGS["dcgan"])


def fit(folder: Path, images_u8: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    (folder / "model").mkdir(parents=True)
    return dcgan.fit(
        images_u8, labels, tiny.CLASSES, config=CONFIG, runtime=tiny.RUNTIME, seed=1, out=folder / "model",
        checkpoints=folder / "checkpoints", reporter=tiny.Listener(),
    )  # fmt: skip


@pytest.mark.parametrize("size_px", dcgan.SIZES_PX)
@pytest.mark.parametrize("colours", [1, 3])
def test_every_size_is_made_and_judged(size_px: int, colours: int) -> None:
    config = CONFIG.model_copy(update={"width": 2})
    generator, discriminator = dcgan.Generator(config, size_px, colours), dcgan.Discriminator(config, size_px, colours)
    images = generator(torch.randn(2, CONFIG.latent), torch.zeros(2, dtype=torch.int64))
    assert images.shape == (2, colours, size_px, size_px)
    assert images.abs().max() <= 1
    assert discriminator(images, torch.zeros(2, dtype=torch.int64)).shape == (2,)


def test_the_rules_of_the_paper_hold() -> None:
    pair = dcgan.players(CONFIG.model_copy(update={"width": 32}), 32, 3, 1)
    for net in (pair.generator, pair.discriminator):
        kinds = [type(part) for part in net.modules()]
        assert nn.MaxPool2d not in kinds
        assert nn.Linear not in kinds
        assert nn.BatchNorm2d in kinds
        wide = [part.weight for part in net.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
        assert torch.cat([weight.flatten() for weight in wide]).std().item() == pytest.approx(0.02, rel=0.05)
    assert not isinstance(list(pair.discriminator.modules())[3], nn.BatchNorm2d)
    assert isinstance(list(pair.generator.modules())[-1], nn.Tanh)
    assert not pair.joint


def test_a_class_model_does_not_change_with_the_images_of_another_class(tmp_path: Path) -> None:
    images_u8, labels = tiny.images()
    fit(tmp_path / "one", images_u8, labels)
    changed = np.where((labels == 1)[:, None, None, None], 255 - images_u8, images_u8)
    fit(tmp_path / "other", changed, labels)
    one, other = (load_file(tmp_path / name / "model/generator.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one if name.startswith("0."))
    assert any(not torch.equal(one[name], other[name]) for name in one if name.startswith("1."))


def test_the_curves_tell_the_classes_apart(tmp_path: Path) -> None:
    figures = fit(tmp_path, *tiny.images())
    lines = (tmp_path / "model/curves.csv").read_text().splitlines()
    assert lines[0] == "label,step,loss_d,loss_g,accuracy_d"
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [name, step] for name in tiny.CLASSES for step in ("2", "4", "6")
    ]
    assert figures["steps"] == 12
