"""Backgrounds without a face: colours, texture, shapes, and skin-coloured things that are no face."""

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.data.synthetic.identity import nth_identity


def backdrop(rng: np.random.Generator, size_wh: tuple[int, int], shapes: int = 4) -> npt.NDArray[np.uint8]:
    """Return (height, width, 3) uint8 RGB: soft colours, `shapes` plain shapes and a fine texture."""
    width, height = size_wh
    # Rooms and streets are mostly grey.
    tone = rng.uniform(40, 220) + rng.normal(0, 22, 3)
    coarse = np.clip(tone + rng.normal(0, rng.uniform(5, 40), (4, 5, 1)) + rng.normal(0, 9, (4, 5, 3)), 0, 255).astype(
        np.float32
    )
    image = np.clip(cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    longest = max(width, height)
    for _ in range(shapes):
        colour = np.clip(rng.uniform(10, 245) + rng.normal(0, 35, 3), 0, 255).tolist()
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        size = rng.uniform(0.05, 0.35) * longest
        kind = int(rng.integers(4))
        if kind == 0:
            corners = np.array([[x, y], [x + size, y], [x + size, y + 2 * size], [x, y + 2 * size]])
            cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        elif kind == 1:
            axes = max(1, int(size * 0.5)), max(1, int(size * rng.uniform(0.2, 0.6)))
            cv2.ellipse(image, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        elif kind == 2:
            end = int(x + rng.normal(0, size)), int(y + rng.normal(0, size))
            cv2.line(image, (int(x), int(y)), end, colour, max(1, int(size * 0.06)), cv2.LINE_AA)
        else:
            corners = rng.normal((x, y), 0.5 * size, (int(rng.integers(3, 7)), 2)).astype(np.int32)
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
    rows, columns = max(2, height // 3), max(2, width // 3)
    texture = cv2.resize(rng.standard_normal((rows, columns), np.float32), size_wh, interpolation=cv2.INTER_LINEAR)
    grain = cv2.merge([texture * np.float32(rng.uniform(1, 9))] * 3)
    return np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), np.uint8)


def add_distractors(rng: np.random.Generator, image: npt.NDArray[np.uint8], count: int) -> None:
    """Draw, in place, what a careless detector takes for faces: hands, blank heads, dots over a bar."""
    height, width = image.shape[:2]
    for _ in range(count):
        person = nth_identity(int(rng.integers(2**31)), 0)
        skin = tuple(float(value) for value in person.skin_rgb)
        centre = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        size = float(rng.uniform(0.05, 0.22)) * height
        kind = int(rng.integers(4))
        if kind == 0:
            _hand(rng, image, centre, size, skin)
        elif kind == 1:  # the back of a head: hair over a neck
            neck = centre[0], int(centre[1] + size)
            cv2.ellipse(image, neck, (int(size * 0.5), int(size * 0.7)), 0, 0, 360, skin, -1, cv2.LINE_AA)
            cv2.ellipse(image, centre, (int(size * 0.85), int(size)), 0, 0, 360, person.hair_rgb, -1, cv2.LINE_AA)
        elif kind == 2:  # a blank oval of skin
            angle = float(rng.uniform(-40, 40))
            cv2.ellipse(image, centre, (int(size * 0.8), int(size)), angle, 0, 360, skin, -1, cv2.LINE_AA)
        else:  # two dots and a bar, without a head
            dark = rng.uniform(0, 90, 3).tolist()
            for side in (-1, 1):
                dot = int(centre[0] + side * 0.45 * size), centre[1]
                cv2.circle(image, dot, max(1, int(size * 0.15)), dark, -1, cv2.LINE_AA)
            ends = [(int(centre[0] + side * 0.35 * size), int(centre[1] + size)) for side in (-1, 1)]
            cv2.line(image, ends[0], ends[1], dark, max(1, int(size * 0.12)), cv2.LINE_AA)


def _hand(
    rng: np.random.Generator,
    image: npt.NDArray[np.uint8],
    centre: tuple[int, int],
    size: float,
    skin: tuple[float, ...],
) -> None:
    turn = float(rng.uniform(0, 2 * np.pi))
    cv2.circle(image, centre, max(1, int(size * 0.5)), skin, -1, cv2.LINE_AA)
    for finger in range(5):
        angle = turn + (finger - 2) * 0.4
        tip = int(centre[0] + np.cos(angle) * size), int(centre[1] + np.sin(angle) * size)
        cv2.line(image, centre, tip, skin, max(1, int(size * 0.2)), cv2.LINE_AA)
