"""What goes into a step, as a function of the seed and the step's number alone.

Order of the images, latents, labels of the fakes, dequantisation and augmentation noise are counter-based: nothing of
them has to be saved, a resumed run continues with the same numbers, and more ranks or micro-batches cut the same batch
into smaller slices.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from ops.core import seeds

FREE_SHARE = 0.5  # the set lies on the accelerator where it takes less than this share of the free memory


def stream(seed: int, where: torch.device, *purpose: object) -> torch.Generator:
    """A torch generator on ``where`` for one purpose, e.g. ``stream(seed, where, "latent", step)``."""
    return torch.Generator(device=where).manual_seed(seeds.derive(seed, *purpose))


class Order:
    """The endless sequence of image numbers: one permutation after another, a new one every epoch."""

    def __init__(self, seed: int, n: int) -> None:
        self.seed, self.n = seed, n
        self._epoch, self._permutation = -1, np.zeros(0, np.int64)

    def rows(self, start: int, count: int) -> np.ndarray:
        """Places ``start`` to ``start + count`` of the sequence: int64 [count]."""
        parts = []
        while count > 0:
            epoch, place = divmod(start, self.n)
            part = self._of(epoch)[place : place + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def _of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, seeds.permutation(self.seed, self.n, "order", epoch)
        return self._permutation


class Pool:
    """The training set, as uint8: on the accelerator when it fits, else where it was (a memory map stays one)."""

    def __init__(self, images_u8: np.ndarray, labels: np.ndarray, where: torch.device) -> None:
        """``images_u8``: uint8 [n, h, w, c]; ``labels``: int64 [n]."""
        assert images_u8.dtype == np.uint8, images_u8.dtype
        assert images_u8.ndim == 4, images_u8.shape
        assert labels.shape == (len(images_u8),), labels.shape
        self.where, self.images_u8, self.labels = where, images_u8, labels.astype(np.int64)
        self._resident: Tensor | None = None
        if where.type != "cpu" and _fits(images_u8.nbytes, where):
            self._resident = torch.from_numpy(np.array(images_u8)).to(where)

    def __len__(self) -> int:
        return len(self.images_u8)

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images uint8 [k, c, h, w] (channels last in memory) and labels int64 [k] of ``rows``, on the device."""
        labels = torch.from_numpy(self.labels[rows]).to(self.where, non_blocking=True)
        if self._resident is not None:
            index = torch.from_numpy(rows).to(self.where, non_blocking=True)
            return self._resident.index_select(0, index).permute(0, 3, 1, 2), labels
        images = torch.from_numpy(np.ascontiguousarray(self.images_u8[rows]))
        return images.to(self.where, non_blocking=True).permute(0, 3, 1, 2), labels

    def digest(self) -> str:
        """Hex SHA-256 of shape, pixels and labels."""
        digest = hashlib.sha256(repr(self.images_u8.shape).encode())
        for start in range(0, len(self), 4096):
            digest.update(np.ascontiguousarray(self.images_u8[start : start + 4096]).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


def _fits(size_bytes: int, where: torch.device) -> bool:
    if where.type != "cuda":
        return True  # MPS shares the machine's memory
    free_bytes, _ = torch.cuda.mem_get_info(where)
    return size_bytes < FREE_SHARE * free_bytes


def to_pm1(images_u8: Tensor, noise: torch.Generator | None = None) -> Tensor:
    """uint8 [n, c, h, w] → float32 in [−1, 1]; with ``noise``, uniform over each grey level's width (dequantised)."""
    images = images_u8.to(torch.float32)
    if noise is not None:
        images = images.add_(torch.rand(images.shape, device=images.device, generator=noise)).sub_(0.5)
    return images.div_(127.5).sub_(1.0)


def to_u8(images_pm1: Tensor) -> np.ndarray:
    """Float [n, c, h, w] in [−1, 1] → uint8 [n, h, w, c], rounded to the nearest level."""
    levels = images_pm1.detach().float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
