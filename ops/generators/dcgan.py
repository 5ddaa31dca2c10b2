"""DCGAN (Radford et al. 2016, arXiv 1511.06434), one unconditional model a class, as the white paper ran it.

Strided convolutions instead of pooling, batch norm in both players (not at the generator's output nor the
discriminator's input), no hidden linear layers, ReLU and leaky ReLU, weights from N(0, 0.02), non-saturating binary
cross-entropy. The white paper states an initial standard deviation of 1, which trains badly and is taken for a misprint
(references/methods.md §5); its leaky slope is 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from ops import adversarial, adversarial_loss, adversarial_model
from ops.core import files, seeds
from ops.core.progress import Reporter
from ops.core.runtime import Config as Runtime
from ops.generators import _blocks
from ops.generators._plan import SamplePlan

SIZES_PX = (8, 16, 32, 48, 64, 128)


class Config(adversarial.Config):
    """The block ``dcgan``. Steps are those of one class."""

    width: int = Field(..., ge=1, description="channels at full resolution; doubled at each halving of the side")
    slope_generator: float = Field(..., ge=0, lt=1, description="leaky ReLU below zero; 0 is ReLU")
    slope_discriminator: float = Field(..., ge=0, lt=1, description="leaky ReLU below zero; 0 is ReLU")
    init_std: float = Field(..., gt=0, description="standard deviation of the initial weights")


class Generator(nn.Module):
    """Transposed convolutions from a latent to an image, batch norm and ReLU between, tanh at the end."""

    def __init__(self, config: Config, size_px: int, colours: int) -> None:
        super().__init__()
        bottom, ups = _blocks.doublings(size_px)
        channels = [config.width * 2 ** (ups - 1 - step) for step in range(ups)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(config.latent, channels[0], bottom, bias=False)]
        for given, made in pairwise(channels):
            layers += [nn.BatchNorm2d(given), nn.LeakyReLU(config.slope_generator)]
            layers += [nn.ConvTranspose2d(given, made, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(channels[-1]), nn.LeakyReLU(config.slope_generator)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], colours, 4, 2, 1), nn.Tanh())

    def forward(self, latents: Tensor, codes: Tensor) -> Tensor:
        """float [n, latent] → float [n, c, h, w] in [−1, 1]; ``codes`` are not looked at."""
        return self.layers(latents[:, :, None, None])


class Discriminator(nn.Module):
    """Strided 4×4 convolutions down to the bottom, batch norm from the second on, one convolution to the logit."""

    def __init__(self, config: Config, size_px: int, colours: int) -> None:
        super().__init__()
        bottom, downs = _blocks.doublings(size_px)
        channels = [config.width * 2**step for step in range(downs)]
        layers: list[nn.Module] = [nn.Conv2d(colours, channels[0], 4, 2, 1), nn.LeakyReLU(config.slope_discriminator)]
        for given, made in pairwise(channels):
            layers += [nn.Conv2d(given, made, 4, 2, 1, bias=False), nn.BatchNorm2d(made)]
            layers += [nn.LeakyReLU(config.slope_discriminator)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, bottom))

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """float [n, c, h, w] → logits float [n]; ``codes`` are not looked at."""
        return self.layers(images).flatten()


def players(config: Config, size_px: int, colours: int, seed: int) -> adversarial.Players:
    """Both players under their own seed. Real and fake are judged apart, because of the discriminator's batch norm."""
    with adversarial.seeded(seeds.derive(seed, "dcgan", "initial weights")):
        generator, discriminator = Generator(config, size_px, colours), Discriminator(config, size_px, colours)
        for part in [*generator.modules(), *discriminator.modules()]:
            _initialise(part, config.init_std)
    loss_d, loss_g = adversarial_loss.nonsaturating_d, adversarial_loss.nonsaturating_g
    return adversarial.Players(generator, discriminator, config.latent, loss_d, loss_g, joint=False)


def _initialise(part: nn.Module, std: float) -> None:
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(part.weight, 0.0, std)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    elif isinstance(part, nn.BatchNorm2d):
        nn.init.normal_(part.weight, 1.0, std)
        nn.init.zeros_(part.bias)


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
    """Train a model for each class of uint8 [n, h, w, c] with labels int64 [n]; fill ``out``; return figures.

    Raises CallError for a size that the family cannot do, Diverged for losses that are not finite.
    """
    size_px, colours = _blocks.check_size("dcgan", images_u8.shape, SIZES_PX)
    outcomes: list[adversarial.Outcome] = []
    for code in range(len(classes)):
        rows = np.flatnonzero(labels == code)
        task = adversarial.Task(
            name="dcgan",
            images_u8=images_u8[rows],
            codes=np.zeros(len(rows), np.int64),
            classes=1,
            seed=seeds.derive(seed, "dcgan", code),
            checkpoints=checkpoints / f"class-{code:03d}",
            sources=(Path(__file__), Path(_blocks.__file__)),
            done=code * config.steps,
            total=len(classes) * config.steps,
        )
        pair = players(config, size_px, colours, task.seed)
        outcomes.append(adversarial.train(pair, task, config, runtime, reporter))
    about = {"channels": colours, "classes": list(classes), "family": "dcgan", "latent": config.latent}
    shape = {"size_px": size_px, "slope_generator": config.slope_generator, "width": config.width}
    nets, curves = [outcome.generator for outcome in outcomes], [outcome.curve for outcome in outcomes]
    adversarial_model.write_weights(out, nets, {**about, **shape})
    adversarial_model.write_curves(out, dict(zip(classes, curves, strict=True)))
    figures = adversarial_model.collapse(nets, images_u8, labels, config, runtime, seed, out, reporter)
    return {**figures, **adversarial_model.curve_figures(curves, nets)}


def draw(
    model: Path,
    reads: Path,
    plan: SamplePlan,
    *,
    config: Config,
    runtime: Runtime,
    reporter: Reporter,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the plan's rows, class by class, each from its class's model: rows int64 [k], images uint8 [k, h, w, c]."""
    about = files.read_json(model / "generator.json")
    plan.must_have(about["classes"])
    fitted = config.model_copy(update={key: about[key] for key in ("latent", "slope_generator", "width")})
    nets = [Generator(fitted, about["size_px"], about["channels"]) for _ in about["classes"]]
    where = adversarial_model.read_weights(model, nets, runtime)
    pen = adversarial_model.Pen(about["latent"], plan.batch, where, runtime)
    for code, net in enumerate(nets):
        yield from pen.draw_rows(net, plan.rows_of(code), plan.labels, plan.seeds)
