"""Pictures with several synthetic faces, or none, and the truth about each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeface.data.synthetic.anatomy import pose_head
from edgeface.data.synthetic.backdrops import add_distractors, backdrop
from edgeface.data.synthetic.identity import Identity, sample_identity
from edgeface.data.synthetic.nuisance import sample_nuisance
from edgeface.data.synthetic.rendering import FaceLayer, paint
from edgeface.data.synthetic.sensor import photograph
from edgeface.data.synthetic.sketch import PosedHead
from edgeface.errors import ConfigError

_ATTEMPTS = 12
_LEAST_VISIBLE = 0.6


@dataclass(frozen=True, slots=True)
class SceneFace:
    """One face of a scene.

    Attributes:
        landmarks: (5, 2) float32 (x, y) in pixels, in the order of `TEMPLATE`; may lie outside.
        box: (4,) float32 x, y, width, height in pixels from the hairline to the chin; may reach outside.
        identity: index into the `identities` given to `scene`; -1 for somebody new.
        visible: share of the box that is inside the picture, in [0, 1].
    """

    landmarks: npt.NDArray[np.float32]
    box: npt.NDArray[np.float32]
    identity: int
    visible: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture (H, W, 3) uint8 RGB and the faces in it, small ones first."""

    image: npt.NDArray[np.uint8]
    faces: tuple[SceneFace, ...]


def scene(
    rng: np.random.Generator,
    size_wh: tuple[int, int] = (320, 240),
    faces: tuple[int, int] = (0, 4),
    face_px: tuple[float, float] = (24.0, 150.0),
    identities: Sequence[Identity] = (),
    strength: float = 1.0,
    distractors: tuple[int, int] = (0, 4),
) -> Scene:
    """Paint faces of different sizes before a cluttered background.

    Args:
        rng: where the randomness comes from.
        size_wh: width and height of the picture in pixels.
        faces: fewest and most faces; fewer come out where they find no room.
        face_px: narrowest and widest face in pixels; small ones are as frequent as large ones in octaves.
        identities: draw the people from these; empty for new people each time.
        strength: see `sample_nuisance`.
        distractors: fewest and most face-like things that are no face.

    Returns:
        The picture and its faces; no face covers more than a sliver of another, and at least 60 % of each is
        inside the picture.

    Raises:
        ConfigError: a range that is empty or not positive.
    """
    if min(size_wh) < 16 or not 0 <= faces[0] <= faces[1] or not 0 < face_px[0] <= face_px[1]:
        raise ConfigError(
            "a scene needs at least 16 x 16 pixels and ranges that rise; "
            f"got size_wh={size_wh}, faces={faces}, face_px={face_px}"
        )
    image = backdrop(rng, size_wh, shapes=int(rng.integers(3, 16)))
    add_distractors(rng, image, int(rng.integers(distractors[0], distractors[1] + 1)))
    wanted = int(rng.integers(faces[0], faces[1] + 1))
    widths = np.sort(np.exp(rng.uniform(np.log(face_px[0]), np.log(face_px[1]), wanted)))
    placed: list[SceneFace] = []
    for width in widths.tolist():  # far ones first, so that near ones stand before them
        index = int(rng.integers(len(identities))) if identities else -1
        person = identities[index] if identities else sample_identity(rng)
        nuisance = sample_nuisance(rng, strength)
        head = pose_head(person, nuisance)
        for _ in range(_ATTEMPTS):
            matrix = _position(rng, head, size_wh, width)
            if matrix is None:
                continue
            layer = paint(head, nuisance, matrix, size_wh)
            if not any(_hides(layer, face.box) for face in placed):
                layer.cover(image)
                visible = visible_share(layer.box, size_wh)
                placed.append(SceneFace(layer.landmarks, layer.box, index, visible))
                break
    camera = sample_nuisance(rng, strength)
    # Coarseness counts in pixels of a crop: in a scene it would wipe out the small faces.
    image = photograph(image, replace(camera, coarseness=1.0, blur_px=min(camera.blur_px, 0.7)))
    return Scene(image, tuple(placed))


def visible_share(box: npt.NDArray[np.floating], size_wh: tuple[int, int]) -> float:
    """Return the share of a box (x, y, width, height) that is inside the picture, in [0, 1]."""
    x, y, width, height = (float(value) for value in box)
    inside_x = min(x + width, size_wh[0]) - max(x, 0.0)
    inside_y = min(y + height, size_wh[1]) - max(y, 0.0)
    return max(0.0, inside_x) * max(0.0, inside_y) / (width * height)


def _position(
    rng: np.random.Generator, head: PosedHead, size_wh: tuple[int, int], width_px: float
) -> npt.NDArray[np.float64] | None:
    """Return the (2, 3) matrix of a random place for a head, or None where too little of it would be seen."""
    low, high = head.outline.min(axis=0), head.outline.max(axis=0)
    scale = width_px / float(high[0] - low[0])
    # Centres up to the border, so that now and then a face is cut by it.
    place = rng.uniform(0.02, 0.98, 2) * size_wh
    box = np.concatenate([place - scale * (high - low) / 2, scale * (high - low)])
    if visible_share(box, size_wh) < _LEAST_VISIBLE:
        return None
    return np.hstack([np.eye(2) * scale, (place - scale * (low + high) / 2)[:, None]])


def _hides(layer: FaceLayer, box: npt.NDArray[np.float32]) -> bool:
    """Return whether the head or body covers more than a tenth of the face in `box`."""
    rows, columns = layer.alpha.shape
    x, y, width, height = (float(value) for value in box)
    left, right = max(0, int(x) - layer.left), max(0, min(columns, int(x + width) - layer.left))
    top, bottom = max(0, int(y) - layer.top), max(0, min(rows, int(y + height) - layer.top))
    return float(layer.alpha[top:bottom, left:right].sum()) > 0.1 * width * height
