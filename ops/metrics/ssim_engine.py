"""How tiles of SSIM run: their shapes on each device, eager or compiled, and what happens without a compiler.

Compiled means our own C++ for the uniform window on a CPU, and torch.compile for the Gaussian window and for CUDA.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ops.core.progress import Reporter
from ops.metrics import ssim_native
from ops.metrics.ssim_kernel import (
    WIN_SIZE_PX,
    EagerTile,
    Facing,
    Terms,
    Window,
    broadcast,
    eager_rows,
    score_tile,
    terms,
)

LANES = 16  # float32 values in one AVX-512 register; two or four registers on narrower machines
SLAB_BYTES = 256 * 2**20  # terms of pool images held at once
WHOLE_PIXELS = 80 * 80  # images up to this are one part of a compiled tile
BAND_ROWS = 32  # larger ones are worked through in bands of about so many rows of windows
SHAPES_COMPILED = 64  # distinct tile shapes that one process may compile


Score = Callable[[Facing, Terms], Tensor]


@dataclass(frozen=True)
class Engine:
    """One way to score tiles: ``rows`` images against ``lanes`` pool images, slabs of ``slab`` pool images.

    ``threads`` blocks of rows may be scored side by side (only a kernel that frees Python's lock gains by it).
    """

    window: Window
    device: torch.device
    rows: int
    lanes: int
    slab: int
    score: Score
    threads: int = 1


def compiler_missing(device: torch.device) -> str | None:
    """Why torch.compile cannot work here, or None: C++ for a CPU, Triton for CUDA."""
    if device.type == "cpu":
        names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++"]
        return None if any(shutil.which(name) for name in names) else f"no C++ compiler ({', '.join(names)})"
    if device.type == "cuda":
        return None if torch.utils._triton.has_triton() else "no Triton"
    return f"no compiler for {device.type}"


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    """One compiled function; it specialises on each shape and window it meets."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES_COMPILED)
    options: dict[str, str | int | bool | Callable] = {
        "cpp.enable_floating_point_contract_flag": "fast"
    }  # fused a·b + c
    return torch.compile(score_tile, fullgraph=True, dynamic=False, options=options)


def _plain(window: Window) -> Score:
    return lambda x, y: score_tile(x, *y.tensors(), window=window)


def _in_place(height: int, width: int, channels: int, lanes: int) -> Score:
    tile = EagerTile(channels if height * width <= 2048 else 1, height, width, lanes)
    return lambda x, y: eager_rows(x, y, tile)


def _parts(window: Window, channels: int, rows: int, whole: bool) -> list[tuple[slice, slice, slice, int]]:
    """(channels, rows of pixels, rows of windows, how many of these) of the parts in which a tile is compiled.

    The compiled loop runs over the tile's images outermost, so the pool's side must stay in cache: large images are
    worked through channel by channel and band by band.
    """
    if whole:
        return [(slice(0, channels), slice(None), slice(None), rows * channels)]
    bands = -(-rows // BAND_ROWS)
    edges = [rows * band // bands for band in range(bands + 1)]
    halo = WIN_SIZE_PX[window] - 1
    return [
        (slice(channel, channel + 1), slice(first, last + halo), slice(first, last), last - first)
        for channel in range(channels)
        for first, last in itertools.pairwise(edges)
    ]


def _fast(window: Window, height: int, width: int, channels: int, device: torch.device) -> Score:
    """The compiled kernel, part by part where the image is large; means of parts are joined in float64."""
    rows = height - WIN_SIZE_PX[window] + 1
    parts = _parts(window, channels, rows, device.type != "cpu" or height * width <= WHOLE_PIXELS)
    total = sum(part[3] for part in parts)

    def score(x: Facing, y: Terms) -> Tensor:
        if len(parts) == 1:
            return _compiled()(x, *y.tensors(), window=window)
        joined = torch.zeros(x[0].shape[0], y.pixels.shape[-1], dtype=torch.float64, device=y.pixels.device)
        for channel, pixels, windows, count in parts:
            one = tuple(tensor[:, channel, pixels if n == 0 else windows] for n, tensor in enumerate(x))
            other = y.pixels[channel, pixels], y.level[channel, windows], y.spread[channel, windows]
            joined += _compiled()(one, *other, window=window).double() * (count / total)
        return joined.float()

    return score


def _inference(score: Score) -> Score:
    def run(x: Facing, y: Terms) -> Tensor:
        with torch.inference_mode():
            return score(x, y)

    return run


def _tile_rows(values: int, compiled: bool, device: torch.device) -> tuple[int, int]:
    """(rows, lanes) of a tile for images of ``values`` pixels × channels: what stays in cache, or fills a GPU."""
    if device.type != "cpu":
        return max(1, min(16, 2**21 // values)), 256
    if not compiled:
        return 16, LANES if values <= 2**14 or values > 2**15 else 2 * LANES
    return 16, LANES


def _works(score: Score, shape: tuple[int, ...], window: Window, rows: int, lanes: int) -> str | None:
    """Compile for this tile shape now; the reason in one line where the compiler fails (no headers, say)."""
    from torch._dynamo.exc import BackendCompilerFailed  # a second and a half of imports that only this needs
    from torch._inductor.exc import InductorError

    blank = torch.zeros(max(rows, lanes), *shape, dtype=torch.uint8)
    x, y = broadcast(blank[:rows], window), terms(blank[:lanes], window)
    try:
        score(x, y)
    except (BackendCompilerFailed, InductorError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def engine(shape: tuple[int, ...], window: Window, compiled: bool, device: torch.device, reporter: Reporter) -> Engine:
    """The engine for images of ``shape`` (h, w, c). Where compilation was asked for and cannot be had, it notes why."""
    height, width, channels = shape
    values = height * width * channels
    positions = channels * (height - WIN_SIZE_PX[window] + 1) * (width - WIN_SIZE_PX[window] + 1)
    slab = max(SLAB_BYTES // (4 * values + (8 if window == "uniform" else 12) * positions), 256) // 256 * 256
    if compiled and window == "uniform" and device.type == "cpu" and not isinstance(ssim_native.load(), str):
        score = _inference(ssim_native.score_tile)
        return Engine(window, device, ssim_native.ROWS, LANES, slab, score, torch.get_num_threads())
    if compiled:
        rows, lanes = _tile_rows(values, True, device)
        why = compiler_missing(device)
        if why is None and device.type == "cpu":
            why = _works(_inference(_fast(window, height, width, channels, device)), shape, window, rows, lanes)
        if why is None:
            return Engine(window, device, rows, lanes, slab, _inference(_fast(window, height, width, channels, device)))
        reporter.note(f"SSIM runs eagerly, several times slower: {why}")
    rows, lanes = _tile_rows(values, False, device)
    in_place = window == "uniform" and device.type == "cpu"
    score = _in_place(height, width, channels, lanes) if in_place else _plain(window)
    return Engine(window, device, rows, lanes, slab, _inference(score))
