"""MobileFaceNet (Chen et al., 2018, arXiv 1804.07573)."""

from typing import Final, Literal

from torch import Tensor, nn

from edgeface.models.layers import Activation, convolution

BOTTLENECKS: Final = (
    # expansion t, output channels c, repeats n, first stride s: table 1 of the paper
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


class MobileFaceNet(nn.Module):
    """The network of table 1, 0.99 million parameters for 128 numbers.

    The depthwise 7 x 7 convolution at its end (GDConv) weighs each place of the face on its own, where
    average pooling would treat its corner like its centre.

    Args:
        embedding_size: D.
        activation: `prelu` as published; `relu6` for targets whose int8 kernels have no PReLU.
    """

    def __init__(self, embedding_size: int = 128, activation: Literal["prelu", "relu6"] = "prelu") -> None:
        super().__init__()
        act: Activation = nn.PReLU if activation == "prelu" else _relu6
        layers: list[nn.Module] = [
            *convolution(3, 64, 3, stride=2, act=act),  # 112 -> 56
            *convolution(64, 64, 3, groups=64, act=act),
        ]
        channels = 64
        for expansion, width, repeats, stride in BOTTLENECKS:  # 56 -> 28, 14, 7
            for repeat in range(repeats):
                layers.append(Bottleneck(channels, width, channels * expansion, stride if repeat == 0 else 1, act))
                channels = width
        self.features = nn.Sequential(*layers, *convolution(channels, 512, 1, act=act))
        self.head = nn.Sequential(
            *convolution(512, 512, 7, padding=0, groups=512),  # GDConv, linear: 7 -> 1
            *convolution(512, embedding_size, 1),
            nn.Flatten(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, D) float32, not normalised."""
        embeddings: Tensor = self.head(self.features(faces))
        return embeddings


class Bottleneck(nn.Module):
    """Expand, filter depthwise, project linearly; with a shortcut where shape allows (MobileNetV2)."""

    def __init__(self, channels: int, width: int, hidden: int, stride: int, act: Activation) -> None:
        super().__init__()
        self.shortcut = stride == 1 and channels == width
        self.layers = nn.Sequential(
            *convolution(channels, hidden, 1, act=act),
            *convolution(hidden, hidden, 3, stride=stride, groups=hidden, act=act),
            *convolution(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


def _relu6(_channels: int) -> nn.Module:
    return nn.ReLU6(inplace=True)
