"""The one training loop of all classifiers: validation, the feature net and the audits train nothing in any other way.

A training is a function of (images, labels, settings, seed): the order of the data and every augmentation derive from
the seed and the step, the weights from the seed alone. The set lies on the device as uint8 and is augmented there, a
batch at a time. The net that is returned is the best of a few evaluations on a share of the *training* images that is
held out for this choice; test images choose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy

from ops import classifiers
from ops.core import runtime as machine
from ops.core import seeds
from ops.core.config import StrictModel
from ops.core.errors import UnderstudyError, explain
from ops.core.progress import Reporter, SilentReporter


class Config(StrictModel):
    """The block ``classifier``."""

    net: str = Field(..., description="a file of ops/classifiers with a build(): small_cnn, resnet18")
    width: int = Field(..., ge=1, description="channels of the first layer; the others are multiples of it")
    steps: int = Field(..., ge=1, description="optimiser steps of one training, whatever the size of the set")
    batch: int = Field(..., ge=2, description="images a step; part of the result's identity")
    learning_rate: float = Field(..., gt=0, description="peak of the one-cycle schedule (AdamW)")
    weight_decay: float = Field(..., ge=0, description="decoupled weight decay (AdamW)")
    warmup: float = Field(
        ..., ge=0, lt=1, description="share of the steps in which the learning rate rises to its peak"
    )
    label_smoothing: float = Field(..., ge=0, lt=1, description="probability mass spread over all classes")
    shift_px: int = Field(..., ge=0, description="augmentation: largest random shift in each direction, in pixels")
    flip: bool = Field(..., description="augmentation: mirror half of the images; wrong where sides carry meaning")
    holdout: float = Field(..., ge=0, lt=1, description="share of the training images that chooses among evaluations")
    evaluations: int = Field(..., ge=1, description="how many times the held-out share is looked at, evenly spaced")


def fit(
    images_u8: np.ndarray,
    labels: np.ndarray,
    classes: int,
    config: Config,
    runtime: machine.Config,
    seed: int,
    reporter: Reporter | None = None,
    what: str = "classifier",
) -> nn.Module:
    """Train one classifier.

    Args:
        images_u8: uint8 [n, h, w, c], n ≥ 1.
        labels: int64 [n], codes in 0 … classes − 1; classes may be absent.
        classes: number of logits.
        what: how the reporter names this training.

    Returns:
        The net in evaluation mode, on the device of ``runtime``; it takes what :func:`to_input` makes.

    Raises UnderstudyError where there is nothing to learn from or the loss stops being finite.
    """
    reporter = reporter or SilentReporter()
    _check(images_u8, labels, classes)
    device = machine.settle(runtime)
    learn, held = _split(len(images_u8), config, seed)
    images = _padded(images_u8[learn], config.shift_px).to(device)
    targets = torch.from_numpy(labels[learn]).to(device)
    net = build(config.net, classes, images_u8.shape[-1], config.width, seed)
    net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    best, best_score = _weights(net), (-1.0, 0.0)
    for step in range(config.steps):
        _set_learning_rate(optimiser, config, step)
        rows = torch.from_numpy(batch_rows(len(learn), config.batch, step, seed)).to(device)
        batch = _augmented(images, rows, config, seed, step)
        with machine.autocast(runtime, device):
            loss = cross_entropy(net(batch), targets[rows], label_smoothing=config.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) * config.evaluations // config.steps > step * config.evaluations // config.steps:
            _refuse_divergence(loss.item(), step, what)
            score = _score(net, images_u8[held], labels[held], runtime, config.batch)
            if score >= best_score or not len(held):
                best, best_score = _weights(net), score
            reporter.progress(what, step + 1, config.steps, loss=loss.item())
            net.train()
    net.load_state_dict(best)
    return net.eval()


def predict_proba(net: nn.Module, images_u8: np.ndarray, runtime: machine.Config, batch: int = 512) -> np.ndarray:
    """Probability of each class for each image: uint8 [n, h, w, c] → float32 [n, k], rows sum to 1.

    Always in float32: predictions are looked at one by one, and bfloat16 would tie many of them.
    """
    return apply(lambda inputs: net(inputs).softmax(dim=1), net, images_u8, runtime, batch)


def apply(
    function: Callable[[torch.Tensor], torch.Tensor],
    net: nn.Module,
    images_u8: np.ndarray,
    runtime: machine.Config,
    batch: int,
) -> np.ndarray:
    """Map a batch function over images in evaluation mode: uint8 [n, h, w, c] → float32 [n, d]."""
    assert images_u8.dtype == np.uint8, images_u8.dtype
    assert images_u8.ndim == 4, images_u8.shape
    device = machine.settle(runtime)
    net.to(device).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, max(len(images_u8), 1), batch):  # an empty set still tells the width of its result
            values = torch.from_numpy(np.array(images_u8[start : start + batch])).to(device)
            parts.append(function(to_input(values)).float().cpu().numpy())
    return np.concatenate(parts)


def to_input(images_u8: torch.Tensor) -> torch.Tensor:
    """What nets read: uint8 [n, h, w, c] on any device → float32 [n, c, h, w] in [-1, 1], channels last in memory."""
    return images_u8.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def build(name: str, classes: int, channels: int, width: int, seed: int) -> nn.Module:
    """A fresh net whose weights derive from the seed; the process's own random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(seed, "weights"))
        net: nn.Module = classifiers.load(name).build(classes, channels, width)
    return net


