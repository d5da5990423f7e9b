"""EdgeFace (George et al., 2023, arXiv 2307.01838): EdgeNeXt whose linear layers have low rank.

EdgeNeXt (Maaz et al., 2022, arXiv 2206.10589) alternates depthwise convolutions of growing kernels with attention
between channels instead of places, whose cost grows with the pixels and not with their square. Sizes and the rule
for the ranks follow the authors' code (otroshi/edgeface, over the EdgeNeXt of timm).
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeface.faces import FACE_SIZE

DEPTHS: Final = (3, 3, 9, 3)
"""Encoders of each stage; the last one of each stage but the first attends."""

KERNELS: Final = (3, 5, 7, 9)
"""Depthwise kernel of each stage."""

SPLITS: Final = (1, 2, 3, 4)
"""Parts into which the attending encoder of each stage splits its channels."""

LAYER_SCALE: Final = 1e-6
"""Factor of each residual branch before training, so that the network starts as its shortcuts."""

EPSILON: Final = 1e-6


class EdgeFace(nn.Module):
    """A stem of 4 x 4 patches, stages at 28, 14, 7 and 3 pixels, average, norm, linear map.

    Args:
        embedding_size: D.
        widths: channels of the four stages.
        heads: attention heads.
        rank_ratio: rank of each linear layer, that of the embedding too, as a share of the smaller one of its two
            sides: the gamma of the paper.
    """

    def __init__(self, embedding_size: int = 512, *, widths: Sequence[int], heads: int, rank_ratio: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0])]
        channels, side = widths[0], FACE_SIZE // 4
        for stage, (width, depth, kernel, splits) in enumerate(zip(widths, DEPTHS, KERNELS, SPLITS, strict=True)):
            if stage > 0:
                layers += [ChannelNorm(channels), nn.Conv2d(channels, width, 2, 2)]
                channels, side = width, side // 2
            attending = 1 if stage > 0 else 0
            layers += [ConvEncoder(width, kernel, rank_ratio) for _ in range(depth - attending)]
            if attending:
                # Attention between channels cannot see where a pixel lies; the paper tells it in its first use.
                layers.append(SplitAttentionEncoder(width, splits, heads, rank_ratio, side if stage == 1 else None))
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.head = LowRankLinear(channels, embedding_size, rank_ratio)
        for module in self.modules():
            # The factors of a low rank keep torch's start: two as small as this would multiply to nothing.
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed (N, 3, 112, 112) float32 RGB in [-1, 1] as (N, D) float32, not normalised."""
        embeddings: Tensor = self.head(self.norm(self.features(faces).mean((2, 3))))
        return embeddings


