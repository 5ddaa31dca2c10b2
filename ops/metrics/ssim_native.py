"""The uniform window's kernel in C++, compiled for this processor when it is first needed.

The same arithmetic as :mod:`ops.metrics.ssim_kernel` (float32 sums of integers, exact) at several times the speed of
what torch.compile makes of it, and free of Python's lock while it runs, so that threads work side by side. Where there
is no compiler, :func:`load` says why and the caller takes the next best form.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ops.metrics.ssim_kernel import C1, C2, HALF_C1, HALF_C2, Facing, Terms

SOURCE = Path(__file__).with_name("ssim_native.cpp")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC")
LANES = 16
PAIRS_A_CALL = 1024
ROWS = 64  # images a call: long enough that Python costs nothing, short enough that threads share the work


@functools.cache
def load() -> ctypes.CDLL | str:
    """The compiled library, or why there is none. Compiles once a process (about two seconds)."""
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++"]
    compiler = next((found for name in names if (found := shutil.which(name))), None)
    if compiler is None:
        return f"no C++ compiler ({', '.join(names)})"
    with tempfile.TemporaryDirectory(prefix="understudy-ssim-") as folder:
        built = Path(folder) / "ssim_native.so"
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or [f"{compiler} ended with {done.returncode}"])[0]
        library = ctypes.CDLL(str(built))  # stays mapped after the file is gone
    assert library.lanes() == LANES, library.lanes()
    pointer = ctypes.c_void_p
    library.score_tile.argtypes = [pointer] * 9 + [ctypes.c_int] * 4 + [ctypes.c_float] * 2 + [pointer]
    library.score_tile.restype = None
    library.score_pairs.argtypes = (
        [pointer] * 2 + [ctypes.c_long] + [ctypes.c_int] * 3 + [ctypes.c_double] * 2 + [pointer]
    )
    library.score_pairs.restype = None
    return library


def available() -> bool:
    """Whether :func:`load` returned a library."""
    return not isinstance(load(), str)


def score_tile(x: Facing, y: Terms) -> Tensor:
    """Mean SSIM of k images against one tile of 16: x of [k, c, ·, ·, 1], Terms of [c, ·, ·, 16] → float32 [k, 16].

    Only for the uniform window on a CPU, and only where :func:`load` returned a library.
    """
    library = load()
    assert isinstance(library, ctypes.CDLL), library
    k, channels, height, width, _ = x[0].shape
    out = torch.empty(k, LANES)
    tensors = [part.contiguous() for part in (*x, *y.tensors())]
    assert all(part.dtype == torch.float32 for part in tensors), [part.dtype for part in tensors]
    assert y.pixels.shape == (channels, height, width, LANES), y.pixels.shape
    addresses = [part.data_ptr() for part in tensors]
    half_c1, half_c2 = HALF_C1["uniform"], HALF_C2["uniform"]
    library.score_tile(*addresses, k, channels, height, width, half_c1, half_c2, out.data_ptr())
    return out


def score_pairs(x_u8: np.ndarray, y_u8: np.ndarray) -> np.ndarray:
    """Mean SSIM of n aligned pairs: uint8 [n, h, w, c] twice → float32 [n]. Uniform window, exact integer sums.

    torch's threads share the pairs. Only where :func:`load` returned a library.
    """
    library = load()
    assert isinstance(library, ctypes.CDLL), library
    assert x_u8.shape == y_u8.shape, (x_u8.shape, y_u8.shape)
    assert x_u8.dtype == y_u8.dtype == np.uint8, (x_u8.dtype, y_u8.dtype)
    x_u8, y_u8 = np.ascontiguousarray(x_u8), np.ascontiguousarray(y_u8)
    out = np.empty(len(x_u8), np.float32)

    def score(part: slice) -> None:
        x, y, scores = x_u8[part], y_u8[part], out[part]
        addresses = x.ctypes.data, y.ctypes.data
        library.score_pairs(*addresses, len(x), *x.shape[1:], C1, C2, scores.ctypes.data)

    parts = [slice(start, start + PAIRS_A_CALL) for start in range(0, len(out), PAIRS_A_CALL)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        list(threads.map(score, parts))
    return out
