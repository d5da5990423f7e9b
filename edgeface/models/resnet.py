"""Small plain residual networks (He et al., 2015, arXiv 1512.03385, basic blocks).

Dense 3 x 3 convolutions and ReLU: many times faster to train on a CPU than depthwise ones, and each of them
has an int8 kernel everywhere.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from edgeface.faces import FACE_SIZE


class FaceResNet(nn.Module):
    """A strided stem, stages of basic blocks, then a linear map of all places of the last stage.

    Args:
        embedding_size: D.
        stem_stride: 2, or 4 for less work where pictures are largest and most of the time goes.
        widths: channels of the stages; the first has the resolution and width of the stem, each other one halves it.
        depths: basic blocks in each stage; the first may have none.
    """

    def __init__(self, embedding_size: int, *, stem_stride: int, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        kernel = 2 * stem_stride - 1  # neighbouring patches overlap by half
        channels, side = widths[0], FACE_SIZE // stem_stride
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, kernel, stem_stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        # A stage by number and a block by number: a deeper network of the same widths has all names of this one.
        self.stages = nn.Sequential()
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = nn.Sequential()
            for block in range(depth):
                blocks.append(BasicBlock(channels, width, stride=2 if stage > 0 and block == 0 else 1))
                channels = width
            self.stages.append(blocks)
            if stage > 0:
                side = (side + 1) // 2
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
        embeddings: Tensor = self.head(self.stages(self.stem(faces)))
        return embeddings

    @property
    def neutral_parts(self) -> tuple[str, ...]:
        """Names of the blocks that change nothing before they are trained, each with a dot at the end.

        A network may begin with the weights of one that lacks them (Chen et al., 2016, arXiv 1511.05641,
        Net2DeeperNet).
        """
        return tuple(
            f"{name}."
            for name, block in self.named_modules()
            if isinstance(block, BasicBlock) and isinstance(block.shortcut, nn.Identity)
        )


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
