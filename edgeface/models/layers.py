"""Parts that several networks share."""

from collections.abc import Callable

import torch
from torch import nn

Activation = Callable[[int], nn.Module]
"""Builds the activation of so many channels."""


def convolution(
    channels: int,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    act: Activation | None = None,
) -> list[nn.Module]:
    """Return a convolution and its batch norm, which fold into one at export; linear without `act`."""
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(width),
    ]
    return [*layers, act(width)] if act else layers


def fixed_scale_norm(embedding_size: int) -> nn.BatchNorm1d:
    """Return the batch norm that ends insightface's networks: its scale stays at one, only its offset learns.

    A learned scale would let the network weigh a few dimensions above the rest. The scale is kept as a buffer, so
    that it is stored and folded as ever, and no optimizer meets a parameter without gradient.
    """
    norm = nn.BatchNorm1d(embedding_size)
    del norm.weight
    norm.register_buffer("weight", torch.ones(embedding_size))
    return norm
