"""The MobileFaceNets of insightface's arcface_torch: `mbf` and `mbf-large`.

They keep the operators of MobileFaceNet (arXiv 1804.07573) and double or quadruple the width of its linear
bottlenecks, not the width of the depthwise layers between them: most of the "MBF" results of the field are theirs.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from edgeface.models.layers import convolution
from edgeface.models.mobilefacenet import Bottleneck


class WideMobileFaceNet(nn.Module):
    """A strided stem, bottlenecks at four resolutions, and the depthwise 7 x 7 convolution at the end.

    Args:
        embedding_size: D.
        width: channels of the stem and the first bottlenecks; those from 14 x 14 on have twice as many.
        repeats: bottlenecks of stride 1 at 56, 28, 14 and 7 pixels. A first number of 1 is published as a
            3 x 3 convolution of 64 groups instead.
    """

    def __init__(self, embedding_size: int = 512, *, width: int, repeats: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [*convolution(3, width, 3, stride=2, act=nn.PReLU)]
        at_56, at_28, at_14, at_7 = repeats
        if at_56 == 1:
            layers += convolution(width, width, 3, groups=64, act=nn.PReLU)
        else:
            layers += [Bottleneck(width, width, 128, 1, nn.PReLU) for _ in range(at_56)]
        channels = width
        # depthwise channels of the strided bottleneck and of those after it; output channels; their number
        for strided, hidden, outputs, number in (
            (128, 128, width, at_28),
            (256, 256, 2 * width, at_14),
            (512, 256, 2 * width, at_7),
        ):
            layers.append(Bottleneck(channels, outputs, strided, 2, nn.PReLU))
            layers += [Bottleneck(outputs, outputs, hidden, 1, nn.PReLU) for _ in range(number)]
            channels = outputs
        self.features = nn.Sequential(*layers, *convolution(channels, 512, 1, act=nn.PReLU))
        self.head = nn.Sequential(
            *convolution(512, 512, 7, padding=0, groups=512),  # GDConv, linear: 7 -> 1
            nn.Flatten(),
            nn.Linear(512, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, D) float32, not normalised."""
        embeddings: Tensor = self.head(self.features(faces))
        return embeddings
