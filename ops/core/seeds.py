"""Randomness is an argument: every random number derives from (seed, what it is for), never from a global state.

Counter-based: the order of epoch 7 or the noise of step 1200 is a function of the seed and that number, so the number
of workers, a kill and a resume cannot change it.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(seed, "latent", step)``. Stable over machines and releases."""
    text = "\x1f".join([str(int(seed)), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.Generator(np.random.Philox(key=derive(seed, *purpose)))


def permutation(seed: int, n: int, *purpose: object) -> np.ndarray:
    """A permutation of ``range(n)``: int64 [n]."""
    return generator(seed, "permutation", *purpose).permutation(n)


def keyed_fraction(key: str, text: str) -> float:
    """A number in [0, 1) that depends on ``text`` and the secret ``key`` alone (BLAKE2b keyed hash)."""
    digest = hashlib.blake2b(text.encode(), key=key.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
