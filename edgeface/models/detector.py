"""A tiny anchor-free face detector of plain 3 x 3 convolutions.

One point of each feature map predicts one face: a score, the distances to the four sides of its box (Tian et al.,
"FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, section 3.1) and five landmarks. ReLU and
addition are the only non-linear steps, so that it quantizes well.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES: Final = (8, 16, 32)
"""Pixels of the picture for one cell of each level."""

PRIOR: Final = 0.01
"""Score of every cell before training (Lin et al., "Focal Loss", ICCV 2017, section 4.1)."""


class Level(NamedTuple):
    """What the network says at one stride, for a batch of N and h x w cells.

    Attributes:
        scores: (N, 1, h, w) logits of "a face is centred here".
        boxes: (N, 4, h, w) positive distances from the cell's centre to the left, top, right and bottom side, in
            strides.
        landmarks: (N, 10, h, w) offsets x0, y0, x1, y1, ... from the cell's centre, in strides.
    """

    scores: Tensor
    boxes: Tensor
    landmarks: Tensor


@dataclass(frozen=True, slots=True)
class DetectorShape:
    """Size of the network.

    Attributes:
        widths: channels at strides 2, 4, 8, 16 and 32.
        depths: residual blocks at strides 8, 16 and 32.
        neck: channels of the neck and the heads.
    """

    widths: tuple[int, int, int, int, int] = (16, 16, 32, 64, 96)
    depths: tuple[int, int, int] = (1, 1, 1)
    neck: int = 32


class FaceDetector(nn.Module):
    """The network: pictures in, three `Level`s out."""

    def __init__(self, shape: DetectorShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or DetectorShape()
        stem, quarter, *rest = shape.widths
        self.stem = nn.Sequential(_convolution(3, stem, stride=2), _convolution(stem, quarter, stride=2))
        stages, before = [], quarter
        for width, depth in zip(rest, shape.depths, strict=True):
            blocks = [_Block(width) for _ in range(depth)]
            stages.append(nn.Sequential(_convolution(before, width, stride=2), *blocks))
            before = width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(_convolution(width, shape.neck, kernel=1) for width in rest)
        self.heads = nn.ModuleList(_Head(shape.neck) for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[Level, Level, Level]:
        """Predict for `images` (N, 3, H, W) float32 RGB in [0, 1], H and W multiples of 32."""
        x = self.stem(images)  # (N, C, H/4, W/4)
        features = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            features.append(lateral(x))
        fine, middle, coarse = features
        middle = middle + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = fine + F.interpolate(middle, scale_factor=2.0, mode="nearest")
        first, second, third = self.heads
        return first(fine), second(middle), third(coarse)


class _Block(nn.Module):
    """Two 3 x 3 convolutions around which the input is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


class _Head(nn.Module):
    """Score, box and landmarks from one shared 3 x 3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shared = _convolution(width, width)
        self.scores = nn.Conv2d(width, 1, 1)
        self.boxes = nn.Conv2d(width, 4, 1)
        self.landmarks = nn.Conv2d(width, 10, 1)
        nn.init.constant_(self.scores.bias, -torch.log(torch.tensor(1 / PRIOR - 1)).item())  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Level:
        x = self.shared(x)
        return Level(self.scores(x), torch.exp(self.boxes(x)), self.landmarks(x))


def _convolution(before: int, after: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
