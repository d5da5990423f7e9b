"""Weights in 8 bits."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_SMALLEST: Final = 1e-30
_SHRINK: Final = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8)
"""Shares of a channel's largest weight that are tried as its limit: what saturates may cost less than coarse steps."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """Weights as whole numbers times one scale per output channel.

    Attributes:
        values: int8, of the shape of the weights.
        scales: (C,) float32.
        channel_axis: axis of the output channels.
    """

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    channel_axis: int

    @property
    def floats(self) -> npt.NDArray[np.float32]:
        """The weights that a network computes with."""
        return self.values.astype(np.float32) * _along(self.scales, self.values.ndim, self.channel_axis)


def round_weight(
    weight: npt.NDArray[np.floating], channel_axis: int, top: int, least: npt.NDArray[np.floating] | None = None
) -> Rounded:
    """Round weights to whole numbers in [-top, top] at the scale with the least squared error for each channel.

    Args:
        weight: of any shape.
        channel_axis: axis of the output channels.
        top: largest whole number, 127 or less.
        least: (C,) smallest scales that are allowed.
    """
    others = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
    limit = np.abs(weight).max(axis=others).astype(np.float64)
    best = np.full(len(limit), np.inf)
    scales = np.zeros(len(limit), np.float32)
    for share in _SHRINK:
        tried = np.maximum(limit * share / top, _SMALLEST if least is None else np.maximum(least, _SMALLEST))
        along = _along(tried.astype(np.float32), weight.ndim, channel_axis)
        rounded = np.clip(np.rint(weight / along), -top, top) * along
        loss = np.square(weight - rounded, dtype=np.float64).sum(axis=others)
        scales = np.where(loss < best, tried.astype(np.float32), scales)
        best = np.minimum(loss, best)
    whole = np.clip(np.rint(weight / _along(scales, weight.ndim, channel_axis)), -top, top).astype(np.int8)
    return Rounded(whole, scales, channel_axis)


def _along(values: npt.NDArray[np.float32], dimensions: int, axis: int) -> npt.NDArray[np.float32]:
    shape = [1] * dimensions
    shape[axis] = -1
    return values.reshape(shape)
