"""iResNet: the residual networks that ArcFace was published with, of 18 to 200 layers.

The unit is BN-conv-BN-PReLU-conv-BN beside its shortcut (Deng et al., "ArcFace", CVPR 2019, arXiv 1801.07698,
section 3.1; the order of Han et al., "Deep Pyramidal Residual Networks", CVPR 2017, arXiv 1610.02915, figure 6d);
depths and head as in insightface's arcface_torch. Parts have the names that they have there.
"""

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from edgeface.faces import FACE_SIZE
from edgeface.models.layers import fixed_scale_norm

WIDTHS: Final = (64, 128, 256, 512)
"""Channels of the four stages; each halves the resolution, the first one too: 112 -> 56, 28, 14, 7."""


class IResNet(nn.Module):
    """A stem at full resolution, four stages, then BN-flatten-FC-BN (option E of the paper, dropout 0).

    Args:
        embedding_size: D.
        depths: units in each stage; (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 14, 3), (3, 13, 30, 3) and (6, 26, 60, 6) are
            published as 18, 34, 50, 100 and 200 layers.
        subsampled: as AdaFace has it (Kim et al., CVPR 2022, arXiv 2204.00964): a shortcut that keeps its width, the
            first one, takes every second place instead of a convolution, and the last norm has no offset to learn.
    """

    def __init__(self, embedding_size: int = 512, *, depths: Sequence[int], subsampled: bool = False) -> None:
        super().__init__()
        self.subsampled = subsampled
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        channels = WIDTHS[0]
        stages = []
        for width, depth in zip(WIDTHS, depths, strict=True):
            first = ImprovedUnit(channels, width, 2, subsampled=subsampled)
            units = [first, *(ImprovedUnit(width, width, 1) for _ in range(depth - 1))]
            stages.append(nn.Sequential(*units))
            channels = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.bn2 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels * (FACE_SIZE // 2 ** len(WIDTHS)) ** 2, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size, affine=False) if subsampled else fixed_scale_norm(embedding_size)
        for module in self.modules():  # each as its source draws them
            if isinstance(module, nn.Conv2d | nn.Linear) and subsampled:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, D) float32, not normalised."""
        x = self.prelu(self.bn1(self.conv1(faces)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (N, 512, 7, 7)
        embeddings: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return embeddings


class ImprovedUnit(nn.Module):
    """BN-conv-BN-PReLU-conv-BN, the second convolution strided, and nothing after the sum."""

    def __init__(self, channels: int, width: int, stride: int, *, subsampled: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if subsampled and channels == width:
            self.downsample = nn.MaxPool2d(1, stride)
        elif stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H / stride, W / stride)."""
        y: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y)) + self.downsample(x)
        return y
