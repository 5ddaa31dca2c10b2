"""Several tests at once: Holm's step-down correction (1979), which holds whatever the dependence between the tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values under the same names: reject at level α where the adjusted one is ≤ α.

    Sorted ascending, the i-th smallest of m is multiplied by m − i (i from 0), made monotone, and cut at 1.
    """
    names = sorted(p_values, key=lambda name: (p_values[name], name))
    raised = [min(1.0, (len(names) - i) * p_values[name]) for i, name in enumerate(names)]
    return dict(zip(names, np.maximum.accumulate(raised).tolist(), strict=True)) if names else {}
