"""FID's trace term: Cholesky and singular values (ours) beside scipy's matrix square root, on the same covariances.

    python benchmarks/fid.py [--dimensions 2048] [--rounds 3]

Both sides run interleaved in one process, so that another job on the machine slows both; the ratio is taken round by
round. Writes ``benchmarks/results/fid.json``: ratios, the relative difference of the two values, and the machine.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import scipy.linalg
import torch

from ops.core.files import write_json
from ops.metrics.fid import covariance_factor, trace_root

RESULT = Path(__file__).parent / "results" / "fid.json"


def covariance(d: int, seed: int) -> np.ndarray:
    """A covariance with the steep spectrum that features have: float64 [d, d]."""
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(2 * d, d)) * np.geomspace(1, 1e-3, d) @ rng.normal(size=(d, d)) / d**0.5
    return np.cov(cloud, rowvar=False)


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """(seconds, value)."""
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    choice = parser.parse_args()
    a, b = covariance(choice.dimensions, 0), covariance(choice.dimensions, 1)
    ours, peer, differences = [], [], []
    for number in range(choice.rounds):
        seconds, value = timed(lambda: trace_root(covariance_factor(a), covariance_factor(b)))
        peer_seconds, reference = timed(lambda: float(np.trace(np.real(scipy.linalg.sqrtm(a @ b)))))
        ours.append(seconds)
        peer.append(peer_seconds)
        differences.append(abs(value - reference) / reference)
        print(
            f"round {number + 1}: ours {seconds:.2f} s, scipy {peer_seconds:.2f} s, ratio {peer_seconds / seconds:.1f}"
        )
    ratios = np.array(peer) / np.array(ours)
    write_json(RESULT, {
        "dimensions": choice.dimensions, "rounds": choice.rounds,
        "ours_s": min(ours), "scipy_sqrtm_s": min(peer),
        "ratio_median": float(np.median(ratios)), "ratio_min": float(ratios.min()), "ratio_max": float(ratios.max()),
        "relative_difference_max": max(differences), "target_ratio": 4.0, "target_relative_difference": 1e-6,
        "machine": platform.machine(), "system": platform.system(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(), "torch": torch.__version__, "scipy": scipy.__version__,
    })  # fmt: skip


if __name__ == "__main__":
    main()