def batch_rows(n: int, batch: int, step: int, seed: int) -> np.ndarray:
    """Rows of the images of one step: int64 [batch]. Epochs follow one another without a short batch between them."""
    places = np.arange(step * batch, (step + 1) * batch)
    rows = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(places // n):
        here = places // n == epoch
        rows[here] = seeds.permutation(seed, n, "order", int(epoch))[places[here] % n]
    return rows


def _check(images_u8: np.ndarray, labels: np.ndarray, classes: int) -> None:
    assert images_u8.dtype == np.uint8, images_u8.dtype
    assert images_u8.ndim == 4, images_u8.shape
    assert labels.shape == (len(images_u8),), labels.shape
    if len(images_u8) == 0:
        raise UnderstudyError(
            explain(expected="images to train a classifier on", found="none", todo="look at the stage before")
        )
    assert labels.min() >= 0, labels.min()
    assert labels.max() < classes, (labels.max(), classes)


def _split(n: int, config: Config, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to choose with; a set too small to spare an image chooses with none."""
    order = seeds.permutation(seed, n, "holdout")
    held = int(n * config.holdout)
    return np.sort(order[held:]), np.sort(order[:held])


def _padded(images_u8: np.ndarray, shift_px: int) -> torch.Tensor:
    """Repeat the rim, so that a shifted picture has no black border: uint8 [n, h, w, c] → [n, h + 2p, w + 2p, c]."""
    around = ((0, 0), (shift_px, shift_px), (shift_px, shift_px), (0, 0))
    return torch.from_numpy(np.pad(images_u8, around, mode="edge"))


def _augmented(images: torch.Tensor, rows: torch.Tensor, config: Config, seed: int, step: int) -> torch.Tensor:
    """Inputs of one step, each image shifted and mirrored on its own: float32 [b, c, h, w] in [-1, 1]."""
    n, pad = len(rows), config.shift_px
    rng = seeds.generator(seed, "augment", step)
    shifts = torch.from_numpy(rng.integers(0, 2 * pad + 1, (n, 2))).to(images.device)
    mirrored = torch.from_numpy(rng.random(n) < (0.5 if config.flip else 0.0)).to(images.device)
    high = torch.arange(images.shape[1] - 2 * pad, device=images.device)[None, :] + shifts[:, :1]
    across = torch.arange(images.shape[2] - 2 * pad, device=images.device).expand(n, -1)
    across = torch.where(mirrored[:, None], across.flip(1), across) + shifts[:, 1:]
    return to_input(images[rows[:, None, None], high[:, :, None], across[:, None, :]])


def _set_learning_rate(optimiser: torch.optim.Optimizer, config: Config, step: int) -> None:
    """One cycle: a straight rise to the peak, a straight fall to zero (Smith and Topin 2019)."""
    rise = max(config.warmup * config.steps, 1.0)
    share = min((step + 1) / rise, (config.steps - step) / max(config.steps - rise + 1, 1.0))
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * min(share, 1.0)


def _weights(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _score(
    net: nn.Module, images_u8: np.ndarray, labels: np.ndarray, runtime: machine.Config, batch: int
) -> tuple[float, float]:
    """What the best evaluation is chosen by: accuracy on the held-out share, then its mean log-likelihood."""
    if len(labels) == 0:
        return 0.0, 0.0
    probabilities = predict_proba(net, images_u8, runtime, batch)
    likelihood = np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
    return float((probabilities.argmax(axis=1) == labels).mean()), float(likelihood)


def _refuse_divergence(loss: float, step: int, what: str) -> None:
    if not math.isfinite(loss):
        found = f"{loss} at step {step + 1}"
        raise UnderstudyError(explain(expected=f"a finite loss of {what}", found=found, todo="lower its learning_rate"))
