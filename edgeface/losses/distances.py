"""Distances between embeddings, and what each may be trusted with.

| name                | formula                | on unit vectors | a metric?                                  |
|---------------------|------------------------|-----------------|--------------------------------------------|
| `euclidean`         | norm of a - b          | [0, 2]          | yes                                        |
| `squared-euclidean` | its square             | [0, 4]          | no: the triangle inequality fails          |
| `cosine`            | 1 - cos(a, b)          | [0, 2]          | no: the same, and a is at 0 from 2 a       |
| `angular`           | angle(a, b) in radians | [0, pi]         | of directions: a is at 0 from 2 a          |

All are differentiable everywhere but for the corners of the norm and the angle, where the gradient is zero: equal
vectors neither attract nor repel, and nothing becomes NaN.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional


def euclidean(first: Tensor, second: Tensor) -> Tensor:
    """Return |a - b| for all pairs, (N, M), of (N, D) and (M, D); the gradient where a = b is zero."""
    # Not through |a|^2 + |b|^2 - 2 a b, which loses half of the digits where a is near b.
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def squared_euclidean(first: Tensor, second: Tensor) -> Tensor:
    """Return |a - b|^2 for all pairs, (N, M), of (N, D) and (M, D)."""
    return euclidean(first, second).square()


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return 1 - cos(a, b) for all pairs, (N, M), of (N, D) and (M, D), none of them zero.

    Half of the squared Euclidean distance of the directions, so the triangle inequality fails as there.
    """
    return 1 - functional.normalize(first) @ functional.normalize(second).T


def angular(first: Tensor, second: Tensor) -> Tensor:
    """Return the angle in radians for all pairs, (N, M), of (N, D) and (M, D), none of them zero.

    By Kahan's formula, 2 atan2(|u - v|, |u + v|) for directions u and v, which keeps all digits near 0 and pi, where
    the arc cosine loses half of them and its slope is infinite.
    """
    u, v = functional.normalize(first), functional.normalize(second)
    apart, together = euclidean(u, v), euclidean(u, -v)
    # Two zero vectors have no angle; theirs is 0, without a gradient, rather than NaN.
    return 2 * torch.atan2(apart, together.masked_fill(apart + together == 0, 1))


DISTANCES: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "angular": angular,
    "cosine": cosine,
    "euclidean": euclidean,
    "squared-euclidean": squared_euclidean,
}
"""Name of each distance between all pairs of rows."""
