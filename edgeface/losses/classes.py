"""The class matrix: which of its rows a process holds, which take part in a step, and how they are drawn."""

from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgeface.losses.cross_entropy import IGNORED

BLOCK: Final = 1024
"""Classes whose first directions are drawn together, whoever holds them."""

WORDS: Final = 4
"""Numbers that the generator makes at a time."""


class Chosen(NamedTuple):
    """The classes that take part in a step, as far as this process holds them.

    Attributes:
        classes: (S,) int64, rising, among those that this process holds; None for all of them.
        rows: (M,) int64, the rows of the batch whose own class this process holds.
        columns: (M,) int64, for each of those its own class among the chosen.
    """

    classes: Tensor | None
    rows: Tensor
    columns: Tensor


def choose(labels: Tensor, held: range, sampled: Tensor | None) -> Chosen:
    """Return the classes of a step: all that are held, or else those `sampled` and the labels' own.

    Args:
        labels: (N,) int64, of all processes, or `IGNORED`.
        held: the classes that this process holds.
        sampled: (held,) bool, or None for all.
    """
    local = labels - held.start
    here = (labels != IGNORED) & (local >= 0) & (local < len(held))
    rows = here.nonzero().squeeze(1)
    columns = local[rows]
    if sampled is None:
        return Chosen(None, rows, columns)
    index = sampled.index_fill(0, columns, True).nonzero().squeeze(1)
    return Chosen(index, rows, torch.searchsorted(index, columns))


def sample(seed: int, step: int, held: range, rate: float) -> Tensor:
    """Draw each held class with probability `rate`: (held,) bool, on the CPU.

    A class's draw depends on seed, step and class only, so it is the same however many processes share the classes.
    """
    generator = np.random.Philox(key=(seed << 64) | step)
    generator.advance(held.start // WORDS)
    skip = held.start % WORDS
    draws = generator.random_raw(skip + len(held))[skip:]
    return torch.from_numpy(draws < np.uint64(min(int(rate * 2**64), 2**64 - 1)))


@torch.no_grad()
def draw_directions(weight: Tensor, held: range, seed: int) -> None:
    """Fill `weight` (held * K, D) with small normal numbers; as `sample`, the same for a class whoever holds it."""
    if not held:
        return
    rows = len(weight) // len(held)
    for block in range(held.start // BLOCK, (held.stop - 1) // BLOCK + 1):
        rng = np.random.default_rng((seed, block))  # torch's generator takes no more than 32 bits of a seed
        drawn = torch.from_numpy(rng.standard_normal((BLOCK * rows, weight.shape[1]), np.float32)).mul_(0.01)
        first, last = max(held.start, block * BLOCK), min(held.stop, (block + 1) * BLOCK)
        weight[(first - held.start) * rows : (last - held.start) * rows] = drawn[
            (first - block * BLOCK) * rows : (last - block * BLOCK) * rows
        ]
