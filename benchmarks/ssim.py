"""All-pairs SSIM against a scikit-image loop and against pytorch-msssim: the same pairs, in turn, in one process.

Every round times each contender on the CPU seconds of this process with one thread (ABAB); what counts are ratios of
pairs per second within a round, their median and minimum. pytorch-msssim has one window, the Gaussian one: the target
is for our uniform window against it, on the same pairs; our Gaussian window, in float64 to be exact on flat images, is
reported as well.

    python benchmarks/ssim.py              # a few minutes; writes benchmarks/results/ssim.json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pytorch_msssim import ssim as peer_ssim
from scipy.ndimage import gaussian_filter

from ops.core import files, seeds
from ops.metrics import ssim

RESULTS = Path(__file__).parent / "results/ssim.json"
SIDES = {32: (512, 48), 64: (192, 24), 128: (112, 8)}  # side px: (images and pool each, pairs in scikit-image's loop)
TARGETS = {
    "eager_32px": 20, "eager_64px": 8, "eager_128px": 6,
    "compiled_32px": 80, "compiled_64px": 35, "compiled_128px": 30,
    "compiled_over_msssim_32px": 25,
}  # fmt: skip
Contender = tuple[int, Callable[[], object]]


def pictures(count: int, side_px: int, what: str) -> np.ndarray:
    """Noise at many scales, as in photographs: uint8 [n, h, w, 3]."""
    draw = seeds.generator(7, "ssim pictures", what, side_px)
    images = draw.standard_normal((count, side_px, side_px, 3)) * 6 + 128
    for octave in range(1, 5):
        layer = gaussian_filter(draw.standard_normal(images.shape), (0, 2**octave, 2**octave, 0))
        images += layer * (18 * 2**octave)
    return np.clip(images, 0, 255).astype(np.uint8)


def pairs_per_cpu_s(contender: Contender, least_s: float) -> float:
    """Pairs per CPU second: calls until ``least_s`` have passed."""
    pairs, work = contender
    calls, start = 0, time.process_time()
    while (spent := time.process_time() - start) < least_s:
        work()
        calls += 1
    return calls * pairs / spent


def contenders(side_px: int) -> dict[str, Contender]:
    """Name → (pairs a call scores, the call). All draw their pairs from the same images."""
    count, loop = SIDES[side_px]
    images, pool = (pictures(count, side_px, what) for what in ("images", "pool"))

    def skimage(window: ssim.Window) -> Callable[[], object]:
        return lambda: [ssim.exact(x, y, window) for x, y in zip(images[:loop], pool[:loop], strict=True)]

    def ours(window: ssim.Window, compiled: bool) -> Callable[[], object]:
        return lambda: ssim.pool_scores(images, pool, window=window, compiled=compiled)

    found: dict[str, Contender] = {
        "skimage": (loop, skimage("uniform")),
        "eager": (count * count, ours("uniform", False)),
        "compiled": (count * count, ours("uniform", True)),
    }
    if side_px == 32:
        x, y = (torch.from_numpy(side).permute(0, 3, 1, 2).float() for side in (images, pool))
        found["msssim"] = (count, lambda: peer_ssim(x, y, data_range=255, size_average=False))
        found["skimage_gaussian"] = (loop, skimage("gaussian"))
        found["compiled_gaussian"] = (count * count, ours("gaussian", True))
    return found


def largest_error(side_px: int, count: int = 12) -> float:
    """Largest difference to scikit-image over all pairs of a few images, both windows, eager and compiled."""
    images = pictures(count, side_px, "images")
    images[0], images[1] = 255, 254
    worst = 0.0
    for window in ("uniform", "gaussian"):
        truth = np.array([[ssim.exact(x, y, window) for y in images] for x in images])
        for compiled in (False, True):
            x, y, values = ssim.pairs_above(images, images, -2.0, window=window, compiled=compiled)
            worst = max(worst, float(np.abs(values - truth[x, y]).max()))
    return worst


def race(side_px: int, rounds: int, least_s: float) -> dict[str, list[float]]:
    """Ratios by name, one a round."""
    field = contenders(side_px)
    for _, work in field.values():  # warm-up and compilation
        work()
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        speed = {name: pairs_per_cpu_s(contender, least_s) for name, contender in field.items()}
        against = {f"eager_{side_px}px": ("eager", "skimage"), f"compiled_{side_px}px": ("compiled", "skimage")}
        if "msssim" in field:
            against["compiled_gaussian_32px"] = ("compiled_gaussian", "skimage_gaussian")
            against["compiled_gaussian_over_msssim_32px"] = ("compiled_gaussian", "msssim")
            against["compiled_over_msssim_32px"] = ("compiled", "msssim")
        for name, (ours, theirs) in against.items():
            ratios.setdefault(name, []).append(speed[ours] / speed[theirs])
    return ratios


def machine() -> dict[str, object]:
    """The processor and the versions that the ratios belong to."""
    packages = ("torch", "scikit-image", "numpy", "pytorch-msssim")
    versions: dict[str, object] = {f"version_{name}": importlib.metadata.version(name) for name in packages}
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return versions | {
        "machine_processor": names[0] if names else platform.processor() or platform.machine(),
        "machine_cores": os.cpu_count() or 0,
        "machine_vector_units": torch.backends.cpu.get_cpu_capability(),
        "machine_load_1min": os.getloadavg()[0],
        "version_python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--least-s", type=float, default=0.3, help="CPU seconds a contender gets in a round")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, object] = {"rounds": options.rounds, **machine()}
    missed = []
    for side_px in SIDES:
        results[f"max_abs_error_{side_px}px"] = largest_error(side_px)
        for name, ratios in race(side_px, options.rounds, options.least_s).items():
            median = statistics.median(ratios)
            results |= {f"{name}_ratio": median, f"{name}_ratio_min": min(ratios), f"{name}_ratio_max": max(ratios)}
            target = TARGETS.get(name, math.nan)
            if name in TARGETS:
                results[f"{name}_ratio_target"] = target
                missed += [name] if max(ratios) < target and median < target else []
            print(f"{name:40s} {median:7.1f}x  ({min(ratios):.1f} to {max(ratios):.1f}, target {target:g})", flush=True)
    files.write_json(options.out, results)
    print(f"missed: {', '.join(missed)}" if missed else "every target met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
