"""Bytes to pixels, in one place: every encoded image of a private source is opened by this module alone.

Only the formats in :data:`SIGNATURES` are ever handed to Pillow, each by its signature, never by its file name; sizes
are checked before pixels are allocated. Photographs decode at a reduced scale where the format allows (JPEG: 1/2, 1/4
or 1/8 inside the inverse DCT), which saves most of the time, and are then resized by an antialiasing filter.

What the functions here read are bytes and numbers, and what they return are arrays: they hold no state, so they may
run in threads (Pillow releases the interpreter lock) or in a separate process.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from ops.core.errors import UnderstudyError

SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\x00", b"MM\x00*"),
    "PPM": (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
    "BMP": (b"BM",),
    "WEBP": (b"RIFF",),
}
# Hints only, to tell images from a README beside them: the bytes decide what a file is.
SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".bmp", ".webp"]
)
# All that Pillow's decoders raise on hostile bytes, by its own fuzzer's list, plus struct and end of file.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    EOFError,
    struct.error,
)
ORIENTATION_TAG = 0x0112
TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Draft keeps at least this many source pixels per target pixel and side, so that the filter still has something to
# average; 2 is where fidelity to full-size LANCZOS stops improving (benchmarks/ingest.py).
DRAFT_OVERSAMPLING = 2


class Unusable(UnderstudyError):
    """A file that cannot be used: ``reason`` is a code such as "truncated", the text is for people.

    The text never holds anything that differs from run to run (an address, a temporary path)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def sniff(data: bytes) -> str:
    """Pillow's name of the format whose signature opens ``data``. Raises Unusable (empty, wrong_type)."""
    if not data:
        raise Unusable("empty", "no bytes")
    for name, signatures in SIGNATURES.items():
        if data.startswith(signatures) and (name != "WEBP" or data[8:12] == b"WEBP"):
            return name
    raise Unusable("wrong_type", f"no signature of {', '.join(SIGNATURES)}")


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The image with its header read only. Raises Unusable (also: too_many_pixels, truncated, corrupt)."""
    kind = sniff(data)
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
    except Image.DecompressionBombError as error:
        raise Unusable("too_many_pixels", "a header that claims more pixels than Pillow would ever allocate") from error
    except Image.UnidentifiedImageError as error:
        raise Unusable("corrupt", f"a {kind} signature, and no {kind} header after it") from error
    except DECODER_ERRORS as error:
        raise _fault(kind, error) from error
    width, height = image.size
    if width * height > max_pixels:
        raise Unusable("too_many_pixels", f"{width}x{height}, limit {max_pixels} pixels")
    return image


def _fault(kind: str, error: Exception) -> Unusable:
    text = " ".join(str(error).split())
    short = isinstance(error, EOFError) or any(
        mark in text.lower() for mark in ("truncat", "end of", "eof", "not enough")
    )
    return Unusable("truncated" if short else "corrupt", f"{kind}: {type(error).__name__}")


def _load(image: Image.Image) -> None:
    """Decode all of it (a truncated tail shows only here). Raises Unusable."""
    try:
        image.load()
    except DECODER_ERRORS as error:
        raise _fault(str(image.format), error) from error


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or it makes no sense."""
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except DECODER_ERRORS:  # a broken EXIF block is no reason to lose the picture: it is shown as stored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def examine(data: bytes, max_pixels: int, min_side_px: int) -> tuple[int, int]:
    """Decode an encoded image whole, cheaply, and return (width, height) in pixels as shown (orientation applied).

    JPEG is decoded at 1/8 scale: its entropy-coded data are still read to the end, so truncation is noticed.
    Raises Unusable (empty, wrong_type, too_many_pixels, too_small, truncated, corrupt, unsupported_mode).
    """
    image = open_image(data, max_pixels)
    width, height = image.size
    if min(width, height) < min_side_px:
        raise Unusable("too_small", f"{width}x{height}, least side {min_side_px} px")
    turned = orientation(image) >= 5
    if image.format == "JPEG":
        image.draft(None, (1, 1))
    _load(image)
    _check_mode(image)
    return (height, width) if turned else (width, height)


