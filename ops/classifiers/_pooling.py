"""The last layer of a trunk: what is seen anywhere in a picture, wherever it is seen."""

from __future__ import annotations

import torch
from torch import nn


class MeanOverPlaces(nn.Module):
    """float [n, c, h, w] → [n, c]. (Adaptive pooling has no deterministic backward on CUDA; a mean has.)"""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))
