"""What an attack may look at: real records on either side, what is released, and material to calibrate with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ops.core import runtime
from ops.core.imageset import ImageSet, pixel_digests
from ops.core.progress import Reporter, SilentReporter
from ops.metrics import copies

Embedder = Callable[[np.ndarray], np.ndarray]  # uint8 [n, h, w, c] → float32 [n, d]


@dataclass
class Records:
    """Images with what is known of each: uint8 [n, h, w, c], three str [n], hex SHA-256 of the pixels, str [n]."""

    images_u8: np.ndarray
    ids: np.ndarray
    subjects: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    embedder: Embedder | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assert self.images_u8.dtype == np.uint8, self.images_u8.dtype
        assert self.images_u8.ndim == 4, self.images_u8.shape
        assert len(self.images_u8) == len(self.ids) == len(self.subjects) == len(self.labels) == len(self.digests)

    def __len__(self) -> int:
        return len(self.images_u8)

    @cached_property
    def features(self) -> np.ndarray:
        """Embedding of every image, computed once: float32 [n, d]."""
        assert self.embedder is not None, "these records came without a feature net"
        return self.embedder(self.images_u8)

    def take(self, rows: np.ndarray) -> Records:
        """The records at ``rows`` (indices or a mask), with their embedding where it is known already."""
        part = Records(
            self.images_u8[rows],
            self.ids[rows],
            self.subjects[rows],
            self.labels[rows],
            self.digests[rows],
            self.embedder,
        )
        if "features" in self.__dict__:
            part.__dict__["features"] = self.features[rows]
        return part

    def of_subjects(self, subjects: np.ndarray) -> Records:
        """The records of these subjects, in their old order."""
        return (
            self if set(self.subjects) <= set(subjects) else self.take(np.flatnonzero(np.isin(self.subjects, subjects)))
        )

    def with_images(self, images_u8: np.ndarray) -> Records:
        """The same records with other pixels (a plant)."""
        return replace(self, images_u8=images_u8, digests=np.array(pixel_digests(images_u8), dtype=str))


def read(folder: Path, embedder: Embedder | None) -> Records:
    """Records of an image set on disk."""
    found = ImageSet(folder)
    ids, digests = (found.manifest[name].to_numpy(dtype=str) for name in ("image_id", "sha256"))
    return Records(found.images, ids, found.subjects, found.labels, digests, embedder)


@dataclass(frozen=True)
class View:
    """One audit as an attack sees it. Members and non-members stand for the candidates whose membership is asked.

    The attacker holds ``released`` (what is published), a population sample ``reference`` that touched nothing else,
    and the candidates' images, not knowing which side they are from. ``drawn`` is the generator's whole draw before the
    filter: the auditor's, not the attacker's, and only a census reads it.
    """

    members: Records
    nonmembers: Records
    reference: Records
    released: Records
    drawn: Records
    copies: copies.Config
    runtime: runtime.Config
    device: torch.device
    seed: int
    reporter: Reporter = field(default_factory=SilentReporter)
