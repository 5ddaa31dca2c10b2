"""SN-GAN with projection (Miyato et al. 2018, arXiv 1802.05957; Miyato and Koyama 2018, arXiv 1802.05637).

One class-conditional model: spectral norm on every layer of the discriminator, hinge loss, projection of the class onto
the discriminator's features, class-conditional batch norm in the generator. The white paper's third system.

Architectures, ``width`` scaling all channels (w):

- ``plain``: the authors' standard CNN (table 3), at 64 and 128 px with a larger bottom.
- ``residual``: the authors' residual nets (tables 4 to 6). At 32 px the authors' channels are constant, 2w in the
  generator and w in the discriminator, w = 128; above, w = 64.
- ``pyramid``: the same blocks at any size, channels halving as the side doubles also at 32 px, and no wider than
  needed. On CPUs it learns best for its time (references/performance.md §3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ops import adversarial, adversarial_loss, adversarial_model
from ops.core import files, seeds
from ops.core.progress import Reporter
from ops.core.runtime import Config as Runtime
from ops.generators import _blocks
from ops.generators._blocks import ClassBatchNorm, Projection, ResDown, ResUp, normalised
from ops.generators._plan import SamplePlan

Architecture = Literal["plain", "residual", "pyramid"]
SLOPE = 0.1  # of the plain discriminator's leaky ReLU, table 3

# Channels in units of width: generator (bottom, then after each doubling), discriminator (each halving, then each block
# that keeps its size). Miyato et al. 2018, tables 4 to 6; 64 px from the authors' published code.
RESIDUAL: dict[int, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    32: ((2, 2, 2, 2), (1, 1), (1, 1)),
    48: ((8, 4, 2, 1), (1, 2, 4, 8), (16,)),
    64: ((16, 8, 4, 2, 1), (1, 2, 4, 8, 16), ()),
    128: ((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16), (16,)),
}
SIZES_PX: dict[str, tuple[int, ...]] = {
    "plain": (32, 48, 64, 128),
    "residual": tuple(RESIDUAL),
    "pyramid": (8, 16, 32, 48, 64, 128),
}


class Config(adversarial.Config):
    """The block ``sngan``."""

    architecture: Architecture = Field(..., description="plain, residual (both of the paper) or pyramid")
    width: int = Field(
        ..., ge=1, description="channels at full resolution (plain, residual: 64; residual at 32 px: 128)"
    )


class ResidualGenerator(nn.Module):
    """Linear to the bottom, one ResUp a doubling, BN–ReLU–conv3–tanh."""

    def __init__(self, latent: int, channels: Sequence[int], bottom: int, classes: int, colours: int) -> None:
        super().__init__()
        self.bottom, self.first = bottom, channels[0]
        self.linear = nn.Linear(latent, channels[0] * bottom * bottom)
        pairs = pairwise(channels)
        self.blocks = nn.ModuleList([ResUp(given, made, classes) for given, made in pairs])
        self.norm = nn.BatchNorm2d(channels[-1])
        self.conv = nn.Conv2d(channels[-1], colours, 3, padding=1)

    def forward(self, latents: Tensor, codes: Tensor) -> Tensor:
        """float [n, latent], int64 [n] → float [n, c, h, w] in [−1, 1]."""
        images = self.linear(latents).view(-1, self.first, self.bottom, self.bottom)
        images = images.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            images = block(images, codes)
        return torch.tanh(self.conv(F.relu(self.norm(images))))


class ResidualDiscriminator(nn.Module):
    """ResDown a halving, residual blocks that keep the size, ReLU, global sum pool, projection."""

    def __init__(self, colours: int, down: Sequence[int], keep: Sequence[int], classes: int) -> None:
        super().__init__()
        channels = [colours, *down, *keep]
        pairs = list(pairwise(channels))
        self.blocks = nn.Sequential(
            *[ResDown(g, m, down=number < len(down), first=number == 0) for number, (g, m) in enumerate(pairs)]
        )
        self.head = Projection(channels[-1], channels[-1], classes)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """float [n, c, h, w], int64 [n] → logits float [n]."""
        pooled = F.relu(self.blocks(images)).sum(dim=(2, 3))
        return self.head(pooled, pooled, codes)


class PlainGenerator(nn.Module):
    """Linear to [8w, h/8, w/8], three transposed convolutions 4×4 of stride 2 with BN and ReLU, conv3–tanh."""

    def __init__(self, latent: int, width: int, size_px: int, classes: int, colours: int) -> None:
        super().__init__()
        self.bottom, self.first = size_px // 8, 8 * width
        channels = [8 * width, 4 * width, 2 * width, width]
        self.linear = nn.Linear(latent, self.first * self.bottom**2)
        self.norms = nn.ModuleList([ClassBatchNorm(count, classes) for count in channels])
        pairs = pairwise(channels)
        self.ups = nn.ModuleList([nn.ConvTranspose2d(given, made, 4, 2, 1) for given, made in pairs])
        self.conv = nn.Conv2d(width, colours, 3, padding=1)

    def forward(self, latents: Tensor, codes: Tensor) -> Tensor:
        """float [n, latent], int64 [n] → float [n, c, h, w] in [−1, 1]."""
        images = self.linear(latents).view(-1, self.first, self.bottom, self.bottom)
        images = F.relu(self.norms[0](images.contiguous(memory_format=torch.channels_last), codes))
        for up, norm in zip(self.ups, list(self.norms)[1:], strict=True):
            images = F.relu(norm(up(images), codes))
        return torch.tanh(self.conv(images))


class PlainDiscriminator(nn.Module):
    """3×3 and 4×4 stride 2 in turn from w to 4w, a last 3×3 to 8w, leaky ReLU 0.1, no batch norm, projection."""

    def __init__(self, colours: int, width: int, size_px: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        given = colours
        for made in (width, 2 * width, 4 * width):
            layers += [normalised(nn.Conv2d(given, made, 3, 1, 1)), nn.LeakyReLU(SLOPE)]
            layers += [normalised(nn.Conv2d(made, made, 4, 2, 1)), nn.LeakyReLU(SLOPE)]
            given = made
        layers += [normalised(nn.Conv2d(given, 8 * width, 3, 1, 1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)
        self.head = Projection(8 * width * (size_px // 8) ** 2, 8 * width, classes)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """float [n, c, h, w], int64 [n] → logits float [n]; ψ reads the whole map, the projection its sum."""
        features = self.layers(images)
        return self.head(features.flatten(1), features.sum(dim=(2, 3)), codes)


def build(config: Config, size_px: int, colours: int, classes: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of the architecture, freshly initialised by torch's global generator."""
    width = config.width
    if config.architecture == "plain":
        generator: nn.Module = PlainGenerator(config.latent, width, size_px, classes, colours)
        discriminator: nn.Module = PlainDiscriminator(colours, width, size_px, classes)
    else:
        bottom, ups = _blocks.doublings(size_px)
        steps = [2**power for power in range(ups)]  # 1, 2, 4 at 32 px
        pyramid = ((steps[-1], *steps[::-1]), tuple(steps), (steps[-1],))
        up, down, keep = RESIDUAL[size_px] if config.architecture == "residual" else pyramid
        channels = [width * count for count in up]
        generator = ResidualGenerator(config.latent, channels, bottom, classes, colours)
        down, keep = tuple(width * count for count in down), tuple(width * count for count in keep)
        discriminator = ResidualDiscriminator(colours, down, keep, classes)
    return generator, discriminator


