"""Drawn scenes as labelled pictures, so that the faces of the demo are found as well as real ones."""

import numpy as np

from edgeface.data.detection import Labelled
from edgeface.data.synthetic import Scene, scene


def drawn_scenes(count: int, seed: int) -> list[Labelled]:
    """Draw `count` scenes with up to four faces; some have none. The same seed gives the same ones."""
    return [labelled_scene(scene(np.random.default_rng([seed, index]))) for index in range(count)]


def labelled_scene(drawn: Scene) -> Labelled:
    """Return a drawn scene as a labelled picture; its labels are exact, so every score is 1."""
    count = len(drawn.faces)
    return Labelled(
        drawn.image,
        np.array([face.box for face in drawn.faces], np.float32).reshape(count, 4),
        np.array([face.landmarks for face in drawn.faces], np.float32).reshape(count, 5, 2),
        np.ones(count, np.float32),
    )
