"""The space in which sets of images are compared: distances between pixels say little, distances between features more.

Two spaces:

- ``reference`` (default, no download): a small net trained on the *calibrating half* of the reference role only.
  Neither training nor test images take part, so no set that is compared was seen by the judge. Its task is to tell
  the label *and* by which turn the picture was rotated (Gidaris et al. 2018; jointly as in Lee et al. 2020):
  labels alone let features collapse onto one point a class, which would make blurred and sharp images of a class look
  alike; and with one label, or none, the turns are a task by themselves.
- ``inception``: the 2048 pooled features of torchvision's Inception v3 (ImageNet weights) from a local safetensors
  file. torchvision's weights are not those of the original FID implementation: figures compare among themselves only.

A feature net is stored as ``config.json`` and ``weights.safetensors``; loading runs no code from the folder.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import interpolate

from ops.classifiers import training
from ops.core import files, seeds
from ops.core import runtime as machine
from ops.core.errors import CallError, UnderstudyError, explain
from ops.core.progress import Reporter, SilentReporter

TURNS = 4
INCEPTION_PX = 299


class Config(training.Config):
    """The block ``features``: what the feature net is, and how it is trained where it is."""

    space: Literal["reference", "inception"] = Field(..., description="trained here on reference images, or Inception")
    inception_weights: str | None = Field(
        ..., description="safetensors file of torchvision's inception_v3; needed for space inception, else null"
    )


@dataclass
class FeatureNet:
    """A net without its judgement of classes, and what is known of it.

    Attributes:
        net: for ``reference`` with ``trunk`` and ``head`` (one logit a label and turn), for ``inception`` the trunk.
        facts: the content of ``config.json``: space, classes, net, width, channels.
    """

    net: nn.Module
    facts: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Labels it can tell, in the order of their codes; empty for ``inception``."""
        return list(self.facts["classes"])


def fit(
    images_u8: np.ndarray,
    labels: np.ndarray,
    classes: list[str],
    config: Config,
    runtime: machine.Config,
    seed: int,
    reporter: Reporter | None = None,
) -> FeatureNet:
    """Make the feature net: train it, or read Inception's weights.

    Args:
        images_u8: uint8 [n, h, w, c] of the calibrating half of the reference role; unused for ``inception``.
        labels: int64 [n], codes into ``classes``.

    Raises CallError where Inception's weights are asked for and absent, UnderstudyError where there are no images.
    """
    if config.space == "inception":
        return FeatureNet(_inception(config.inception_weights), {"space": "inception", "classes": []})
    if len(images_u8) == 0:
        found = "none"
        expected = "images in the calibrating half of the reference role"
        raise UnderstudyError(explain(expected=expected, found=found, todo="give reference a larger share"))
    turned, targets = turn(images_u8, labels)
    task = seeds.derive(seed, "features")
    outputs = len(classes) * TURNS
    net = training.fit(turned, targets, outputs, config, runtime, task, reporter or SilentReporter(), "feature net")
    facts = {"space": "reference", "net": config.net, "width": config.width, "channels": images_u8.shape[-1]}
    return FeatureNet(net, {**facts, "classes": list(classes)})


def turn(images_u8: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every image in four positions, with the joint code label × 4 + position: uint8 [n, h, w, c] → [4n, h, w, c].

    Quarter turns where pictures are square, else the four mirrorings (none, across, down, both).
    """
    square = images_u8.shape[1] == images_u8.shape[2]
    if square:
        positions = [np.rot90(images_u8, quarter, axes=(1, 2)) for quarter in range(TURNS)]
    else:
        positions = [images_u8, images_u8[:, :, ::-1], images_u8[:, ::-1], images_u8[:, ::-1, ::-1]]
    codes = [labels * TURNS + position for position in range(TURNS)]
    return np.concatenate(positions), np.concatenate(codes).astype(np.int64)


def embed(net: FeatureNet, images_u8: np.ndarray, runtime: machine.Config, batch: int = 256) -> np.ndarray:
    """Features of images in their given position: uint8 [n, h, w, c] → float32 [n, d]. Computed in float32."""
    if net.facts["space"] == "inception":
        return training.apply(lambda inputs: net.net(_for_inception(inputs)), net.net, images_u8, runtime, batch)
    _check_channels(net, images_u8)
    trunk = net.net.get_submodule("trunk")
    return training.apply(trunk, net.net, images_u8, runtime, batch)


def read_labels(net: FeatureNet, features: np.ndarray) -> np.ndarray | None:
    """Code of the label that the net reads in features: float32 [n, d] → int64 [n]; None for ``inception``.

    The probabilities of a label's turns are added, so that an odd pose counts for its label.
    """
    if net.facts["space"] == "inception":
        return None
    head = net.net.get_submodule("head").cpu()
    with torch.inference_mode():
        probabilities = head(torch.from_numpy(features)).softmax(dim=1)
    return probabilities.unflatten(1, (-1, TURNS)).sum(dim=2).argmax(dim=1).numpy()


def save(net: FeatureNet, folder: Path) -> None:
    """Write ``config.json`` and ``weights.safetensors`` into a folder (one that is published whole)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.net.state_dict().items()}
    save_file(tensors, folder / "weights.safetensors")
    files.write_json(folder / "config.json", net.facts)


