"""SN-GAN: the nets are those of Miyato et al., the class reaches both players, pixels come out in range."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ops.generators import _blocks, sngan
from tests.generators import tiny


def nets(architecture: str, size_px: int, width: int, colours: int = 3, classes: int = 4, latent: int = 128) -> Any:
    changes = {"architecture": architecture, "width": width, "latent": latent}
    config = sngan.Config.model_validate({**tiny.SETTINGS["sngan"], **changes})
    return sngan.build(config, size_px, colours, classes)


CASES = [(name, size) for name, sizes in sngan.SIZES_PX.items() for size in sizes]


@pytest.mark.parametrize(("architecture", "size_px"), CASES)
@pytest.mark.parametrize("colours", [1, 3])
def test_every_architecture_makes_and_judges_images_of_its_size(architecture: str, size_px: int, colours: int) -> None:
    generator, discriminator = nets(architecture, size_px, 2, colours, latent=5)
    codes = torch.tensor([0, 3])
    images = generator(torch.randn(2, 5), codes)
    assert images.shape == (2, colours, size_px, size_px)
    assert images.abs().max() <= 1
    assert discriminator(images, codes).shape == (2,)


def convolutions(net: nn.Module) -> list[tuple[int, int, int]]:
    return [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in net.modules() if isinstance(c, nn.Conv2d)]


def test_the_residual_nets_at_32_px_have_the_papers_channels() -> None:
    with torch.device("meta"):
        generator = sngan.ResidualGenerator(128, [256] * 4, 4, 10, 3)
    assert sum(weight.numel() for weight in generator.parameters()) == (
        129 * 256 * 16 + 3 * (2 * (9 * 256 + 1) * 256 + 257 * 256 + 2 * 2 * 10 * 256) + 2 * 256 + (9 * 256 + 1) * 3
    )
    bottom = sngan.RESIDUAL[32]
    assert [128 * count for count in bottom[0]] == [256, 256, 256, 256]
    assert [128 * count for count in bottom[1] + bottom[2]] == [128, 128, 128, 128]


def test_the_pyramid_of_width_16_is_the_net_of_the_measured_prototype() -> None:
    """references/performance.md §3: 0.18 M and 0.15 M parameters at 32 px."""
    generator, discriminator = nets("pyramid", 32, 16, latent=64)
    counts = [sum(weight.numel() for weight in net.parameters()) for net in (generator, discriminator)]
    assert counts == pytest.approx([180_000, 150_000], rel=0.06)


def test_the_plain_discriminator_is_table_3() -> None:
    _, discriminator = nets("plain", 32, 2)
    assert convolutions(discriminator) == [
        (3, 2, 3), (2, 2, 4), (2, 4, 3), (4, 4, 4), (4, 8, 3), (8, 8, 4), (8, 16, 3),
    ]  # fmt: skip


def test_the_label_reaches_both_players() -> None:
    generator, discriminator = nets("pyramid", 8, 4, latent=8)
    with torch.no_grad():
        for part in generator.modules():
            if isinstance(part, _blocks.ClassBatchNorm):
                part.gamma[1] = 2.0
    generator.eval(), discriminator.eval()
    latents = torch.randn(1, 8)
    images = [generator(latents, torch.tensor([code])) for code in (0, 1)]
    assert not torch.equal(*images)
    logits = [discriminator(images[0], torch.tensor([code])) for code in (0, 1)]
    assert not torch.equal(*logits)


def test_upsampling_after_the_1x1_shortcut_equals_upsampling_before_it() -> None:
    shortcut = _blocks.ResUp(3, 5, 2).shortcut
    images = torch.randn(2, 3, 4, 4)
    late = nn.functional.interpolate(shortcut(images), scale_factor=2)
    early = shortcut(nn.functional.interpolate(images, scale_factor=2))
    torch.testing.assert_close(late, early)


def test_the_spectral_norm_is_computed_in_full_precision_under_autocast() -> None:
    layer = nn.Conv2d(3, 8, 3)
    _blocks.normalised(layer).eval()
    plain = layer.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, plain)
        layer.train()
        assert layer.weight.dtype == torch.float32


def test_nothing_but_the_discriminator_is_spectrally_normalised() -> None:
    generator, discriminator = nets("pyramid", 16, 2)
    parametrized = torch.nn.utils.parametrize.is_parametrized
    layers = (nn.Conv2d, nn.Linear, nn.Embedding)
    assert not any(parametrized(part) for part in generator.modules())
    assert all(parametrized(part) for part in discriminator.modules() if isinstance(part, layers))
