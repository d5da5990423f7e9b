"""GhostFaceNetV1 (Alansari et al., "GhostFaceNets", IEEE Access 2023, doi 10.1109/ACCESS.2023.3266068).

GhostNet (Han et al., CVPR 2020, arXiv 1911.11907) with PReLU for ReLU and MobileFaceNet's depthwise convolution
for its pooling. Rows and rounding follow the authors' code (HamadYA/GhostFaceNets), where the last
convolution has 512 channels before widening, not GhostNet's 960.
"""

from typing import Final

import torch
from torch import Tensor, nn

from edgeface.faces import FACE_SIZE
from edgeface.models.layers import convolution

BOTTLENECKS: Final = (
    # kernel, expansion, output channels, squeeze and excitation, stride: table 1 of GhostNet before widening
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 512, 160, True, 1),
)


class GhostFaceNet(nn.Module):
    """The network of section III of the paper; published names are GhostFaceNetV1-WIDTH-STRIDE.

    Args:
        embedding_size: D.
        width: factor of all channels.
        stem_stride: 1, or 2 for a quarter of the work.
    """

    def __init__(self, embedding_size: int = 512, *, width: float = 1.3, stem_stride: int = 1) -> None:
        super().__init__()
        channels = _widen(16, width)
        layers: list[nn.Module] = [*convolution(3, channels, 3, stride=stem_stride, act=nn.PReLU)]
        side = FACE_SIZE // stem_stride
        for kernel, expansion, outputs, excite, stride in BOTTLENECKS:
            hidden, outputs = _widen(expansion, width), _widen(outputs, width)
            layers.append(GhostBottleneck(channels, hidden, outputs, kernel, stride, excite))
            channels, side = outputs, (side + stride - 1) // stride
        last = _widen(BOTTLENECKS[-1][1], width)
        self.features = nn.Sequential(*layers, *convolution(channels, last, 1, act=nn.PReLU))
        self.head = nn.Sequential(
            *convolution(last, last, side, padding=0, groups=last),  # GDConv, linear: 7 or 4 -> 1
            nn.Flatten(),
            nn.Linear(last, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, D) float32, not normalised."""
        embeddings: Tensor = self.head(self.features(faces))
        return embeddings


class GhostModule(nn.Module):
    """Half of the channels by a 1 x 1 convolution, the other half from those by a cheap depthwise one."""

    def __init__(self, channels: int, width: int, *, activated: bool) -> None:
        super().__init__()
        act = nn.PReLU if activated else None
        half = width // 2
        self.primary = nn.Sequential(*convolution(channels, half, 1, act=act))
        self.cheap = nn.Sequential(*convolution(half, half, 3, groups=half, act=act))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H, W)."""
        x = self.primary(x)
        return torch.cat((x, self.cheap(x)), 1)


class GhostBottleneck(nn.Module):
    """Expand with a ghost module, filter where strided, excite, project with a linear ghost module."""

    def __init__(self, channels: int, hidden: int, width: int, kernel: int, stride: int, excite: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [GhostModule(channels, hidden, activated=True)]
        if stride > 1:
            layers += convolution(hidden, hidden, kernel, stride=stride, groups=hidden)
        if excite:
            layers.append(SqueezeExcitation(hidden))
        self.layers = nn.Sequential(*layers, GhostModule(hidden, width, activated=False))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                *convolution(channels, channels, kernel, stride=stride, groups=channels),
                *convolution(channels, width, 1),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H / stride, W / stride), rounded up."""
        y: Tensor = self.layers(x)
        y = y + self.shortcut(x)
        return y


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what all of them average to (Hu et al., CVPR 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = _widen(channels, 0.25)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, reduced, 1),
            nn.PReLU(reduced),
            nn.Conv2d(reduced, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        # Not AdaptiveAvgPool2d: it exports with shape arithmetic.
        weights: Tensor = self.layers(x.mean((2, 3), keepdim=True))
        return x * weights


def _widen(channels: int, factor: float) -> int:
    """Return the multiple of 4 nearest to the widened number, at least 4 and not below nine tenths of it."""
    wanted = channels * factor
    rounded = max(4, int(wanted + 2) // 4 * 4)
    return rounded + 4 if rounded < 0.9 * wanted else rounded
