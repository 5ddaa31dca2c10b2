"""What the two players want: adversarial losses on logits, each a pair (discriminator, generator)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))] of logits float [n] (Miyato et al. 2018, eq. 16)."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def hinge_g(fake: Tensor) -> Tensor:
    """−E[D(G(z))] of logits float [n] (Miyato et al. 2018, eq. 17)."""
    return -fake.mean()


def nonsaturating_d(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross-entropy −E[log σ(D(x))] − E[log(1 − σ(D(G(z))))] of logits float [n] (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def nonsaturating_g(fake: Tensor) -> Tensor:
    """−E[log σ(D(G(z)))] of logits float [n]: keeps its gradient where the discriminator is sure."""
    return F.softplus(-fake).mean()


def accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Share of logits on the right side of zero, a scalar in [0, 1]: 0.5 is a discriminator that knows nothing."""
    return torch.cat([real > 0, fake < 0]).float().mean()