def players(config: Config, size_px: int, colours: int, classes: int, seed: int) -> adversarial.Players:
    """Both players under their own seed, Glorot-initialised, with the hinge loss."""
    with adversarial.seeded(seeds.derive(seed, "sngan", "initial weights")):
        generator, discriminator = build(config, size_px, colours, classes)
        _blocks.glorot(generator)
    return adversarial.Players(
        generator, discriminator, config.latent, adversarial_loss.hinge_d, adversarial_loss.hinge_g, joint=True
    )


def fit(
    images_u8: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    config: Config,
    runtime: Runtime,
    seed: int,
    out: Path,
    checkpoints: Path,
    reporter: Reporter,
) -> dict[str, float]:
    """Train on uint8 [n, h, w, c] with labels int64 [n] (indices into ``classes``); fill ``out``; return figures.

    Raises CallError for a size that the architecture does not exist in, Diverged for losses that are not finite.
    """
    allowed = SIZES_PX[config.architecture]
    size_px, colours = _blocks.check_size(f"sngan.architecture '{config.architecture}'", images_u8.shape, allowed)
    task = adversarial.Task(
        name="sngan",
        images_u8=images_u8,
        codes=labels,
        classes=len(classes),
        seed=seed,
        checkpoints=checkpoints,
        sources=(Path(__file__), Path(_blocks.__file__)),
    )
    pair = players(config, size_px, colours, len(classes), seed)
    outcome = adversarial.train(pair, task, config, runtime, reporter)
    description = {
        "architecture": config.architecture,
        "channels": colours,
        "classes": list(classes),
        "family": "sngan",
        "latent": config.latent,
        "size_px": size_px,
        "width": config.width,
    }
    adversarial_model.write_weights(out, [outcome.generator], description)
    adversarial_model.write_curves(out, {"all": outcome.curve})
    nets = [outcome.generator] * len(classes)
    figures = adversarial_model.collapse(nets, images_u8, labels, config, runtime, seed, out, reporter)
    return {**figures, **adversarial_model.curve_figures([outcome.curve], [outcome.generator])}


def draw(
    model: Path,
    reads: Path,
    plan: SamplePlan,
    *,
    config: Config,
    runtime: Runtime,
    reporter: Reporter,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the plan's rows from ``models/sngan/``: rows int64 [k], images uint8 [k, h, w, c], a batch at a time."""
    about = files.read_json(model / "generator.json")
    plan.must_have(about["classes"])
    fitted = config.model_copy(update={key: about[key] for key in ("architecture", "width", "latent")})
    generator, _ = build(fitted, about["size_px"], about["channels"], len(about["classes"]))
    where = adversarial_model.read_weights(model, [generator], runtime)
    pen = adversarial_model.Pen(about["latent"], plan.batch, where, runtime)
    yield from pen.draw_rows(generator, plan.rows, plan.labels, plan.seeds)
