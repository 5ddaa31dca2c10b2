"""ResNet-18 (He et al. 2016, table 1) with the stem that small pictures need: one 3×3 convolution, no pooling.

For presets with a GPU: on two processor cores one step of 128 pictures at 32 px takes a third of a second. ``width`` is
the number of channels of the first stage, 64 in the paper.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn.functional import relu

from ops.classifiers._pooling import MeanOverPlaces

BLOCKS_A_STAGE = 2  # what makes it the 18-layer net


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut: float [n, inputs, h, w] → [n, outputs, ⌈h/stride⌉, ⌈w/stride⌉]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu(self.second(relu(self.first(x))) + self.shortcut(x))


def convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    """A convolution without bias, then batch norm."""
    layer = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


def build(classes: int, channels: int, width: int) -> nn.Module:
    """A net for float images [n, channels, h, w] in [-1, 1] → logits [n, classes]; 8 × ``width`` features."""
    layers: list[nn.Module] = [convolution(channels, width, 3, 1), nn.ReLU(inplace=True)]
    inputs = width
    for stage in range(4):
        outputs = width * 2**stage
        for number in range(BLOCKS_A_STAGE):
            layers.append(Residual(inputs, outputs, 2 if stage > 0 and number == 0 else 1))
            inputs = outputs
    trunk = nn.Sequential(*layers, MeanOverPlaces())
    return nn.Sequential(OrderedDict(trunk=trunk, head=nn.Linear(inputs, classes)))
