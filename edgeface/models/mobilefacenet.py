"""MobileFaceNet (Chen et al., 2018, arXiv 1804.07573)."""

from collections.abc import Callable
from typing import Final, Literal

from torch import Tensor, nn

BOTTLENECKS: Final = (
    # expansion t, output channels c, repeats n, first stride s: table 1 of the paper
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)

Activation = Callable[[int], nn.Module]


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
            *_conv(3, 64, 3, stride=2, act=act),  # 112 -> 56
            *_conv(64, 64, 3, groups=64, act=act),
        ]
        channels = 64
        for expansion, width, repeats, stride in BOTTLENECKS:  # 56 -> 28, 14, 7
            for repeat in range(repeats):
                layers.append(Bottleneck(channels, width, expansion, stride if repeat == 0 else 1, act))
                channels = width
        self.features = nn.Sequential(*layers, *_conv(channels, 512, 1, act=act))
        self.head = nn.Sequential(
            *_conv(512, 512, 7, padding=0, groups=512),  # GDConv, linear: 7 -> 1
            *_conv(512, embedding_size, 1),
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

    def __init__(self, channels: int, width: int, expansion: int, stride: int, act: Activation) -> None:
        super().__init__()
        hidden = channels * expansion
        self.shortcut = stride == 1 and channels == width
        self.layers = nn.Sequential(
            *_conv(channels, hidden, 1, act=act),
            *_conv(hidden, hidden, 3, stride=stride, groups=hidden, act=act),
            *_conv(hidden, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, width, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


def _conv(
    channels: int,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    act: Activation | None = None,
) -> list[nn.Module]:
    """Convolution and batch norm, which fold into one at export; linear without `act`."""
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(width),
    ]
    return [*layers, act(width)] if act else layers


def _relu6(_channels: int) -> nn.Module:
    return nn.ReLU6(inplace=True)
