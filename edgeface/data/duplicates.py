"""Pictures that are the same but for compression, size or light, among a hundred thousand.

Two steps. A perceptual hash of 64 bits, the signs of the 8 x 8 lowest frequencies of a cosine transform against their
median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), finds candidates; the
correlation of thumbnails confirms them. The hash alone is not enough on aligned faces, which all look alike: on LFW 348
pairs lie within 6 bits, of which 10 are the same picture.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

HASH_DISTANCE: Final = 6
"""Bits in which the hashes of one picture differ at most; JPEG at quality 20 changes up to 4, light up to 6."""

MIN_CORRELATION: Final = 0.98
"""Of the thumbnails of one picture. After JPEG at quality 20 or halving it is above 0.998, one pixel of shift leaves
0.985; two pictures of one person reach 0.97."""

THUMBNAIL: Final = 16
"""Side of the compared thumbnails."""

RUN: Final = 8
"""So many pictures of exactly one hash are compared with all others; further ones with the eight before them."""

_FLAT: Final = 2
"""Thumbnails that differ by no more than this in any pixel are the same, whatever their correlation."""

Hashes = npt.NDArray[np.uint64]
Thumbnails = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """What is kept of N pictures to compare them.

    Attributes:
        hashes: (N,) uint64.
        thumbnails: (N, 256) uint8 grey.
    """

    hashes: Hashes
    thumbnails: Thumbnails

    def __len__(self) -> int:
        return len(self.hashes)

    def joined(self, other: "Fingerprints") -> "Fingerprints":
        """Return these and then those of `other`."""
        return Fingerprints(
            np.concatenate([self.hashes, other.hashes]), np.concatenate([self.thumbnails, other.thumbnails])
        )

    @staticmethod
    def collect(parts: list[tuple[np.uint64, Thumbnails]]) -> "Fingerprints":
        """Join what `fingerprint` returned for each picture."""
        thumbnails = np.array([part[1] for part in parts], np.uint8).reshape(len(parts), THUMBNAIL**2)
        return Fingerprints(np.array([part[0] for part in parts], np.uint64), thumbnails)


def fingerprint(image: npt.NDArray[np.uint8]) -> tuple[np.uint64, Thumbnails]:
    """Return the hash and the (256,) uint8 thumbnail of a picture, (H, W, 3) uint8 RGB of any size."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])  # the first is the mean, which says nothing of the pattern
    thumbnail = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.packbits(bits).view(np.uint64)[0], np.asarray(thumbnail, np.uint8).ravel()


def same_pictures(prints: Fingerprints, distance: int = HASH_DISTANCE) -> list[list[int]]:
    """Return groups of pictures that are the same, each sorted, the groups by their first picture.

    Sameness is passed on: if a is like b and b like c, the three are one group.

    Args:
        prints: of N pictures.
        distance: bits in which two hashes may differ.
    """
    if not len(prints):
        return []
    order = np.argsort(prints.hashes, kind="stable")
    ordered = prints.hashes[order]
    places = np.arange(len(prints))
    # Position within a run of equal hashes. Long runs, a thousand times the same logo, are joined to their
    # neighbours only, so that they cost no more than others.
    starts = np.maximum.accumulate(np.where(np.r_[True, ordered[1:] != ordered[:-1]], places, 0))
    chosen, late = (order[places - starts < RUN], places[places - starts >= RUN])
    first, second = near_pairs(prints.hashes[chosen], distance)
    joined = [np.stack([order[late - step], order[late]], axis=1) for step in range(1, RUN + 1)]
    pairs = np.concatenate([np.stack([chosen[first], chosen[second]], axis=1), *joined])
    parent = np.arange(len(prints))
    for a, b in pairs[_alike(prints.thumbnails, pairs)].tolist():
        a, b = _root(parent, a), _root(parent, b)
        parent[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for index in np.flatnonzero(_in_group(parent)).tolist():
        groups.setdefault(_root(parent, index), []).append(index)
    return [groups[key] for key in sorted(groups)]


def near_pairs(hashes: Hashes, distance: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs (i, j), i < j, of hashes that differ in at most `distance` bits, each once.

    Two such hashes agree in at least one of `distance` + 1 bands of bits, so only hashes that share a band are
    compared: 100 000 hashes take seconds instead of five thousand million comparisons.

    Args:
        hashes: (N,) uint64.
        distance: 0 to 15.
    """
    edges = np.linspace(0, 64, distance + 2).astype(int)
    found = [np.zeros((0, 2), np.int64)]
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        bands, values = band[order], hashes[order]
        # Hashes of one band are neighbours now: compare each with the next, the next but one, ...
        active = np.arange(len(hashes) - 1)
        step = 1
        while len(active):
            active = active[active + step < len(hashes)]
            active = active[bands[active] == bands[active + step]]
            near = active[_count_bits(values[active] ^ values[active + step]) <= distance]
            found.append(np.sort(np.stack([order[near], order[near + step]], axis=1), axis=1))
            step += 1
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _count_bits(values: Hashes) -> npt.NDArray[np.uint8]:
    """Count the bits that are set in each value."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(values), np.uint8)
    table = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)  # numpy 1
    return np.asarray(table[values.view(np.uint8).reshape(-1, 8)].sum(axis=1), np.uint8)


def _alike(thumbnails: Thumbnails, pairs: npt.NDArray[np.int64], block: int = 65536) -> npt.NDArray[np.bool_]:
    """Say for each of (P, 2) pairs whether the thumbnails are of one picture."""
    alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), block):
        first, second = (thumbnails[column].astype(np.float32) for column in pairs[start : start + block].T)
        flat = np.abs(first - second).max(axis=1) <= _FLAT
        first -= first.mean(axis=1, keepdims=True)
        second -= second.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        alike[start : start + block] = flat | ((first * second).sum(axis=1) > MIN_CORRELATION * lengths)
    return alike


def _root(parent: npt.NDArray[np.int64], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = int(parent[index])
    return index


def _in_group(parent: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mark the pictures that are joined to another one."""
    joined = np.asarray(parent != np.arange(len(parent)))
    joined[parent[joined]] = True
    return joined
