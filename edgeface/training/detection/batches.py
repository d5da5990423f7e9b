"""Batches of composed training pictures, with what a detector should answer for them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgeface.data.detection import Labelled
from edgeface.training.detection.augment import training_picture
from edgeface.training.detection.loss import Targets, assign


def make_batch(
    rng: np.random.Generator, draw: Callable[[np.random.Generator], Labelled], batch: int, side: int
) -> tuple[Tensor, Targets]:
    """Compose training pictures, (N, 3, side, side) float32 RGB in [0, 1] in channels-last order, with targets."""
    pictures = [training_picture(rng, draw, side) for _ in range(batch)]
    pixels = torch.from_numpy(np.stack([picture.image for picture in pictures]))
    return pixels.permute(0, 3, 1, 2).float().div_(255), make_targets(pictures)


def make_targets(pictures: list[Labelled]) -> Targets:
    """Assign the faces of pictures of one size to cells; see `Targets`."""
    height, width = pictures[0].image.shape[:2]
    labels, first = [], 0
    for picture in pictures:
        rows = assign(picture.boxes, picture.sure, (width, height))
        labels.append(np.where(rows >= 0, rows + first, rows))
        first += len(picture)
    boxes = np.concatenate([picture.boxes for picture in pictures])
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    landmarks = np.concatenate([picture.landmarks for picture in pictures]).reshape(-1, 10)
    return Targets(torch.from_numpy(np.stack(labels)), torch.from_numpy(corners), torch.from_numpy(landmarks))
