"""Nearest neighbour: whoever resembles a released image too closely was in the training set.

The attacker holds the released images, nothing of the generator, and photographs of people he suspects: GAN-Leaks'
full-black-box attack (Chen, Yu, Zhang and Fritz 2020, equation 4), −min over released images of the distance. Some
photographs resemble everything (plain sky), so he also owns pictures from the same population that were never used,
and compares: how much nearer is the release than an honest sample of the population would be? That is their calibration
by a reference model (equation 9), with real images in the model's place, as a logarithm of the two distances.

Distances are Euclidean, in pixels in [−1, 1] (reduced by area averaging, which keeps what a person sees and damps noise
that hides a copy) and in the feature net's space. Each space's score is put on one scale by the median and the median
absolute deviation over all candidates, sides unknown, so that permuting the sides stays exact; then the larger counts.
Every distance is an exact minimum: blocks of float32 products find the neighbour, float64 measures it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from ops.attacks._view import Records, View
from ops.core.config import StrictModel
from ops.core.errors import CallError, explain
from ops.core.progress import Reporter

THREAT = "images"
KIND = "membership"

Space = Literal["pixels", "features"]


class Config(StrictModel):
    """The block ``attacks.nearest_neighbour``."""

    spaces: tuple[Space, ...] = Field(min_length=1, description="where distances are measured")
    pixels_px: int | None = Field(ge=2, description="largest side of the images compared, pixels; null: as they are")
    calibrate: bool = Field(description="compare with the distance to the reference role's calibrating half")
    combine: Literal["max", "mean"] = Field(description="how the spaces' scores become one")
    block_rows: int = Field(gt=0, description="candidates compared at a time; memory is this times the release")


def score(view: View, config: Config) -> np.ndarray:
    """Suspicion of every candidate, members then non-members: float64 [n + m], higher = nearer to the release.

    Raises CallError where there is nothing released, or calibration is asked for without reference images.
    """
    wanted = {"a released image": view.released, "a reference image to calibrate with": view.reference}
    for what, records in wanted.items():
        if len(records) == 0 and (records is view.released or config.calibrate):
            raise CallError(explain(expected=what, found="none", todo="enlarge that set, or set calibrate: false"))
    scores = [_on_one_scale(_score_in(space, view, config)) for space in config.spaces]
    return np.max(scores, axis=0) if config.combine == "max" else np.mean(scores, axis=0)


def _score_in(space: Space, view: View, config: Config) -> np.ndarray:
    """log(distance to the reference / distance to the release), or −log(distance to the release)."""

    def measure(records: Records) -> np.ndarray:
        return pixel_vectors(records.images_u8, config.pixels_px) if space == "pixels" else records.features

    candidates = np.concatenate([measure(view.members), measure(view.nonmembers)])

    def distance(to: Records, name: str) -> np.ndarray:
        what = f"nearest_neighbour, {space} to {name}"
        return nearest_distance(candidates, measure(to), config.block_rows, view.device, view.reporter, what)

    released = distance(view.released, "release")
    floor = _floor(space, candidates, released)
    calibration = np.log(distance(view.reference, "reference") + floor) if config.calibrate else 0.0
    return calibration - np.log(released + floor)


def _floor(space: Space, candidates: np.ndarray, distances: np.ndarray) -> float:
    """Distance under which nothing is told apart: rounding to grey levels in pixels, else 1/1000 of the median."""
    rounding = np.sqrt(candidates.shape[1] / 12.0) / 127.5
    return float(rounding) if space == "pixels" else max(1e-3 * float(np.median(distances)), 1e-9)


def _on_one_scale(scores: np.ndarray) -> np.ndarray:
    """(score − median) / (1.4826 · median absolute deviation), over all candidates together."""
    centred = scores - np.median(scores)
    spread = 1.4826 * np.median(np.abs(centred))
    return centred / spread if spread > 0 else centred


def pixel_vectors(images_u8: np.ndarray, largest_px: int | None) -> np.ndarray:
    """Images as points: uint8 [n, h, w, c] → float32 [n, d] in [−1, 1], sides reduced by area to ``largest_px``."""
    if len(images_u8) == 0:
        return np.zeros((0, 1), np.float32)
    height, width = images_u8.shape[1:3]
    factor = 1.0 if largest_px is None else min(1.0, largest_px / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    parts = [_reduced(images_u8[start : start + 4096], size) for start in range(0, len(images_u8), 4096)]
    return np.concatenate(parts)


def _reduced(images_u8: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pixels = torch.from_numpy(np.array(images_u8)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
    if size != pixels.shape[-2:]:
        pixels = torch.nn.functional.interpolate(pixels, size=size, mode="area")
    return pixels.flatten(1).numpy()


def nearest_distance(
    points: np.ndarray,
    others: np.ndarray,
    block_rows: int,
    device: torch.device,
    reporter: Reporter,
    what: str = "nearest",
) -> np.ndarray:
    """Distance of each point to the nearest of ``others``: float32 [n, d], [m, d], m ≥ 1 → float64 [n].

    Holds ``block_rows`` × m products at a time. Centring first keeps |x|² + |y|² − 2x·y from cancelling; the pair that
    it finds is then measured directly.
    """
    centre = others.mean(axis=0, dtype=np.float64).astype(np.float32)
    targets = torch.from_numpy(others - centre).to(device)
    half_norms = targets.square().sum(dim=1) / 2.0
    found = np.empty(len(points), dtype=np.float64)
    for start in range(0, len(points), block_rows):
        rows = torch.from_numpy(points[start : start + block_rows] - centre).to(device)
        match = torch.addmm(half_norms, rows, targets.T, alpha=-1.0).argmin(dim=1)
        gap = (rows - targets[match]).double()
        found[start : start + block_rows] = gap.square().sum(dim=1).sqrt().cpu().numpy()
        reporter.progress(what, min(start + block_rows, len(points)), len(points))
    return found