def load(folder: Path) -> FeatureNet:
    """Read what :func:`save` wrote. Raises UnderstudyError where the folder holds no feature net or not all of it."""
    if not (folder / "config.json").is_file():
        raise UnderstudyError(
            explain(expected=f"a feature net in {folder}", found="none", todo="run the stage baseline")
        )
    facts = files.read_json(folder / "config.json")
    if facts["space"] == "inception":
        net = _empty_inception()
    else:
        outputs = len(facts["classes"]) * TURNS
        net = training.build(facts["net"], outputs, facts["channels"], facts["width"], seed=0)
    read_weights(net, folder / "weights.safetensors")
    return FeatureNet(net.eval(), facts)


def read_weights(net: nn.Module, path: Path) -> None:
    """Fill a net from a safetensors file, every tensor by name and shape. Raises UnderstudyError where they differ."""
    try:
        tensors = load_file(path)
        net.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        found = " ".join(str(error).split())[:300]
        raise UnderstudyError(
            explain(expected=f"weights that fit in {path}", found=found, todo="write it again")
        ) from error


def _check_channels(net: FeatureNet, images_u8: np.ndarray) -> None:
    channels = net.facts["channels"]
    if images_u8.shape[-1] != channels:
        found = f"{images_u8.shape[-1]}"
        raise UnderstudyError(
            explain(expected=f"images of {channels} channels", found=found, todo="run baseline again")
        )


def _inception(weights: str | None) -> nn.Module:
    """Inception v3 with the weights of a local file. Nothing is ever downloaded."""
    path = Path(weights) if weights else None
    if path is None or not path.is_file():
        expected = "a safetensors file of torchvision's inception_v3 in features.inception_weights"
        found = "null" if path is None else f"no file {path}"
        raise CallError(
            explain(expected=expected, found=found, todo="convert the weights, or set features.space: reference")
        )
    if path.suffix != ".safetensors":
        found, todo = path.name, "convert it with safetensors.torch.save_file: other formats can run code when read"
        raise CallError(explain(expected="a .safetensors file of weights", found=found, todo=todo))
    net = _empty_inception()
    present = load_file(path)
    wanted = net.state_dict()
    # The published file also holds the classifier's layers, which a trunk has no place for.
    chosen = OrderedDict((name, present[name]) for name in wanted if name in present)
    if len(chosen) < len(wanted):
        lost = sorted(set(wanted) - set(chosen))
        found = f"{len(lost)} of {len(wanted)} tensors missing, e.g. {lost[0]}"
        raise CallError(explain(expected=f"inception_v3 weights in {path}", found=found, todo="convert the file again"))
    net.load_state_dict(chosen)
    return net.eval()


def _empty_inception() -> nn.Module:
    """Inception v3 down to its 2048 pooled features, with weights to be filled in."""
    from torchvision.models import Inception3  # heavy, and needed for this space only

    net = Inception3(aux_logits=False, transform_input=False, init_weights=False)
    net.fc = nn.Identity()
    return net


def _for_inception(inputs: torch.Tensor) -> torch.Tensor:
    """float [n, 1 or 3, h, w] in [-1, 1] → [n, 3, 299, 299] in [-1, 1], the range these weights were trained in.

    (torchvision's own transform normalises by ImageNet's mean and ``transform_input`` undoes that again.)
    """
    size = (INCEPTION_PX, INCEPTION_PX)
    return interpolate(inputs.expand(-1, 3, -1, -1), size=size, mode="bilinear", align_corners=False, antialias=True)
