"""A network: four strided convolutions, and a linear map of all places."""

from torch import Tensor, nn


class TinyConvNet(nn.Module):
    """The first argument is the length of an embedding; what follows are options: `--set model.width=32`."""

    def __init__(self, embedding_size: int, *, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in range(4):  # 112 -> 56 -> 28 -> 14 -> 7
            layers += [
                nn.Conv2d(channels, width << stage, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width << stage),
                nn.ReLU(),
            ]
            channels = width << stage
        head = (nn.Flatten(), nn.Linear(channels * 7 * 7, embedding_size, bias=False), nn.BatchNorm1d(embedding_size))
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, embedding_size), not normalised."""
        embeddings: Tensor = self.layers(faces)
        return embeddings
