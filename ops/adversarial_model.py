"""What a fitted family leaves behind, and how its images are drawn: weights, description, curves, samples.

``generator.safetensors`` holds averaged generators and nothing else: never a discriminator, never an optimiser. A
family with one net a class keeps them all in that file, each under the number of its class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ops import adversarial_collapse
from ops.adversarial_config import Config
from ops.adversarial_data import to_u8
from ops.core import files, pictures, runtime, seeds
from ops.core.errors import UnderstudyError, explain
from ops.core.progress import Reporter

GRID_ROWS = 12  # classes shown in samples.png


def write_weights(out: Path, nets: Sequence[nn.Module], description: Mapping[str, Any]) -> None:
    """Write ``generator.safetensors`` (keys ``<number of the net>.<name>``) and ``generator.json``.

    Raises UnderstudyError where a weight is not finite: such weights are never written.
    """
    tensors = {
        f"{number}.{name}": tensor.detach().cpu().contiguous()
        for number, net in enumerate(nets)
        for name, tensor in net.state_dict().items()
    }
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor.double()).all()]
    if broken:
        raise UnderstudyError("DIVERGED: " + explain(expected="finite weights", found=broken[0], todo="lower the lr"))
    save_file(tensors, out / "generator.safetensors")
    files.write_json(out / "generator.json", dict(description))


def read_weights(model: Path, nets: Sequence[nn.Module], settings: runtime.Config) -> torch.device:
    """Fill the nets from ``generator.safetensors``, in eval mode on the device of the settings; returns that device."""
    where = runtime.settle(settings)
    tensors = load_file(model / "generator.safetensors")
    for number, net in enumerate(nets):
        own = {name.split(".", 1)[1]: value for name, value in tensors.items() if name.split(".", 1)[0] == str(number)}
        net.load_state_dict(own, strict=True)
        net.to(where).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return where


def write_curves(out: Path, curves: Mapping[str, np.ndarray]) -> None:
    """``curves.csv``: label (``all`` for a joint model), step, loss_d, loss_g, accuracy_d; one row a tick."""
    lines = ["label,step,loss_d,loss_g,accuracy_d"]
    for label, curve in curves.items():
        quoted = '"' + label.replace('"', '""') + '"' if set(label) & set(',"\r\n') else label
        lines += [f"{quoted},{int(row[0])},{row[1]:.6f},{row[2]:.6f},{row[3]:.6f}" for row in curve]
    files.write_text(out / "curves.csv", "\n".join(lines) + "\n")


def latent(seed: int, size: int) -> Tensor:
    """The latent of one image, N(0, I): float32 [size], drawn on the CPU so that every device sees the same."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Pen:
    """How images are drawn: numbers in a latent, images a batch, device, precision."""

    size: int
    batch: int
    where: torch.device
    settings: runtime.Config

    @torch.no_grad()
    def draw_rows(
        self, net: nn.Module, rows: np.ndarray, codes: np.ndarray, image_seeds: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Draw ``rows`` in batches of exactly ``batch``, the last one filled up by repeating its first image.

        Every image so depends on (weights, label, seed) and the batch size alone, to the bit. ``codes`` and
        ``image_seeds`` are int64 [N], of all images planned. Yields rows int64 [k] and images uint8 [k, h, w, c].
        """
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            filled = np.concatenate([part, np.repeat(part[:1], self.batch - len(part))])
            latents = torch.stack([latent(int(seed), self.size) for seed in image_seeds[filled]])
            with runtime.autocast(self.settings, self.where):
                images_pm1 = net(latents.to(self.where), torch.from_numpy(codes[filled]).to(self.where))
            yield part, to_u8(images_pm1)[: len(part)]

    def draw_all(self, nets: Sequence[nn.Module], codes: np.ndarray, image_seeds: np.ndarray) -> np.ndarray:
        """All images of ``codes`` int64 [n], class c from ``nets[c]``: uint8 [n, h, w, c]."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for code in np.unique(codes):
            parts += self.draw_rows(nets[code], np.flatnonzero(codes == code), codes, image_seeds)
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return np.concatenate([images_u8 for _, images_u8 in parts])[order]


def collapse(
    nets: Sequence[nn.Module],
    images_u8: np.ndarray,
    codes: np.ndarray,
    config: Config,
    settings: runtime.Config,
    seed: int,
    out: Path,
    reporter: Reporter,
) -> dict[str, float]:
    """Draw ``samples.png`` and measure collapse of ``nets`` (one a class, or the same for each) against their data.

    Returns the figures of :func:`ops.adversarial_collapse.figures` and ``collapsed`` (1 where a limit is passed).
    """
    classes = len(nets)
    pen = Pen(config.latent, config.batch, next(nets[0].parameters()).device, settings)
    shown = np.repeat(np.arange(min(classes, GRID_ROWS)), config.grid_columns)
    grid = pen.draw_all(nets, shown, _seeds(seed, "grid", len(shown)))
    pictures.write_png(out / "samples.png", pictures.grid(grid, config.grid_columns))
    sample_codes = np.arange(config.collapse_samples) % classes
    samples = pen.draw_all(nets, sample_codes, _seeds(seed, "collapse", len(sample_codes)))
    chosen = np.sort(seeds.permutation(seed, len(images_u8), "collapse")[: config.collapse_samples])
    figures = adversarial_collapse.figures(
        samples, sample_codes, images_u8[chosen], codes[chosen], config.duplicate_ratio
    )
    if not figures:
        reporter.note(f"collapse was not measured: fewer than {adversarial_collapse.NEIGHBOURS + 2} images a class")
        return {}
    collapsed = (
        figures["duplicate_rate"] > config.max_duplicate_rate or figures["coverage_min_class"] < config.min_coverage
    )
    if collapsed:
        said = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        reporter.note(f"the generator has collapsed: {said}")
    return {**figures, "collapsed": float(collapsed)}


def _seeds(seed: int, purpose: str, count: int) -> np.ndarray:
    return np.array([seeds.derive(seed, purpose, number) for number in range(count)], dtype=np.int64)


def curve_figures(curves: Sequence[np.ndarray], nets: Sequence[nn.Module]) -> dict[str, float]:
    """Flat figures of finished games: steps, last tick's losses and accuracy (mean over games), size of the model."""
    last = np.mean([curve[-1] for curve in curves], axis=0)
    return {
        "steps": float(sum(curve[-1, 0] for curve in curves)),
        "final_loss_d": float(last[1]),
        "final_loss_g": float(last[2]),
        "final_accuracy_d": float(last[adversarial_collapse.ACCURACY_COLUMN]),
        "discriminator_pinned_ticks": float(max(adversarial_collapse.pinned_ticks(curve) for curve in curves)),
        "parameters": float(sum(weight.numel() for net in nets for weight in net.parameters())),
    }
