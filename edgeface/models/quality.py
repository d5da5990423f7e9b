"""The network that says how fit a face is to be recognised, and what is wrong with it."""

from torch import Tensor, cat, nn

from edgeface.fitness import OUTPUTS, TURNS


class QualityNet(nn.Module):
    """Plain 3 x 3 convolutions, each halving the picture or keeping it, then means and a linear map.

    Args:
        widths: channels of the stages; the first sees the picture at half its size, each other at half of that before.
    """

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, width in enumerate(widths):
            layers += _layer(channels, width, 2)
            if 1 < stage < len(widths) - 1:
                layers += _layer(width, width, 1)
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, len(OUTPUTS))

    def forward(self, faces: Tensor) -> Tensor:
        """Map (N, 3, 112, 112) float32 RGB in [-1, 1] to (N, 10) logits, in the order of `edgeface.fitness.OUTPUTS`."""
        logits: Tensor = self.head(self.features(faces).mean(dim=(2, 3)))
        return logits


def _layer(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


def probabilities(logits: Tensor) -> Tensor:
    """Turn logits (N, 10) into numbers in [0, 1]: fitness and faults each on its own, the turns together one."""
    turns = logits[:, 1 : 1 + len(TURNS)].softmax(dim=1)
    single = logits.sigmoid()
    return cat([single[:, :1], turns, single[:, 1 + len(TURNS) :]], dim=1)
