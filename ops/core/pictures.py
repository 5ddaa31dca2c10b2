"""Arrays to pictures: tile images into a grid, encode a PNG that carries pixels and nothing else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def grid(images_u8: np.ndarray, columns: int, gap_px: int = 1, scale: int = 1) -> np.ndarray:
    """Tile images row by row on white: uint8 [n, h, w, c] → uint8 [H, W, 3]. ``scale`` repeats each pixel."""
    assert images_u8.dtype == np.uint8, images_u8.dtype
    assert images_u8.ndim == 4, images_u8.shape
    n, height, width, _ = images_u8.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px, 3), 255, np.uint8)
    for index, image in enumerate(images_u8):
        top, left = (index // columns) * (height + gap_px), (index % columns) * (width + gap_px)
        canvas[top : top + height, left : left + width] = image
    return canvas.repeat(scale, axis=0).repeat(scale, axis=1)


def png_bytes(image_u8: np.ndarray) -> bytes:
    """PNG of uint8 [h, w], [h, w, 1] or [h, w, 3], rebuilt from the array: no metadata can travel with it."""
    assert image_u8.dtype == np.uint8, image_u8.dtype
    array = image_u8[..., 0] if image_u8.ndim == 3 and image_u8.shape[-1] == 1 else image_u8
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: Path, image_u8: np.ndarray) -> None:
    """Write :func:`png_bytes` to ``path`` (inside a folder that is published whole)."""
    path.write_bytes(png_bytes(image_u8))
