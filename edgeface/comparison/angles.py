"""How far a face lies from its own person and from the nearest other one, as an angle on the hypersphere."""

from typing import Final

import numpy as np
import numpy.typing as npt

BIN_DEG: Final = 2.0
BINS: Final = 90
"""Of `BIN_DEG` each, from 0 to 180 degrees."""

Angles = npt.NDArray[np.float64]


def centre_angles(embeddings: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> tuple[Angles, Angles]:
    """Return for each face the angle to its own centre and to the nearest centre of another person.

    A person's centre is the direction of the mean of the directions of that person's faces; for the own centre
    the face itself is left out, or it would be near by construction. So the same holds for people that no head has
    a class for. A person with one face has no own centre: those faces are left out of both.

    Args:
        embeddings: (N, D), of any length above zero, N faces of at least two people.
        labels: (N,), the person of each.

    Returns:
        (M,) and (M,) float64 in degrees, M <= N, in the order of the faces.
    """
    directions = _unit(np.asarray(embeddings, np.float64))
    people, person, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(people), directions.shape[1]))
    np.add.at(sums, person, directions)
    own = np.einsum("nd,nd->n", directions, _unit(sums[person] - directions))
    others = directions @ _unit(sums).T  # (N, people)
    others[np.arange(len(labels)), person] = -np.inf
    kept = counts[person] >= 2
    return _degrees(own[kept]), _degrees(others.max(1)[kept])


def histogram(angles_deg: Angles) -> list[int]:
    """Count angles into `BINS` bins."""
    counts, _ = np.histogram(angles_deg, BINS, (0, BINS * BIN_DEG))
    return [int(count) for count in counts]


def _unit(vectors: Angles) -> Angles:
    # A sum of opposite directions may vanish; it stays zero, at a right angle to everything.
    unit: Angles = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _degrees(cosines: Angles) -> Angles:
    degrees: Angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return degrees
