"""Releases whose answer is known: a copier, which must be caught, and fresh real images, which must not."""

from __future__ import annotations

import numpy as np

from ops.attacks._view import Records, read
from ops.core import seeds
from ops.core.imageset import ImageSet


def copier(members: Records, images: int, noise_u8: float, seed: int) -> Records:
    """Training images with a little Gaussian noise, as a release: at most ``images`` of them, drawn by lot.

    ``noise_u8`` is its standard deviation in grey levels of 255; values are rounded and cut to 0 … 255.
    """
    rows = np.sort(seeds.permutation(seed, len(members), "copier")[:images])
    chosen = members.take(rows)
    noise = seeds.generator(seed, "copier noise").normal(0.0, noise_u8, chosen.images_u8.shape)
    noisy = np.clip(np.rint(chosen.images_u8 + noise), 0, 255).astype(np.uint8)
    planted = chosen.with_images(noisy)
    planted.ids = np.array([f"copy-{number:06d}" for number in range(len(planted))], dtype=str)
    return planted


def control_half(reference: ImageSet, like: Records, images: int, seed: int) -> Records:
    """The reference role's control half, which calibrates nothing, as a release: at most ``images``, drawn by lot."""
    everything = read(reference.folder, like.embedder)
    rows = np.flatnonzero(reference.manifest["half"].to_numpy(dtype=str) == "control")
    drawn = rows[seeds.permutation(seed, len(rows), "control half")[:images]]
    return everything.take(np.sort(drawn))
