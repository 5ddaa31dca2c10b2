"""Building blocks of adversarial nets, and the sizes they exist in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from ops.core.errors import CallError, explain


def check_size(family: str, shape: tuple[int, ...], sizes_px: Sequence[int]) -> tuple[int, int]:
    """Side and channels of uint8 [n, h, w, c]. Raises CallError naming the sizes that the family can do."""
    _, height, width, channels = shape
    if height != width or height not in sizes_px or channels not in (1, 3):
        allowed = ", ".join(map(str, sizes_px))
        raise CallError(
            explain(
                expected=f"square images of {allowed} px with 1 or 3 channels for {family}",
                found=f"{height}×{width}×{channels}",
                todo="set prepare.size_px",
            )
        )
    return height, channels


def doublings(size_px: int) -> tuple[int, int]:
    """The side that a generator starts from (4, or 6 for 48 px) and how often it doubles: 32 → (4, 3), 48 → (6, 3)."""
    bottom = 6 if size_px % 6 == 0 else 4
    return bottom, (size_px // bottom).bit_length() - 1


class FullPrecision(nn.Module):
    """A parametrization kept out of autocast: in bfloat16 the power iteration's vectors would lose their digits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return self.inner(weight)


def normalised(layer: nn.Module) -> nn.Module:
    """The layer, Glorot-initialised, with torch's spectral norm on its weight: W/σ(W).

    One power iteration a forward in train mode; u and v are buffers.
    """
    glorot(layer)
    spectral_norm(layer)
    chain = cast(nn.ModuleDict, layer.parametrizations)["weight"]
    assert isinstance(chain, parametrize.ParametrizationList)
    chain[0] = FullPrecision(chain[0])
    return layer


class ClassBatchNorm(nn.Module):
    """Batch norm whose scale and shift belong to the class (Dumoulin et al. 2017; γ starts at 1, β at 0)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gamma = nn.Parameter(torch.ones(classes, channels))
        self.beta = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """float [n, c, h, w] and int64 [n] → float [n, c, h, w]."""
        plain = self.norm(images)
        gamma = self.gamma[codes].to(plain.dtype)[:, :, None, None]
        beta = self.beta[codes].to(plain.dtype)[:, :, None, None]
        return torch.addcmul(beta, plain, gamma)


def glorot(net: nn.Module) -> None:
    """Glorot uniform with gain √2 on 3×3 and 4×4 convolutions and 1 on the rest; biases 0 (Miyato et al. 2018)."""
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
            wide = part.weight.ndim == 4 and part.weight.shape[-1] > 1
            nn.init.xavier_uniform_(part.weight, gain=2**0.5 if wide else 1.0)
            bias = getattr(part, "bias", None)
            if bias is not None:
                nn.init.zeros_(bias)


class ResUp(nn.Module):
    """BN–ReLU–upsample–conv3–BN–ReLU–conv3, with a 1×1 shortcut: doubles the side (Miyato et al. 2018, fig. 8)."""

    def __init__(self, given: int, made: int, classes: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ClassBatchNorm(given, classes), ClassBatchNorm(made, classes)
        self.conv1, self.conv2 = nn.Conv2d(given, made, 3, padding=1), nn.Conv2d(made, made, 3, padding=1)
        self.shortcut = nn.Conv2d(given, made, 1)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """float [n, given, h, w] → float [n, made, 2h, 2w]."""
        through = self.conv1(F.interpolate(F.relu(self.norm1(images, codes)), scale_factor=2))
        through = self.conv2(F.relu(self.norm2(through, codes)))
        # A 1×1 convolution and nearest upsampling commute: the order with a quarter of the work.
        return through + F.interpolate(self.shortcut(images), scale_factor=2)


class ResDown(nn.Module):
    """(ReLU–)conv3–ReLU–conv3(–average pool), with a shortcut, all spectrally normalised (ibid.).

    ``first``: no leading ReLU, for pixels come in. ``down``: halves the side. The shortcut is a 1×1 convolution unless
    neither channels nor side change.
    """

    def __init__(self, given: int, made: int, *, down: bool, first: bool = False) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = normalised(nn.Conv2d(given, made, 3, padding=1))
        self.conv2 = normalised(nn.Conv2d(made, made, 3, padding=1))
        self.shortcut = normalised(nn.Conv2d(given, made, 1)) if given != made or down else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """float [n, given, h, w] → float [n, made, h/2, w/2] (or h, w without ``down``)."""
        through = self.conv2(F.relu(self.conv1(images if self.first else F.relu(images))))
        if not self.down:
            return through + self.shortcut(images)
        # Average pooling and a 1×1 convolution commute as well.
        return F.avg_pool2d(through, 2) + self.shortcut(F.avg_pool2d(images, 2))


class Projection(nn.Module):
    """logit = ψ(φ(x)) + ⟨embed(y), Σφ(x)⟩, both spectrally normalised (Miyato and Koyama 2018, eq. 3)."""

    def __init__(self, features: int, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = normalised(nn.Linear(features, 1))
        self.embed = normalised(nn.Embedding(classes, channels))

    def forward(self, features: Tensor, pooled: Tensor, codes: Tensor) -> Tensor:
        """features float [n, features] for ψ, pooled float [n, channels] for the projection → logits float [n]."""
        return self.linear(features)[:, 0] + (self.embed(codes) * pooled).sum(dim=1)
