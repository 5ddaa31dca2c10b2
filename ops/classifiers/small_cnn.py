"""The default net: four convolutions that learn a demo's classes in seconds on two processor cores.

The first convolution already halves the picture: at full size, where pictures are largest and say least, batch norm and
activations would cost more than all the rest. Each convolution is followed by batch norm and ReLU, the last by a mean
over the remaining places, so any picture of 16 px or more fits.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ops.classifiers._pooling import MeanOverPlaces


def block(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU: float [n, inputs, h, w] → [n, outputs, h / stride, w / stride]."""
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def build(classes: int, channels: int, width: int) -> nn.Module:
    """A net for float images [n, channels, h, w] in [-1, 1] → logits [n, classes]; 8 × ``width`` features."""
    trunk = nn.Sequential(
        block(channels, 2 * width, 4, 2),
        block(2 * width, 4 * width, 3, 2),
        block(4 * width, 4 * width, 3, 1),
        block(4 * width, 8 * width, 3, 2),
        MeanOverPlaces(),
    )
    return nn.Sequential(OrderedDict(trunk=trunk, head=nn.Linear(8 * width, classes)))
