"""Small plain residual networks (He et al., 2015, arXiv 1512.03385, basic blocks).

Dense 3 x 3 convolutions and ReLU: many times faster to train on a CPU than depthwise ones, and each of them
has an int8 kernel everywhere.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from edgeface.faces import FACE_SIZE


class FaceResNet(nn.Module):
    """A strided stem, one stage for each width, then a linear map of all places of the last stage.

    Args:
        embedding_size: D.
        stem: channels of the first convolution.
        stem_stride: 2, or 4 for less work where pictures are largest and most of the time goes.
        widths: channels of the stages; each halves the resolution.
        depths: basic blocks in each stage.
    """

    def __init__(
        self, embedding_size: int, *, stem: int, stem_stride: int, widths: Sequence[int], depths: Sequence[int]
    ) -> None:
        super().__init__()
        kernel = 2 * stem_stride - 1  # neighbouring patches overlap by half
        layers: list[nn.Module] = [
            nn.Conv2d(3, stem, kernel, stem_stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        ]
        channels, side = stem, FACE_SIZE // stem_stride
        for width, depth in zip(widths, depths, strict=True):
            for block in range(depth):
                layers.append(BasicBlock(channels, width, stride=2 if block == 0 else 1))
                channels = width
            side = (side + 1) // 2
        self.features = nn.Sequential(*layers)
        # One weight for each place: a face is aligned, so place has a meaning that pooling would throw away.
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * side * side, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.norm2.weight)  # each block starts as its shortcut (arXiv 1706.02677)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, D) float32, not normalised."""
        embeddings: Tensor = self.head(self.features(faces))
        return embeddings


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H / stride, W / stride)."""
        y: Tensor = self.activation(self.norm1(self.conv1(x)))
        y = self.activation(self.norm2(self.conv2(y)) + self.shortcut(x))
        return y