def _check_mode(image: Image.Image) -> None:
    if image.mode == "F":
        raise Unusable("unsupported_mode", "floating-point pixels without a known range")
    if image.mode == "I" and not 0 <= image.getextrema()[0] <= image.getextrema()[1] <= 65535:  # type: ignore[operator]
        raise Unusable("unsupported_mode", "32-bit pixels outside 0..65535")


def flatten(image: Image.Image, channels: int, background_grey: int) -> Image.Image:
    """Any Pillow mode to "L" or "RGB": 16-bit scaled to 8, palettes expanded, transparency laid on grey."""
    target = "L" if channels == 1 else "RGB"
    if image.mode == target and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        _check_mode(image)
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        image = _on_background(image.convert("RGBA"), background_grey)
    return image if image.mode == target else image.convert(target)


def _on_background(image: Image.Image, background_grey: int) -> Image.Image:
    if image.getchannel("A").getextrema()[0] == 255:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, (background_grey, background_grey, background_grey, 255))
    return Image.alpha_composite(canvas, image).convert("RGB")


def centre_box(width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the centred square."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def decode_image(
    data: bytes, *, size_px: int, channels: int, centre_crop: bool, background_grey: int, max_pixels: int
) -> np.ndarray:
    """Encoded image to uint8 ``[size_px, size_px, channels]``, channels 1 (ITU-R 601 luma) or 3 (RGB).

    Orientation is applied; without ``centre_crop`` the whole picture is squeezed into the square. Antialiased
    (Pillow's LANCZOS over the support of the reduction, after a DCT-scaled decode). Raises Unusable as
    :func:`examine` does.
    """
    image = open_image(data, max_pixels)
    turn = orientation(image)
    if image.format == "JPEG":
        least = size_px * DRAFT_OVERSAMPLING
        image.draft("L" if channels == 1 and image.mode != "CMYK" else None, (least, least))
    _load(image)
    image = flatten(image, channels, background_grey)
    if turn in TRANSPOSE:
        image = image.transpose(TRANSPOSE[turn])
    if centre_crop:  # cut first: a resize with a box would let the filter look beyond it
        image = image.crop(centre_box(*image.size))
    if image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.LANCZOS, reducing_gap=DRAFT_OVERSAMPLING)
    return np.asarray(image, dtype=np.uint8).reshape(size_px, size_px, channels)


def decode_mask(data: bytes, *, size_px: int, centre_crop: bool, max_pixels: int) -> np.ndarray:
    """PNG of class indices to uint8 ``[size_px, size_px]`` by nearest neighbour: no class is invented."""
    mask = open_image(data, max_pixels)
    _load(mask)
    if mask.mode not in ("L", "P"):
        raise Unusable("mask_unreadable", f"mode {mask.mode}, expected one byte a pixel")
    if centre_crop:
        mask = mask.crop(centre_box(*mask.size))
    resized = mask if mask.size == (size_px, size_px) else mask.resize((size_px, size_px), Image.Resampling.NEAREST)
    return np.asarray(resized, dtype=np.uint8)


def mask_png(data: bytes, *, threshold: int | None, max_pixels: int) -> bytes:
    """Any one-channel (or grey RGB) mask to a PNG of uint8 class indices.

    Without ``threshold`` the values (or palette indices) are the classes; with it, grey ≥ threshold is 1, the rest 0,
    which is what anti-aliased drawings need. Raises Unusable (mask_unreadable).
    """
    try:
        mask = open_image(data, max_pixels)
        _load(mask)
    except Unusable as fault:
        raise Unusable("mask_unreadable", fault.detail) from fault
    array = _mask_values(mask)
    if threshold is not None:
        array = (array >= threshold).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG")
    return buffer.getvalue()


def _mask_values(mask: Image.Image) -> np.ndarray:
    """uint8 [h, w]. A colour mask is refused rather than guessed at."""
    if mask.mode in ("L", "P"):
        return np.asarray(mask, dtype=np.uint8)
    if mask.mode == "1":
        return np.asarray(mask).astype(np.uint8)
    array = np.asarray(mask)
    if mask.mode in ("RGB", "RGBA", "LA") and all(
        (array[..., 0] == array[..., k]).all() for k in range(len(mask.mode) - (mask.mode[-1] == "A"))
    ):
        return np.ascontiguousarray(array[..., 0])
    raise Unusable("mask_unreadable", f"mode {mask.mode} with colours; expected one value a pixel")