class ConvEncoder(nn.Module):
    """Depthwise convolution, norm and two linear layers around GELU, beside a shortcut (figure 2 of EdgeNeXt)."""

    def __init__(self, channels: int, kernel: int, rank_ratio: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.mix = _mixer(channels, rank_ratio)
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.gamma * self.mix(self.depthwise(x).permute(0, 2, 3, 1))
        return x + y.permute(0, 3, 1, 2)


class SplitAttentionEncoder(nn.Module):
    """The split depth-wise transpose attention (SDTA) encoder, section 3.2 of EdgeNeXt.

    Args:
        channels: C.
        splits: parts of the channels, each but the last filtered after the filtered part before it is added.
        heads: attention heads.
        rank_ratio: as in `EdgeFace`.
        side: H = W where the places are told to the attention; None where they are not.
    """

    def __init__(self, channels: int, splits: int, heads: int, rank_ratio: float, side: int | None) -> None:
        super().__init__()
        self.splits = splits
        part = math.ceil(channels / splits)
        self.filters = nn.ModuleList(nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(splits - 1))
        self.places = FourierPlaces(channels, side) if side is not None else None
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.attention = CrossCovarianceAttention(channels, heads, rank_ratio)
        self.attention_gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.mix = _mixer(channels, rank_ratio)
        self.gamma = nn.Parameter(torch.full((channels,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        channels, height, width = x.shape[1:]
        *parts, last = x.chunk(self.splits, 1)
        filtered: list[Tensor] = []
        for part, convolve in zip(parts, self.filters, strict=True):
            filtered.append(convolve(filtered[-1] + part if filtered else part))
        y = torch.cat((*filtered, last), 1)
        if self.places is not None:
            y = y + self.places()
        y = y.flatten(2).transpose(1, 2)  # (N, HW, C)
        y = y + self.attention_gamma * self.attention(self.norm(y))
        mixed: Tensor = self.gamma * self.mix(y)
        return x + mixed.transpose(1, 2).reshape(-1, channels, height, width)


class CrossCovarianceAttention(nn.Module):
    """Attention between the channels of each head (El-Nouby et al., "XCiT", 2021, arXiv 2106.09681, equation 2)."""

    def __init__(self, channels: int, heads: int, rank_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads))
        self.qkv = LowRankLinear(channels, 3 * channels, rank_ratio)
        self.project = LowRankLinear(channels, channels, rank_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to the same shape."""
        places, channels = x.shape[1:]
        query, key, value = (
            part.reshape(-1, places, self.heads, channels // self.heads).permute(0, 2, 3, 1)  # (N, heads, C / heads, L)
            for part in self.qkv(x).chunk(3, -1)
        )
        logits = _unit(query) @ _unit(key).transpose(-2, -1) * self.temperature[:, None, None]
        y = (logits.softmax(-1) @ value).permute(0, 3, 1, 2).reshape(-1, places, channels)
        projected: Tensor = self.project(y)
        return projected


class FourierPlaces(nn.Module):
    """Sines and cosines of row and column, mapped to C channels, for a fixed size (XCiT, appendix).

    Args:
        channels: C.
        side: H = W.
    """

    FREQUENCIES: Final = 32
    TEMPERATURE: Final = 10_000.0

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        angle = torch.arange(1, side + 1) / (side + EPSILON) * 2 * math.pi
        step = torch.arange(self.FREQUENCIES)
        waves = angle[:, None] / self.TEMPERATURE ** (2 * (step // 2) / self.FREQUENCIES)  # (side, F)
        waves = torch.where(step % 2 == 0, waves.sin(), waves.cos()).T
        rows = waves[:, :, None].expand(-1, side, side)
        columns = waves[:, None, :].expand(-1, side, side)
        self.waves: Tensor
        self.register_buffer("waves", torch.cat((rows, columns))[None].clone())  # (1, 2 F, side, side)
        self.project = nn.Conv2d(2 * self.FREQUENCIES, channels, 1)

    def forward(self) -> Tensor:
        """Return (1, C, side, side), the same for every face."""
        places: Tensor = self.project(self.waves)
        return places


class LowRankLinear(nn.Module):
    """A linear layer as the product of two thin ones (LoRaLin, section III of EdgeFace).

    Args:
        inputs: numbers in.
        outputs: numbers out.
        rank_ratio: the rank as a share of the smaller of the two; at least 2.
    """

    def __init__(self, inputs: int, outputs: int, rank_ratio: float) -> None:
        super().__init__()
        rank = max(2, int(min(inputs, outputs) * rank_ratio))
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        y: Tensor = self.up(self.down(x))
        return y


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def _mixer(channels: int, rank_ratio: float) -> nn.Sequential:
    """Norm, expansion to four times the channels, GELU, and back; over the last dimension."""
    return nn.Sequential(
        nn.LayerNorm(channels, eps=EPSILON),
        LowRankLinear(channels, 4 * channels, rank_ratio),
        nn.GELU(),
        LowRankLinear(4 * channels, channels, rank_ratio),
    )


def _unit(x: Tensor) -> Tensor:
    """Scale the last dimension to length one; F.normalize exports with shape arithmetic."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True).clamp_min(1e-12))
