"""Pictures of results: a grid of synthetic images, a confusion matrix. Drawn with Pillow alone, so that a bare GPU node
can run the stage; the same input gives the same bytes, and a PNG carries pixels and nothing else."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ops.core import seeds
from ops.core.pictures import grid, png_bytes

TILE_PX = 64  # small images are magnified to about this size, large ones reduced to it
CELL_PX, FONT_PX = 56, 15
INK, PAPER, DEEP = (34, 34, 40), (255, 255, 255), (23, 78, 140)


def sample_grid(
    images_u8: np.ndarray, labels: np.ndarray, classes: list[str], columns: int, max_bytes: int, seed: int
) -> np.ndarray:
    """One row of random images for each class, its name before it: uint8 [n, h, w, c] → uint8 [H, W, 3].

    As many columns as asked for, or fewer where the PNG would grow beyond ``max_bytes``; then fewer classes. A class
    without images keeps its empty row, since that is a finding. ``images_u8`` must be synthetic.
    """
    shown = classes
    while True:
        picture = _labelled(images_u8, labels, shown, columns, seed)
        if len(png_bytes(picture)) <= max_bytes or (columns == 1 and len(shown) == 1):
            return picture
        if columns > 1:
            columns -= 1
        else:
            shown = shown[: len(shown) // 2]


def _labelled(images_u8: np.ndarray, labels: np.ndarray, classes: list[str], columns: int, seed: int) -> np.ndarray:
    tiles = []
    for name in classes:
        rows = np.flatnonzero(labels == name)
        chosen = np.sort(rows[seeds.permutation(seed, len(rows), "samples", name)[:columns]])
        blank = np.full((columns - len(chosen), *images_u8.shape[1:]), 255, np.uint8)
        tiles.append(np.concatenate([np.asarray(images_u8[chosen]), blank]))
    sized = resized(np.concatenate(tiles))
    canvas = grid(sized, columns, gap_px=2)
    row_px = sized.shape[1] + 2
    margin = _margin(classes)
    page = Image.new("RGB", (margin + canvas.shape[1], canvas.shape[0]), PAPER)
    page.paste(Image.fromarray(canvas), (margin, 0))
    draw, font = ImageDraw.Draw(page), _font()
    for number, name in enumerate(classes):
        middle = number * row_px + sized.shape[1] // 2
        draw.text((margin - 8, middle), _short(name), INK, font, anchor="rm")
    return np.asarray(page)


def resized(images_u8: np.ndarray) -> np.ndarray:
    """Whole-number magnification of small images, area reduction of large ones: uint8 [n, h, w, c] → [n, h', w', c]."""
    n, height, width, channels = images_u8.shape
    larger = max(height, width)
    if larger <= TILE_PX:
        return images_u8.repeat(TILE_PX // larger, axis=1).repeat(TILE_PX // larger, axis=2)
    size = (max(width * TILE_PX // larger, 1), max(height * TILE_PX // larger, 1))
    flat = images_u8[..., 0] if channels == 1 else images_u8
    large = [Image.fromarray(np.ascontiguousarray(image)) for image in flat]
    small = np.stack([np.asarray(image.resize(size, Image.Resampling.BOX)) for image in large])
    return small.reshape(n, size[1], size[0], channels)


def confusion_picture(matrix: np.ndarray, classes: list[str], title: str) -> np.ndarray:
    """A confusion matrix as a heat map of row shares in percent: counts [k, k] → uint8 [H, W, 3].

    Rows are actual classes, columns predicted ones; colour and figure both show the share of the row.
    """
    k = len(classes)
    font, margin, top = _font(), _margin(classes), 84
    head = int(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(title, font))
    page = Image.new("RGB", (max(margin + k * CELL_PX, head + 16) + 8, top + k * CELL_PX + 8), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((8, 8), title, INK, font)
    draw.text((8, 32), "row: actual, column: predicted, % of the row", INK, _font(12))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    for row in range(k):
        middle = top + row * CELL_PX + CELL_PX // 2
        draw.text((margin - 8, middle), _short(classes[row]), INK, font, anchor="rm")
        draw.text(
            (margin + row * CELL_PX + CELL_PX // 2, top - 8), _short(classes[row], 7), INK, _font(12), anchor="ms"
        )
        for column in range(k):
            _cell(draw, margin + column * CELL_PX, top + row * CELL_PX, float(shares[row, column]))
    return np.asarray(page)


def _cell(draw: ImageDraw.ImageDraw, left: int, up: int, share: float) -> None:
    tint = tuple(round(paper + (deep - paper) * share) for paper, deep in zip(PAPER, DEEP, strict=True))
    draw.rectangle((left, up, left + CELL_PX - 2, up + CELL_PX - 2), fill=tint)
    centre = (left + CELL_PX // 2 - 1, up + CELL_PX // 2 - 1)
    draw.text(centre, f"{100 * share:.0f}", PAPER if share > 0.5 else INK, _font(), anchor="mm")


def _margin(classes: list[str]) -> int:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return 16 + max(int(draw.textlength(_short(name), _font())) for name in classes)


def _short(name: str, characters: int = 14) -> str:
    return name if len(name) <= characters else name[: characters - 1] + "…"


def _font(size_px: int = FONT_PX) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
